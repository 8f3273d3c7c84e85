"""Mixed precision: what is computed in float16 or bfloat16, and the loss scale that float16 needs.

MXNet's AMP casts what goes into convolutions and dense layers, to float16 on GPUs and to bfloat16 on CPUs (through
oneDNN). Parameters and their gradients, momenta, scaling factors, the parameters and statistics of BatchNorm, and the
loss are float32. AMP replaces MXNet's functions and cannot be switched off again: a process has one precision. Losses
and accuracies that a run logs are those of the mixed network; ``prune``, ``evaluate`` and ``export`` are float32.
"""
from __future__ import annotations

import json
import math
import warnings
from typing import Dict, Iterable, List, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet import gluon, nd
from mxnet.contrib import amp
from mxnet.contrib.amp.amp import bfloat16

from ..errors import SSSError

PRECISIONS = ('float32', 'float16', 'bfloat16')
LOSS_SCALE = '@loss_scale'      # among the states of a trainer
CHUNK = 200     # arrays that multi_all_finite takes at once


# The process

def check_devices(precision: str, devices: Sequence[str]) -> None:
    """float16 is for GPUs, bfloat16 for CPUs: anything else is an error."""
    for kind, wrong, why, other in (
            ('float16', 'cpu', 'MXNet has no float16 convolutions for CPUs', 'precision=bfloat16 or float32'),
            ('bfloat16', 'gpu', 'MXNet 1.9.1 has bfloat16 for CPUs only', 'precision=float16 or float32')):
        found = [name for name in devices if name.startswith(wrong)]
        if precision == kind and found:
            raise SSSError(f'precision={precision} cannot run on {found[0]}: {why}; use {other} there')


def active() -> str:
    """The precision of this process: what AMP casts the inputs of a dense layer to."""
    symbol = mx.sym.FullyConnected(mx.sym.var('data'), num_hidden=1, name='dense')
    nodes = json.loads(symbol.tojson(remove_amp_cast=False))['nodes']
    return next((node['attrs']['dtype'] for node in nodes if node['op'] == 'amp_cast'), 'float32')


def check_process(precision: str) -> None:
    """Can this process train in a precision? Once AMP is on, in no other one."""
    now = active()
    if now not in ('float32', precision):
        raise SSSError(f"precision={precision} cannot be had in this process: MXNet's AMP was switched on for {now} "
                       f'and cannot be switched off; start a new process')


def require_float32(what: str) -> None:
    """Refuse what is to be exact where AMP is on."""
    now = active()
    if now != 'float32':
        raise SSSError(f"{what} is done in float32, but MXNet's AMP was switched on for {now} in this process and "
                       f'cannot be switched off; start a new process')


def switch_on(precision: str) -> None:
    """Let networks that are built from now on compute in a precision; for ever, where it is not float32."""
    check_process(precision)
    if active() == precision:
        return
    if precision == 'bfloat16':
        try_bfloat16()
    amp.init(target_dtype=precision)


def try_bfloat16() -> None:
    """oneDNN computes in bfloat16 where the CPU has AVX-512; without, MXNet fails in the first convolution."""
    image, weight = (nd.amp_cast(nd.ones((1, 1, 1, 1)), dtype=bfloat16) for _ in range(2))
    try:
        nd.Convolution(image, weight, kernel=(1, 1), num_filter=1, no_bias=True).wait_to_read()
    except mx.base.MXNetError as error:
        raise SSSError('precision=bfloat16 needs an MXNet with oneDNN and a CPU with AVX-512, which this one is not; '
                       'use precision=float32') from error


# The network

def mixed(net: gluon.HybridBlock, precision: str) -> gluon.HybridBlock:
    """A network that computes in the precision of the process, with the same parameters.

    AMP reaches what is written with ``F``; a SymbolBlock (every compact network) computes what its symbol says, so
    the casts go in there.
    """
    if precision == 'float32' or not isinstance(net, gluon.SymbolBlock):
        return net
    symbol = amp.convert_symbol(net(mx.sym.var('data')), precision)
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Cannot decide type')     # in front of a cast; those given are float32
        return gluon.SymbolBlock(symbol, mx.sym.var('data', dtype='float32'), params=net.collect_params())


def widened(array: nd.NDArray) -> nd.NDArray:
    """An output in float32. (``astype`` fails on arrays that oneDNN computed in bfloat16.)"""
    return array if array.dtype == np.float32 else nd.amp_cast(array, dtype='float32')


# The loss scale

class LossScaler:
    """The dynamic loss scale: what the loss is multiplied by, so that gradients are not too small for float16.

    A power of two, so that scaling rounds nothing: halved when a gradient overflows, doubled after ``period`` updates
    without. (MXNet's own lowers the scale one step late, so that every overflow costs two updates and quarters it.)

    Attributes
    ----------
    scale : float
    good : int
        Updates since the scale changed.
    skipped : int
        Updates that did not take place because a gradient was not finite.
    """
    LARGEST, SMALLEST = 2.0 ** 24, 2.0 ** -14

    def __init__(self, scale: float = 2.0 ** 16, period: int = 2000):
        self.scale, self.period = scale, period
        self.good = self.skipped = 0

    def update(self, overflowed: bool) -> None:
        """Note what became of one update, and set the scale of the next.

        Raises
        ------
        SSSError
            When gradients overflow however small the scale: they are not finite by themselves.
        """
        if overflowed:
            self.scale, self.good, self.skipped = self.scale / 2, 0, self.skipped + 1
            if self.scale < self.SMALLEST:
                raise SSSError(f'gradients are not finite even with a loss scale of {self.scale * 2:g}: training '
                               f'diverged; try a smaller learning_rate, warmup_epochs, or precision=float32')
            return
        self.good += 1
        if self.good == self.period:
            self.scale, self.good = min(self.scale * 2, max(self.scale, self.LARGEST)), 0

    def state(self) -> np.ndarray:
        """scale, good and skipped as a float64 array: what a checkpoint needs."""
        return np.array([self.scale, self.good, self.skipped], 'float64')

    def set_state(self, array: np.ndarray, source: str = 'the state') -> None:
        """Take over ``state()``; anything else is an error."""
        numbers = np.ravel(array).tolist()
        if len(numbers) != 3 or not all(0 <= n < math.inf for n in numbers) or math.frexp(numbers[0])[0] != 0.5:
            raise SSSError(f'{source}: the loss scale {numbers[:3]} is none: the file is damaged')
        self.scale, self.good, self.skipped = numbers[0], int(numbers[1]), int(numbers[2])


def loss_scaler(precision: str) -> Optional[LossScaler]:
    """What a precision needs: bfloat16 has the range of float32, so its gradients are never too small."""
    return LossScaler() if precision == 'float16' else None


def overflow(arrays: Iterable[nd.NDArray]) -> bool:
    """Is a value of these gradients not finite?

    Of sums over devices and workers: what is not finite on one of them is not finite in the sum, so all of them see
    it, and none has to ask the others.
    """
    groups: Dict[Tuple, List[nd.NDArray]] = {}
    for array in arrays:
        groups.setdefault((array.context, np.dtype(array.dtype)), []).append(array)
    parts = [group[i:i + CHUNK] for group in groups.values() for i in range(0, len(group), CHUNK)]
    flags = [nd.multi_all_finite(*part, num_arrays=len(part)) for part in parts]
    return not all(flag.asscalar() for flag in flags)
