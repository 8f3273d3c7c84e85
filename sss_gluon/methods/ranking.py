"""From scores to what goes: the smallest number of structures, lowest scores first, that meets a budget of MACs."""
from __future__ import annotations

from typing import Callable, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np
from mxnet import gluon

from ..errors import SSSError
from ..factors import scaling_factors
from ..structures.masked_count import MaskedCounter
from .layer_graph import PrunableUnit
from .method import Kept, Scores

BLOCKS = ''     # all blocks of a network are one layer among themselves


class Chosen(NamedTuple):
    """What is kept, and the share of the MACs of the whole network that this leaves."""
    kept: Kept
    macs: float


def layers(kinds: Dict[str, str]) -> Dict[str, List[str]]:
    """{layer: names of its factors}: every factor is one, and all blocks together."""
    found: Dict[str, List[str]] = {}
    for name, kind in kinds.items():
        found.setdefault(BLOCKS if kind == 'block' else name, []).append(name)
    return found


def normalised(scores: Scores, units: Sequence[PrunableUnit]) -> Scores:
    """Divided by the root of the sum of their squares in each layer, as [29] does, so that layers can be compared."""
    result = {}
    for names in layers({unit.name: unit.kind for unit in units}).values():
        norm = np.sqrt(sum(np.square(scores[name]).sum() for name in names))
        result.update({name: scores[name] / max(norm, 1e-30) for name in names})
    return result


def order(scores: Scores, kinds: Dict[str, str], scope: str) -> List[Tuple[str, int]]:
    """(factor, index) of all structures that may go, the first to go first.

    The last structure of a plain layer, or of the inside of a block, always stays: a network without it would not
    depend on its input. All blocks may go. Equal scores go in forward order.
    """
    rows = []
    for layer, names in layers(kinds).items():
        entries = [(name, i) for name in names for i in range(scores[name].size)]
        entries.sort(key=lambda entry: scores[entry[0]][entry[1]])
        for rank, (name, i) in enumerate(entries[:len(entries) if layer == BLOCKS else -1]):
            rows.append(((rank + 1) / len(entries) if scope == 'layer' else scores[name][i], (name, i)))
    rows.sort(key=lambda row: row[0])
    return [entry for _, entry in rows]


def choose(net: gluon.HybridBlock, input_shape, scores: Scores, target: float, scope: str,
           log: Callable[[str], None] = print) -> Chosen:
    """The fewest structures whose removal leaves at most ``target`` of the MACs: one less leaves more.

    What a removal leaves is counted on the network as it would be cut, not estimated.

    Raises
    ------
    SSSError
        When even the removal of all that may go leaves more.
    """
    rows = order(scores, _kinds(net, scores), scope)
    counter = MaskedCounter(net, input_shape)

    def share(removed: int) -> float:
        return counter.share(_mask(scores, rows[:removed])).macs

    if share(len(rows)) > target:
        raise SSSError(f'target_macs={target:g} cannot be met: without all {len(rows)} structures that may go '
                       f'{share(len(rows)):.3f} of the MACs are left; raise it, or remove other kinds of structures')
    low, high = -1, len(rows)       # removing ``low`` leaves too much, ``high`` does not
    while high - low > 1:
        middle = (low + high) // 2
        if share(middle) > target:
            low = middle
        else:
            high = middle
    return Chosen(_mask(scores, rows[:high]), share(high))


def zeros(net: gluon.HybridBlock, input_shape, scores: Scores) -> Chosen:
    """Remove those whose score is exactly 0."""
    rows = [(name, i) for name, i in order(scores, _kinds(net, scores), 'global') if scores[name][i] == 0]
    kept = _mask(scores, rows)
    return Chosen(kept, MaskedCounter(net, input_shape).share(kept).macs)


def _kinds(net, scores: Scores) -> Dict[str, str]:
    """Of the factors that have scores; the structures of the others stay."""
    return {factor.name: factor.kind for factor in scaling_factors(net) if factor.name in scores}


def _mask(scores: Scores, removed) -> Kept:
    kept = {name: np.ones(array.size, bool) for name, array in scores.items()}
    for name, i in removed:
        kept[name][i] = False
    return kept
