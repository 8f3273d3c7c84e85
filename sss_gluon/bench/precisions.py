"""The same training step in float32 and in bfloat16, each in a process of its own: AMP cannot be switched off."""
from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Dict

from ..errors import SSSError
from ..timing import Measurement, interleaved, ratio, timed
from ..train import precision
from .child import Child, python, serve
from .settings import Settings, Skipped
from .training import Step

INSTRUCTIONS = 'avx512_bf16', 'amx_bf16'        # without them oneDNN emulates bfloat16, which is slower than float32
SAME = 0.05         # relative difference of the losses of the first step: bfloat16 has 8 bits


def bfloat16(settings: Settings, name: str) -> Dict[str, Measurement]:
    """Training images/s with ``precision=bfloat16`` over those with float32, factors included.

    Raises
    ------
    SSSError
        The losses of the first step differ.
    """
    known = Path('/proc/cpuinfo').read_text(encoding='utf-8').split()
    if not any(word in known for word in INSTRUCTIONS):
        raise Skipped(f'needs a CPU with {" or ".join(INSTRUCTIONS)}')
    request = json.dumps(dict(rounds=settings.rounds, quick=settings.quick))
    with Child(python('precisions', name, 'float32', request), settings.cores) as single, \
            Child(python('precisions', name, 'bfloat16', request), settings.cores) as half:
        losses = single.hello['loss'], half.hello['loss']
        if not abs(losses[0] - losses[1]) <= SAME * losses[0]:
            raise SSSError(f'the loss is {losses[0]:.4f} in float32 and {losses[1]:.4f} in bfloat16, so their times '
                           f'cannot be compared')
        seconds = interleaved({'float32': lambda: single.ask()['seconds'], 'bfloat16': lambda: half.ask()['seconds']},
                              settings.rounds)
    return {'bfloat16': ratio(seconds, 'float32', 'bfloat16')}


def main(name: str, kind: str, settings: str) -> None:
    """A child that makes one training step in a precision on request."""
    given = Settings(**json.loads(settings))
    precision.enable(kind)
    step = Step(given.net(name), (given.batch,) + given.image_shape(name))
    loss = float(step().mean().asscalar())
    serve(dict(loss=loss), lambda: dict(seconds=timed(step)()))


if __name__ == '__main__':
    main(*sys.argv[1:])
