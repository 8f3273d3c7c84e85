"""Removed channels are constants once their BatchNorm.gamma is zero; the layer that reads them absorbs these constants.

Such a channel equals k = f(β), where f is the ReLU and the pooling after it. A layer that reads it receives W·k, the
same for every image. That goes into its bias; or, as an offset of its outputs, into the running mean of every BatchNorm
that reads them, also through additions: within a stage of a pre-activation ResNet that is the first BatchNorm of every
later block. This is exact where the layer does not pad. With zero padding the border positions see less of the
constant, so it is an approximation there. An offset that reaches any other operator is dropped.
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
from .method import Case, Masks

IMAGES = 64
ROUNDING = 1e-6     # smaller differences are rounding errors of constants that are absorbed already


class Absorbed(NamedTuple):
    """Names of the layers that read constants of removed channels, by how well they absorb them, and the error.

    ``error`` is the RMS change of the outputs over their RMS, on training images: the pruned network with the constants
    absorbed, against the network that still computes them.
    """
    exact: List[str]
    approximate: List[str]
    dropped: List[str]
    error: float

    def __str__(self):
        parts = [f'{len(names)} {text}' for names, text in
                 ((self.exact, 'absorb them exactly'), (self.approximate, 'absorb them up to their zero padding'),
                  (self.dropped, 'drop them, because nothing after takes an offset')) if names]
        return (f'layers that read constants of removed channels: {", ".join(parts) or "none"}; the outputs change by '
                f'{self.error:.1e} (relative RMS)')


def absorb_constants(case: Case, masks: Masks) -> Dict[str, object]:
    """Absorb the constants of removed channels; with the option ``constants: exact`` an inexact layer is an error.

    Returns
    -------
    dict
        The fields of ``Absorbed``.
    """
    constant = _with_zero_gamma(case, masks)
    before, after = Channels(constant), Channels(case.pruned(masks))
    exact: List[str] = []
    approximate: List[str] = []
    dropped: List[str] = []
    for node in before.nodes:
        offset = _missing_offset(node, before, after) if node.op in LINEAR else np.zeros(1)
        if not offset.any():
            continue
        absorbers = _absorbers(case, node)
        padded = any(np.ravel(node.get('pad', 0)))
        (dropped if not absorbers else approximate if padded else exact).append(node.name)
        if case.options['constants'] == 'exact' and not exact[-1:] == [node.name]:
            raise SSSError(f'{node.name} cannot absorb the constants of removed channels exactly: it pads with zeros, '
                           f'or nothing after it takes an offset; method_options: {{constants: approximate}} states '
                           f'the error instead')
        for parameter, sign in absorbers:
            parameter.set_data(parameter.data() + mx.nd.array(sign * offset))
        after = Channels(case.pruned(masks))        # the constants of later layers have changed with it
    images = case.images(IMAGES).x
    expected = constant.run(images)[0].astype('float64')
    found = case.pruned(masks).run(images)[0]
    result = Absorbed(exact, approximate, dropped,
                      float(np.sqrt(np.square(found - expected).mean() / max(np.square(expected).mean(), 1e-30))))
    case.log(str(result))
    return result._asdict()


def _with_zero_gamma(case: Case, masks: Masks) -> Program:
    """The network with BatchNorm.gamma = 0 in removed channels, which makes them constant but leaves them in place."""
    program = case.layer_graph.program
    values = dict(program.values)
    for unit in case.units:
        name = next(e.node.name for e in unit.output.inputs if e.node.name.endswith('gamma'))
        values[name] = values[name] * np.repeat(masks[unit.name], values[name].size // unit.size)
    return replace(program, values=values)


def _missing_offset(node: Node, before: Channels, after: Channels) -> np.ndarray:
    """(outputs,): what the outputs of a layer lose with the constants that it no longer reads."""
    other = next(n for n in after.nodes if n.name == node.name)
    k = before.constant(node.inputs[0]) - after.constant(other.inputs[0])
    k = np.where(np.isnan(k) | (np.abs(k) < ROUNDING), 0.0, k)
    weight = before.value(node.inputs[1]).astype('float64')
    if node.op == 'FullyConnected':
        k = np.repeat(k, before.positions(node.inputs[0]))
    groups = int(node.get('num_group', 1))
    taps = weight.reshape(groups, len(weight) // groups, weight.shape[1], -1).sum(axis=-1)
    return np.einsum('goi,gi->go', taps, k.reshape(groups, -1)).ravel()


def _absorbers(case: Case, layer: Node) -> List[Tuple[gluon.Parameter, int]]:
    """[(parameter, sign)] that absorb an offset of the outputs of a layer; [] if nothing can.

    That is the layer's bias, or the running mean of every BatchNorm that it reaches through additions:
    BN(x + s; m) = BN(x; m − s).
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
