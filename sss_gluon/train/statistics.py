"""BatchNorm's running statistics: averaged over devices and workers, or estimated anew from training batches.

In training, MXNet keeps them as exponential averages, on every device those of its own images. They lag behind weights
that move fast, and behind scaling factors that come and go. Only inference reads them: whatever becomes of them, a run
has the same losses and weights.
"""
from __future__ import annotations

from collections import defaultdict, deque
from typing import Deque, Dict, Iterable, Iterator, List

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon

from ..graph.ir import Entry, Program, from_symbol, to_json
from ..graph.trace import network_symbol
from ..structures.mirror import write
from .workers import ALONE, Workers

BATCH_NORM = ('BatchNorm', '_contrib_BatchNormWithReLU')
IN_FLIGHT = 2       # passes that may be queued before their results are read


def settle_statistics(training) -> None:
    """Set the statistics that an epoch of a ``Training`` is evaluated, saved and, if it was the last, pruned with.

    After an epoch in which its method acted on structures, they are estimated from ``statistics_batches`` batches.
    These are the first ones of the first epoch, always, so that a resumed run has the same.
    """
    average_statistics(training.net, training.workers)
    count = min(training.config.statistics_batches, len(training.batches))
    if count and training.regularizer.acted(training.position.epoch * len(training.batches)):
        estimate_statistics(training.net, _first_batches(training, count), training.workers)


def _first_batches(training, count: int) -> Iterator[mx.nd.NDArray]:
    """Yield the images of the first steps, in the parts that every device gets in training."""
    devices, batches = training.devices, training.batches.epoch(0)
    try:
        for step in range(count):
            training.seed_operators(0, step)
            images, _ = next(batches)
            for i, part in enumerate(np.split(images, len(devices) * training.config.grad_accumulation)):
                yield mx.nd.array(part, ctx=devices[i % len(devices)])
    finally:
        batches.close()


def average_statistics(net: gluon.HybridBlock, workers: Workers = ALONE) -> None:
    """Set the running statistics on every device to their mean over all devices of all workers.

    The mean of the running means, and that of the running variances, as the authors' code takes them after every
    epoch. Every worker must call it.
    """
    mx.nd.waitall()     # with static_shape, parameters could otherwise be read as an earlier step left them
    parameters = net.collect_params()
    names = network_symbol(net, training=True)[0].list_auxiliary_states()
    devices = len(parameters[names[0]].list_data()) if names else 1
    if not names or devices * workers.size == 1:
        return
    own = [sum(array.asnumpy().astype('float64').ravel() for array in parameters[name].list_data()) for name in names]
    total = workers.total('running statistics', np.concatenate(own))
    parts = np.split(total / (devices * workers.size), np.cumsum([array.size for array in own])[:-1])
    _set(parameters, dict(zip(names, parts)))


def estimate_statistics(net: gluon.HybridBlock, batches: Iterable[mx.nd.NDArray], workers: Workers = ALONE) -> None:
    """Estimate the running statistics of a network from training batches, and set them on every device.

    A running mean becomes the mean of the batch means and a running variance the mean of the batch variances, each
    batch with the same weight: what the exponential averages estimate, but all for the present weights. (The variance
    over all images together would be larger, by that of the batch means, than what training divides by.) The passes
    are forward only, in training mode. Nothing else changes. Layers with ``use_global_stats`` keep their statistics.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
        Initialised, with one input. A smaller network that trains in its place (``shrink``) gets them too.
    batches : iterable of mxnet.nd.NDArray
        Inputs as in training, shape (N, C, H, W), each on a device of the network. Not empty.
    workers : Workers
        Each of them must call it, with batches of its own; all get the mean over the batches of all.
    """
    nodes = Program(from_symbol(network_symbol(net, training=True)[0]), {}, {}).nodes()
    layers = [node for node in nodes if node.op in BATCH_NORM and not node.get('use_global_stats')]
    if not layers:
        return
    for layer in layers:
        layer.attrs['output_mean_var'] = 'True'     # outputs 1 and 2: mean of the batch, and 1 / √(variance + eps)
    mx.nd.waitall()
    symbol = mx.sym.load_json(to_json([Entry(layer, output) for output in (1, 2) for layer in layers]))
    parameters = net.collect_params()
    names = [[layer.inputs[i].node.name for layer in layers] for i in (3, 4)]
    sizes = [parameters[name].shape[0] for name in names[0]]
    eps = np.repeat([layer.get('eps', 1e-3) for layer in layers], sizes)
    count, means, variances = 0, np.zeros(sum(sizes)), np.zeros(sum(sizes))
    for found in _results(symbol, parameters, batches):
        mean, inverse = np.split(found.astype('float64'), 2)
        count, means, variances = count + 1, means + mean, variances + np.maximum(inverse ** -2 - eps, 0)
    *sums, count = workers.total('batch statistics', [*means, *variances, count])
    uses: Dict[str, List[np.ndarray]] = defaultdict(list)       # a layer may be used more than once
    for name, part in zip(sum(names, []), np.split(np.array(sums) / count, np.cumsum(sizes * 2)[:-1])):
        uses[name].append(part)
    _set(parameters, {name: np.mean(parts, axis=0) for name, parts in uses.items()})


def _results(symbol: mx.sym.Symbol, parameters: gluon.ParameterDict, batches: Iterable[mx.nd.NDArray]
             ) -> Iterator[np.ndarray]:
    """Yield the outputs of a symbol for each batch, as one vector."""
    compute = mx.nd.CachedOp(symbol)
    pending: Deque[mx.nd.NDArray] = deque()
    for batch in batches:
        inputs = [batch if name == 'data' else parameters[name].data(batch.context) for name in symbol.list_inputs()]
        with autograd.train_mode():
            pending.append(mx.nd.concat(*compute(*inputs), dim=0))
        if len(pending) > IN_FLIGHT:
            yield pending.popleft().asnumpy()
    for result in pending:
        yield result.asnumpy()


def _set(parameters: gluon.ParameterDict, values: Dict[str, np.ndarray]) -> None:
    for name, value in values.items():
        write(parameters[name], value.reshape(parameters[name].shape))
    mx.nd.waitall()     # a network with static_shape would not wait for them
