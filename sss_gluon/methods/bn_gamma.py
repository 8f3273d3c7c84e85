"""Structures scored, and penalised, by their BatchNorm.gamma: the common part of network slimming and ISTA."""
from __future__ import annotations

from typing import Any, Dict, Sequence

import numpy as np
from mxnet import gluon

from ..errors import SSSError
from ..train.method import Regularizer
from .layer_graph import LayerGraph, PrunableUnit
from .method import Case, Scores


def gamma_of(layer_graph: LayerGraph, unit: PrunableUnit) -> gluon.Parameter:
    if unit.norm is None:
        raise SSSError(f'the factor {unit.name} is on a convolution; this method needs structures on BatchNorm, such '
                       f'as neurons')
    return layer_graph.parameters(unit.norm)['gamma']


def score(case: Case) -> Scores:
    """Mean |γ| over the channels of each structure."""
    return {unit.name: np.abs(gamma_of(case.layer_graph, unit).data().asnumpy().astype('float64'))
            .reshape(unit.size, -1).mean(axis=1) for unit in case.units}


class GammaPenalty(Regularizer):
    """An L1 penalty on the BatchNorm.gamma of all structures, which it exempts from weight decay."""

    def __init__(self, net: gluon.Block, input_shape: Sequence[int], options: Dict[str, Any]):
        layer_graph = LayerGraph(net, input_shape)
        self.strength = options['strength']
        self.sizes = {unit.name: unit.size for unit in layer_graph.units}
        self.gammas = {unit.name: gamma_of(layer_graph, unit) for unit in layer_graph.units}
        for gamma in self.gammas.values():
            gamma.wd_mult = 0.0     # a decay of 1e-4 would drown an L1 penalty of 1e-5

    def values(self):
        return {name: np.abs(gamma.list_data()[0].asnumpy()).reshape(self.sizes[name], -1).max(axis=1)
                for name, gamma in self.gammas.items()}
