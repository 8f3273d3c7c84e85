"""What a method of the table is, its settings, and what its functions are given."""
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
from ..models import architecture
from ..structures.factor_values import factor_variable
from ..train.config import LARGEST, Config
from ..train.method import Regularizer
from .layer_graph import LayerGraph

Scores = Dict[str, np.ndarray]      # {factor name: a number for each structure}: the smallest go first
Kept = Dict[str, np.ndarray]        # {factor name: booleans}

CHOICES = {'scope': ('layer', 'global'), 'order': ('even', 'l1'), 'budget': ('epochs', 'compute'),
           'constants': ('approximate', 'exact')}
LISTS = {'kinds': '[neuron]', 'ignored_layers': '["norm5_.*"]'}      # of every method that chooses structures


class Images(NamedTuple):
    """Normalised training images (N, C, H, W), float32, and their labels."""
    x: np.ndarray
    y: np.ndarray


class Case:
    """A trained network whose structures are to be ranked: source's weights, factors 1.

    Attributes
    ----------
    net : HybridBlock
    layer_graph : LayerGraph
        Of the network as it was at first.
    units : list of PrunableUnit
        Of the structures that may go: all but those that the option ``ignored_layers`` names.
    options : dict
        Of the method, defaults filled in.
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
                raise SSSError(f'method_options: ignored_layers: {pattern!r} matches no factor; factors: '
                               f'{", ".join(names[:5])}, ...')
            ignored |= found
        return ignored

    def pruned(self, kept: Kept) -> Program:
        """The network with its parameters of this moment, and zeros where something is not kept."""
        program = trace(self.net, self.input_shape)
        for unit in self.units:
            program.values[factor_variable(program, unit.factor)] = kept[unit.name].astype('float32')
        return fold(program)

    def images(self, count: Optional[int] = None) -> Images:
        """Training images drawn by the seed of the run; as many as the option ``images`` says."""
        train = self.data.train
        order = np.random.default_rng((self.config.seed, 0)).permutation(len(train.images))
        order = order[:count or self.options['images']]
        return Images(normalise_only(self.data).normalise(train.images[order]), train.labels[order])


@dataclass(frozen=True)
class PruningMethod:
    """One row of the table; its card is the text at the head of its file.

    Attributes
    ----------
    name : str
    kinds : tuple of str
        Structures it can remove; the first one that a network offers is the default.
    options : dict
        ``method_options`` with their defaults. Those with ``kinds`` also have the options ``kinds`` (of structures)
        and ``ignored_layers`` (regular expressions of the names of factors whose structures all stay).
    score : callable, optional
        ``score(case) -> Scores`` of a trained network, which it leaves as it is.
    scope : str
        ``layer``: the same fraction of every layer goes, the smallest scores of each; ``global``: the smallest of
        all. Blocks are compared with one another always. An option ``scope`` overrides it.
    adjust : callable, optional
        ``adjust(case, kept)`` changes the parameters of what stays.
    regularizer : callable, optional
        ``regularizer(net, input_shape, options) -> Regularizer``: trains with it when no ``source`` is given.
    zeros : bool
        Without ``target_macs`` the structures with score 0 go.
    trains_factors : bool
        The scaling factors are trained; otherwise they only mark where the structures are.
    """
    name: str
    kinds: Tuple[str, ...]
    options: Dict[str, Any] = field(default_factory=dict)
    score: Optional[Callable[[Case], Scores]] = None
    scope: str = 'layer'
    adjust: Optional[Callable[[Case, Kept], None]] = None
    regularizer: Optional[Callable[[gluon.Block, Sequence[int], Dict[str, Any]], Regularizer]] = None
    zeros: bool = False
    trains_factors: bool = False

    def settings(self, config: Config) -> Dict[str, Any]:
        """Its options, those of a configuration over the defaults; an unknown or wrong one is an error."""
        options = dict(self.options, kinds=None, ignored_layers=None) if self.kinds else dict(self.options)
        for key, value in config.method_options.items():
            if key not in options:
                hint = f'; did you mean {nearest(key, options)!r}?' if options else ''
                raise SSSError(f'method_options: {self.name} has no option {key!r}{hint}')
            options[key] = _checked(key, value, options[key])
        return options

    def structures(self, config: Config) -> Optional[List[str]]:
        """Kinds of structures of a run: those that are asked for, or the first that the network offers."""
        asked = self.settings(config).get('kinds') or config.factors
        for kind in asked or ():
            if kind not in self.kinds:
                raise SSSError(f'{self.name} cannot remove {kind}s; it can remove {", ".join(self.kinds)}')
        if asked or ':' in config.model:        # of one's own network, whatever it has
            return asked or None
        offered = architecture(config.model).offered
        found = [kind for kind in self.kinds if kind in offered]
        if not found:
            raise SSSError(f'{self.name} removes {", ".join(self.kinds)}, and {config.model} has only '
                           f'{", ".join(offered)}; use another method or model')
        return found[:1]


def _checked(key: str, value: Any, default: Any) -> Any:
    if key in LISTS:
        value = [value] if isinstance(value, str) else value
        if value is not None and not (isinstance(value, list) and value and all(isinstance(k, str) for k in value)):
            raise SSSError(f'method_options: {key}={value!r} is not a list such as {LISTS[key]}')
    elif key in CHOICES:
        if value not in CHOICES[key]:
            raise SSSError(f'method_options: {key}={value!r} is unknown; did you mean '
                           f'{nearest(value, CHOICES[key])!r}? Choices: '
                           f'{", ".join(CHOICES[key])}')
    else:
        types, least, text = (int, 1, 'whole number, at least 1') if isinstance(default, int) else \
            ((int, float), 0, 'number, at least 0')
        if not isinstance(value, types) or isinstance(value, bool) or not least <= value <= LARGEST:
            raise SSSError(f'method_options: {key}={value!r} must be a {text}')
    return value
