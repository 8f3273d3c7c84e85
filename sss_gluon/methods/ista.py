"""ISTA on BatchNorm.gamma: channels whose γ reaches zero exactly become constants and are carried away.

Equation    γ ← S_{ηρ}(γ − η ∇_γ L) after every step, S the soft threshold; W as always.
            With ``rescale`` α: γ, β ← αγ, αβ and the weights that read the channel ← W/α, before training; the
            function is the same (ReLU is positively homogeneous), and γ needs fewer steps to zero.
Source      [48] Ye et al., "Rethinking the Smaller-Norm-Less-Informative Assumption in Channel Pruning of Convolution
            Layers", ICLR 2018, section 4: algorithm and α–W rescaling trick.
Differs     - ρ is one number (``strength``); the paper weighs layers by the memory that a channel costs.
            - The step before the threshold is the one of all weights (Nesterov); in the authors' code it is plain
              gradient descent. γ is not decayed.
            - Two runs: one without ``source`` trains, from new weights or from init= (the paper starts from trained
              ones); one whose ``source`` is that run removes what is zero (or, with target_macs, the smallest),
              carries the constants of β into the next layer (constants.py) and fine-tunes.
            - The paper scales W back after training; the removal makes that unnecessary.
"""
from __future__ import annotations

from mxnet import nd

from ..errors import SSSError
from . import bn_gamma
from .constants import carry
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
        smallest = min(float(values.min()) for values in self.values().values())
        return f'ista: no structure reached zero, the smallest |γ| is {smallest:.2g}; raise strength, now ' \
               f'{self.strength:g}, or train longer' if smallest else None


def rescale(net, input_shape, alpha: float) -> None:
    """The paper's trick; the network computes what it did."""
    if not alpha > 0:
        raise SSSError(f'method_options: rescale={alpha} must be more than 0')
    layer_graph = LayerGraph(net, input_shape)
    for unit in layer_graph.units:
        if layer_graph.relu(unit) is None:
            raise SSSError(f'ista: rescale needs a ReLU behind {unit.name}; leave it out')
        norm, consumer = layer_graph.parameters(unit.norm), layer_graph.parameters(layer_graph.consumer(unit))
        for parameter, factor in ((norm['gamma'], alpha), (norm['beta'], alpha), (consumer['weight'], 1 / alpha)):
            parameter.set_data(parameter.data(parameter.list_ctx()[0]) * factor)


METHOD = PruningMethod('ista', ('neuron', 'group'),
                dict(strength=1e-3, rescale=1.0, scope='global', constants='approximate'),
                score=bn_gamma.score, adjust=carry, regularizer=SoftThreshold, zeros=True)
