"""The update of a network on one CPU, in the memory of its arrays: no operator calls, and no copies of weights.

Updating 500 small parameters takes MXNet 500 operator calls, and each time its threads meet: several times as long as
the arithmetic. NumPy does the arithmetic in pieces that fit a core's cache, so that every number of a weight, a
gradient and a velocity is read from memory once and written at most once.
"""
from __future__ import annotations

import ctypes
from operator import is_not
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from mxnet import gluon, nd
from mxnet.base import _LIB

from ..apg import APGNAG
from ..errors import SSSError
from .buckets import small

PIECE = 2 ** 15     # elements that are updated together; five arrays of float32 fit the cache of a core


class HostUpdate:
    """Updates the small parameters of a network on one CPU where they lie.

    It works for any network and moves none of its arrays: whatever writes into them, replaces them or changes their
    layout (a prediction does, through oneDNN) is noticed before the next update.

    Parameters
    ----------
    parameters : dict of int to mxnet.gluon.Parameter
        By index in the optimizer.
    updater : mxnet.optimizer.Updater
        Holds the velocities by index; they become views of common arrays.
    """
    buckets = ()        # no gradient is sent anywhere

    def __init__(self, parameters: Dict[int, gluon.Parameter], updater):
        self.parameters, self.updater = parameters, updater
        self.served: List[int] = []     # indices of the parameters that update() updates
        self._known: Optional[list] = None
        self._groups: List[_Group] = []

    def bind(self, optimizer: APGNAG) -> None:
        """Wait for all that MXNet still computes, and notice what happened to arrays and multipliers."""
        nd.waitall()
        present = self._present()
        if self._known is None or len(present) != len(self._known) or any(map(is_not, present, self._known)):
            grouped: Dict[Tuple, List[int]] = {}
            for index, parameter in self.parameters.items():
                if small(parameter):
                    key = index in optimizer.factors, parameter.lr_mult, parameter.wd_mult
                    grouped.setdefault(key, []).append(index)
            self.served = sorted(index for indices in grouped.values() for index in indices)
            self._groups = [_Group(indices, self, factors) for (factors, *_), indices in grouped.items()]
            served = [self.parameters[index] for index in self.served]
            self._memory = _Memory([p._data[0] for p in served] + [p._grad[0] for p in served])
            self._known = self._present()
        elif not self._memory.moved():
            return
        views = self._memory.views()
        data, gradients = (dict(zip(self.served, part))
                           for part in (views[:len(self.served)], views[len(self.served):]))
        for group in self._groups:
            group.lie_in(data, gradients)

    def _present(self) -> list:
        """Objects of which one is another as soon as an array is replaced or a multiplier set."""
        found: list = list(map(self.updater.states.get, self.served))
        for p in self.parameters.values():
            found += p._data[0], p._grad and p._grad[0], p.lr_mult, p.wd_mult
        return found

    def gather(self) -> None:
        """Nothing: the arrays stay where they are."""

    def update(self, optimizer: APGNAG) -> None:
        """One optimizer step for all served parameters; call ``bind`` first."""
        optimizer._update_count(self.served)
        for group in self._groups:
            group.update(optimizer)


class _Memory:
    """Where arrays of MXNet lie: asked anew before every use, because MXNet may move them."""

    def __init__(self, arrays: Sequence[nd.NDArray]):
        self.arrays = arrays
        self._addresses = np.zeros(len(arrays), np.uintp)
        begin, size = self._addresses.ctypes.data, self._addresses.itemsize
        self._handles = [array.handle for array in arrays]
        self._places = [ctypes.c_void_p(begin + i * size) for i in range(len(arrays))]
        self.moved()

    def moved(self) -> bool:
        """Whether any array lies elsewhere than when this was asked last. Arrays in oneDNN's layouts are put back."""
        before = self._addresses.copy()
        if any(map(_LIB.MXNDArrayGetData, self._handles, self._places)):
            raise SSSError(f'MXNet does not give an array away: {_LIB.MXGetLastError()}')
        return not np.array_equal(before, self._addresses)

    def views(self) -> List[np.ndarray]:
        """Every array as a flat array of NumPy that shares its memory."""
        return [np.ctypeslib.as_array((ctypes.c_float * array.size).from_address(int(address)))
                for array, address in zip(self.arrays, self._addresses)]


class _Piece(NamedTuple):
    """Neighbouring entries of a group: parts of its weights and gradients, and where its velocities lie."""
    begin: int
    end: int
    weights: List[np.ndarray]
    gradients: List[np.ndarray]


class _Group:
    """Parameters with the same multipliers: all of them factors, or none."""

    def __init__(self, indices: List[int], host: HostUpdate, factors: bool):
        # small ones first, so that pieces hold many of them, and large ones lie in a piece of their own
        indices = sorted(indices, key=lambda index: np.prod(host.parameters[index].shape))
        self.indices, self.factors = indices, factors
        shapes = [host.parameters[index].shape for index in indices]
        self.sizes = [int(np.prod(shape)) for shape in shapes]
        flat = nd.zeros(sum(self.sizes))
        begin, states = 0, host.updater.states
        for index, shape, size in zip(indices, shapes, self.sizes):
            state = flat[begin:begin + size].reshape(shape)
            begin += size
            if states.get(index) is not None:
                states[index].copyto(state)
            states[index], host.updater.states_synced[index] = state, True
        nd.waitall()
        self._flat = flat, _Memory([flat])      # they own the memory
        self.velocity, = self._flat[1].views()
        self.pieces: List[_Piece] = []
        self._buffers = np.empty((4, PIECE), 'float32')
        self._thresholds: Tuple[Any, Any] = None, None

    def lie_in(self, data: Dict[int, np.ndarray], gradients: Dict[int, np.ndarray]) -> None:
        """Set where the parameters and their gradients lie."""
        self.pieces, begin, room = [], 0, 0
        for index, size in zip(self.indices, self.sizes):
            for at in range(0, size, PIECE):
                part = slice(at, min(at + PIECE, size))
                length = part.stop - at
                if length > room:
                    self.pieces.append(_Piece(begin, begin, [], []))
                    room = PIECE
                begin, room = begin + length, room - length
                self.pieces[-1].weights.append(data[index][part])
                self.pieces[-1].gradients.append(gradients[index][part])
                self.pieces[-1] = self.pieces[-1]._replace(end=begin)

    def update(self, optimizer: APGNAG) -> None:
        if self.factors and not optimizer.train_factors:
            return
        lr, wd = optimizer._get_lr(self.indices[0]), optimizer._get_wd(self.indices[0])
        threshold = self._threshold(optimizer, lr) if self.factors else None
        for begin, end, weights, gradients in self.pieces:
            weight, gradient, ahead, change = self._buffers[:, :end - begin]
            if len(weights) == 1:
                weight, gradient = weights[0], gradients[0]
            else:
                np.concatenate(weights, out=weight)
                np.concatenate(gradients, out=gradient)
            velocity = self.velocity[begin:end]
            if threshold is None:
                optimizer.update_weight_numpy(weight, gradient, velocity, lr, wd, ahead, change)
            else:
                optimizer.update_factor(weight, gradient, velocity, lr, wd, threshold[begin:end])
            if len(weights) > 1:
                at = 0
                for part in weights:
                    part[:] = weight[at:at + part.size]
                    at += part.size

    def _threshold(self, optimizer: APGNAG, lr: float) -> np.ndarray:
        key = optimizer.changes, optimizer.gamma, lr
        if self._thresholds[0] != key:
            self._thresholds = key, optimizer.thresholds(self.indices, self.sizes, lr)
        return self._thresholds[1]
