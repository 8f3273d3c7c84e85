"""Channel spaces: which layers write the same channels, and how many structures these are."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, List, Optional, Set

import numpy as np

from ..graph.channels import Channels
from ..graph.ir import Entry, Node
from ..graph.rules import BatchNorm, Concat, Coupled, Elementwise, Linear


@dataclass(eq=False)
class Space:
    """Channels that live and die together, position by position, in all layers that write or normalise them.

    Attributes
    ----------
    classes : set of int
        Those of ``Channels.classes``.
    producers : list of Node
        The convolutions and dense layers that compute the channels from others.
    members : dict of Node to int
        {a convolution, dense layer or BatchNorm whose channels are all of this space: how many of its channels in a
        row make up one structure}.
    added : bool
        The channels are added to each other: a zero in one layer alone does not remove them.
    size : int
        Number of structures.
    """
    classes: Set[int]
    producers: List[Node]
    members: Dict[Node, int] = field(default_factory=dict)
    added: bool = False
    order: List[int] = field(default_factory=list, repr=False)      # the classes as all members have them

    @property
    def size(self) -> int:
        return len(self.classes)

    @property
    def kind(self) -> str:
        """``group`` if the layers that compute the channels cannot lose them one by one."""
        runs = [self.members[node] for node in self.producers if node in self.members]
        return 'group' if runs and min(runs) > 1 else 'neuron'


def find_spaces(channels: Channels) -> List[Space]:
    """The spaces of a program, in the order in which their first layers are computed."""
    spaces: List[Space] = []
    classes = {node: channels.classes(channels.label(Entry(node))) for node, rule in channels.rules.items()
               if isinstance(rule, (Linear, BatchNorm))}
    for node, found in classes.items():
        rule = channels.rules[node]
        if not isinstance(rule, Linear):
            continue
        mine = set(found.tolist())
        touched = [space for space in spaces if space.classes & mine]
        home = touched[0] if touched else Space(set(), [])
        home.classes |= mine
        home.producers += [node] if rule.groups(node) == 1 else []
        for other in touched[1:]:
            home.classes |= other.classes
            home.producers += other.producers
        spaces = [space for space in spaces if space not in touched[1:]] + ([] if touched else [home])
    of = {number: space for space in spaces for number in space.classes}
    for node, found in classes.items():
        space, run = of.get(int(found[0])), _run(found)
        if space is not None and run and set(found.tolist()) == space.classes:
            order = found[::run].tolist()
            space.order = space.order or order
            if space.order == order:
                space.members[node] = run
    for node, rule in channels.rules.items():
        if isinstance(rule, Elementwise) and not rule.zero_wins:
            full = [entry for entry in node.inputs if channels.channels(entry) == channels.channels(Entry(node))
                    and not channels.is_parameter(entry)]
            if len(full) > 1:
                for number in channels.classes(channels.label(Entry(node))).tolist():
                    if number in of and len(of[number].producers) > 1:
                        of[number].added = True
    return spaces


def writers(space: Space, channels: Channels) -> List[Node]:
    """Of each layer that computes the channels of a space, the last member before they meet those of other layers.

    Layers whose channels only scale those of others, such as in squeeze-and-excitation, are left out.
    """
    found = (writer(node, space, channels) for node in space.producers)
    return list(dict.fromkeys(node for node in found if node is not None))


def writer(node: Node, space: Space, channels: Channels) -> Optional[Node]:
    """The last member of a space behind one of its producers; None if that only scales the channels of others."""
    last = node
    while True:
        users = [user for user, _ in channels.users[node]]
        rule = channels.rules[users[0]] if users else None
        if isinstance(rule, Elementwise) and rule.zero_wins and len(users) == 1 \
                and channels.positions(Entry(node)) < channels.positions(Entry(users[0])):
            return None
        if len(users) != 1 or not isinstance(rule, Coupled) and users[0] not in space.members \
                or isinstance(rule, (Elementwise, Concat)):
            return last
        node = users[0]
        last = node if node in space.members else last


def _run(classes: np.ndarray) -> Optional[int]:
    """How many channels in a row have the same class, if each class has so many in one place; None otherwise."""
    run = classes.size // np.unique(classes).size
    rows = classes.reshape(-1, run) if classes.size % run == 0 else classes.reshape(-1, 1)
    return run if (rows == rows[:, :1]).all() and np.unique(rows[:, 0]).size == len(rows) else None
