"""From a Gluon network to a Program with structural names, which are the same for every instance of the network."""
from __future__ import annotations

import inspect
import io
import warnings
from contextlib import redirect_stdout
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union, cast

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon

from ..errors import SSSError, reason
from .ir import Node, Program, Shape, from_symbol, rewritten, unique_names

NARROW = ('float16', 'bfloat16')
AMP = ('amp_cast', 'amp_multicast')         # casts that do nothing if everything is float32
FACTOR = 'factor'                           # name of a parameter that is a scaling factor
NAMED = 8                                   # so many names in a message
INPUTS, OUTPUTS = '__inputs__', '__outputs__'   # attributes of input variables: how the network is called

Shapes = Union[Sequence[int], Sequence[Sequence[int]], Mapping[str, Sequence[int]]]


def trace(net: gluon.HybridBlock, input_shape: Shapes, values: bool = True, training: bool = False) -> Program:
    """Read a network as a Program.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
        Any network that can be called with Symbols, including a ``SymbolBlock``. Its outputs may be lists, tuples and
        dicts of arrays and None, nested.
    input_shape : sequence of int, list of them, or dict of str to sequence of int
        Shape of the input, batch first, e.g. (1, 3, 32, 32). For several inputs, a shape for each in the order of the
        arguments, which are then called ``data0``, ``data1``, …, or {name: shape}.
    values : bool
        Copy the parameters to the host; otherwise use zeros of their shapes, which is enough to count.
    training : bool
        Read what the network computes while it trains, which may have more outputs, such as auxiliary heads.

    Raises
    ------
    SSSError
        The network cannot be traced, has other inputs, or is not initialised.

    Warns
    -----
    UserWarning
        The network has scaling factors that take no part in what is traced.

    Notes
    -----
    With ``values``, parameters that wait for the first batch get their shapes, and values, from ``input_shape``.
    A Program is float32: parameters of a narrower type are converted; casts to such a type, and those of MXNet's AMP,
    are left out. A block made from the Program takes the same inputs in the same order, and returns lists where the
    network returned lists or tuples; a dict, or anything with None in it, becomes a flat list of the arrays.
    """
    inputs = _named_shapes(net, input_shape)
    symbol, form = network_symbol(net, list(inputs), training)
    parameters = {p.name: p for p in net.collect_params().values()}
    free = [name for name in symbol.list_inputs() if name not in parameters]
    if not set(free) <= inputs.keys():
        raise SSSError(f'{type(net).__name__} has the inputs {free}, and a shape is given for {list(inputs)} only; '
                       f'make each input an argument of hybrid_forward, and give its shape')
    shapes = _parameter_shapes(net, symbol, inputs)
    host = {}
    mx.nd.waitall()     # without it, static_shape can return the parameters of an earlier step
    for name, shape in shapes.items():
        host[name] = _host_value(net, parameters[name], shape) if values else np.zeros(shape, 'float32')
    structural = structural_names(net)
    _warn_of_absent(net, [path for name, path in structural.items() if name not in shapes])
    program = Program(from_symbol(symbol), host, inputs)
    return _renamed(program, parameters, structural, net.prefix, form)


def _named_shapes(net, input_shape: Shapes) -> Dict[str, Shape]:
    """{name: shape} of the inputs, in the order in which the network takes them."""
    own = _own_names(net)
    if isinstance(input_shape, Mapping):
        named = dict(input_shape)
        if set(named) == set(own[:len(named)]):
            named = {name: named[name] for name in own[:len(named)]}
    elif len(input_shape) and np.ndim(input_shape[0]):
        names = [f'data{i}' for i in range(len(input_shape))] if len(input_shape) > 1 else ['data']
        named = dict(zip(names, cast(Sequence[Sequence[int]], input_shape)))
    else:
        named = {'data': cast(Sequence[int], input_shape)}
    if isinstance(net, gluon.SymbolBlock) and len(own) != len(named):
        raise SSSError(f'{type(net).__name__} has the inputs {own}, and {len(named)} shapes are given; give one for '
                       f'each, as a list or as {{name: shape}}')
    return {str(name): tuple(int(size) for size in shape) for name, shape in named.items()}


def _own_names(net) -> List[str]:
    """What a network calls its inputs."""
    if isinstance(net, gluon.SymbolBlock):
        return [symbol.name for symbol in net._cached_graph[0]]
    arguments = inspect.signature(net.hybrid_forward).parameters if isinstance(net, gluon.HybridBlock) else {}
    return [name for name in list(arguments)[1:] if name not in net._reg_params]


def _warn_of_absent(net, names: List[str]) -> None:
    absent = [name.rpartition('.')[0] for name in names if name.rpartition('.')[2] == FACTOR]
    if absent:
        rest = f' and {len(absent) - NAMED} more' if len(absent) > NAMED else ''
        warnings.warn(f'these factors take no part in what {type(net).__name__} computes, except perhaps in training, '
                      f'and are left out: {", ".join(absent[:NAMED])}{rest}', stacklevel=3)


def structural_names(net: gluon.Block) -> Dict[str, str]:
    """{parameter name: structural name, e.g. ``stage1.0.conv1.weight``}; of a shared parameter, its first one."""
    if isinstance(net, gluon.SymbolBlock):
        return {p.name: p.name for p in net.collect_params().values()}
    names: Dict[str, str] = {}
    for path, parameter in net._collect_params_with_prefix().items():
        names.setdefault(parameter.name, path)
    return names


def settle_shapes(net: gluon.HybridBlock, input_shape: Shapes) -> None:
    """Give the parameters of a network that is not initialised the shapes that a batch of ``input_shape`` implies.

    Nothing is computed. Layers that only the training mode uses keep what they have.
    """
    inputs = _named_shapes(net, input_shape)
    shapes = _parameter_shapes(net, network_symbol(net, list(inputs))[0], inputs)
    for parameter in net.collect_params().values():
        if parameter._data is None and parameter.name in shapes:
            parameter.shape = shapes[parameter.name]
            parameter._var = None       # it was made with the shape that was not known


def network_symbol(net, names: Sequence[str] = ('data',), training: bool = False) -> Tuple[mx.sym.Symbol, Any]:
    """The outputs of a network as one Symbol, and their form as Gluon writes it: 0 for an array, a list for a list.

    The form is None where it is what a SymbolBlock returns anyway: an array or a flat list.
    """
    if not isinstance(net, gluon.HybridBlock):
        raise SSSError(f'{type(net).__name__} is not a HybridBlock and cannot be traced; write it with hybrid_forward')
    try:
        with autograd.record() if training else autograd.pause():
            outputs = net(*map(mx.sym.var, names))
        parts, form = _parts(outputs)
        if not parts:
            raise ValueError('it has no output')
    except Exception as error:      # a user's hybrid_forward may raise anything for a Symbol
        more = '; give the shape of every input' if 'positional argument' in str(error) else ''
        raise SSSError(f'{type(net).__name__} cannot be traced with a symbolic input: '
                       f'{type(error).__name__}: {reason(error)}{more}') from error
    if isinstance(outputs, mx.sym.Symbol):
        return outputs, None
    symbol = mx.sym.Group(parts)
    count = len(symbol.list_outputs())
    flat = [0] * count
    return symbol, None if count > 1 and form in (None, flat) else form or flat


def _parts(output) -> Tuple[List[mx.sym.Symbol], Any]:
    """The symbols in an output, and its form; None if a SymbolBlock cannot return that form."""
    if isinstance(output, mx.sym.Symbol):
        count = len(output.list_outputs())
        return [output], count if count > 1 else 0
    if output is None:
        return [], None
    if not isinstance(output, (list, tuple, Mapping)):
        raise TypeError(f'it returns an output of type {type(output).__name__}')
    found = [_parts(part) for part in (output.values() if isinstance(output, Mapping) else output)]
    forms = [form for _, form in found]
    whole = not isinstance(output, Mapping) and all(form is not None for form in forms)
    return [symbol for symbols, _ in found for symbol in symbols], forms if whole else None


def _parameter_shapes(net, symbol, inputs: Dict[str, Shape]) -> Dict[str, Shape]:
    told = ', '.join(map(str, inputs.values()))
    names = symbol.list_arguments() + symbol.list_auxiliary_states()
    known = {p.name: tuple(p.shape) for p in net.collect_params().values()      # lists in GluonCV's pruned networks
             if p.shape and all(size > 0 for size in p.shape)}
    try:
        with redirect_stdout(io.StringIO()):        # MXNet prints that it failed
            arguments, _, auxiliary = symbol.infer_shape(**{name: shape for name, shape in {**known, **inputs}.items()
                                                            if name in names})
    except Exception as error:      # MXNetError, and Exception itself for more than 2^31 elements
        raise SSSError(f'{type(net).__name__} does not accept an input of shape {told}: {reason(error)}') from error
    if arguments is None:
        raise SSSError(f'shapes inside {type(net).__name__} cannot be inferred from an input of shape {told}; '
                       f'give the layers their in_channels')
    return {name: shape for name, shape in zip(names, arguments + auxiliary) if name not in inputs}


def _host_value(net, parameter, shape: Shape) -> np.ndarray:
    if parameter._deferred_init:        # it waits for its shape, as until the first batch
        parameter.shape = shape
        parameter._finish_deferred_init()
    try:
        value = parameter.list_data()[0]
        return (value.astype('float32') if np.dtype(value.dtype).name in NARROW else value).asnumpy()
    except (RuntimeError, gluon.parameter.DeferredInitializationError) as error:
        raise SSSError(f'parameter {parameter.name} of {type(net).__name__} has no values yet; call '
                       f'net.initialize()') from error


def _renamed(program: Program, parameters, structural, prefix: str, form) -> Program:
    """Give variables structural names with underscores, and operators the name of the layer that they belong to."""
    nodes = program.nodes()
    claim = unique_names(program.inputs)
    called = {} if list(program.inputs) == ['data'] else {INPUTS: ','.join(program.inputs)}
    if form is not None:
        called[OUTPUTS] = str(form)
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
        if program.is_input(node):
            return Node('null', node.name, called)
        parameter = parameters[node.name]
        attrs = {'__shape__': str(tuple(values[variable[node.name]].shape)),
                 '__lr_mult__': str(parameter.lr_mult), '__wd_mult__': str(parameter.wd_mult),
                 '__grad_req__': parameter.grad_req}
        if '__init__' in node.attrs:
            attrs['__init__'] = node.attrs['__init__']
        return Node('null', variable[node.name], attrs)

    outputs = rewritten(program.outputs, replace)
    return Program(outputs, values, program.inputs,
                   variables={structural[old]: new for old, new in variable.items()})
