"""ISTA on BatchNorm.gamma: channels whose γ reaches exactly zero become constants, which the next layer absorbs.

Equation    γ ← S_{ηρ}(γ − η ∇_γ L) after every step, S the soft threshold; W trains as usual.
            ``rescale`` α: before training, γ, β ← αγ, αβ and the weights that read the channel ← W/α. The function is
            the same (ReLU is positively homogeneous), and γ needs fewer steps to zero.
Source      [48] Ye et al., "Rethinking the Smaller-Norm-Less-Informative Assumption in Channel Pruning of Convolution
            Layers", ICLR 2018, section 4: algorithm and α–W rescaling trick.
Differs     - ρ is one number (``strength``); the paper weights each layer by the memory that a channel costs.
            - The step before the threshold is that of all weights (Nesterov); the authors' code uses plain gradient
              descent. γ is not decayed.
            - There are two runs. The one without ``source`` trains, from new weights or from init= (the paper starts
              from trained ones). The one whose ``source`` is that run removes the zeros (or, with target_macs, the
              smallest), absorbs the constants of β in the next layer (absorb.py) and fine-tunes.
            - The paper scales W back after training; removing the channels makes that unnecessary.
"""
from __future__ import annotations

from mxnet import nd

from ..errors import SSSError
from . import bn_gamma
from .absorb import absorb_constants
from .diagnosis import explain_penalty
from .layer_graph import LayerGraph
from .method import PruningMethod


class SoftThreshold(bn_gamma.GammaPenalty):
    def __init__(self, net, input_shape, options):
        super().__init__(net, input_shape, options)
        if options['rescale'] != 1:
            rescale(net, input_shape, options['rescale'])

    def after_update(self, learning_rate):
        threshold = learning_rate * self.strength
        for gamma in self.gammas.values():
            for data in gamma.list_data():
                data[:] = nd.sign(data) * nd.relu(nd.abs(data) - threshold)

    def explain(self, training):
        return explain_penalty(self, 'ista', self.strength, training)


def rescale(net, input_shape, alpha: float) -> None:
    """Apply the paper's α–W rescaling trick; the network computes the same function."""
    if not alpha > 0:
        raise SSSError(f'method_options: rescale={alpha} must be more than 0')
    layer_graph = LayerGraph(net, input_shape)
    for unit in layer_graph.units:
        if layer_graph.relu(unit) is None:
            raise SSSError(f'ista: rescale needs a ReLU after {unit.name}; leave rescale out')
        norm, consumer = layer_graph.parameters(unit.norm), layer_graph.parameters(layer_graph.consumer(unit))
        for parameter, factor in ((norm['gamma'], alpha), (norm['beta'], alpha), (consumer['weight'], 1 / alpha)):
            parameter.set_data(parameter.data(parameter.list_ctx()[0]) * factor)


METHOD = PruningMethod('ista', ('neuron', 'group'),
                       dict(strength=1e-3, rescale=1.0, scope='global', constants='approximate'),
                       score=bn_gamma.score, adjust=absorb_constants, regularizer=SoftThreshold, prunes_zeros=True,
                       title='ISTA')
