"""Parameters and multiply-accumulates (MACs) of a network, layer by layer.

One multiply-accumulate of a convolution or dense layer is 1 MAC; additions of a bias are not counted. FLOPs, where
the word is used, are 2 × MACs. Counts are per image. Operators that have no handler are listed (``register_macs``).
"""
from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Callable, Dict, List, NamedTuple, Tuple

import numpy as np

from .fold import fold
from .ir import Entry, Node, Program
from .trace import Shapes, trace


class LayerCount(NamedTuple):
    """One layer: name, operator, output shape (batch first), trained parameters, MACs per image."""
    name: str
    op: str
    output_shape: Tuple[int, ...]
    params: int
    macs: int


@dataclass(frozen=True)
class Count:
    """Size of a network.

    Attributes
    ----------
    params : int
        All trained parameters, with BatchNorm.gamma and beta, without running statistics and scaling factors.
    params_without_bn : int
        The same, without those of BatchNorm.
    macs : int
        Multiply-accumulates per image.
    layers : list of LayerCount
        Layers with parameters or MACs, in forward order.
    uncounted : dict of str to int
        {operator without a handler: number of its nodes}: elementwise operators, pooling, …
    """
    params: int
    params_without_bn: int
    macs: int
    layers: List[LayerCount]
    uncounted: Dict[str, int]


def _convolution_macs(node, shapes):
    # per output value: inputs/groups · taps
    return np.prod(shapes[node.inputs[1]][1:]) * np.prod(shapes[Entry(node)][1:])


def _deconvolution_macs(node, shapes):
    # per input value: outputs/groups · taps
    return np.prod(shapes[node.inputs[1]][1:]) * np.prod(shapes[node.inputs[0]][1:])


def _dense_macs(node, shapes):
    return shapes[node.inputs[1]][1] * np.prod(shapes[Entry(node)][1:])


HANDLERS: Dict[str, Callable[[Node, Dict[Entry, Tuple[int, ...]]], int]] = {
    'Convolution': _convolution_macs, 'FullyConnected': _dense_macs, 'Deconvolution': _deconvolution_macs,
    '_sg_mkldnn_conv': _convolution_macs, '_sg_mkldnn_fully_connected': _dense_macs,        # INT8
}


def count(net, input_shape: Shapes) -> Count:
    """Parameters and MACs of a network.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
        With or without scaling factors (which are not counted), initialised or not.
    input_shape : sequence of int, list of them, or dict of str to sequence of int
        Shape of the input, batch first; for several inputs a list of shapes, or {name: shape}.

    Examples
    --------
    >>> sss.count(sss.get_model('cifar_resnet20'), (1, 3, 32, 32)).macs
    41075328
    """
    return count_program(fold(trace(net, input_shape, values=False)))


def count_program(program: Program) -> Count:
    """``count`` for a folded program."""
    shapes, seen, layers = program.shapes(), set(), []
    uncounted: Counter[str] = Counter()
    without_bn = 0
    for node in program.nodes():
        if node.is_variable:
            continue
        params = 0
        for position, entry in enumerate(node.inputs):
            if program.is_parameter(entry.node) and entry.node not in seen and _trained(node, position):
                seen.add(entry.node)
                params += int(np.prod(shapes[entry]))
        macs = 0
        if node.operator in HANDLERS:
            macs = int(HANDLERS[node.operator](node, shapes))
        else:
            uncounted[node.operator] += 1
        if params or macs:
            layers.append(LayerCount(node.name, node.op, tuple(shapes[Entry(node)]), params, macs))
            without_bn += 0 if _is_norm(node) else params
    return Count(sum(layer.params for layer in layers), without_bn, sum(layer.macs for layer in layers), layers,
                 dict(uncounted))


def _trained(node: Node, position: int) -> bool:
    if node.inputs[position].node.attrs.get('__grad_req__') == 'null':
        return False
    if _is_norm(node):
        return position == 2 or position == 1 and not node.get('fix_gamma', True)
    return True


def _is_norm(node: Node) -> bool:
    return 'BatchNorm' in node.op or 'batch_norm' in node.op
