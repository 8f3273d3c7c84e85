"""How far structures resist sparsity, measured while γ rises, and the γ that removes each of them in a run.

A factor λ moves by −η(γ − r)/(1 − μ) per step, where r is its resistance: minus the mean gradient of the loss
(``diagnosis.py`` derives it). The model has one assumption, that r depends on λ alone: it is measured on LEVELS parts
of the way from 1 to 0, during a ramp, and holds for a run. With constant γ and rates η_t, a factor is then zero at the
end of the run if γ > r on every part of the way, and

    Σ over the parts of  (1 − μ)·Δλ/(γ − r)  ≤  Σ_t η_t                                                            (1)

A gradient that helps γ counts as no resistance, because it passes as the network learns. A long run, in which the
right side is large, needs γ only a little above the largest resistance; a short one needs about (1 − μ)/Σ_t η_t more.
So a ramp of some hundred steps, which removes structures only at a much larger γ, still tells the γ of a long run.
"""
from __future__ import annotations

import numpy as np

LEVELS = 5      # with more, the last one is crossed in a few steps, whose gradients are mostly noise


def resistances(values: np.ndarray, gradients: np.ndarray, momentum: float) -> np.ndarray:
    """Mean resistance of every structure on every part of the way from 1 to 0.

    Parameters
    ----------
    values : numpy.ndarray
        Shape (steps, structures): factors before every step, which start near 1.
    gradients : numpy.ndarray
        Of the same shape: mean gradient over the batch of the step.
    momentum : float
        Gradients are averaged as the momentum averages them.

    Returns
    -------
    numpy.ndarray
        Shape (LEVELS, structures), at least 0. A part that a factor does not reach has the
        resistance of the one before.
    """
    pull, mean, weight = np.empty(gradients.shape), np.zeros(gradients.shape[1]), 0.0
    for step, gradient in enumerate(gradients):
        mean, weight = momentum * mean - (1 - momentum) * gradient, momentum * weight + 1 - momentum
        pull[step] = mean / weight
    sums = np.concatenate([np.zeros((1, pull.shape[1])), np.cumsum(pull, axis=0)])
    lowest, last = np.minimum.accumulate(values, axis=0), len(values) - 1
    structures = np.arange(values.shape[1])
    found = np.empty((LEVELS, values.shape[1]))
    first = np.zeros(values.shape[1], int)      # the step at which a factor enters a part of the way
    inside = np.ones(values.shape[1], bool)
    for level in range(LEVELS):
        passed = lowest <= 1 - (level + 1) / LEVELS + 1e-9
        end = np.where(passed.any(axis=0), passed.argmax(axis=0), last)
        found[level] = (sums[end + 1, structures] - sums[first, structures]) / (end + 1 - first)
        if level:
            found[level] = np.where(inside, found[level], found[level - 1])
        first, inside = end, passed.any(axis=0)
    return np.maximum(found, 0)


def least_gammas(resistance: np.ndarray, multipliers: np.ndarray, rate_sum: float, momentum: float) -> np.ndarray:
    """The least γ that brings every structure to zero, by (1).

    Parameters
    ----------
    resistance : numpy.ndarray
        Shape (LEVELS, structures).
    multipliers : numpy.ndarray
        Shape (structures,): multipliers of γ. Where they are 0, no γ is enough.
    rate_sum : float
        Sum of the learning rate over all steps of the run.
    momentum : float

    Returns
    -------
    numpy.ndarray
        Shape (structures,).
    """
    step = (1 - momentum) / len(resistance)
    low = resistance.max(axis=0)
    high = low + (1 - momentum) / rate_sum      # each part then takes at most its share of the sum
    for _ in range(60):
        middle = (low + high) / 2
        with np.errstate(divide='ignore'):
            needed = (step / np.maximum(middle - resistance, 0)).sum(axis=0)
        low, high = np.where(needed > rate_sum, middle, low), np.where(needed > rate_sum, high, middle)
    with np.errstate(divide='ignore'):
        return high / multipliers
