"""Residual blocks: additions of a branch to a shortcut, and the layer whose zero makes the branch go."""
from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Set

from ..graph.channels import Channels
from ..graph.ir import Entry, Node
from ..graph.operators import ADDITIONS
from ..graph.rules import BatchNorm, Coupled, Elementwise, Linear


class Branch(NamedTuple):
    """A branch that is added to something else.

    Attributes
    ----------
    addition : Node
    entry : Entry
        The input of the addition that the branch gives.
    last : Node
        The BatchNorm, convolution or dense layer whose output it is, but for operators that keep a zero.
    """
    addition: Node
    entry: Entry
    last: Node


def find_branches(channels: Channels) -> List[Branch]:
    """The branches of a program, in the order of their additions.

    Of two sides, the shortcut is the one that the other starts from, or else the one with fewer layers of its own. If
    the other side ends in a sum of several results, no single layer makes it go, and the shortcut is tried.
    """
    above = _ancestors(channels.nodes)
    found = []
    for node in channels.nodes:
        if node.op not in ADDITIONS or not channels.rules[node].understood:
            continue
        if any(channels.shape(entry) != channels.shape(Entry(node)) or channels.is_parameter(entry)
               for entry in node.inputs):
            continue
        first, second = node.inputs
        one, other = above[first.node], above[second.node]
        if first.node in other or second.node in one:
            sides = [second if first.node in other else first]
        else:
            layers = [sum(isinstance(channels.rules.get(each), Linear) for each in own)
                      for own in (one - other, other - one)]
            sides = [first, second] if layers[0] > layers[1] else [second, first]
        for side in sides:
            last = _last_layer(side, channels)
            if last is not None and not _leaves(last, node, channels):
                found.append(Branch(node, side, last))
                break
    return found


def _ancestors(nodes: List[Node]) -> Dict[Node, Set[Node]]:
    """{node: itself and all that it is computed from, parameters left out}."""
    above: Dict[Node, Set[Node]] = {}
    for node in nodes:
        above[node] = {node}.union(*(above[entry.node] for entry in node.inputs if entry.node in above
                                     and (entry.node.inputs or not entry.node.is_variable)))
    return above


def _last_layer(entry: Entry, channels: Channels) -> Optional[Node]:
    node, rule = entry.node, channels.rules.get(entry.node)
    if isinstance(rule, (Linear, BatchNorm)):
        return node
    if isinstance(rule, Elementwise):
        if not rule.zero_wins:
            return None
        factors = sorted((e for e in node.inputs if not channels.is_parameter(e)), key=channels.positions, reverse=True)
        full = [e for e in factors if channels.channels(e) == channels.channels(Entry(node))]
        return next(filter(None, (_last_layer(e, channels) for e in full)), None)
    data = [e for e in node.inputs if not channels.is_parameter(e)]
    return _last_layer(data[0], channels) if isinstance(rule, Coupled) and len(data) == 1 else None


def _leaves(last: Node, addition: Node, channels: Channels) -> bool:
    """Does anything but the addition depend on a layer?"""
    users, stack, seen = channels.users, [last], {addition}
    outputs = {entry.node for entry in channels.program.outputs}
    while stack:
        node = stack.pop()
        if node in outputs and node is not addition:
            return True
        for user, _ in users[node]:
            if user not in seen:
                seen.add(user)
                stack.append(user)
    return False
