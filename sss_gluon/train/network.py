"""The network of a run: built from its configuration, then initialised or filled with given weights."""
from __future__ import annotations

from functools import partial
from typing import Dict, List, Optional, Tuple

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..data import DataSet
from ..data import load as load_data_set
from ..errors import SSSError, reason
from ..files import read_npz
from ..graph.block import load, load_arrays
from ..models import ARCHITECTURES, get_model
from ..models.layers import weight_initializer
from ..structures import Structure, rebuild
from .config import Config
from .devices import contexts
from .parameters import exempt_from_decay, named_parameters
from .run_folder import RunFolder


def load_data(config: Config) -> DataSet:
    """Load the data set of a run; images are zero-padded where the network needs larger ones."""
    data = load_data_set(config.data, config.data_root, config.validation, config.image_size)
    row = ARCHITECTURES.get(config.model)
    return data.pad_to(row.minimum_size) if row else data


def network_of(run: RunFolder, config: Config, data: DataSet) -> gluon.HybridBlock:
    """The network that a run trains: the one that its method selected, or the one of its configuration."""
    if not run.has_selection():
        return build_network(config, data, run.initial_structure(config))
    mx.random.seed(config.seed)
    return load(run.selection, contexts(config.devices))


def build_network(config: Config, data: DataSet, structure: Optional[Structure] = None) -> gluon.HybridBlock:
    """Build the network of a run on its devices and initialise it from the seed or from ``init``.

    It carries scaling factors, unless a structure is given: then it is the compact network of that structure.
    """
    mx.random.seed(config.seed)
    np.random.seed(config.seed)     # MXNet's initializers draw from both generators
    if structure is None:
        net = get_model(config.model, data.classes, config.factors, data.shape[0], **config.model_options)
        try:
            net.initialize(init=weight_initializer(), ctx=contexts(config.devices))
        except mx.base.MXNetError as error:
            raise SSSError(f'the parameters of {config.model} cannot be created: {reason(error)}') from error
    else:
        net = _compact_network(config, data, structure)
    exempt_from_decay(net)
    if config.init:
        start_from(net, config.init)
    return net


def _compact_network(config: Config, data: DataSet, structure: Structure) -> gluon.SymbolBlock:
    spec = structure.model or {}
    if spec.get('name') != config.model:
        raise SSSError(f'structure={config.structure} belongs to model {spec.get("name")}, not to model={config.model}')
    needed = dict(classes=data.classes, in_channels=data.shape[0])
    for key, value in needed.items():
        if spec.get(key) not in (value, None):
            raise SSSError(f'structure={config.structure} has {key}={spec[key]}, but {data.name} needs {value}')
    own = partial(get_model, config.model, data.classes, spec.get('factors'), data.shape[0], **spec.get('options', {}))
    try:
        return rebuild(structure, model=own, ctx=contexts(config.devices))
    except SSSError as error:
        raise SSSError(f'structure={config.structure}: {error}') from error


def start_from(net: gluon.Block, path: str) -> None:
    """Copy given weights into a network. Its factors stay at 1; factors in the file are folded into the weights.

    The file is a Gluon ``.params`` file (from this package's or GluonCV's network of the same architecture) or a
    checkpoint of this package. Parameters are matched by name; where the names differ, order, kind and shape must
    agree one by one.
    """
    arrays = _given(path)
    mine = [(name, parameter) for name, parameter in named_parameters(net) if not name.endswith('factor')]
    given = _folded(arrays)
    pairs = _by_name(mine, given) or _by_order(mine, given, path)
    for parameter, array in pairs:
        parameter.set_data(mx.nd.array(array, dtype=array.dtype))


def _given(path: str) -> Dict[str, np.ndarray]:
    if str(path).endswith('.npz'):
        arrays = {name[len('param:'):]: array for name, array in read_npz(path).items() if name.startswith('param:')}
        if not arrays:
            raise SSSError(f'{path} holds no parameters; init takes a .params file or a checkpoint')
        return arrays
    return load_arrays(path)


def _folded(arrays: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """Replace W by λ·W, as factors.py does: the same function with λ = 1."""
    folded = {name: array for name, array in arrays.items() if not name.endswith('factor')}
    for name in arrays.keys() - folded.keys():
        for other in ('weight', 'bias', 'gamma', 'beta'):
            key = name[:-len('factor')] + other
            if key in folded:
                value = folded[key]
                scale = np.repeat(arrays[name], len(value) // arrays[name].size)
                folded[key] = value * scale.reshape((-1,) + (1,) * (value.ndim - 1))
    return folded


def _by_name(mine, given) -> Optional[List[Tuple[gluon.Parameter, np.ndarray]]]:
    if {name for name, _ in mine} != set(given) or any(given[name].shape != p.shape for name, p in mine):
        return None
    return [(parameter, given[name]) for name, parameter in mine]


def _by_order(mine, given, path) -> List[Tuple[gluon.Parameter, np.ndarray]]:
    pairs: List[Tuple[gluon.Parameter, np.ndarray]] = []
    for (name, parameter), (other, array) in zip(mine, given.items()):
        if parameter.shape != array.shape or _kind(name) != _kind(other):
            raise SSSError(f'{path} belongs to another network: after {len(pairs)} matching arrays it holds {other} '
                           f'{array.shape} where {name} {parameter.shape} is expected')
        pairs.append((parameter, array))
    if len(mine) != len(given):
        raise SSSError(f'{path} belongs to another network: it holds {len(given)} arrays, and {len(mine)} are expected')
    return pairs


def _kind(name: str) -> str:
    return next((kind for kind in ('weight', 'bias', 'gamma', 'beta', 'running_mean', 'running_var')
                 if name.endswith(kind)), name)
