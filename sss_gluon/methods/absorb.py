"""What a channel gives when its BatchNorm.gamma is zero, carried into the layer that reads it.

Such a channel is the constant k = f(β) (f: the ReLU, the pooling behind it). A layer that reads it gets W·k, the same
for every image. That goes into its bias; or, as an offset of its outputs, into the running mean of the BatchNorms that
read them, through additions too: within a stage of a pre-activation ResNet these are the first BatchNorm of every later
block. This is exact where the layer does not pad; where it pads with zeros the border positions see less of the
constant, so it is an approximation there. An offset that reaches anything else is dropped.
"""
from __future__ import annotations

from dataclasses import replace
from typing import Dict, List, NamedTuple, Tuple

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..errors import SSSError
from ..graph.channels import Channels
from ..graph.ir import Entry, Node, Program
from ..graph.operators import ADDITIONS
from .layer_graph import LINEAR
from .method import Case, Kept

IMAGES = 64
ROUNDING = 1e-6     # of constants that were carried already


class Carried(NamedTuple):
    """Layers that read constants of removed channels, by how well these are kept; and what that costs.

    ``error`` is the root mean square of the change of the outputs on training images, over that of the outputs: with
    the constants carried, against the network in which they are still computed.
    """
    exact: List[str]
    approximate: List[str]
    dropped: List[str]
    error: float

    def __str__(self):
        parts = [f'{len(names)} layers {text}' for names, text in
                 ((self.exact, 'exactly'), (self.approximate, 'up to their zero padding'),
                  (self.dropped, 'not at all (nothing behind them takes an offset)')) if names]
        return (f'constants of removed channels are carried into {", ".join(parts) or "no layer, all are 0"}; '
                f'outputs change by {self.error:.1e} of their size')


def carry(case: Case, kept: Kept) -> Dict[str, object]:
    """Carry the constants of what is not kept; with the option ``constants: exact`` anything else is an error."""
    constant = _without_gamma(case, kept)
    before, after = Channels(constant), Channels(case.pruned(kept))
    exact, approximate, dropped = [], [], []
    for node in before.nodes:
        shift = _shift(node, before, after) if node.op in LINEAR else np.zeros(1)
        if not shift.any():
            continue
        takers = _takers(case, node)
        padded = any(np.ravel(node.get('pad', 0)))
        (dropped if not takers else approximate if padded else exact).append(node.name)
        if case.options['constants'] == 'exact' and not exact[-1:] == [node.name]:
            raise SSSError(f'constants of removed channels cannot be carried exactly into {node.name}: it pads with '
                           f'zeros, or nothing behind it takes an offset; method_options: {{constants: approximate}} '
                           f'states the error instead')
        for parameter, sign in takers:
            parameter.set_data(parameter.data() + mx.nd.array(sign * shift))
        after = Channels(case.pruned(kept))        # what is constant further on has changed with it
    images = case.images(IMAGES).x
    expected = constant.run(images)[0].astype('float64')
    found = case.pruned(kept).run(images)[0]
    result = Carried(exact, approximate, dropped,
                     float(np.sqrt(np.square(found - expected).mean() / max(np.square(expected).mean(), 1e-30))))
    case.log(str(result))
    return result._asdict()


def _without_gamma(case: Case, kept: Kept) -> Program:
    """The network with BatchNorm.gamma at 0 in the removed channels: they are constants, and still there."""
    program = case.layer_graph.program
    values = dict(program.values)
    for unit in case.units:
        name = next(e.node.name for e in unit.norm.inputs if e.node.name.endswith('gamma'))
        values[name] = values[name] * np.repeat(kept[unit.name], values[name].size // unit.size)
    return replace(program, values=values)


def _shift(node: Node, before: Channels, after: Channels) -> np.ndarray:
    """(outputs,): what a layer lacks of the constants that it read before."""
    other = next(n for n in after.nodes if n.name == node.name)
    k = before.constant(node.inputs[0]) - after.constant(other.inputs[0])
    k = np.where(np.isnan(k) | (np.abs(k) < ROUNDING), 0.0, k)
    weight = before.value(node.inputs[1]).astype('float64')
    if node.op == 'FullyConnected':
        k = np.repeat(k, before.positions(node.inputs[0]))
    groups = int(node.get('num_group', 1))
    taps = weight.reshape(groups, len(weight) // groups, weight.shape[1], -1).sum(axis=-1)
    return np.einsum('goi,gi->go', taps, k.reshape(groups, -1)).ravel()


def _takers(case: Case, layer: Node) -> List[Tuple[gluon.Parameter, int]]:
    """[(parameter, sign)]: what takes up an offset of the outputs of a layer; [] where nothing can.

    Its bias; or the running means of all BatchNorms that it reaches, through additions: BN(x + s; m) = BN(x; m − s).
    """
    layer_graph = case.layer_graph
    layer = layer_graph.nodes[layer.name]
    bias = layer_graph.parameters(layer).get('bias')
    if bias is not None:
        return [(bias, 1)]
    found, waiting = [], [layer]
    for node in waiting:
        users = layer_graph.users[node]
        if Entry(node) in layer_graph.program.outputs:
            return []
        for user, position in users:
            if user.op == 'BatchNorm' and position == 0:
                found.append((layer_graph.parameters(user)['running_mean'], -1))
            elif user.op not in ADDITIONS:
                return []
            elif user not in waiting:
                waiting.append(user)
    return found
