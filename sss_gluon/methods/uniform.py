"""Uniform narrowing: the same fraction of every layer is removed.

Equation    The n structures of a layer are removed in the bit-reversed order of 0 … n − 1, so that however many are
            removed, they are spread evenly (``order: even``). ``order: l1`` removes those with the smallest Σ|w|.
Source      A control: the width multiplier of hand-designed networks.
Differs     Blocks belong to no layer; they are removed evenly over the depth of the network.
"""
from __future__ import annotations

import numpy as np

from . import l1
from .method import Case, PruningMethod, Scores


def evenly(size: int) -> np.ndarray:
    """Position of each of ``size`` structures in a removal order of which every prefix is spread evenly."""
    bits = max(1, (size - 1).bit_length())
    return np.array([int(f'{i:0{bits}b}'[::-1], 2) for i in range(size)], 'float64')


def score(case: Case) -> Scores:
    if case.options['order'] == 'l1':
        return l1.score(case)
    scores = {unit.name: evenly(unit.size) for unit in case.units}
    blocks = [unit.name for unit in case.units if unit.kind == 'block']
    scores.update({name: np.array([position]) for name, position in zip(blocks, evenly(len(blocks)))})
    return scores


METHOD = PruningMethod('uniform', ('neuron', 'group', 'block'), dict(order='even'), score=score)
