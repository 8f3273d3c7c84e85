"""What a layer reads, at random places of some images, and least squares on it: for ThiNet and LASSO pruning."""
from __future__ import annotations

from typing import Tuple

import numpy as np

from ..graph.ir import Node, Program, evaluate

BATCH = 16


def patches(program: Program, layer: Node, images: np.ndarray, positions: int, seed: int) -> np.ndarray:
    """Patches that a convolution or a dense layer reads.

    Parameters
    ----------
    layer : Node
        Of this or another program of the same network; the same seed draws the same places.
    positions : int
        Places per image; of a dense layer there is one.

    Returns
    -------
    numpy.ndarray
        float32, (images · positions, channels, taps): times the weight, reshaped to (outputs, channels, taps) and
        summed over both, it is what the layer puts out there, without its bias.
    """
    node = next(other for other in program.nodes() if other.name == layer.name)
    channels = program.shapes()[node.inputs[0]][1]
    random, found = np.random.default_rng(seed), []
    for start in range(0, len(images), BATCH):
        batch = images[start:start + BATCH]
        x, = evaluate([node.inputs[0]], dict(program.values, data=batch))
        if node.op == 'FullyConnected':     # behind a Flatten the channels of the convolution are runs of inputs
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
    """The D of least ‖residual − x·D‖² + ridge·mean(diagonal of xᵀx)·‖D‖²: a small change where little is known."""
    gram = x.T @ x
    return np.linalg.solve(gram + ridge * max(np.trace(gram) / len(gram), 1e-12) * np.eye(len(gram)), x.T @ residual)
