"""Random removal: the baseline that every criterion must beat.

Equation    s_j ~ U(0, 1), independent; the smallest of the whole network are removed.
Source      A control, used in [29] and [24] among others.
Differs     The scores depend on the seed of the run; ``scope: layer`` removes the same fraction of every layer instead.
"""
from __future__ import annotations

import numpy as np

from .method import Case, PruningMethod, Scores


def score(case: Case) -> Scores:
    random = np.random.default_rng((case.config.seed, 1))
    return {unit.name: random.random(unit.size) for unit in case.units}


METHOD = PruningMethod('random', ('neuron', 'group', 'block'), dict(scope='global'), score=score)
