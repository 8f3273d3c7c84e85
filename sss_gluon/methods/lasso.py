"""LASSO channel pruning: keeps the channels that reconstruct the next layer's outputs best, and refits its weights.

Equation    min over β, W of 1/(2N) ‖Y − Σ_i β_i X_i W_iᵀ‖² + λ‖β‖₁. First β with W fixed, λ rising until few enough
            channels are left (LASSO); then W on the channels that are left (least squares).
Source      [13] He et al., "Channel Pruning for Accelerating Very Deep Neural Networks", ICCV 2017, section 3.1:
            equations 2 to 4.
Differs     - λ falls along one path from the value at which all β are 0, and channels are ranked by the λ at which
              they enter: one path ranks them for every number of channels. The paper searches λ for one number.
            - W_i is not scaled to norm 1 beside β_i; the authors' code does not do it either. W is solved for once,
              after the channels are selected, as in their experiments.
            - The same fraction of every layer is removed. The paper prunes early layers of VGG-16 more than late ones
              and leaves conv5 alone (recalled); ``ignored_layers`` can do the latter.
            - 256 images, 10 places in each (``images``, ``positions``); the authors' code draws 10 in each of 5,000.
            - The least squares have a small ridge towards the old weights. X comes from the network as pruned so far,
              Y from the whole one, as in the paper.
            - Only channels that exactly one convolution or dense layer reads can be removed, as for ThiNet; the paper
              also samples the input of residual blocks.
"""
from __future__ import annotations

import mxnet as mx
import numpy as np

from .method import Case, Masks, PruningMethod, Scores
from .reconstruction import consumer_patches, consumer_weight, least_squares

PATH_LENGTH = 60    # values of λ, each PATH_RATIO times the one before
PATH_RATIO = 0.85


def gram_matrix(x: np.ndarray, weight: np.ndarray, size: int) -> np.ndarray:
    """(size, size) Gram matrix of the contributions X_i W_iᵀ of each structure to all outputs, over the N places.

    Parameters
    ----------
    x : (N, channels, taps)
    weight : (outputs, channels, taps)
    """
    rows, columns = x.reshape(len(x), -1).astype('float64'), weight.reshape(len(weight), -1).astype('float64')
    gram = (rows.T @ rows) * (columns.T @ columns) / len(x)
    return gram.reshape(size, gram.shape[0] // size, size, -1).sum(axis=(1, 3))


def coordinate_descent(gram: np.ndarray, moment: np.ndarray, penalty: float, beta: np.ndarray,
                       tolerance: float = 1e-8, sweeps: int = 1000) -> np.ndarray:
    """Solve min over β of ½ βᵀGβ − mᵀβ + penalty·‖β‖₁ from a given start."""
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


def entry_lambdas(gram: np.ndarray) -> np.ndarray:
    """(size,): the largest λ of the path at which the β of each structure is not 0; 0 if it never enters."""
    moment = gram.sum(axis=1)       # Y is the sum of all contributions
    penalty = np.abs(moment).max()
    beta, entry = np.zeros(len(gram)), np.zeros(len(gram))
    for _ in range(PATH_LENGTH):
        penalty *= PATH_RATIO
        beta = coordinate_descent(gram, moment, penalty, beta, 1e-5)
        entry[(beta != 0) & (entry == 0)] = penalty
        if entry.all():
            break
    return entry


def score(case: Case) -> Scores:
    scores, images = {}, case.images().x
    for seed, unit in enumerate(case.units):
        x = consumer_patches(case, unit, images, seed)
        weight = consumer_weight(case, unit).reshape(-1, *x.shape[1:])
        gram = gram_matrix(x, weight, unit.size)
        # structures that enter together, or never, are ranked by their contributions
        scores[unit.name] = entry_lambdas(gram) + 1e-9 * np.diag(gram) / max(np.diag(gram).max(), 1e-30)
    return scores


def adjust(case: Case, masks: Masks) -> None:
    """Refit the weights of the remaining channels, layer by layer in forward order."""
    images = case.images().x
    for seed, unit in enumerate(case.units):
        whole, pruned = (consumer_patches(case, unit, images, seed, program)
                         for program in (case.layer_graph.program, case.pruned(masks)))
        parameter = case.layer_graph.parameters(case.layer_graph.consumer(unit))['weight']
        weight = parameter.data().asnumpy().reshape(-1, *pruned.shape[1:]).astype('float64')
        alive = np.repeat(masks[unit.name], pruned.shape[1] // unit.size)
        x, refitted = (array[:, alive].reshape(len(array), -1).astype('float64') for array in (pruned, weight))
        target = whole.reshape(len(whole), -1) @ weight.reshape(len(weight), -1).T
        refitted += least_squares(x, target - x @ refitted.T).T
        weight[:, alive] = refitted.reshape(len(weight), -1, weight.shape[2])
        parameter.set_data(mx.nd.array(weight.reshape(parameter.shape)))


METHOD = PruningMethod('lasso', ('neuron', 'group'), dict(images=256, positions=10), score=score, adjust=adjust,
                       title='LASSO')
