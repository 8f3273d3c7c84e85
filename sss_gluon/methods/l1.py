"""L1-norm filter pruning: the filters with the smallest weights are removed.

Equation    s_j = Σ |w| over the filter j of a convolution; the filters with the smallest s_j are removed.
Source      [24] Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017, section 3.1. One-shot, as in its
            section 3.4: all layers are pruned at once, then fine-tuned.
Differs     - The paper sets the fraction of each layer by hand, from its sensitivity, and skips some layers. Here the
              same fraction of every layer is removed (``scope: layer``), as much as target_macs demands.
            - The paper can also remove the output channels of residual stages, by the norms of their shortcuts. Here
              only structures that carry factors are removed: in pre-activation ResNets the channels inside a block
              (not those that are added), in ResNeXt the groups of the 3x3, in VGG and PeleeNet those of every
              convolution.
            - Groups are ranked by the sum over their filters, blocks by the mean |w| of their last convolution,
              because a sum would favour wide blocks. The paper has neither.
"""
from __future__ import annotations

import numpy as np

from ..errors import SSSError
from .method import Case, PruningMethod, Scores


def score(case: Case) -> Scores:
    scores = {}
    for unit in case.units:
        if unit.conv is None:
            raise SSSError(f'l1 needs a convolution that produces {unit.name}, to measure its filters')
        weight = case.layer_graph.parameters(unit.conv)['weight'].data().asnumpy().astype('float64')
        sizes = np.abs(weight).reshape(unit.size, -1)
        scores[unit.name] = sizes.mean(axis=1) if unit.kind == 'block' else sizes.sum(axis=1)
    return scores


METHOD = PruningMethod('l1', ('neuron', 'group', 'block'), dict(scope='layer'), score=score, title='L1')
