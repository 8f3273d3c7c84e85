"""What network slimming and ISTA share: structures measured, and penalised, by their BatchNorm.gamma."""
from __future__ import annotations

from typing import Any, Dict, Sequence

import numpy as np
from mxnet import gluon

from ..errors import SSSError
from ..train.hook import Penalty
from .method import Case, Scores
from .places import Anatomy, Place


def gamma_of(anatomy: Anatomy, place: Place) -> gluon.Parameter:
    if place.norm is None:
        raise SSSError(f'the factor {place.name} is on a convolution; this method needs structures on BatchNorm, such '
                       f'as neurons')
    return anatomy.parameters(place.norm)['gamma']


def score(case: Case) -> Scores:
    """Mean |γ| over the channels of a structure."""
    return {place.name: np.abs(gamma_of(case.anatomy, place).data().asnumpy().astype('float64'))
            .reshape(place.size, -1).mean(axis=1) for place in case.places}


class GammaPenalty(Penalty):
    """An L1 penalty of a strength on the BatchNorm.gamma of all structures, which is not decayed."""

    def __init__(self, net: gluon.Block, input_shape: Sequence[int], options: Dict[str, Any]):
        anatomy = Anatomy(net, input_shape)
        self.strength = options['strength']
        self.sizes = {place.name: place.size for place in anatomy.places}
        self.gammas = {place.name: gamma_of(anatomy, place) for place in anatomy.places}
        for gamma in self.gammas.values():
            gamma.wd_mult = 0.0     # 1e-4 of decay would drown an L1 of 1e-5

    def values(self):
        return {name: np.abs(gamma.list_data()[0].asnumpy()).reshape(self.sizes[name], -1).max(axis=1)
                for name, gamma in self.gammas.items()}
