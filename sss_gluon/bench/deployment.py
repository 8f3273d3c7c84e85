"""The gain of a compact network: seconds to make one, and its speed relative to its MACs."""
from __future__ import annotations

import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Callable, Dict, List, Sequence

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..errors import SSSError
from ..factors import scaling_factors
from ..graph.block import to_block
from ..graph.fold import fold
from ..graph.inference import for_inference
from ..graph.ir import Program
from ..graph.onnx import write_onnx
from ..graph.onnx_runtime import open_onnx, packages
from ..graph.trace import trace
from ..structures import Compact, compact, set_structure
from ..timing import Measurement, interleaved, median, ratio, timed
from .settings import Settings, Skipped

Call = Callable[[], object]

CALLS = 5           # consecutive calls: a deployed network has the caches to itself
LARGE = 64          # a batch from which on no caches hold what a call leaves
LASTING = 2.0       # seconds that the rounds of a gain take at least
REMOVED = {         # what is removed: all but a shipped structure, or half of the structures of a kind
    'resnet50': 'resnet26',
    'cifar_resnet164': 'block',
    'resnext50_32x4d': 'group',
    'cifar_vgg16': 'neuron',
    'cifar_resnet20': 'block',
    'peleenet': 'neuron',
}


def thinned(settings: Settings, name: str, neuron_block: int = 1) -> gluon.HybridBlock:
    """A network in which the factors of the structures to be removed are zero."""
    net, removed = settings.net(name, neuron_block=settings.neuron_block(neuron_block)), REMOVED[name]
    if removed == 'resnet26' and not settings.quick:
        set_structure(net, removed)
    else:
        zero_half(net, 'block' if removed == 'resnet26' else removed)
    return net


def zero_half(net: gluon.HybridBlock, kind: str) -> None:
    """Set a random half of all factors of a kind to zero, always the same one; layers lose different numbers."""
    factors = [factor for factor in scaling_factors(net) if factor.kind == kind]
    sizes = [factor.parameter.shape[0] for factor in factors]
    alive = np.random.RandomState(0).permutation(sum(sizes)) % 2
    for factor, values in zip(factors, np.split(alive, np.cumsum(sizes)[:-1])):
        factor.parameter.set_data(mx.nd.array(values))


def pruned(settings: Settings, name: str, neuron_block: int = 1) -> Compact:
    return compact(thinned(settings, name, neuron_block), (1,) + settings.image_shape(name))


def compact_seconds(settings: Settings, name: str) -> Dict[str, Measurement]:
    """Seconds to prune a network and to verify the result at its real input size."""
    net, shape, seconds = thinned(settings, name), (1,) + settings.image_shape(name), []
    mx.nd.waitall()
    for _ in range(max(1, settings.rounds // 4)):
        begin = time.perf_counter()
        result = compact(net, shape)
        seconds.append(time.perf_counter() - begin)
    note = f'{result.before.macs:,} to {result.after.macs:,} MACs, first time {seconds[0]:.2f} s'
    return {'seconds': median(seconds, note)}


def gain(settings: Settings, name: str, batch: int, runtime: str, neuron_block: int = 1) -> Dict[str, Measurement]:
    """Latency of the dense network over that of the compact one, divided by the same ratio of MACs.

    Both are as ``export`` writes them: factors and BatchNorm folded into the convolutions.
    """
    result = pruned(settings, name, neuron_block)
    dense = fold(trace(settings.net(name, factors=()), (1,) + settings.image_shape(name)))
    programs = {'dense': for_inference(dense), 'compact': for_inference(result.program)}
    calls = RUNTIMES[runtime](settings, name, batch, programs)
    consecutive = CALLS if batch < LARGE else 1
    seconds = interleaved({key: timed(call, consecutive) for key, call in calls.items()}, settings.rounds,
                          lasting=LASTING)
    macs = result.before.macs / result.after.macs
    return {'gain': ratio(seconds, 'dense', 'compact', 1 / macs, f'{macs:.2f} x fewer MACs')}


def onnx_runtime(settings: Settings, name: str, batch: int) -> Dict[str, Measurement]:
    """Images/s of the exported compact network in ONNX Runtime over those in MXNet.

    While one runs, the threads of the other sleep (see ``timing.PAUSE``).
    """
    result = pruned(settings, name)
    folded = for_inference(result.program)
    calls = _in_mxnet(settings, name, batch, {'MXNet': result.program, 'MXNet, BatchNorm folded': folded})
    calls.update(_in_onnx_runtime(settings, name, batch, {'ONNX Runtime': folded}))
    seconds = interleaved({key: timed(call, CALLS) for key, call in calls.items()}, settings.rounds)
    after = 1000 * np.median(seconds['MXNet, BatchNorm folded'])
    return {'onnx': ratio(seconds, 'MXNet', 'ONNX Runtime', note=f'MXNet with BatchNorm folded {after:.3g} ms')}


def _in_mxnet(settings: Settings, name: str, batch: int, programs: Dict[str, Program]) -> Dict[str, Call]:
    images = mx.nd.random.normal(shape=(batch,) + settings.image_shape(name))
    nets = {key: to_block(program) for key, program in programs.items()}
    for net in nets.values():
        net.hybridize(static_alloc=True, static_shape=True)
    return {key: partial(net, images) for key, net in nets.items()}


def _in_onnx_runtime(settings: Settings, name: str, batch: int, programs: Dict[str, Program]) -> Dict[str, Call]:
    try:
        packages()
    except SSSError as missing:
        raise Skipped(str(missing)) from missing
    images = np.random.RandomState(0).standard_normal((batch,) + settings.image_shape(name)).astype('float32')
    calls: Dict[str, Call] = {}
    with tempfile.TemporaryDirectory() as folder:
        for key, program in programs.items():
            file = Path(folder) / f'{key}.onnx'
            write_onnx(program, file)       # verifies it against MXNet
            calls[key] = partial(open_onnx(file, cores=other_cores(settings.cores)), images)
    return calls


RUNTIMES = {'MXNet': _in_mxnet, 'ONNX Runtime': _in_onnx_runtime}


def other_cores(cores: Sequence[int]) -> List[int]:
    """The cores for ONNX Runtime's threads, if OpenMP has bound this thread to one of them.

    They would share that core, and take twice the time; left free, they come back to it for some calls out of ten.
    """
    return sorted(set(cores) - os.sched_getaffinity(0))
