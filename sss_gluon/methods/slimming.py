"""Network slimming: L1 on BatchNorm.gamma while training, then a threshold.

Equation    Σ_i L_i + s Σ |γ|: the subgradient s·sign(γ) is added to the gradient of γ in every step. Then the
            channels with the smallest |γ| of the whole network go.
Source      [26] Liu et al., "Learning Efficient Convolutional Networks through Network Slimming", ICCV 2017, section
            3, equation 1.
Differs     - Two runs: one without ``source`` trains with the penalty, one whose ``source`` is that run cuts and
              fine-tunes.
            - No weight decay on the penalised γ (the authors' code decays them by 1e-4): next to s = 1e-5 that
              would drown it.
            - γ starts at 1; the authors' code starts it at 0.5.
            - The threshold is the one that meets target_macs, not a percentage of channels; one channel of every
              layer stays.
            - A removed channel leaves the constant of its β. It is carried into the next layer (constants.py), and
              the error stated where that is not exact; the authors drop it.
            - Channels are those that carry factors: inside the blocks of pre-activation ResNets (the authors also
              mask what enters a block, by a channel selection layer).
            - Updated by Nesterov like all weights; a |γ| smaller than one step swings around zero and is never
              exactly 0.
"""
from __future__ import annotations

from mxnet import nd

from . import bn_gamma
from .constants import carry
from .method import PruningMethod


class Subgradient(bn_gamma.GammaPenalty):
    def before_update(self, batch_size):
        for gamma in self.gammas.values():      # gradients are summed over devices: one of them is enough
            grad = gamma.list_grad()[0]
            grad += batch_size * self.strength * nd.sign(gamma.list_data()[0])

    def explain(self, training):
        return None if self.strength else 'slimming: strength is 0, this is training without a penalty'


METHOD = PruningMethod('slimming', ('neuron', 'group'),
                dict(strength=1e-4, scope='global', constants='approximate'),
                score=bn_gamma.score, adjust=carry, regularizer=Subgradient)
