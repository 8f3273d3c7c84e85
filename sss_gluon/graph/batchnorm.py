"""BatchNorm folded into the layer before it: in inference mode it is one scale and one shift per channel."""
from __future__ import annotations

from typing import Dict, Optional

import numpy as np

from .ir import Entry, Node, Program, rewritten, unique_names

LINEAR = ('Convolution', 'Deconvolution', 'FullyConnected')


def fold_batchnorm(program: Program) -> Program:
    """The same function in inference mode, with fewer BatchNorms.

    With s = γ / sqrt(var + ε) per output channel, a layer W·x + b and the BatchNorm after it are the one layer
    (s·W)·x + β + s·(b − mean); computed in float64, stored in the type of the weight.

    A BatchNorm is folded if it normalises the output channels of a Convolution, Deconvolution (grouped or not) or
    FullyConnected layer, and nothing else reads that output.

    A BatchNorm stays if it follows anything else, such as the first one of a pre-activation block, whose input the
    shortcut reads too (it cannot be folded into the convolution behind it: a ReLU, or the zeros of the padding, are in
    between); if its mean or variance is an output; if it normalises another axis; or if its parameters are computed.

    Parameters
    ----------
    program : Program
        It is not changed. Weights that several layers share are copied.

    Returns
    -------
    Program
        For inference only, because it would train differently. Layers and weights keep their names; biases may be new.
    """
    pairs = _pairs(program)
    if not pairs:
        return program
    users, values = program.consumers(), dict(program.values)
    claim = unique_names({node.name for node in users} | values.keys())
    norms = {layer: norm for norm, layer in pairs.items()}

    def parameter(old: Optional[Node], name: str, value: np.ndarray) -> Entry:
        if old is not None and len(users[old]) == 1 and Entry(old) not in program.outputs:
            name, attrs = old.name, old.attrs
        else:
            name, attrs = claim(name), old.attrs if old else {}
        values[name] = value
        return Entry(Node('null', name, dict(attrs, __shape__=str(value.shape))))

    def replace(node: Node, inputs):
        if node in pairs:
            return {0: inputs[0]}
        if node not in norms:
            return Node(node.op, node.name, node.attrs, inputs, node.extra)
        weight, bias = _folded(program, node, norms[node])
        old_bias = node.inputs[2].node if len(node.inputs) > 2 else None
        return Node(node.op, node.name, dict(node.attrs, no_bias='False'),
                    [inputs[0], parameter(node.inputs[1].node, f'{node.name}_weight', weight),
                     parameter(old_bias, f'{node.name}_bias', bias)])

    return fold_batchnorm(program.derived(rewritten(program.outputs, replace), values))     # for two in a row


def _pairs(program: Program) -> Dict[Node, Node]:
    """{BatchNorm: the layer that it can be folded into}."""
    users, pairs = program.consumers(), {}
    read = set(program.outputs) | {entry for node in users for entry in node.inputs}
    for norm in users:
        if norm.op != 'BatchNorm':
            continue
        layer = norm.inputs[0].node
        if layer.op not in LINEAR or len(users[layer]) > 1 or Entry(layer) in program.outputs:
            continue
        parameters = norm.inputs[1:] + layer.inputs[1:]
        if all(program.is_parameter(entry.node) for entry in parameters) and _over_channels(program, norm, layer) \
                and not {Entry(norm, 1), Entry(norm, 2)} & read:
            pairs[norm] = layer
    return pairs


def _over_channels(program: Program, norm: Node, layer: Node) -> bool:
    axes = len(program.shapes()[Entry(layer)])
    if layer.op == 'FullyConnected':
        return norm.get('axis', 1) % axes == axes - 1
    return norm.get('axis', 1) % axes == 1 and str(layer.get('layout') or 'NC').startswith('NC')


def _folded(program: Program, layer: Node, norm: Node):
    """Weight and bias of a layer with the BatchNorm after it."""
    gamma, beta, mean, variance = (program.value(entry).astype('float64') for entry in norm.inputs[1:5])
    scale = 1 / np.sqrt(variance + norm.get('eps', 1e-3))
    if not norm.get('fix_gamma', True):
        scale = scale * gamma
    weight = program.value(layer.inputs[1])
    bias = program.value(layer.inputs[2]) if len(layer.inputs) > 2 else 0.0
    if layer.op == 'Deconvolution':     # (inputs, outputs per group, ...), groups along the first axis
        groups = layer.get('num_group', 1)
        factor = np.repeat(scale.reshape(groups, -1), len(weight) // groups, axis=0)
    else:
        factor = scale
    factor = factor.reshape(factor.shape + (1,) * (weight.ndim - factor.ndim))
    return (weight * factor).astype(weight.dtype), (beta + (bias - mean) * scale).astype(weight.dtype)
