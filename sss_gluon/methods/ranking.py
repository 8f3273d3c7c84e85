"""From scores to masks: removes structures, lowest scores first, until a budget of MACs is met."""
from __future__ import annotations

from typing import Dict, List, Sequence, Tuple

import numpy as np
from mxnet import gluon

from ..errors import SSSError
from ..factors import scaling_factors
from ..structures.masked_count import MaskedCounter
from .layer_graph import PrunableUnit
from .method import Masks, Scores

BLOCKS = ''     # all blocks of a network are ranked together, as one layer


def ranked_layers(kinds: Dict[str, str]) -> Dict[str, List[str]]:
    """{layer: names of its factors}: each factor is a layer, except that all blocks are one."""
    found: Dict[str, List[str]] = {}
    for name, kind in kinds.items():
        found.setdefault(BLOCKS if kind == 'block' else name, []).append(name)
    return found


def normalised(scores: Scores, units: Sequence[PrunableUnit]) -> Scores:
    """Scores divided by their L2 norm in each layer, as in [29], so that layers can be compared."""
    result = {}
    for names in ranked_layers({unit.name: unit.kind for unit in units}).values():
        norm = np.sqrt(sum(np.square(scores[name]).sum() for name in names))
        result.update({name: scores[name] / max(norm, 1e-30) for name in names})
    return result


def removal_order(scores: Scores, kinds: Dict[str, str], scope: str) -> List[Tuple[str, int]]:
    """[(factor, index)] of all structures that may be removed, in the order of their removal.

    A plain layer, or the inside of a block, always keeps its last structure: without it the network would not depend
    on its input. All blocks may be removed. Equal scores are removed in forward order.
    """
    rows = []
    for layer, names in ranked_layers(kinds).items():
        entries = [(name, i) for name in names for i in range(scores[name].size)]
        entries.sort(key=lambda entry: scores[entry[0]][entry[1]])
        for rank, (name, i) in enumerate(entries[:len(entries) if layer == BLOCKS else -1]):
            rows.append(((rank + 1) / len(entries) if scope == 'layer' else scores[name][i], (name, i)))
    rows.sort(key=lambda row: row[0])
    return [entry for _, entry in rows]


def meet_budget(net: gluon.HybridBlock, input_shape, scores: Scores, target: float, scope: str) -> Masks:
    """Remove the fewest structures that leave at most ``target`` of the MACs, and give back the blocks that still fit.

    The last removal may save more than was missing, and leave room for a block that went before it. The block that was
    removed last returns first. MACs are counted on the network as it would be pruned, not estimated.

    Raises
    ------
    SSSError
        If more remains even without all structures that may be removed.
    """
    kinds = _kinds(net, scores)
    rows = removal_order(scores, kinds, scope)
    counter = MaskedCounter(net, input_shape)

    def share(removed: Sequence[Tuple[str, int]]) -> float:
        return counter.share(_masks(scores, removed)).macs

    if share(rows) > target:
        raise SSSError(f'target_macs={target:g} cannot be met: when all {len(rows)} structures that may go have '
                       f'gone, {share(rows):.3f} of the MACs remain; raise it, or remove other kinds of structures')
    low, high = -1, len(rows)       # removing ``low`` leaves too many MACs, ``high`` does not
    while high - low > 1:
        middle = (low + high) // 2
        if share(rows[:middle]) > target:
            low = middle
        else:
            high = middle
    removed = rows[:high]
    for row in [row for row in removed[::-1] if kinds[row[0]] == 'block']:
        fewer = [other for other in removed if other != row]
        if share(fewer) <= target:
            removed = fewer
    return _masks(scores, removed)


def zero_scores(net: gluon.HybridBlock, scores: Scores) -> Masks:
    """Remove the structures whose score is exactly 0."""
    rows = removal_order(scores, _kinds(net, scores), 'global')
    return _masks(scores, [(name, i) for name, i in rows if scores[name][i] == 0])


def _kinds(net, scores: Scores) -> Dict[str, str]:
    """{factor: kind} of the factors that have scores; the others keep all their structures."""
    return {factor.name: factor.kind for factor in scaling_factors(net) if factor.name in scores}


def _masks(scores: Scores, removed) -> Masks:
    masks = {name: np.ones(array.size, bool) for name, array in scores.items()}
    for name, i in removed:
        masks[name][i] = False
    return masks
