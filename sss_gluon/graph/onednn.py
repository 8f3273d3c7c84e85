"""What oneDNN has no fast code for, written as what it has fast code for.

oneDNN's fast code works on blocks of channels, 16 with AVX-512 and 8 with AVX2. For groups of fewer channels it falls
back on matrix products, or on smaller blocks, for which the BatchNorm on either side has reference code only. In
bfloat16, an odd number of input channels, as an image has, has the same effect. Zeros among the weights avoid both: the
function is the same, and the products with zero cost less than they save.

The gradient of a global average has an order in memory for which BatchNorm has reference code only, which can take most
of a step. That of a mean over rows and columns has not.
"""
from __future__ import annotations

from functools import partial
from math import gcd
from typing import Callable, Dict, List, Mapping

import mxnet as mx

from .ir import Entry, Node, Program, Shape, from_symbol, rewritten, to_json

MOST = 8            # groups that become one; for more, the products with zero cost too much
WORST = 16, 4       # AVX-512 with blocks of 4 channels, where BatchNorm takes most of the time
WIDEST = 256        # channels for which no groups at all are faster than that


def for_onednn(symbol: mx.sym.Symbol, shapes: Mapping[str, Shape], block: int) -> mx.sym.Symbol:
    """The same function of the same variables, in operators that train faster.

    Neighbouring groups become one, whose weights are block diagonal. In bfloat16, an odd number of input channels
    becomes even. In float32, a global average becomes a mean over rows and columns.

    Parameters
    ----------
    symbol : mxnet.symbol.Symbol
        It may hold the casts of MXNet's AMP. It is returned as it is if there is nothing to change.
    shapes : dict of str to tuple of int
        Of its inputs and parameters.
    block : int
        Channels that the CPU's fast code computes together.
    """
    outputs = from_symbol(symbol)
    nodes = Program(outputs, {}, {}).nodes()
    images = [node for node in nodes if len(node.get('kernel') or ()) == 2 and node.get('layout') in (None, 'NCHW')]
    convolutions = [node for node in images if node.op == 'Convolution']
    weights = Program([node.inputs[1] for node in convolutions], {}, shapes)
    changes: Dict[Node, Callable[[Node], None]] = {}
    if not any(node.op == 'amp_cast' for node in nodes):
        changes.update((node, _to_mean) for node in images if node.op == 'Pooling' and node.get('global_pool')
                        and node.get('pool_type') == 'avg')
    for node in convolutions:
        inside = weights.shapes()[node.inputs[1]][1]        # input channels of a group
        merged = _merged(node, inside, block)
        if merged > 1:
            changes[node] = partial(_merge, merged=merged)
        elif inside % 2 and inside < block and node.get('num_group', 1) == 1 and _in_bfloat16(node):
            changes[node] = _make_even
    if not changes:
        return symbol

    def replace(node: Node, inputs):
        new = Node(node.op, node.name, node.attrs, inputs, node.extra)
        if node in changes:
            changes[node](new)
        return new

    return mx.sym.load_json(to_json(rewritten(outputs, replace)))


def _merged(node: Node, inside: int, block: int) -> int:
    """How many groups become one, so that it has whole blocks of channels; 1: none."""
    groups = node.get('num_group', 1)
    common = gcd(gcd(block, inside), node.get('num_filter') // groups)       # Python 3.8 takes two
    merged = block // common
    if merged <= MOST and groups % merged == 0:
        return merged
    return groups if (block, common) == WORST and node.get('num_filter') <= WIDEST else 1


def _to_mean(node: Node) -> None:
    node.op, node.attrs = 'mean', {'axis': '(2, 3)', 'keepdims': 'True'}


def _in_bfloat16(node: Node) -> bool:
    cast = node.inputs[0].node
    return cast.op == 'amp_cast' and cast.get('dtype') == 'bfloat16'


def _merge(node: Node, merged: int) -> None:
    """Merge groups: (C, inside, kh, kw) becomes (C, merged · inside, kh, kw), zero outside the diagonal blocks."""
    channels, groups = node.get('num_filter'), node.get('num_group')
    rows = merged * (channels // groups)        # output channels of a merged group
    which = _operator('repeat', node, [_operator('_eye', node, [], N=merged, dtype='float32')],
                      repeats=channels // groups, axis=0)
    mask = _operator('Reshape', node, [which], shape=(1, rows, merged, 1))

    def fill(weight: Entry) -> Entry:
        apart = _operator('Reshape', node, [weight], shape=(groups // merged, rows, 1, -1))
        blocks = _operator('broadcast_mul', node, [apart, mask])
        return _operator('Reshape', node, [blocks], shape=(channels, -1) + node.get('kernel'))

    node.inputs[1] = _before_cast(node.inputs[1], fill)
    node.attrs['num_group'] = str(groups // merged)


def _make_even(node: Node) -> None:
    """Add an input channel, a copy of the first, with a weight of zero."""
    zeros = _operator('_zeros', node, [], shape=(node.get('num_filter'), 1) + node.get('kernel'), dtype='float32')

    def fill(data: Entry) -> Entry:
        first = _operator('slice_axis', node, [data], axis=1, begin=0, end=1)
        return _operator('Concat', node, [data, first], num_args=2, dim=1)

    node.inputs[0] = _before_cast(node.inputs[0], fill)
    node.inputs[1] = _before_cast(
        node.inputs[1], lambda weight: _operator('Concat', node, [weight, zeros], num_args=2, dim=1))


def _before_cast(entry: Entry, fill: Callable[[Entry], Entry]) -> Entry:
    """``fill`` in front of a cast to bfloat16, which few operators work in."""
    cast = entry.node
    if cast.op != 'amp_cast':
        return fill(entry)
    return Entry(Node(cast.op, cast.name, cast.attrs, [fill(cast.inputs[0])]))


def _operator(op: str, layer: Node, inputs: List[Entry], **attributes) -> Entry:
    return Entry(Node(op, f'{layer.name}_{op.strip("_").lower()}', {k: str(v) for k, v in attributes.items()}, inputs))
