"""Mixed precision through MXNet's AMP, and the loss scale that float16 needs.

MXNet's AMP casts the inputs of convolutions and dense layers to float16 on GPUs and to bfloat16 on CPUs (through
oneDNN). Parameters, gradients, momenta, scaling factors, BatchNorm and the loss stay float32. AMP replaces MXNet's
functions and cannot be switched off again, so a process has one precision. A run logs the losses and accuracies of the
mixed network; ``prune``, ``evaluate`` and ``export`` compute in float32.
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
from ..graph.block import as_block

PRECISIONS = ('float32', 'float16', 'bfloat16')
LOSS_SCALE = '@loss_scale'      # among the states of a trainer
CHUNK = 200     # arrays per call of multi_all_finite


# The process

def check_devices(precision: str, devices: Sequence[str]) -> None:
    """Refuse float16 on CPUs and bfloat16 on GPUs."""
    for kind, wrong, why, other in (
            ('float16', 'cpu', 'MXNet has no float16 convolutions for CPUs', 'precision=bfloat16 or float32'),
            ('bfloat16', 'gpu', 'MXNet 1.9.1 has bfloat16 for CPUs only', 'precision=float16 or float32')):
        found = [name for name in devices if name.startswith(wrong)]
        if precision == kind and found:
            raise SSSError(f'precision={precision} cannot run on {found[0]}: {why}; use {other} there')


def active() -> str:
    """The precision of this process, read off the cast that AMP puts before a dense layer."""
    symbol = mx.sym.FullyConnected(mx.sym.var('data'), num_hidden=1, name='dense')
    nodes = json.loads(symbol.tojson(remove_amp_cast=False))['nodes']
    return next((node['attrs']['dtype'] for node in nodes if node['op'] == 'amp_cast'), 'float32')


def check_process(precision: str) -> None:
    """Refuse a precision that this process cannot train in, because AMP is on for another one."""
    now = active()
    if now not in ('float32', precision):
        raise SSSError(f"precision={precision} is impossible in this process: MXNet's AMP is on for {now} and "
                       f'cannot be switched off; start a new process')


def require_float32(what: str) -> None:
    """Refuse to do something that must be exact in a process where AMP is on."""
    now = active()
    if now != 'float32':
        raise SSSError(f"{what} needs float32, but MXNet's AMP is on for {now} in this process and cannot be "
                       f'switched off; start a new process')


def enable(precision: str) -> None:
    """Make networks that are built from now on compute in a precision; anything but float32 is permanent."""
    check_process(precision)
    if active() == precision:
        return
    if precision == 'bfloat16':
        check_bfloat16()
    amp.init(target_dtype=precision)


def check_bfloat16() -> None:
    """oneDNN needs AVX-512 for bfloat16; without it MXNet would fail in the first convolution."""
    image, weight = (nd.amp_cast(nd.ones((1, 1, 1, 1)), dtype=bfloat16) for _ in range(2))
    try:
        nd.Convolution(image, weight, kernel=(1, 1), num_filter=1, no_bias=True).wait_to_read()
    except mx.base.MXNetError as error:
        raise SSSError('precision=bfloat16 needs an MXNet with oneDNN and a CPU with AVX-512, which are not '
                       'available here; use precision=float32') from error


# The network

def mixed(net: gluon.HybridBlock, precision: str) -> gluon.HybridBlock:
    """A network with the same parameters that computes in the precision of the process.

    AMP patches the functions that ``hybrid_forward`` calls. A SymbolBlock, such as every compact network, computes what
    its symbol says, so the casts are inserted there.
    """
    if precision == 'float32' or not isinstance(net, gluon.SymbolBlock):
        return net
    symbol = amp.convert_symbol(net._cached_graph[1], precision)
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Cannot decide type')     # before a cast; the given ones are float32
        return as_block(symbol, net.collect_params())


def as_float32(array: nd.NDArray) -> nd.NDArray:
    """An output as float32; ``astype`` would fail on arrays that oneDNN computed in bfloat16."""
    return array if array.dtype == np.float32 else nd.amp_cast(array, dtype='float32')


# The loss scale

class LossScaler:
    """A dynamic loss scale: the loss is multiplied by it so that gradients do not underflow in float16.

    The scale is a power of two, so scaling rounds nothing. It is halved when a gradient overflows and doubled after
    ``period`` updates without overflow. (MXNet's own scaler reacts one step late, so every overflow costs two updates.)

    Attributes
    ----------
    scale : float
    good : int
        Updates since the scale changed.
    skipped : int
        Updates that were skipped because a gradient was not finite.
    """
    LARGEST, SMALLEST = 2.0 ** 24, 2.0 ** -14

    def __init__(self, scale: float = 2.0 ** 16, period: int = 2000):
        self.scale, self.period = scale, period
        self.good = self.skipped = 0

    def update(self, overflowed: bool) -> None:
        """Set the scale of the next update.

        Raises
        ------
        SSSError
            If gradients overflow even at the smallest scale, because they are not finite themselves.
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
        """(scale, good, skipped) as a float64 array, for checkpoints."""
        return np.array([self.scale, self.good, self.skipped], 'float64')

    def set_state(self, array: np.ndarray, source: str = 'the state') -> None:
        """Restore ``state()``; anything else is an error."""
        numbers = np.ravel(array).tolist()
        if len(numbers) != 3 or not all(0 <= n < math.inf for n in numbers) or math.frexp(numbers[0])[0] != 0.5:
            raise SSSError(f'{source} is damaged: {numbers[:3]} is not the state of a loss scale')
        self.scale, self.good, self.skipped = numbers[0], int(numbers[1]), int(numbers[2])


def loss_scaler(precision: str) -> Optional[LossScaler]:
    """A loss scaler where the precision needs one; bfloat16 has the range of float32 and needs none."""
    return LossScaler() if precision == 'float16' else None


def overflow(arrays: Iterable[nd.NDArray]) -> bool:
    """Whether any of these gradients is not finite.

    Pass sums over devices and workers: a value that is not finite anywhere is not finite in the sum, so all workers
    come to the same answer without communicating.
    """
    groups: Dict[Tuple, List[nd.NDArray]] = {}
    for array in arrays:
        groups.setdefault((array.context, np.dtype(array.dtype)), []).append(array)
    parts = [group[i:i + CHUNK] for group in groups.values() for i in range(0, len(group), CHUNK)]
    flags = [nd.multi_all_finite(*part, num_arrays=len(part)) for part in parts]
    return not all(flag.asscalar() for flag in flags)
