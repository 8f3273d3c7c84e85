"""Average percentage of zeros (APoZ): the neurons that are silent most often are removed.

Equation    APoZ_j = share of zeros after the ReLU of channel j, over N images and all positions; the channels with
            the largest APoZ are removed.
Source      [16] Hu et al., "Network Trimming", 2016, section 3.1, equation 1.
Differs     - The paper trims the neurons whose APoZ exceeds the mean of a few selected layers by one standard
              deviation, fine-tunes, and repeats. Here the same fraction of every layer is removed, once, as much as
              target_macs demands.
            - BatchNorm uses its running statistics; ``images`` training images replace the validation set.
            - A group is ranked by the mean of its channels. Blocks have no ReLU of their own and are not offered.
"""
from __future__ import annotations

import numpy as np

from ..errors import SSSError
from ..graph.ir import Entry, Node, evaluate
from .method import Case, PruningMethod, Scores

BATCH = 64


def percentages(case: Case) -> Scores:
    """{factor: (size,) array of APoZ, from 0 to 1}."""
    means = []
    for unit in case.units:
        relu = case.layer_graph.relu(unit)
        if relu is None:
            raise SSSError(f'apoz needs a ReLU after {unit.name} that alone reads its output; use another method')
        zero = Node('_equal_scalar', f'zero_{unit.name}', {'scalar': '0'}, [Entry(relu)])
        means.append(Entry(Node('mean', f'mean_{unit.name}', {'axis': '(0, 2, 3)'}, [Entry(zero)])))
    x = case.images().x
    totals = {unit.name: np.zeros(unit.size) for unit in case.units}
    for start in range(0, len(x), BATCH):
        batch = x[start:start + BATCH]
        for unit, found in zip(case.units, evaluate(means, dict(case.layer_graph.program.values, data=batch))):
            totals[unit.name] += len(batch) * found.astype('float64').reshape(unit.size, -1).mean(axis=1)
    return {name: total / len(x) for name, total in totals.items()}


def score(case: Case) -> Scores:
    return {name: 1 - share for name, share in percentages(case).items()}


METHOD = PruningMethod('apoz', ('neuron', 'group'), dict(images=512, scope='layer'), score=score, title='APoZ')
