"""One network: built, given factors, half of it removed, compared, exported. Everything in one row of the table."""
from __future__ import annotations

import io
import logging
import math
import tempfile
import time
import warnings
import zlib
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Dict, List

import sss_gluon as sss  # before MXNet, which needs names that NumPy removed

# isort: split
import mxnet as mx
import numpy as np
from gluoncv.model_zoo import get_model
from mxnet import gluon
from mxnet.gluon import nn
from names import Network
from table import COLUMNS

from sss_gluon.errors import SSSError, reason
from sss_gluon.graph.trace import trace
from sss_gluon.graph.verify import verify
from sss_gluon.structures import MaskedCounter

HALF, NEAR, TRIES = 0.5, 0.03, 8        # the share of MACs that is aimed at, how near is near enough, choices counted
ROUNDING = 1e-4                         # of the largest output
REGIONS = 8                             # that R-CNNs look at, in place of the 1,000 best ones
SHIFTS = 0.1                            # scale of weights that start at zero: the shifts of deformable convolutions
DRAWN = 200_003                         # random numbers of a layer, a prime number; larger layers repeat them


def measure(network: Network) -> Dict[str, Any]:
    """The row of a network. What could not be done is empty, and ``reason`` says why."""
    row: Dict[str, Any] = dict.fromkeys(COLUMNS, '')
    row.update(network._asdict())
    started = time.process_time()
    stage = ['']
    logging.disable()           # MXNet's exporter warns of what is checked here
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():     # GluonCV prints sizes, MXNet shapes
            warnings.simplefilter('ignore')
            _fill_in(row, network, stage)
    except Exception as error:      # whatever fails is a result of the table
        said = str(error) if isinstance(error, SSSError) else f'{type(error).__name__}: {reason(error)}'
        row['reason'] = f'{stage[0]}: {" ".join(said.split())}'
    row['seconds'] = round(time.process_time() - started, 1)
    return row


def _fill_in(row: Dict[str, Any], network: Network, stage: List[str]) -> None:
    random = np.random.RandomState(zlib.crc32(network.name.encode()))
    shape = (1, 3, network.size, network.size)
    images = [mx.nd.array(contrast * random.standard_normal(shape) + light) for contrast, light in ((1, 0), (3, 2))]
    stage[0] = 'build'
    net = get_model(network.name, **network.options)
    if network.family == 'rcnn':
        net.rpn._test_post_nms = net._rpn_test_post_nms = net._rcnn_max_dets = REGIONS
    fill(net, images[0], random)
    stage[0] = 'add_factors'
    before = trace(net, shape)
    sss.add_factors(net, input_shape=shape, log=None)
    for kind in sss.KINDS:
        row[f'{kind}s'] = sum(len(factor.values()) for factor in sss.scaling_factors(net) if factor.kind == kind)
    verify(before, trace(net, shape), 'the network with factors of 1')
    stage[0] = 'zeros'
    zero_half(net, shape, random)
    stage[0] = 'compact'
    small = sss.compact(net, shape)
    row.update(macs=small.before.macs, compact_macs=small.after.macs, difference=f'{small.max_difference:.1e}')
    one, other = (outputs(small.net, image) for image in images)
    if network.task != 'detection' and difference(one, other) < 10 * ROUNDING:      # detectors drop unlikely boxes
        raise SSSError('the outputs hardly depend on the image, so that equal outputs say little')
    stage[0] = 'onnx'
    with tempfile.TemporaryDirectory() as folder:
        row['onnx_difference'] = f"{small.export_onnx(Path(folder) / 'small.onnx'):.1e}"


def fill(net: gluon.HybridBlock, image: mx.nd.NDArray, random: np.random.RandomState) -> None:
    """Give a network random weights, with which its outputs depend on its images as those of a trained one do.

    The statistics of each BatchNorm are about those of what arrives, so that nothing grows or fades with the depth, and
    no channel is zero.
    """
    def learn(layer, inputs):
        values = inputs[0].asnumpy()
        mean = values.mean(axis=tuple(axis for axis in range(values.ndim) if axis != 1), keepdims=True) / 2
        spread = float(np.sqrt(np.mean((values - mean) ** 2))) or 1.0
        around = spread * random.uniform(0.8, 1.25, mean.size)
        layer.running_mean.set_data(mx.nd.array(mean.ravel() + 0.1 * spread * random.standard_normal(mean.size)))
        layer.running_var.set_data(mx.nd.array(around ** 2))

    net.initialize()
    net(image)                  # infers shapes
    for name, parameter in net._collect_params_with_prefix().items():
        shape = parameter.shape
        if name.endswith('weight') and len(shape) > 1:
            size, initial = math.sqrt(2 / np.prod(shape[1:])), parameter.data().asnumpy()
            if parameter.init is not None:      # layers that GluonCV keeps small, such as those that place boxes
                size = float(initial.std()) or SHIFTS * size
            drawn = random.standard_normal(min(np.prod(shape), DRAWN)).astype('float32')
            parameter.set_data(mx.nd.array(np.resize(drawn * np.float32(size), shape)))
        elif name.endswith(('gamma', 'var')):
            parameter.set_data(mx.nd.array(random.uniform(0.7, 1.4, shape)))
        elif name.endswith(('beta', 'bias', 'mean')):
            parameter.set_data(mx.nd.array(0.1 * random.standard_normal(shape)))
    hooks = []
    net.apply(lambda layer: hooks.append(layer.register_forward_pre_hook(learn)) if isinstance(layer, nn.BatchNorm)
              else None)
    net(image)
    for hook in hooks:
        hook.detach()
    inner = [each for name, each in net._collect_params_with_prefix().items() if name.endswith('_running_var')]
    if not all(np.isfinite(value).all() for value in outputs(net, image)):
        for parameter in inner:         # in a SymbolBlock, where no hook looks, a deep network may overflow
            parameter.set_data(16 * parameter.data())


def zero_half(net: gluon.HybridBlock, shape, random: np.random.RandomState) -> None:
    """Put a share of the entries of each factor at zero, at random, such that about half of the MACs go.

    A layer keeps at least one structure; of blocks, the same share goes. The factors that stay are anything but 1.
    """
    factors = sss.scaling_factors(net)
    if not factors:
        raise SSSError('the network has no factors')
    blocks = [factor.name for factor in factors if factor.kind == 'block']
    order = {factor.name: random.permutation(len(factor.values())) for factor in factors}
    place = dict(zip(blocks, random.permutation(len(blocks))))
    counter = MaskedCounter(net, shape)

    def choose(share: float) -> Dict[str, np.ndarray]:
        return {name: np.array([place[name] >= share * len(blocks)]) if name in place else
                (ranks >= min(int(share * ranks.size), ranks.size - 1)) for name, ranks in order.items()}

    share, low, high, nearest = 0.25, 0.0, 1.0, (1.0, 0.0)
    for number in range(TRIES):
        left = counter.share(choose(share)).macs
        nearest = min(nearest, (abs(left - HALF), share))
        if nearest[0] <= NEAR:
            break
        low, high = (share, high) if left > HALF else (low, share)
        # the MACs that are left are about (1 - share) to some power; where blocks go one by one, halving finds it
        guess = 1 - (1 - share) ** (math.log(HALF) / math.log(min(max(left, 0.01), 0.99)))
        share = guess if number < TRIES / 2 and low < guess < high else (low + high) / 2
    for factor in factors:
        alive = choose(nearest[1])[factor.name]
        factor.parameter.set_data(mx.nd.array(alive * random.uniform(0.5, 1.5, alive.shape)))


def outputs(net: gluon.HybridBlock, image: mx.nd.NDArray) -> List[np.ndarray]:
    """All outputs of a network, in the order in which they are nested."""
    def flat(value):
        if value is None:
            return []
        if isinstance(value, (list, tuple, dict)):
            return [each for part in (value.values() if isinstance(value, dict) else value) for each in flat(part)]
        return [value.asnumpy()]
    return flat(net(image))


def difference(expected: List[np.ndarray], found: List[np.ndarray]) -> float:
    """The largest difference, over the largest output."""
    return max(float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-30)) for a, b in zip(expected, found))
