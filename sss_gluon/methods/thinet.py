"""ThiNet: the channels whose absence the next layer notices least, and a rescaling of those that stay.

Equation    y_i = Σ_j x_ij, x_ij the contribution of channel j to output i of the next layer (one random output
            channel at a random place of an image). Greedily, the set T of removed channels grows by the j with the
            least Σ_i (Σ_{t ∈ T ∪ j} x_it)². Then the weights that read a kept channel are multiplied by α_j, the
            solution of min Σ_i (y_i − Σ_{j kept} α_j x_ij)².
Source      [27] Luo et al., "ThiNet", ICCV 2017, section 3.2: equations 4 to 7.
Differs     - The paper cuts and fine-tunes layer by layer. Here the order of each layer is found on the whole
              network, the same fraction of every layer goes (the paper's too: a preset rate), the rescaling is fitted
              layer by layer on what the layers before were cut to, and fine-tuning comes once, after the last.
            - The paper cuts VGG-16 up to conv4 only (``ignored_layers`` can do that), by 10 places in each of 10
              images of every class (recalled); here 256 images, 10 places in each (``images``, ``positions``).
            - The least squares have a small ridge towards α = 1.
            - Channels are those that one convolution or dense layer alone reads: inside the blocks of pre-activation
              ResNets, all of VGG. Groups of ResNeXt are removed whole, by the sum over their channels. PeleeNet,
              whose channels are read by several layers, is refused.
"""
from __future__ import annotations

import mxnet as mx
import numpy as np

from .method import Case, Kept, PruningMethod, Scores
from .samples import least_squares, patches


def contributions(x: np.ndarray, weight: np.ndarray, size: int, seed: int) -> np.ndarray:
    """(N, size): what each structure adds to one random output at each of N places, x as in ``patches``."""
    taps = weight.reshape(len(weight), x.shape[1], -1)
    chosen = np.random.default_rng(seed).integers(0, len(weight), len(x))
    sums = np.einsum('sct,sct->sc', x, taps[chosen], optimize=True)
    return sums.reshape(len(x), size, -1).sum(axis=2).astype('float64')


def removal_order(x: np.ndarray) -> np.ndarray:
    """Indices of the columns of contributions, the one that goes first first."""
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
    for number, unit in enumerate(case.units):
        x, weight = _sampled(case, unit, images, number)
        scores[unit.name] = np.argsort(removal_order(contributions(x, weight, unit.size, number))).astype('float64')
    return scores


def _sampled(case, unit, images, number):
    consumer = case.layer_graph.consumer(unit)
    return (patches(case.layer_graph.program, consumer, images, case.options['positions'], number),
            case.layer_graph.program.value(consumer.inputs[1]))


def adjust(case: Case, kept: Kept) -> None:
    """Rescale what stays, layer by layer in forward order."""
    images = case.images().x
    for number, unit in enumerate(case.units):
        keep = kept[unit.name]
        x, weight = _sampled(case, unit, images, number)
        wanted = contributions(x, weight, unit.size, number).sum(axis=1)
        consumer = case.layer_graph.consumer(unit)
        now = patches(case.pruned(kept), consumer, images, case.options['positions'], number)
        given = contributions(now, weight, unit.size, number)[:, keep]
        alpha = np.ones(unit.size)
        alpha[keep] += least_squares(given, wanted - given.sum(axis=1))
        parameter = case.layer_graph.parameters(consumer)['weight']
        each = np.repeat(alpha, parameter.shape[1] // unit.size).reshape((1, -1) + (1,) * (len(parameter.shape) - 2))
        parameter.set_data(parameter.data() * mx.nd.array(each))


METHOD = PruningMethod('thinet', ('neuron', 'group'), dict(images=256, positions=10), score=score, adjust=adjust)
