"""The gain of a compact network: seconds to make one, and its speed relative to its MACs."""
from __future__ import annotations

import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Dict

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..errors import SSSError
from ..factors import scaling_factors
from ..graph.block import to_block
from ..graph.inference import for_inference
from ..graph.onnx import write_onnx
from ..graph.onnx_runtime import open_onnx, packages
from ..structures import Compact, compact, set_structure
from ..timing import Measurement, interleaved, median, ratio, timed
from .settings import Settings, Skipped

CALLS = 5           # consecutive calls: a deployed network has the caches to itself
REMOVED = {         # what is removed: all but a shipped structure, or half of the structures of a kind
    'resnet50': 'resnet26',
    'cifar_resnet164': 'block',
    'resnext50_32x4d': 'group',
    'cifar_vgg16': 'neuron',
    'cifar_resnet20': 'block',
}


def thinned(settings: Settings, name: str) -> gluon.HybridBlock:
    """A network in which the factors of the structures to be removed are zero."""
    net, removed = settings.net(name), REMOVED[name]
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


def pruned(settings: Settings, name: str, align: int = 1) -> Compact:
    return compact(thinned(settings, name), (1,) + settings.image_shape(name), align=align)


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


def latency(settings: Settings, name: str, batch: int, align: int = 1) -> Dict[str, Measurement]:
    """Latency without factors over that of the compact network, divided by the same ratio of MACs."""
    result = pruned(settings, name, align)
    nets = {'dense': settings.net(name, factors=()), 'compact': result.net}
    seconds = interleaved(_predictions(nets, settings, name, batch), settings.rounds)
    macs = result.before.macs / result.after.macs
    return {'latency': ratio(seconds, 'dense', 'compact', 1 / macs, f'{macs:.2f} x fewer MACs')}


def onnx_runtime(settings: Settings, name: str, batch: int) -> Dict[str, Measurement]:
    """Images/s of the exported compact network in ONNX Runtime over those in MXNet.

    While one runs, the threads of the other sleep (see ``timing.PAUSE``).
    """
    try:
        packages()
    except SSSError as missing:
        raise Skipped(str(missing)) from missing
    result = pruned(settings, name)
    folded = for_inference(result.program)
    nets = {'MXNet': result.net, 'MXNet, BatchNorm folded': to_block(folded)}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / 'model.onnx'
        write_onnx(folded, file)        # verifies it against MXNet
        predict = _on_cores(settings.cores, lambda: open_onnx(file))
    images = np.random.RandomState(0).standard_normal((batch,) + settings.image_shape(name)).astype('float32')
    predictions = _predictions(nets, settings, name, batch)
    predictions['ONNX Runtime'] = timed(partial(predict, images), CALLS)
    seconds = interleaved(predictions, settings.rounds)
    after = 1000 * np.median(seconds['MXNet, BatchNorm folded'])
    return {'onnx': ratio(seconds, 'MXNet', 'ONNX Runtime', note=f'MXNet with BatchNorm folded {after:.3g} ms')}


def _on_cores(cores, function):
    """Call a function in a thread that may use all cores, as may the threads that it starts.

    OpenMP has bound this thread to one core. ONNX Runtime's threads would share that core, and took twice the time.
    """
    def work():
        os.sched_setaffinity(0, cores)
        return function()
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def _predictions(nets: Dict[str, gluon.HybridBlock], settings: Settings, name: str, batch: int):
    """Timed predictions of every network for one batch."""
    images = mx.nd.random.normal(shape=(batch,) + settings.image_shape(name))
    for net in nets.values():
        net.hybridize(static_alloc=True, static_shape=True)
    return {key: timed(partial(net, images), CALLS) for key, net in nets.items()}
