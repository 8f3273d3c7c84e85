"""Peak memory of training, measured in a process for each."""
from __future__ import annotations

import json
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Dict, List

import mxnet as mx
import numpy as np

from ..timing import Measurement, median
from .child import Child, python, serve
from .settings import Settings, Skipped
from .training import Step

STATUS = Path('/proc/self/status')
STEPS = 3
PROCESSES = 5


def peak() -> int:
    """Peak resident bytes of this process.

    From the kernel's VmHWM; getrusage starts with the size of the process that this one was forked from.
    """
    lines = STATUS.read_text('utf-8').splitlines() if STATUS.exists() else []
    for line in lines:
        if line.startswith('VmHWM:'):
            return 1024 * int(line.split()[1])
    raise Skipped(f'{STATUS} has no VmHWM')


def forget_peak() -> None:
    """Let ``peak`` begin again with what is resident now, where the kernel can do that."""
    with suppress(OSError):
        STATUS.with_name('clear_refs').write_text('5', 'utf-8')


def training_memory(settings: Settings, name: str) -> Dict[str, Measurement]:
    """Peak memory of training with factors over that without; the memory of an idle MXNet counts in neither."""
    peak()
    request = dict(settings=asdict(settings), name=name)
    taken: Dict[str, List[int]] = {'with': [], 'without': []}
    for _ in range(1 if settings.quick else PROCESSES):
        for key, factors in (('with', None), ('without', ())):
            with Child(python('memory', json.dumps(dict(request, factors=factors))), settings.cores) as child:
                taken[key].append(child.ask()['bytes'])
    note = ', '.join(f'{key} {np.median(values) / 2 ** 20:.1f} MiB' for key, values in taken.items())
    value = float(np.median(taken['with']) / np.median(taken['without']))
    return {'memory': median(np.divide(taken['with'], taken['without']), note)._replace(value=value)}


def main(settings: dict, name: str, factors) -> None:
    """A child that trains and answers with the peak bytes of the training."""
    mx.nd.ones(1).wait_to_read()
    before = peak()

    def train() -> dict:
        settings_ = Settings(**settings)
        step = Step(settings_.net(name, factors), (settings_.batch,) + settings_.image_shape(name))
        for _ in range(STEPS):
            step()
            mx.nd.waitall()
        return dict(bytes=peak() - before)

    serve({}, train)


if __name__ == '__main__':
    main(**json.loads(sys.argv[1]))
