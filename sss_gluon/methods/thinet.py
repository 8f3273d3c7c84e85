"""ThiNet: removes the channels whose absence changes the next layer least, and rescales the remaining ones.

Equation    y_i = Σ_j x_ij, x_ij the contribution of channel j to output i of the next layer (one random output
            channel at a random place of an image). Greedily, the set T of removed channels grows by the j with the
            least Σ_i (Σ_{t ∈ T ∪ j} x_it)². Then the weights that read a remaining channel j ∈ S are multiplied by
            α_j, the solution of min Σ_i (y_i − Σ_{j ∈ S} α_j x_ij)².
Source      [27] Luo et al., "ThiNet", ICCV 2017, section 3.2: equations 4 to 7.
Differs     - The paper prunes and fine-tunes layer by layer. Here the order of each layer is found on the whole
              network, the same fraction of every layer is removed (the paper also uses a preset rate), the rescaling
              is fitted layer by layer on the layers as pruned so far, and fine-tuning comes once, at the end.
            - The paper prunes VGG-16 up to conv4 only (``ignored_layers`` can do that), by 10 places in each of 10
              images of every class (recalled); here 256 images, 10 places in each (``images``, ``positions``).
            - The least squares have a small ridge towards α = 1.
            - Only channels that exactly one convolution or dense layer reads can be removed: inside the blocks of
              pre-activation ResNets, all of VGG. Groups of ResNeXt are removed whole, by the sum over their channels.
              PeleeNet, whose channels are read by several layers, is refused.
"""
from __future__ import annotations

import mxnet as mx
import numpy as np

from .method import Case, Masks, PruningMethod, Scores
from .reconstruction import consumer_patches, consumer_weight, least_squares


def contributions(x: np.ndarray, weight: np.ndarray, size: int, seed: int) -> np.ndarray:
    """(N, size): contribution of each structure to one random output at each of N places, x as in ``patches``."""
    taps = weight.reshape(len(weight), x.shape[1], -1)
    outputs = np.random.default_rng(seed).integers(0, len(weight), len(x))
    sums = np.einsum('sct,sct->sc', x, taps[outputs], optimize=True)
    return sums.reshape(len(x), size, -1).sum(axis=2).astype('float64')


def greedy_order(x: np.ndarray) -> np.ndarray:
    """Columns of contributions in the order in which they are removed."""
    gram = x.T @ x
    left, order, with_removed = list(range(len(gram))), [], np.zeros(len(gram))
    while left:         # ‖Σ_T x + x_j‖² = ‖Σ_T x‖² + 2⟨Σ_T x, x_j⟩ + ‖x_j‖²
        best = min(left, key=lambda j: 2 * with_removed[j] + gram[j, j])
        left.remove(best)
        order.append(best)
        with_removed += gram[best]
    return np.array(order)


def score(case: Case) -> Scores:
    scores, images = {}, case.images().x
    for seed, unit in enumerate(case.units):
        x = contributions(consumer_patches(case, unit, images, seed), consumer_weight(case, unit), unit.size, seed)
        scores[unit.name] = np.argsort(greedy_order(x)).astype('float64')
    return scores


def adjust(case: Case, masks: Masks) -> None:
    """Rescale the weights of the remaining channels, layer by layer in forward order."""
    images = case.images().x
    for seed, unit in enumerate(case.units):
        alive, weight = masks[unit.name], consumer_weight(case, unit)
        whole, pruned = (contributions(consumer_patches(case, unit, images, seed, program), weight, unit.size, seed)
                         for program in (case.layer_graph.program, case.pruned(masks)))
        x = pruned[:, alive]
        alpha = np.ones(unit.size)
        alpha[alive] += least_squares(x, whole.sum(axis=1) - x.sum(axis=1))
        parameter = case.layer_graph.parameters(case.layer_graph.consumer(unit))['weight']
        each = np.repeat(alpha, parameter.shape[1] // unit.size).reshape((1, -1) + (1,) * (len(parameter.shape) - 2))
        parameter.set_data(parameter.data() * mx.nd.array(each))


METHOD = PruningMethod('thinet', ('neuron', 'group'), dict(images=256, positions=10), score=score, adjust=adjust,
                       title='ThiNet')
