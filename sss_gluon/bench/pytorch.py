"""The same training step in PyTorch, which lives in another environment and is reached over a pipe."""
from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Dict, List

import numpy as np

from ..errors import SSSError
from ..files import write_npz
from ..timing import WARM_UP, Measurement, interleaved, ratio, timed
from .child import Child
from .settings import Settings, Skipped
from .training import DECAY, MOMENTUM, RATE, Step

SCRIPT = Path(__file__).with_name('torch_step.py')
SAME = 1e-3         # relative difference of the loss, after a few steps from the same weights


def against_pytorch(settings: Settings, name: str) -> Dict[str, Measurement]:
    """Training images/s without factors over PyTorch's, after a check that both train alike.

    Raises
    ------
    SSSError
        The number of parameters or the losses of the first steps differ.
    """
    if settings.torch_python is None:
        raise Skipped('needs --torch-python')
    shape = (settings.batch,) + settings.image_shape(name)
    net = settings.net(name, factors=())
    step = Step(net, shape)
    losses: Dict[str, List] = {'mxnet': [], 'torch': []}
    ours = timed(lambda: losses['mxnet'].append(step()))

    def theirs() -> float:
        answer = child.ask()
        losses['torch'].append(answer['loss'])
        return answer['seconds']

    with tempfile.TemporaryDirectory() as folder:
        start = Path(folder) / 'start.npz'
        write_npz(start, dict({n: p.data().asnumpy() for n, p in net._collect_params_with_prefix().items()},
                              images=step.images, labels=step.labels))
        request = dict(start=str(start), threads=len(settings.cores), rate=RATE, momentum=MOMENTUM, decay=DECAY)
        with Child([settings.torch_python, str(SCRIPT), json.dumps(request)], settings.cores) as child:
            _same('number of parameters', _size(net), child.hello['parameters'], 0)
            seconds = interleaved({'MXNet': ours, 'PyTorch': theirs}, settings.rounds)
    for i in range(WARM_UP):
        _same(f'loss of step {i + 1}', float(losses['mxnet'][i].mean().asscalar()), losses['torch'][i], SAME)
    return {'pytorch': ratio(seconds, 'PyTorch', 'MXNet', note=f'torch {child.hello["version"]}')}


def _size(net) -> int:
    return sum(int(np.prod(p.shape)) for p in net.collect_params().values() if p.grad_req != 'null')


def _same(what: str, ours: float, theirs: float, tolerance: float) -> None:
    if not abs(ours - theirs) <= tolerance * abs(ours):
        raise SSSError(f'the {what} is {ours} in MXNet and {theirs} in PyTorch, so their times cannot be compared')
