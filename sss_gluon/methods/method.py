"""A pruning method: its entry in the registry, its options, and the network that its functions rank."""
from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np
from mxnet import gluon

from ..data import DataSet
from ..deploy.trained_run import normalise_only
from ..errors import SSSError, nearest
from ..graph.fold import fold
from ..graph.ir import Program
from ..graph.trace import trace
from ..models import architecture, user, zoo
from ..structures.factor_values import factor_variable
from ..train.config import LARGEST, Config
from ..train.method import Regularizer
from .layer_graph import LayerGraph

Scores = Dict[str, np.ndarray]      # {factor name: a number for each structure}; the smallest are removed first
Masks = Dict[str, np.ndarray]       # {factor name: booleans}; False removes the structure

CHOICES = {'scope': ('layer', 'global'), 'order': ('even', 'l1'), 'budget': ('epochs', 'compute'),
           'constants': ('approximate', 'exact')}
LISTS = {'kinds': '[neuron]', 'ignored_layers': '["norm5_.*"]'}      # options of all methods that rank


class Images(NamedTuple):
    """Normalised training images (N, C, H, W), float32, and their labels."""
    x: np.ndarray
    y: np.ndarray


class Case:
    """A trained network whose structures are to be ranked, with the weights of the source and all factors 1.

    Attributes
    ----------
    net : HybridBlock
    layer_graph : LayerGraph
        Made at construction, before anything is adjusted.
    units : list of PrunableUnit
        The units whose structures may be removed: all except those that the option ``ignored_layers`` matches.
    options : dict
        Options of the method, with defaults filled in.
    """

    def __init__(self, net: gluon.HybridBlock, data: DataSet, config: Config, options: Dict[str, Any],
                 log: Callable[[str], None] = print):
        self.net, self.data, self.config, self.options, self.log = net, data, config, options, log
        self.input_shape = (1,) + tuple(data.shape)
        self.layer_graph = LayerGraph(net, self.input_shape)
        ignored = self._ignored()
        self.units = [unit for unit in self.layer_graph.units if unit.name not in ignored]

    def _ignored(self) -> Set[str]:
        names, ignored = [unit.name for unit in self.layer_graph.units], set()
        for pattern in self.options.get('ignored_layers') or ():
            try:
                found = {name for name in names if re.search(pattern, name)}
            except re.error as error:
                raise SSSError(f'method_options: ignored_layers: {pattern!r} is not a regular expression: '
                               f'{error}') from error
            if not found:
                raise SSSError(f'method_options: ignored_layers: {pattern!r} matches no factor; name one of '
                               f'{", ".join(names[:5])}, ...')
            ignored |= found
        return ignored

    def pruned(self, masks: Masks) -> Program:
        """The network with its current parameters, and zero factors where a mask is False."""
        program = trace(self.net, self.input_shape)
        for unit in self.units:
            program.values[factor_variable(program, unit.factor)] = masks[unit.name].astype('float32')
        return fold(program)

    def images(self, count: Optional[int] = None) -> Images:
        """Training images drawn by the seed of the run; ``count`` defaults to the option ``images``."""
        train = self.data.train
        order = np.random.default_rng((self.config.seed, 0)).permutation(len(train.images))
        order = order[:count or self.options['images']]
        return Images(normalise_only(self.data).normalise(train.images[order]), train.labels[order])


@dataclass(frozen=True)
class PruningMethod:
    """One entry of the registry; the docstring of its module is its card.

    Attributes
    ----------
    name : str
    kinds : tuple of str
        Kinds of structures it can remove; the default is the first that a network offers.
    options : dict
        ``method_options`` with their defaults. A method with ``kinds`` also has the options ``kinds`` (of structures)
        and ``ignored_layers`` (regular expressions of factor names, whose structures are never removed).
    score : callable, optional
        ``score(case) -> Scores`` ranks a trained network and does not change it. A method without it copies the
        structure of its source.
    scope : str
        ``layer`` removes the same fraction of every layer, ``global`` the smallest scores of the whole network. Blocks
        are always compared with one another. An option ``scope`` overrides it.
    adjust : callable, optional
        ``adjust(case, masks)`` changes the parameters of the remaining structures; selection.json records the dict
        that it returns.
    regularizer : callable, optional
        ``regularizer(net, input_shape, options) -> Regularizer`` acts on training without a ``source``.
    prunes_zeros : bool
        Without a budget, structures with score 0 are removed.
    trains_factors : bool
        The scaling factors are trained; otherwise they only mark where the structures are.
    title : str
        The method in tables and figures; default its name.
    """
    name: str
    kinds: Tuple[str, ...]
    options: Dict[str, Any] = field(default_factory=dict)
    score: Optional[Callable[[Case], Scores]] = None
    scope: str = 'layer'
    adjust: Optional[Callable[[Case, Masks], Optional[Dict[str, object]]]] = None
    regularizer: Optional[Callable[[gluon.Block, Sequence[int], Dict[str, Any]], Regularizer]] = None
    prunes_zeros: bool = False
    trains_factors: bool = False
    title: str = ''

    def settings(self, config: Config) -> Dict[str, Any]:
        """The options of a configuration, with defaults filled in; an unknown or wrong one is an error."""
        options = dict(self.options, kinds=None, ignored_layers=None) if self.kinds else dict(self.options)
        for key, value in config.method_options.items():
            if key not in options:
                hint = f'; did you mean {nearest(key, options)!r}?' if options else ''
                raise SSSError(f'method_options: {self.name} has no option {key!r}{hint}')
            options[key] = _checked_option(key, value, options[key])
        return options

    def structure_kinds(self, config: Config) -> Optional[List[str]]:
        """Kinds of structures of a run: those of the configuration, or the first that the network offers.

        Of a network that is none of the paper's, all that the method can remove.
        """
        given = self.settings(config).get('kinds') or config.factors
        for kind in given or ():
            if kind not in self.kinds:
                raise SSSError(f'{self.name} cannot remove {kind}s; it can remove {", ".join(self.kinds)}')
        if given:
            return given
        if ':' in config.model:
            own = not zoo.is_zoo(config.model) and user.takes(config.model, 'factors')
            return None if own else list(self.kinds)
        offered = architecture(config.model).offered
        found = [kind for kind in self.kinds if kind in offered]
        if not found:
            raise SSSError(f'{self.name} removes {", ".join(self.kinds)}, but {config.model} has only '
                           f'{", ".join(offered)}; use another method or model')
        return found[:1]


def _checked_option(key: str, value: Any, default: Any) -> Any:
    if key in LISTS:
        value = [value] if isinstance(value, str) else value
        if value is not None and not (isinstance(value, list) and value and all(isinstance(k, str) for k in value)):
            raise SSSError(f'method_options: {key}={value!r} is not a list such as {LISTS[key]}')
    elif key in CHOICES:
        if value not in CHOICES[key]:
            raise SSSError(f'method_options: {key}={value!r} is unknown; did you mean '
                           f'{nearest(value, CHOICES[key])!r}? Choices: {", ".join(CHOICES[key])}')
    else:
        types, least, text = (int, 1, 'whole number, at least 1') if isinstance(default, int) else \
            ((int, float), 0, 'number, at least 0')
        if not isinstance(value, types) or isinstance(value, bool) or not least <= value <= LARGEST:
            raise SSSError(f'method_options: {key}={value!r} must be a {text}')
    return value
