"""From a Gluon network to a Program with structural names, which are the same for every instance of the network."""
from __future__ import annotations

import io
from contextlib import redirect_stdout
from typing import Dict, Optional, Sequence

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..errors import SSSError, reason
from .ir import Node, Program, from_symbol, rewritten, unique_names

NARROW = ('float16', 'bfloat16')
AMP = ('amp_cast', 'amp_multicast')         # casts that do nothing if everything is float32


def trace(net: gluon.HybridBlock, input_shape: Sequence[int], values: bool = True) -> Program:
    """Read a network as a Program.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
        Any network with one input that can be called with a Symbol, including a ``SymbolBlock``.
    input_shape : sequence of int
        Shape of the input, batch first, e.g. (1, 3, 32, 32).
    values : bool
        Copy the parameters to the host; otherwise use zeros of their shapes, which is enough to count.

    Raises
    ------
    SSSError
        The network cannot be traced, has more than one input, or is not initialised.

    Notes
    -----
    A Program is float32: parameters of a narrower type are converted; casts to such a type, and those of MXNet's AMP,
    are left out.
    """
    symbol = _symbol(net)
    input_shape = tuple(int(size) for size in input_shape)
    parameters = {p.name: p for p in net.collect_params().values()}
    free = [name for name in symbol.list_inputs() if name not in parameters]
    if free != ['data']:
        raise SSSError(f'{type(net).__name__} has the inputs {free}; only networks with one input are supported')
    shapes = _parameter_shapes(net, symbol, input_shape)
    host = {}
    mx.nd.waitall()     # without it, static_shape can return the parameters of an earlier step
    for name, shape in shapes.items():
        host[name] = _host_value(net, parameters[name]) if values else np.zeros(shape, 'float32')
    structural = structural_names(net)
    program = Program(from_symbol(symbol), host, input_shape)
    return _renamed(program, parameters, structural, net.prefix)


def structural_names(net: gluon.Block) -> Dict[str, str]:
    """{parameter name: structural name, e.g. ``stage1.0.conv1.weight``}; of a shared parameter, its first one."""
    if isinstance(net, gluon.SymbolBlock):
        return {p.name: p.name for p in net.collect_params().values()}
    names: Dict[str, str] = {}
    for path, parameter in net._collect_params_with_prefix().items():
        names.setdefault(parameter.name, path)
    return names


def settle_shapes(net: gluon.HybridBlock, input_shape: Sequence[int]) -> None:
    """Give the parameters of a network that is not initialised the shapes that a batch of ``input_shape`` implies.

    Nothing is computed. Layers that only the training mode uses keep what they have.
    """
    shapes = _parameter_shapes(net, _symbol(net), tuple(input_shape))
    for parameter in net.collect_params().values():
        if parameter._data is None and parameter.name in shapes:
            parameter.shape = shapes[parameter.name]
            parameter._var = None       # it was made with the shape that was not known


def _symbol(net) -> mx.sym.Symbol:
    if not isinstance(net, gluon.HybridBlock):
        raise SSSError(f'{type(net).__name__} is not a HybridBlock and cannot be traced; write it with hybrid_forward')
    try:
        outputs = net(mx.sym.var('data'))
    except Exception as error:      # a user's hybrid_forward may raise anything for a Symbol
        raise SSSError(f'{type(net).__name__} cannot be traced with a symbolic input: '
                       f'{type(error).__name__}: {reason(error)}') from error
    return mx.sym.Group(list(outputs)) if isinstance(outputs, (list, tuple)) else outputs


def _parameter_shapes(net, symbol, input_shape):
    try:
        with redirect_stdout(io.StringIO()):        # MXNet prints that it failed
            arguments, _, auxiliary = symbol.infer_shape(data=input_shape)
    except Exception as error:      # MXNetError, and Exception itself for more than 2^31 elements
        raise SSSError(f'{type(net).__name__} does not accept an input of shape {input_shape}: '
                       f'{reason(error)}') from error
    if arguments is None:
        raise SSSError(f'shapes inside {type(net).__name__} cannot be inferred from an input of shape {input_shape}; '
                       f'give the layers their in_channels')
    names = symbol.list_arguments() + symbol.list_auxiliary_states()
    return {name: shape for name, shape in zip(names, arguments + auxiliary) if name != 'data'}


def _host_value(net, parameter) -> np.ndarray:
    try:
        value = parameter.list_data()[0]
        return (value.astype('float32') if np.dtype(value.dtype).name in NARROW else value).asnumpy()
    except (RuntimeError, gluon.parameter.DeferredInitializationError) as error:
        raise SSSError(f'parameter {parameter.name} of {type(net).__name__} has no values yet; call net.initialize() '
                       f'(and run one batch where shapes are inferred)') from error


def _renamed(program: Program, parameters, structural, prefix: str) -> Program:
    """Give variables structural names with underscores, and operators the name of the layer that they belong to."""
    nodes = program.nodes()
    claim = unique_names(['data'])
    variable = {node.name: claim(structural[node.name].replace('.', '_')) for node in nodes
                if program.is_parameter(node)}
    values = {new: program.values[old] for old, new in variable.items()}
    owner: Dict[Node, Optional[str]] = {}       # layer whose parameters a node computes with, if it uses nothing else
    for node in nodes:
        if program.is_parameter(node):
            owner[node] = variable[node.name].rpartition('_')[0] or None     # stage1_0_conv1 of ..._conv1_weight
        elif not node.is_variable and node.inputs and all(entry.node in owner for entry in node.inputs):
            owner[node] = owner[node.inputs[0].node]

    def replace(node: Node, inputs):
        if node.op in AMP or node.op == 'Cast' and node.get('dtype') in NARROW:
            return dict(enumerate(inputs))
        if not node.is_variable:
            name = node.name[len(prefix):] if prefix and node.name.startswith(prefix) else node.name
            layers = list(filter(None, (owner.get(entry.node) for entry in node.inputs)))
            if layers and node not in owner:
                name = layers[0]
            return Node(node.op, claim(name), node.attrs, inputs, node.extra)
        if node.name == 'data':
            return Node('null', 'data')
        parameter = parameters[node.name]
        attrs = {'__shape__': str(tuple(values[variable[node.name]].shape)),
                 '__lr_mult__': str(parameter.lr_mult), '__wd_mult__': str(parameter.wd_mult),
                 '__grad_req__': parameter.grad_req}
        if '__init__' in node.attrs:
            attrs['__init__'] = node.attrs['__init__']
        return Node('null', variable[node.name], attrs)

    outputs = rewritten(program.outputs, replace)
    return Program(outputs, values, program.input_shape,
                   variables={structural[old]: new for old, new in variable.items()})
