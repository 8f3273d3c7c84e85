"""Apply a structure to a network, or rebuild the compact network from one.

``resnet41.json``, ``resnet32.json`` and ``resnet26.json`` beside this file are the pruned ResNet-50s of the paper,
``cifar10_resnet86.json`` and ``cifar100_resnet89.json`` its pruned ResNet-164s: the only choices of blocks that match
both published columns, parameters and MACs (derived; no paper lists the blocks).
"""
from __future__ import annotations

from pathlib import Path
from typing import Callable, Optional, Union

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..errors import SSSError, nearest, reason
from ..factors import scaling_factors
from ..graph.block import load_arrays, to_block
from ..graph.fold import fold
from ..graph.prune import prune_graph
from ..graph.trace import trace
from ..models import get_model, zoo
from ..models.layers import weight_initializer
from .describe import describe
from .factor_values import fill_nonzero
from .structure import Structure, load_structure


def set_structure(net: gluon.HybridBlock, structure: Union[str, Path, dict, Structure]) -> None:
    """Zero the factors that a structure removes; the others keep their values.

    Raises
    ------
    SSSError
        A factor of the structure is missing in the network, or has another size: the structure belongs to another
        model. The network is not changed.
    """
    structure = load_structure(structure)
    own = {factor.name: factor for factor in scaling_factors(net)}
    for name, row in structure.factors.items():
        if name not in own:
            near = f' (its nearest is {nearest(name, own)!r})' if own else ''
            raise SSSError(f'the structure has a factor {name!r}, which the network lacks{near}; does it belong '
                           f'to another model?')
        size = own[name].parameter.shape[0]
        if size != row['size']:
            raise SSSError(f'factor {name} has {size} entries in the network, {row["size"]} in the structure')
    for name, row in structure.factors.items():
        values = own[name].values()
        values[np.setdiff1d(np.arange(values.size), row['kept'])] = 0
        own[name].parameter.set_data(mx.nd.array(values))


def rebuild(structure: Union[str, Path, dict, Structure], init: Optional[mx.init.Initializer] = None,
            params: Union[None, str, Path] = None, model: Optional[Callable] = None, ctx=None) -> gluon.SymbolBlock:
    """Build the compact network of a structure, without the network that it was pruned from.

    Parameters
    ----------
    structure : Structure, dict, path, or the name of a structure that ships with the package
    init : mxnet.init.Initializer, optional
        For the weights; default each layer's own initializer, N(0, 2/fan_in) with the narrower fan-in. Biases and beta
        start at 0, BatchNorm.gamma at 1.
    params : path, optional
        Weights of the compact network (``prefix-0000.params``) instead of new ones.
    model : callable, optional
        Builds the network with all its structures. Required for networks from outside this package and GluonCV: a
        structure file never causes other code to be imported.

    Returns
    -------
    mxnet.gluon.SymbolBlock
    """
    structure = load_structure(structure)
    net = model() if model else _build(structure)
    net.initialize()
    set_structure(net, structure)
    traced = trace(net, structure.input_shape)
    fill_nonzero(traced, net)
    folded = fold(traced)
    reduced, _ = prune_graph(folded)
    found = describe(net, folded, reduced).layers
    wrong = [name for name in structure.layers if structure.layers[name] != found.get(name)]
    if wrong or len(found) != len(structure.layers):
        name = wrong[0] if wrong else sorted(set(found) - set(structure.layers))[0]
        raise SSSError(f'layer {name} is {structure.layers.get(name)} in the structure, but its factors give '
                       f'{found.get(name)}: the file was edited, or comes from another version of the model')
    block = to_block(reduced, ctx)
    values = None if params is None else load_arrays(params)
    foreign = sorted(set(values or ()) - set(block.collect_params()))
    if foreign:
        raise SSSError(f'{params} holds {foreign[0]}, which the structure lacks: it belongs to another network')
    initializers = {node.name: node.attrs.get('__init__') for node in reduced.nodes() if node.is_variable}
    for name, parameter in block.collect_params().items():
        if values is None or name not in values and name not in traced.values:  # a bias that only takes up constants
            parameter.set_data(_initial(name, parameter.shape, initializers[name], init))
        elif name not in values or values[name].shape != parameter.shape:
            shape = values[name].shape if name in values else 'nothing'
            raise SSSError(f'{params} holds {shape} for {name}, but the structure needs {parameter.shape}')
        else:
            parameter.set_data(mx.nd.array(values[name]))
    return block


def _build(structure: Structure) -> gluon.HybridBlock:
    spec = structure.model
    if not isinstance(spec, dict) or not isinstance(spec.get('name'), str) \
            or ':' in spec['name'] and not zoo.is_zoo(spec['name']):
        raise SSSError('the structure belongs to a network from outside this package; pass model=, a function that '
                       'builds it')
    try:
        return get_model(spec['name'], spec.get('classes'), spec.get('factors'), spec.get('in_channels', 3),
                         structure.input_shape, **spec.get('options', {}))
    except (TypeError, ValueError, AttributeError, mx.base.MXNetError) as error:
        raise SSSError(f'the model {spec} of the structure cannot be built: {reason(error)}') from error


def _initial(name, shape, own, init):
    """A value from the layer's own initializer, from ``init`` for weights, or by the suffix of the name."""
    array = mx.nd.zeros(shape)
    is_weight = name.endswith('weight')
    attributes = {'__init__': own} if own and not (init and is_weight) else {}
    try:
        (init or weight_initializer())(mx.init.InitDesc(name, attributes), array)
    except ValueError as error:
        raise SSSError(f'parameter {name} has no initializer, and its name has no suffix that implies one; set one in '
                       f'its layer, or pass params=') from error
    return array
