"""Network slimming: an L1 penalty on BatchNorm.gamma during training, then a global threshold.

Equation    Σ_i L_i + s Σ |γ|: the subgradient s·sign(γ) is added to the gradient of γ in every step. Then the
            channels with the smallest |γ| of the whole network are removed.
Source      [26] Liu et al., "Learning Efficient Convolutional Networks through Network Slimming", ICCV 2017, section
            3, equation 1.
Differs     - There are two runs: one without ``source`` trains with the penalty; one whose ``source`` is that run
              prunes and fine-tunes.
            - The penalised γ are not decayed (the authors' code decays them by 1e-4): that would drown s = 1e-5.
            - γ starts at 1; the authors' code starts it at 0.5.
            - The threshold meets target_macs instead of a percentage of channels; every layer keeps one channel.
            - A removed channel leaves the constant of its β. The next layer absorbs it (absorb.py), and the error is
              reported if that is not exact; the authors drop the constant.
            - Only channels that carry factors are removed: inside the blocks of pre-activation ResNets (the authors
              also mask the input of a block, by a channel selection layer).
            - γ is updated by Nesterov like all weights; a |γ| smaller than one step oscillates around zero and is
              never exactly 0.
"""
from __future__ import annotations

from mxnet import nd

from . import bn_gamma
from .absorb import absorb_constants
from .method import PruningMethod


class Subgradient(bn_gamma.GammaPenalty):
    def before_update(self, batch_size):
        for gamma in self.gammas.values():      # gradients are summed over devices, so one device is enough
            grad = gamma.list_grad()[0]
            grad += batch_size * self.strength * nd.sign(gamma.list_data()[0])

    def explain(self, training):
        return None if self.strength else 'slimming: strength is 0, so no penalty acted; raise strength'


METHOD = PruningMethod('slimming', ('neuron', 'group'),
                       dict(strength=1e-4, scope='global', constants='approximate'),
                       score=bn_gamma.score, adjust=absorb_constants, regularizer=Subgradient)
