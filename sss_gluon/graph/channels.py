"""Which channels of a program can be removed: the analysis between the operator rules and the cutting of parameters.

Every channel of every intermediate result has a label. Channels that elementwise operators, batch normalisation,
grouped convolutions, … force to live and die together are tied into one class. A class is kept when a kept result
depends on one of its members; all other classes are dropped. A result that is still computed keeps at least one
channel, so a plain layer never loses its last one, while a concatenation may lose a whole branch. Such a last channel
is a placeholder: the channels that it is computed from need not be kept for it.

What a layer reads of a constant channel is itself a constant: the channel goes, and the bias of the layer takes up the
constant, unless the layer pads with zeros.
"""
from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Tuple

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ..errors import SSSError
from .ir import Entry, Node, Program
from .operators import RULES, UNKNOWN
from .reasons import why_kept
from .rules import Concat, Linear, Rule, Take

OUTPUT = -1     # in place of the number of a node: the outputs of the program


class Channels:
    """Constants, labels and kept channels of one program: the view that operator rules work on (see ``rules``).

    With ``training``, a channel counts as constant only if it is 0: other constants follow from running statistics,
    which training mode does not use.
    """

    def __init__(self, program: Program, training: bool = False):
        self.program, self.training = program, training
        self.nodes = program.nodes()
        self.shapes = program.shapes()
        self._outputs: Dict[Node, int] = {}
        for entry in self.shapes:
            self._outputs[entry.node] = max(self._outputs.get(entry.node, 0), entry.output + 1)
        self.users = users = program.consumers()
        self.shared = {node for node in self.nodes if program.is_parameter(node) and len(users[node]) > 1}
        self._cache: dict = {}
        self.rules = {node: self._rule(node) for node in self.nodes if not node.is_variable}
        self._constants: Dict[Entry, np.ndarray] = {}
        for node, rule in self.rules.items():
            for i, value in enumerate(rule.constants(node, self)):
                value = self._checked('constants', value, Entry(node, i))
                self._constants[Entry(node, i)] = np.where(value == 0, 0.0, np.nan) if training else value

    def _rule(self, node: Node) -> Rule:
        rule = RULES.get(node.operator, UNKNOWN)
        tied_weights = any(entry.node in self.shared for entry in node.inputs)     # cannot be cut two ways
        return rule if not tied_weights and rule.applies(node, self) else UNKNOWN

    def _checked(self, kind: str, values: np.ndarray, entry: Entry) -> np.ndarray:
        """A rule that a user registered may be wrong; without this check it fails far from its node."""
        if np.shape(values) != (self.channels(entry),):
            raise SSSError(f'the rule {type(self.rules[entry.node]).__name__} of {entry.node} returns {kind} of shape '
                           f'{np.shape(values)} for an output of {self.channels(entry)} channels; correct the rule')
        return values

    # Queries of the rules

    def shape(self, entry: Entry):
        return self.shapes[entry]

    def channels(self, entry: Entry) -> int:
        """Size of the channel axis; for a vector, its length."""
        shape = self.shapes[entry]
        return shape[1] if len(shape) > 1 else int(np.prod(shape))

    def positions(self, entry: Entry) -> int:
        """Number of values per image and channel."""
        return int(np.prod(self.shapes[entry][2:]))

    def output_count(self, node: Node) -> int:
        return self._outputs[node]

    def is_parameter(self, entry: Entry) -> bool:
        return self.program.is_parameter(entry.node)

    def value(self, entry: Entry) -> np.ndarray:
        return self.program.value(entry)

    def cached(self, node: Node, compute):
        """The result of ``compute()``, which is called once per node."""
        if node not in self._cache:
            self._cache[node] = compute()
        return self._cache[node]

    def constant(self, entry: Entry) -> np.ndarray:
        """(C,) float64: the constant value of each channel, NaN where it varies."""
        if entry not in self._constants:
            constant = np.full(self.channels(entry), np.nan)
            if self.is_parameter(entry) and len(self.shapes[entry]) > 1:
                value = np.moveaxis(self.value(entry), 1, 0).reshape(constant.size, -1).astype('float64')
                constant = np.where((value == value[:, :1]).all(axis=1), value[:, 0], np.nan)
                if self.training:       # a parameter that is not held at 0 moves
                    constant = np.where(constant == 0, 0.0, np.nan)
            self._constants[entry] = constant
        return self._constants[entry]

    def outputs_follow_input(self) -> bool:
        """Does any output depend on the input? It does not where every way between them passes a constant."""
        follows = {node for node in self.nodes if self.program.is_input(node)}

        def varies(entry: Entry) -> bool:
            return entry.node in follows and bool(np.isnan(self.constant(entry)).any())

        for node in self.nodes:
            if any(map(varies, node.inputs)):
                follows.add(node)
        return any(map(varies, self.program.outputs))

    # Labels

    def solve(self, align: int = 1, runs: Optional[Mapping[str, int]] = None) -> None:
        """Label all channels, tie them, and find the classes that are kept.

        With ``align``, layers keep some channels that could be removed, so that their widths are multiples of it where
        possible. ``runs`` are {parameter: how many adjacent outputs of its layer live and die together}.
        """
        self._labels: Dict[Entry, np.ndarray] = {}
        self._size = 0
        self._ties: List[Tuple[np.ndarray, np.ndarray]] = []
        for node, rule in self.rules.items():
            for i, labels in enumerate(rule.labels(node, self)):
                self._labels[Entry(node, i)] = self._checked('labels', labels, Entry(node, i))
        for node in self.rules:
            for run in {(runs or {}).get(entry.node.name, 1) for entry in node.inputs} - {1}:
                rows = self.label(Entry(node)).reshape(-1, run)
                self.couple(rows[:, :-1].ravel(), rows[:, 1:].ravel())
        for entry in self.shapes:   # the rest too, e.g. an input that is an output
            self.label(entry)
        a, b = (np.concatenate([tie[i] for tie in self._ties] or [np.zeros(0, int)]) for i in (0, 1))
        _, self._component = connected_components(
            coo_matrix((np.ones(a.size, bool), (a, b)), shape=(self._size, self._size)), directed=False)
        self._kept, self._required = np.zeros(self._size, bool), np.zeros(self._size, bool)
        self._asker, self._askers = OUTPUT, np.full(self._size, OUTPUT)
        for entry in self.program.outputs:
            self.mark_required(self.label(entry))
        self._changed = True
        while self._changed:
            self._changed = False
            self._propagate(placeholders=False)
            if not self._changed:       # only when it is known what is required anyway
                self._propagate(placeholders=True)
            if not self._changed:
                self._fill(align)

    def _fill(self, align: int) -> None:
        """Keep placeholder channels until the width of each layer is a multiple of ``align``."""
        for node, rule in self.rules.items():
            if node not in self.alive or not isinstance(rule, (Linear, Take)):
                continue
            labels = self.label(Entry(node))
            dropped, kept = labels[~self.kept_labels(labels)], int(self.kept_labels(labels).sum())
            while kept % align and dropped.size:
                self._kept[self._component[dropped[0]]] = self._changed = True
                dropped, kept = labels[~self.kept_labels(labels)], int(self.kept_labels(labels).sum())

    def _propagate(self, placeholders: bool) -> None:
        self.alive = {entry.node for entry in self.program.outputs}
        for number, node in reversed(list(enumerate(self.nodes))):
            if node not in self.alive:
                continue
            self._asker = number
            if node.is_variable:
                if self.program.is_input(node):
                    self.mark_required(self.label(Entry(node)))
                continue
            for i in range(self.output_count(node)):
                labels = self.label(Entry(node, i))
                if placeholders and labels.size and not self.kept_labels(labels).any():
                    self._kept[self._component[labels[:1]]] = self._changed = True
            rule = self.rules[node]
            rule.require_inputs(node, self)
            self.alive.update(entry.node for entry in node.inputs if not self.dropped_branch(node, entry))

    def dropped_branch(self, node: Node, entry: Entry) -> bool:
        """Is ``node`` a concatenation, and does nothing of this input remain?"""
        return isinstance(self.rules[node], Concat) and not self.kept_labels(self.label(entry)).any()

    def label(self, entry: Entry) -> np.ndarray:
        return self._labels[entry] if entry in self._labels else self.new_labels(entry)

    def new_labels(self, entry: Entry) -> np.ndarray:
        labels = np.arange(self._size, self._size + self.channels(entry))
        self._size += labels.size
        self._labels[entry] = labels
        return labels

    def couple(self, a: np.ndarray, b: np.ndarray) -> None:
        """Position by position, a and b live and die together."""
        self._ties.append((a, b))

    def mark_required(self, labels: np.ndarray) -> None:
        classes = self._component[labels]
        required = self._required[classes]
        if not required.all():
            self._askers[classes[~required]] = self._asker
            self._required[classes] = self._kept[classes] = True
            self._changed = True

    def mark_kept(self, labels: np.ndarray) -> None:
        classes = self._component[labels]
        if not self._kept[classes].all():
            self._kept[classes] = self._changed = True

    def classes(self, labels: np.ndarray) -> np.ndarray:
        """Integers that are equal where labels live and die together."""
        return self._component[labels]

    def askers(self, labels: np.ndarray) -> List[Optional[Node]]:
        """For labels that are required: the node that first required each, None where it is an output."""
        return [None if i == OUTPUT else self.nodes[i] for i in self._askers[self._component[labels]]]

    def required(self, labels: np.ndarray) -> np.ndarray:
        """Does a kept result depend on them? A kept label that is not required is a placeholder."""
        return self._required[self._component[labels]]

    def kept_labels(self, labels: np.ndarray) -> np.ndarray:
        """Booleans: do they remain, required or as placeholders?"""
        return self._kept[self._component[labels]]

    def kept(self, entry: Entry) -> np.ndarray:
        """(C,) booleans: the channels of an entry that remain."""
        return self.kept_labels(self.label(entry))

    # Rewriting

    def slice(self, entry: Entry, axis: int, keep: np.ndarray) -> None:
        """Cut a parameter to the mask ``keep`` along an axis."""
        self.cuts.setdefault(entry.node.name, {})[axis] = keep

    def replace(self, entry: Entry, value: np.ndarray) -> None:
        """Give a parameter another value."""
        self.replaced[entry.node.name] = value

    def shift(self, node: Node, offset: np.ndarray) -> None:
        """Add constants, one per output before the cut, to the bias of a layer."""
        self.shifts[node] = offset

    def rewrite(self) -> Dict[Node, Dict[str, str]]:
        """The new attributes of every node that remains.

        Then ``cuts`` holds the masks of the parameters, ``replaced`` new values, ``shifts`` what biases take up. A node
        that loses no channel is left alone: its attributes may say more than the traced batch shows.
        """
        self.cuts: Dict[str, Dict[int, np.ndarray]] = {}
        self.replaced: Dict[str, np.ndarray] = {}
        self.shifts: Dict[Node, np.ndarray] = {}
        return {node: {} if self._is_whole(node) else rule.rewrite(node, self)
                for node, rule in self.rules.items() if node in self.alive}

    def _is_whole(self, node: Node) -> bool:
        entries = [entry for entry in node.inputs if not self.is_parameter(entry)]
        return all(self.kept(entry).all() for entry in entries + [Entry(node, i) for i in range(self._outputs[node])])

    def unhandled(self) -> List[str]:
        """The operators that kept all their channels because no rule understands them, and why."""
        return [f'{node.operator}({self.program.spelled(node.name)}){why_kept(node, self)}' for node in self.nodes
                if node in self.alive and not node.is_variable and not self.rules[node].understood]
