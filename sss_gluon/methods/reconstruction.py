"""Reconstruction of a layer's outputs, for ThiNet and LASSO pruning: patches that it reads, and least squares."""
from __future__ import annotations

from typing import Optional, Tuple

import numpy as np

from ..graph.ir import Node, Program, evaluate
from .layer_graph import PrunableUnit
from .method import Case

BATCH = 16


def consumer_patches(case: Case, unit: PrunableUnit, images: np.ndarray, seed: int,
                     program: Optional[Program] = None) -> np.ndarray:
    """Draw patches that the consumer of a unit reads, by default in the whole network; see ``patches``."""
    return patches(program or case.layer_graph.program, case.layer_graph.consumer(unit), images,
                   case.options['positions'], seed)


def consumer_weight(case: Case, unit: PrunableUnit) -> np.ndarray:
    """(outputs, inputs, ...): weight of the consumer in the whole network."""
    return case.layer_graph.program.value(case.layer_graph.consumer(unit).inputs[1])


def patches(program: Program, layer: Node, images: np.ndarray, positions: int, seed: int) -> np.ndarray:
    """Draw patches that a convolution or a dense layer reads.

    Parameters
    ----------
    layer : Node
        A node of this or another program of the same network; the same seed draws the same places.
    positions : int
        Places per image; a dense layer has one.

    Returns
    -------
    numpy.ndarray
        float32, (images · positions, channels, taps). Multiplied by the weight in shape (outputs, channels, taps) and
        summed over channels and taps, a patch gives the layer's output at its place, without the bias.
    """
    node = next(other for other in program.nodes() if other.name == layer.name)
    channels = program.shapes()[node.inputs[0]][1]
    random, found = np.random.default_rng(seed), []
    for start in range(0, len(images), BATCH):
        batch = images[start:start + BATCH]
        x, = evaluate([node.inputs[0]], dict(program.values, data=batch))
        if node.op == 'FullyConnected':     # after a Flatten each channel is a run of inputs
            found.append(x.reshape(len(batch), channels, -1))
            continue
        kernel, stride, dilate, pad = (_pair(node, key, default) for key, default in
                                       (('kernel', 1), ('stride', 1), ('dilate', 1), ('pad', 0)))
        x = np.pad(x, ((0, 0), (0, 0), (pad[0], pad[0]), (pad[1], pad[1])))
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilate)]
        sizes = [(side - span) // step + 1 for side, span, step in zip(x.shape[2:], reach, stride)]
        number = np.repeat(np.arange(len(batch)), positions)
        ys, xs = (random.integers(0, size, number.size)[:, None] * step + np.arange(k) * d
                  for size, step, k, d in zip(sizes, stride, kernel, dilate))
        taken = x[number[:, None, None], :, ys[:, :, None], xs[:, None, :]]      # (places, kh, kw, channels)
        found.append(np.moveaxis(taken, 3, 1).reshape(number.size, channels, -1))
    return np.concatenate(found)


def _pair(node: Node, key: str, default: int) -> Tuple[int, int]:
    value = np.ravel(node.get(key) or default).tolist()
    return tuple(value if len(value) == 2 else value * 2)


def least_squares(x: np.ndarray, residual: np.ndarray, ridge: float = 1e-3) -> np.ndarray:
    """The D that minimizes ‖residual − x·D‖² + ridge·mean(diag(xᵀx))·‖D‖²; the ridge keeps D small if x says little."""
    gram = x.T @ x
    return np.linalg.solve(gram + ridge * max(np.trace(gram) / len(gram), 1e-12) * np.eye(len(gram)), x.T @ residual)
