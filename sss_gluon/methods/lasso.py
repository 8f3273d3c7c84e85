"""LASSO channel pruning: the channels from which the next layer's outputs can be rebuilt, and new weights for them.

Equation    min over β, W of 1/(2N) ‖Y − Σ_i β_i X_i W_iᵀ‖² + λ‖β‖₁. First β with W as it is, λ rising until few
            enough are left (LASSO); then W on the channels that are left (least squares).
Source      [13] He et al., "Channel Pruning for Accelerating Very Deep Neural Networks", ICCV 2017, section 3.1:
            equations 2 to 4.
Differs     - λ falls along one path from where all β are 0, and channels are ranked by the λ at which they first
              appear: that gives every number of channels at once. The paper searches λ for the number it wants.
            - W_i is not scaled to norm 1 beside β_i; the authors' code does not do it either. W is solved for once,
              after the channels are chosen, as in their experiments.
            - The same fraction of every layer goes. The paper cuts early layers of VGG-16 more than late ones, and
              leaves conv5 alone (recalled): ``ignored_layers`` can do the latter.
            - 256 images, 10 places in each (``images``, ``positions``); the authors' code draws 10 in each of 5,000.
            - The least squares have a small ridge towards the weights there were. X comes from the network as it is
              cut so far, Y from the whole one, as in the paper.
            - Channels are those that one convolution or dense layer alone reads, as for ThiNet; the paper also
              samples the input of residual blocks.
"""
from __future__ import annotations

import mxnet as mx
import numpy as np

from .method import Case, Kept, PruningMethod, Scores
from .samples import least_squares, patches

PATH = 60           # values of λ, each 0.85 of the one before
STEP = 0.85


def quadratic(x: np.ndarray, weight: np.ndarray, size: int) -> np.ndarray:
    """(size, size) Gram matrix of the contributions X_i W_iᵀ of each structure to all outputs, over the N places.

    Parameters
    ----------
    x : (N, channels, taps)
    weight : (outputs, channels, taps)
    """
    rows, columns = x.reshape(len(x), -1).astype('float64'), weight.reshape(len(weight), -1).astype('float64')
    gram = (rows.T @ rows) * (columns.T @ columns) / len(x)
    return gram.reshape(size, gram.shape[0] // size, size, -1).sum(axis=(1, 3))


def lasso(gram: np.ndarray, moment: np.ndarray, penalty: float, beta: np.ndarray, tolerance: float = 1e-8,
          sweeps: int = 1000) -> np.ndarray:
    """min over β of ½ βᵀGβ − mᵀβ + penalty·‖β‖₁ by coordinate descent, from a given start."""
    beta = beta.copy()
    residual = moment - gram @ beta
    scale = max(np.abs(moment).max(), 1e-30)
    for _ in range(sweeps):
        largest = 0.0
        for j in range(beta.size):
            if gram[j, j] <= 0:
                continue
            z = residual[j] + gram[j, j] * beta[j]
            new = np.sign(z) * max(abs(z) - penalty, 0) / gram[j, j]
            change = new - beta[j]
            if change:
                residual -= change * gram[j]
                beta[j] = new
                largest = max(largest, abs(change) * gram[j, j])
        if largest <= tolerance * scale:
            break
    return beta


def entrance(gram: np.ndarray) -> np.ndarray:
    """For each structure the largest λ of the path at which its β is not 0; 0 when there is none."""
    moment = gram.sum(axis=1)       # Y is the sum of all contributions
    penalty = np.abs(moment).max()
    beta, first = np.zeros(len(gram)), np.zeros(len(gram))
    for _ in range(PATH):
        penalty *= STEP
        beta = lasso(gram, moment, penalty, beta, 1e-5)
        first[(beta != 0) & (first == 0)] = penalty
        if first.all():
            break
    return first


def score(case: Case) -> Scores:
    scores, images = {}, case.images().x
    for number, unit in enumerate(case.units):
        consumer = case.layer_graph.consumer(unit)
        x = patches(case.layer_graph.program, consumer, images, case.options['positions'], number)
        weight = case.layer_graph.program.value(consumer.inputs[1]).reshape(-1, *x.shape[1:])
        gram = quadratic(x, weight, unit.size)
        # Those that enter together, or never, by what they contribute.
        scores[unit.name] = entrance(gram) + 1e-9 * np.diag(gram) / max(np.diag(gram).max(), 1e-30)
    return scores


def adjust(case: Case, kept: Kept) -> None:
    """New weights for what stays, layer by layer in forward order."""
    images = case.images().x
    for number, unit in enumerate(case.units):
        consumer = case.layer_graph.consumer(unit)
        whole, now = (patches(program, consumer, images, case.options['positions'], number)
                      for program in (case.layer_graph.program, case.pruned(kept)))
        parameter = case.layer_graph.parameters(consumer)['weight']
        weight = parameter.data().asnumpy().reshape(-1, *now.shape[1:]).astype('float64')
        keep = np.repeat(kept[unit.name], now.shape[1] // unit.size)
        given, used = (array[:, keep].reshape(len(array), -1).astype('float64') for array in (now, weight))
        wanted = whole.reshape(len(whole), -1) @ weight.reshape(len(weight), -1).T
        used += least_squares(given, wanted - given @ used.T).T
        weight[:, keep] = used.reshape(len(weight), -1, weight.shape[2])
        parameter.set_data(mx.nd.array(weight.reshape(parameter.shape)))


METHOD = PruningMethod('lasso', ('neuron', 'group'), dict(images=256, positions=10), score=score, adjust=adjust)
