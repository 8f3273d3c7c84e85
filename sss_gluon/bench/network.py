"""The network that is measured: with factors of which some are zero, and without; of a name, a run or a symbol file."""
from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..deploy.sizes import check_target, described
from ..deploy.source import input_shape
from ..deploy.trained_run import load_run
from ..errors import SSSError, reason
from ..factors import KINDS, scaling_factors
from ..graph.block import load, to_block
from ..graph.fold import fold
from ..graph.trace import trace
from ..models import ARCHITECTURES, get_model, zoo
from ..models.layers import weight_initializer
from ..placement import add_factors
from ..structures import load_structure, set_structure
from .deployment import zero_half
from .settings import QUICK

QUICK_SIDE = 32


class Networks(NamedTuple):
    """What ``Subject.open`` builds.

    Attributes
    ----------
    whole : HybridBlock
        With scaling factors; those of the structures that are to be cut are zero.
    dense : HybridBlock
        Without scaling factors.
    shape : tuple of int
        Of the input, with a batch of 1.
    cut : str
        What is cut, in words.
    """
    whole: gluon.HybridBlock
    dense: gluon.HybridBlock
    shape: Tuple[int, ...]
    cut: str


@dataclass(frozen=True)
class Subject:
    """What is measured, as the command line names it.

    Attributes
    ----------
    model : str
        A model (``resnet50``, ``gluoncv:resnet50_v1b``, ``package.module:function``), a run folder, whose zeros are
        cut, or a symbol.json.
    structure : str, optional
        A structure.json, or the name of a shipped structure, that prunes a model. Without one, and without zeros in a
        run, a random half of the structures of every kind is cut, always the same.
    size, channels, classes : int, optional
        As for ``deploy.sizes.sizes``.
    factors : tuple of str, optional
        Kinds of structures that have factors, as for ``get_model``.
    neuron_block : int, optional
        Adjacent channels that share a factor, as for ``get_model``.
    quick : bool
        Narrow networks of a few layers where we have them, on small images; half of their structures is cut.
    """
    model: str
    structure: Optional[str] = None
    size: Optional[int] = None
    channels: Optional[int] = None
    classes: Optional[int] = None
    factors: Optional[Tuple[str, ...]] = None
    neuron_block: Optional[int] = None
    quick: bool = False

    def open(self, devices: Optional[List[mx.Context]] = None) -> Networks:
        """Both networks, initialised on the devices, with the same values in every call.

        Raises
        ------
        SSSError
            There is no such network or structure, they do not belong together, or nothing can be cut.
        """
        if os.sep in self.model and not os.path.exists(self.model) and ':' not in self.model:
            raise SSSError(f'there is no file or folder {self.model}')
        check_target(self.model, self.structure, self.size, self.channels, self.classes)
        mx.random.seed(0)
        np.random.seed(0)       # MXNet's initializers draw from both generators
        kind = 'file' if self.model.endswith('.json') else 'run' if os.path.isdir(self.model) else 'name'
        found = dict(file=self._of_file, run=self._of_run, name=self._of_name)[kind]()
        if not scaling_factors(found.whole):
            raise SSSError(f'{self.model} has no scaling factors and no place for any, so there is nothing to cut')
        if devices is not None:
            for net in (found.whole, found.dense):
                net.collect_params().reset_ctx(devices)
        return found

    def _chosen(self) -> Dict[str, Any]:
        """The settings of factors that were given."""
        found = dict(factors=self.factors, neuron_block=self.neuron_block)
        return {name: value for name, value in found.items() if value is not None}

    def _of_name(self) -> Networks:
        structure = None if self.structure is None else load_structure(self.structure)
        row, tiny = ARCHITECTURES.get(self.model), QUICK.get(self.model) if self.quick else None
        if tiny is not None:        # to which no structure belongs
            structure = None
        size = self.size or (max(QUICK_SIDE, row.minimum_size) if self.quick and row else None)
        shape, arguments = described(self.model, size, self.channels, self.classes, structure)
        arguments.update(tiny or {}, **self._chosen())
        plain = {key: value for key, value in arguments.items() if key != 'neuron_block'}
        whole = _initialised(self.model, arguments)
        own = ':' in self.model and not zoo.is_zoo(self.model)      # such a function need not take factors
        dense = _without_factors(whole, shape) if own else _initialised(self.model, dict(plain, factors=()))
        if structure is None:
            return Networks(whole, dense, shape, _zero_half_of_all(whole))
        try:
            set_structure(whole, structure)
        except SSSError as error:
            raise SSSError(f'{self.structure}: {error}') from error
        return Networks(whole, dense, shape, f'to {self.structure}')

    def _of_run(self) -> Networks:
        for name in self._chosen():
            raise SSSError(f'{self.model} is a run, which has its factors; leave out {name}')
        trained = load_run(self.model, log=lambda line: None)
        dense = _without_factors(trained.net, trained.input_shape)
        zeros = any((factor.values() == 0).any() for factor in scaling_factors(trained.net))
        cut = 'what is zero in the run' if zeros else _zero_half_of_all(trained.net)
        return Networks(trained.net, dense, tuple(trained.input_shape), cut)

    def _of_file(self) -> Networks:
        shape = input_shape(self.model, self.size, self.channels)
        whole, dense = load(self.model), load(self.model)
        if not scaling_factors(whole):
            chosen = self._chosen()
            add_factors(whole, chosen.pop('factors', KINDS), shape, log=None, **chosen)
        return Networks(whole, dense, shape, _zero_half_of_all(whole))


def subject_of(fields: Dict[str, Any]) -> Subject:
    """The subject of ``dataclasses.asdict``, also after it was JSON."""
    return Subject(**dict(fields, factors=fields['factors'] and tuple(fields['factors'])))


def _initialised(name: str, arguments: Dict[str, Any]) -> gluon.HybridBlock:
    net = get_model(name, **arguments)
    try:
        net.initialize(init=weight_initializer())
    except (mx.base.MXNetError, ValueError) as error:
        raise SSSError(f'the parameters of {name} cannot be created: {reason(error)}') from error
    return net


def _without_factors(net: gluon.HybridBlock, shape) -> gluon.HybridBlock:
    """The same network with its factors folded into its weights."""
    return to_block(fold(trace(net, shape, training=True)))


def _zero_half_of_all(net: gluon.HybridBlock) -> str:
    kinds = [kind for kind in KINDS if any(factor.kind == kind for factor in scaling_factors(net))]
    for kind in kinds:
        zero_half(net, kind)
    return f'half of the {"s and ".join(kinds)}s'
