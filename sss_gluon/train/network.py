"""The network of a run: built from its configuration, then initialised or filled with given weights."""
from __future__ import annotations

from functools import partial
from typing import Callable, Optional

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..data import DataSet
from ..data import load as load_data_set
from ..errors import SSSError, reason
from ..graph.block import load
from ..models import ARCHITECTURES, get_model
from ..models.layers import weight_initializer
from ..structures import Structure, rebuild
from .config import Config
from .devices import contexts
from .given_weights import start_from_init
from .parameters import exempt_from_decay
from .run_folder import RunFolder


def load_data(config: Config) -> DataSet:
    """Load the data set of a run; images are zero-padded where the network needs larger ones."""
    data = load_data_set(config.data, config.data_root, config.validation, config.image_size)
    row = ARCHITECTURES.get(config.model)
    return data.pad_to(row.minimum_size) if row else data


def network_of(run: RunFolder, config: Config, data: DataSet, log: Callable[[str], None] = print) -> gluon.HybridBlock:
    """The network that a run trains: the one that its method selected, or the one of its configuration."""
    if not run.has_selection():
        return build_network(config, data, run.initial_structure(config), log)
    mx.random.seed(config.seed)
    return load(run.selection, contexts(config.devices))


def build_network(config: Config, data: DataSet, structure: Optional[Structure] = None,
                  log: Callable[[str], None] = print) -> gluon.HybridBlock:
    """Build the network of a run on its devices and initialise it from the seed or from ``init``.

    It carries scaling factors, unless a structure is given: then it is the compact network of that structure.
    """
    mx.random.seed(config.seed)
    np.random.seed(config.seed)     # MXNet's initializers draw from both generators
    if structure is None:
        shape = (1,) + tuple(data.shape)
        net = get_model(config.model, data.classes, config.factors, data.shape[0], shape, config.neuron_block,
                        **config.model_options)
        try:
            net.initialize(init=weight_initializer(), ctx=contexts(config.devices))
        except (mx.base.MXNetError, ValueError) as error:       # ValueError: no initializer for the name of a parameter
            raise SSSError(f'the parameters of {config.model} cannot be created: {reason(error)}') from error
    else:
        net = _compact_network(config, data, structure)
    exempt_from_decay(net)
    if config.init:
        for note in start_from_init(net, config):
            log(note)
    return net


def _compact_network(config: Config, data: DataSet, structure: Structure) -> gluon.SymbolBlock:
    spec = structure.model or {}
    if spec.get('name') != config.model:
        raise SSSError(f'structure={config.structure} belongs to model {spec.get("name")}, not to model={config.model}')
    needed = dict(classes=data.classes, in_channels=data.shape[0])
    for key, value in needed.items():
        if spec.get(key) not in (value, None):
            raise SSSError(f'structure={config.structure} has {key}={spec[key]}, but {data.name} needs {value}')
    own = partial(get_model, config.model, data.classes, spec.get('factors'), data.shape[0], structure.input_shape,
                  **spec.get('options', {}))
    try:
        return rebuild(structure, model=own, ctx=contexts(config.devices))
    except SSSError as error:
        raise SSSError(f'structure={config.structure}: {error}') from error
