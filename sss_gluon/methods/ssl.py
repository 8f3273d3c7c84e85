"""Structured sparsity learning: group lasso on the weights of a structure, which become zero together.

Equation    Σ L + s Σ_g √(Σ_{w ∈ g} w²), by its proximal step after every update: w_g ← w_g · max(0, 1 − ηs/‖w_g‖).
            Without the root the penalty would be plain weight decay, and nothing would become zero.
Source      [43] Wen et al., "Learning Structured Sparsity in Deep Neural Networks", NIPS 2016, section 3, equations 1
            to 4: filters (neuron) and layers with a shortcut (block); groups are the paths of grouped convolutions.
Differs     - A group holds everything that scales its structure's output: the filters, and γ and β of the BatchNorm
              that carries the factor. With zero filters alone, the BatchNorm would still output its β.
            - Proximal steps give exact zeros; the authors' code adds the subgradient and sets small weights to zero
              (recalled).
            - There is one s for all groups, without √size weights, as in the paper; channels (columns) and shapes are
              not penalised. In a block only the last convolution is; the authors penalise each of its layers.
            - Factors stay at 1 and are not trained. ``prune`` removes the zeros, without a threshold; a run whose
              ``source`` is this one fine-tunes it (SSL with fine-tuning), or prunes to target_macs by ‖w_g‖.
"""
from __future__ import annotations

import numpy as np
from mxnet import nd

from ..train.method import Regularizer
from .diagnosis import explain_penalty
from .layer_graph import LayerGraph
from .method import Case, PruningMethod, Scores


class GroupLasso(Regularizer):
    def __init__(self, net, input_shape, options):
        layer_graph = LayerGraph(net, input_shape)
        self.strength = options['strength']
        self.groups = {unit.name: (unit.size, layer_graph.producing(unit)) for unit in layer_graph.units}

    def after_update(self, learning_rate):
        for size, parameters in self.groups.values():
            for arrays in zip(*(parameter.list_data() for parameter in parameters)):        # one device at a time
                rows = [array.reshape((size, -1)) for array in arrays]
                norm = nd.sqrt(nd.add_n(*[nd.sum(nd.square(row), axis=1, keepdims=True) for row in rows]))
                scale = nd.relu(1 - learning_rate * self.strength / nd.maximum(norm, 1e-30))
                for array, row in zip(arrays, rows):
                    array[:] = nd.broadcast_mul(row, scale).reshape(array.shape)

    def values(self):
        return {name: norms(size, parameters) for name, (size, parameters) in self.groups.items()}

    def explain(self, training):
        return explain_penalty(self, 'ssl', self.strength, training)


def norms(size, parameters) -> np.ndarray:
    """(size,) array of ‖w_g‖."""
    rows = [parameter.list_data()[0].asnumpy().astype('float64').reshape(size, -1) for parameter in parameters]
    return np.sqrt(sum(np.square(row).sum(axis=1) for row in rows))


def score(case: Case) -> Scores:
    return {unit.name: norms(unit.size, case.layer_graph.producing(unit)) for unit in case.units}


METHOD = PruningMethod('ssl', ('group', 'block', 'neuron'), dict(strength=1e-3, scope='global'), score=score,
                       regularizer=GroupLasso, prunes_zeros=True, title='SSL')
