"""Where factors go: found from the traced graph, and tried on it before anything is changed."""
from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Dict, List, NamedTuple, Sequence, Set, Tuple, Union

import numpy as np
from mxnet import gluon

from ..errors import SSSError
from ..factors import neurons, scaling_factors
from ..graph.channels import Channels
from ..graph.fold import fold
from ..graph.ir import Entry, Node, Program, rewritten
from ..graph.prune import prune_graph
from ..graph.rules import BatchNorm, Linear
from ..graph.trace import Shapes, trace
from ..structures.factor_values import factor_variable, fill_nonzero
from .blocks import Branch, find_branches
from .layers import Carrier, Layers, zeroed
from .spaces import Space, find_spaces, writer, writers
from .table import Row

TRIES = 3       # choices of layers that are tried for a space, one after the other
LINEAR = ('Convolution', 'Deconvolution', 'FullyConnected')
TIED = 'its channels depend on one another'


class Placement(NamedTuple):
    """One factor to add.

    Attributes
    ----------
    kind : str
    size : int
        Number of structures.
    carriers : list of Carrier
        The layers that it scales.
    """
    kind: str
    size: int
    carriers: List[Carrier]


class Plan:
    """The factors that a network should get, and why its other layers get none.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
        It is not changed, and need not be initialised.
    input_shape : sequence of int
    kinds : sequence of str
    ignore : sequence of str
        Patterns of layer names.
    share : bool
    neuron_block : int

    Attributes
    ----------
    traced : Program
        With stand-ins for all values.
    placements : list of Placement
    rows : list of Row
    """

    def __init__(self, net: gluon.HybridBlock, input_shape: Shapes, kinds: Sequence[str],
                 ignore: Sequence[str] = (), share: bool = False, neuron_block: int = 1):
        self.kinds, self.ignore, self.share, self.neuron_block = kinds, ignore, share, neuron_block
        self.traced = trace(net, input_shape, values=False)
        fill_nonzero(self.traced, net)
        for factor in scaling_factors(net):
            self.traced.values[factor_variable(self.traced, factor)][:] = 1
        folded = fold(self.traced)
        fixed = {node.name for node in folded.nodes() if 'BatchNorm' in node.op and node.get('fix_gamma', True)}
        self.folded = _with_gammas(folded, fixed)
        self.channels = channels = Channels(self.folded)
        channels.solve()
        self.layers = Layers(net, self.traced, self.folded, channels.rules, fixed)
        self.carriers: Dict[Node, Union[Carrier, str]] = {
            node: self.layers.carrier(node) for node, rule in channels.rules.items()
            if isinstance(rule, (Linear, BatchNorm)) or node.op in LINEAR}
        self.order = {node: number for number, node in enumerate(channels.nodes)}
        self.spaces, self.branches = find_spaces(channels), find_branches(channels)
        self._check_patterns()
        self._readers = self._readers_that_keep()
        self.placements: List[Placement] = []
        self._found: Dict[Node, List[Row]] = {}     # rows by the node that they are about
        self._reasons: Dict[Node, str] = {}
        self._place_blocks()
        self._place_neurons()
        self.rows = self._rows()

    # Blocks

    def _place_blocks(self) -> None:
        chosen: List[Tuple[Branch, Carrier]] = []
        taken = set()
        for branch in self.branches:
            carrier = self.carriers[branch.last]
            if isinstance(carrier, str) or branch.last in taken:
                continue
            taken.add(branch.last)
            if 'block' in carrier.kinds():
                self._note(carrier, Row(carrier.layer, 'block', 1, 'had it before'))
            elif 'block' in self.kinds and not self._ignored(carrier):
                chosen.append((branch, carrier))
        values = dict(self.folded.values)
        for _, carrier in chosen:
            zeroed(values, carrier, 1)
        emptied = Channels(self._with(values))
        for branch, carrier in chosen:
            if (emptied.constant(branch.entry) == 0).all():
                self._add(Placement('block', 1, [carrier]))

    # Neurons and groups

    def _place_neurons(self) -> None:
        waiting = []
        for space in self.spaces:
            reason = self._refused(space)
            if reason:
                self._refuse(space, reason)
            else:
                waiting.append((space, self._candidates(space)))
        for turn in range(TRIES):
            tried = [(space, options[turn]) for space, options in waiting if turn < len(options)]
            gone = self._gone(tried)
            for space, carriers in tried:
                if space in gone:
                    self._add(Placement(space.kind, self._size(space), carriers), space.size // self._size(space))
                    self._cover(space)
            waiting = [(space, options) for space, options in waiting if space not in gone]
        for space, options in waiting:
            self._refuse(space, 'a zero in it would not remove a channel: other layers still use it' if options else
                         self._why_no_candidate(space))

    def _refused(self, space: Space) -> str:
        """Why a space gets no factor; '' if it may get one."""
        carriers = [self.carriers[node] for node in space.members]
        for carrier in carriers:
            if not isinstance(carrier, str) and any(kind in ('neuron', 'group') for kind in carrier.kinds()):
                kind, number = next(item for item in carrier.kinds().items() if item[0] != 'block')
                self._note(carrier, Row(carrier.layer, kind, number or space.size, 'had it before'))
                self._cover(space)
                return 'had it before'
        reader = next((self._readers[number] for number in space.classes if number in self._readers), '')
        if reader:
            return reader
        if not all(node in space.members for node in space.producers):
            return TIED
        if self._size(space) < 2:
            return 'it has a single structure, which always stays'
        if space.kind not in self.kinds:
            return f'its channels go in groups of {min(space.members.values())}, and kinds lacks group' \
                if space.kind == 'group' else 'kinds lacks neuron'
        if any(self._ignored(carrier) for carrier in carriers if not isinstance(carrier, str)):
            return 'ignored'
        if space.added and not self.share:
            return f'its channels are added to those of other layers ({len(space.producers)} in all); see share=True'
        return ''

    def _size(self, space: Space) -> int:
        """Number of factors of a space."""
        return neurons(space.size, self.neuron_block) if space.kind == 'neuron' else space.size

    def _readers_that_keep(self) -> Dict[int, str]:
        """{class of channels that stay: why}."""
        readers = {}
        for node, rule in self.channels.rules.items():
            for entry in () if rule.understood else node.inputs:
                if not self.channels.is_parameter(entry):
                    readers.update(dict.fromkeys(self._classes(entry),
                                                 f'read by {node}, which is not understood and keeps all channels'))
        for entry in self.folded.outputs:
            readers.update(dict.fromkeys(self._classes(entry),
                                         'its channels are outputs of the network'))
        return readers

    def _classes(self, entry: Entry) -> List[int]:
        return self.channels.classes(self.channels.label(entry)).tolist()

    def _candidates(self, space: Space) -> List[List[Carrier]]:
        """The layers that may carry the factor of a space, the best choice first.

        One layer carries it if it can, at best the last BatchNorm: what a factor in front of a BatchNorm multiplies is
        normalised again, and a zero there becomes β. Where the channels of several layers are added, all of them do,
        and if that is not enough, the BatchNorms that read the sum too.
        """
        if space.added:
            mine = writers(space, self.channels)
            norms = [node for node in space.members if node.op not in LINEAR]
            choices = [mine, sorted({*mine, *norms}, key=lambda node: self.order[node])]
        else:
            nodes = sorted(space.members, key=lambda node: (node.op in LINEAR, -self.order[node]))
            choices = [[node] for node in nodes if isinstance(self.carriers[node], Carrier)]
        found = [[carrier for carrier in map(self.carriers.get, choice) if isinstance(carrier, Carrier)]
                 for choice in choices[:TRIES]]
        return [carriers for carriers, choice in zip(found, choices) if len(carriers) == len(choice)]

    def _why_no_candidate(self, space: Space) -> str:
        return next((carrier for carrier in map(self.carriers.get, space.members) if isinstance(carrier, str)), TIED)

    def _gone(self, trials: List[Tuple[Space, List[Carrier]]]) -> List[Space]:
        """The spaces that lose their first structure where it is zero in the given carriers, all tried at once."""
        if not trials:
            return []
        values = dict(self.folded.values)
        for space, carriers in trials:
            for carrier in carriers:
                zeroed(values, carrier, self._size(space))
        reduced = prune_graph(self._with(values))[0]
        return [space for space, _ in trials if self._lost(space, reduced)]

    def _lost(self, space: Space, reduced: Program) -> bool:
        for node in space.producers:
            if node in space.members:
                weight = node.inputs[1].node.name
                kept = reduced.kept_indices.get(weight, {}).get(int(node.op == 'Deconvolution'))     # of its outputs
                return weight in reduced.values and kept is not None and 0 not in kept
        return False

    def _with(self, values: Dict[str, np.ndarray]) -> Program:
        return self.folded.derived(self.folded.outputs, values)

    # Bookkeeping

    def _check_patterns(self) -> None:
        names = {carrier.layer for carrier in self.carriers.values() if isinstance(carrier, Carrier)}
        for pattern in self.ignore:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise SSSError(f'ignore: {pattern!r} matches no layer that could carry a factor, such as '
                               f'{", ".join(sorted(names)[:3])}')

    def _ignored(self, carrier: Carrier) -> bool:
        return any(fnmatchcase(carrier.layer, pattern) for pattern in self.ignore)

    def _add(self, placement: Placement, channels: int = 1) -> None:
        self.placements.append(placement)
        first, rest = placement.carriers[0], placement.carriers[1:]
        notes = [f'of {channels} channels'] * (channels > 1) + [f'shared by {1 + len(rest)} layers'] * bool(rest)
        self._note(first, Row(first.layer, placement.kind, placement.size, ', '.join(notes)))
        for carrier in rest:
            self._note(carrier, Row(carrier.layer, placement.kind, 0, f'that of {first.layer}'))

    def _note(self, carrier: Carrier, row: Row) -> None:
        self._found.setdefault(carrier.node, []).append(row)

    def _cover(self, space: Space) -> None:
        self._reasons.update((node, '') for node in space.producers + list(space.members))

    def _refuse(self, space: Space, reason: str) -> None:
        for node in space.producers + list(space.members):
            scales = node in space.producers and writer(node, space, self.channels) is None
            self._reasons.setdefault(node, 'it only scales the channels of other layers' if scales else reason)

    def _rows(self) -> List[Row]:
        rows = []
        for node in self.channels.nodes:
            found = self._found.get(node, [])
            rows += found
            carrier = self.carriers.get(node)
            if node.op in LINEAR and not found and self._reasons.get(node, TIED) and not self._in_a_block(node):
                reason = self._reasons.get(node) or (carrier if isinstance(carrier, str) else TIED)
                rows.append(Row(self.layers.name(node), '', 0, reason))
        return list(dict.fromkeys(rows))        # a layer that is called twice has one row

    def _in_a_block(self, node: Node) -> bool:
        """Is a layer followed by a BatchNorm that carries the factor of its block?"""
        users = self.channels.users[node]
        return len(users) == 1 and any(row.kind == 'block' for row in self._found.get(users[0][0], ()))


def _with_gammas(program: Program, fixed: Set[str]) -> Program:
    """The program with BatchNorms that use their gamma, which a factor may take the place of."""
    def replace(node: Node, inputs):
        attrs = dict(node.attrs, fix_gamma='False') if node.name in fixed else node.attrs
        return Node(node.op, node.name, attrs, inputs, node.extra)
    return program.derived(rewritten(program.outputs, replace))
