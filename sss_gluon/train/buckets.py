"""Flat buffers: one update serves all small parameters of a device, instead of an update for each of them.

The 500 parameters of a ResNet-164 cost 500 times the overhead of an operator in every step, and next to no arithmetic.
"""
from __future__ import annotations

import ctypes
from typing import Container, Dict, Iterable, List, Optional, Tuple

import numpy as np
from mxnet import autograd, nd
from mxnet.base import _LIB, check_call

from ..apg import APGNAG

SMALL = 2 ** 16     # elements; an operator of its own is nothing to a larger parameter, a copy of it would be


class GradientBuckets:
    """The small parameters of one device, as slices of contiguous arrays.

    Arrays of the network are copied in and out. With ``views`` gradients are views of the buffers instead, and so
    are parameters with one axis (BatchNorm, biases, factors). Weights of convolutions and dense layers never are: a
    prediction changes their layout in place (oneDNN), which would overwrite the neighbours of a view. An array that
    was replaced, or a multiplier that was set, is noticed in the next step; from then on everything is copied,
    because MXNet 1.9.1 computes wrong gradients when a network that has trained with ``static_shape`` gets other
    gradient arrays.

    Parameters
    ----------
    parameters : dict of int to mxnet.gluon.Parameter
        By index in the optimizer.
    device : int
        Position of the device among those of the parameters.
    updater : mxnet.optimizer.Updater
        Keeps the velocities by index; they become views.
    views : bool
        Only for networks that have not trained yet; whoever fetched arrays before holds some that are not used.
    grouped : set of int, optional
        Indices of the weights of grouped convolutions, which are copied one by one: ``amp_multicast`` cannot read the
        layouts that a prediction gives them. None: not known, so all weights are.
    """

    def __init__(self, parameters: Dict[int, object], device: int, updater, views: bool,
                 grouped: Optional[Container[int]] = None):
        self.parameters, self.device, self.updater, self.views = parameters, device, updater, views
        self.grouped = grouped
        self.segments: List[_Bucket] = []
        self.served: List[int] = []     # indices of the parameters that update() serves
        self.signature = None

    def bind(self, optimizer: APGNAG) -> None:
        """Make the buffers from the arrays of this moment, unless they are up to date."""
        if self.signature is not None:
            if self._signature() == self.signature:
                return
            self.views = False
        groups: Dict[Tuple, List[int]] = {}
        for index, parameter in self.parameters.items():
            if self._small(parameter):
                key = index in optimizer.factors, parameter.lr_mult, parameter.wd_mult
                groups.setdefault(key, []).append(index)
        self.served = sorted(index for indices in groups.values() for index in indices)
        gradients = (self.parameters[index]._grad[self.device] for index in self.served)
        self.views = self.views and not any(gradient.asnumpy().any() for gradient in gradients)
        self.segments = [_Bucket(indices, self, factors) for (factors, *_), indices in groups.items()]
        copied = [triple for segment in self.segments for triple in segment.weights]
        self._singly = [(array, piece) for index, array, piece in copied if self._unreadable(index, array)]
        self._together = [(array, piece) for index, array, piece in copied if not self._unreadable(index, array)]
        self._together += [pair for segment in self.segments for pair in segment.gradients]
        self._results = [(piece, array) for _, array, piece in copied]
        self.signature = self._signature()
        # so that no identity is used again
        self._held = [(p._data[self.device], p._grad and p._grad[self.device]) for p in self.parameters.values()]

    def _unreadable(self, index: int, array: nd.NDArray) -> bool:
        return array.ndim > 1 if self.grouped is None else index in self.grouped

    def _small(self, parameter) -> bool:
        return (parameter.grad_req != 'null' and np.dtype(parameter.dtype) == np.float32
                and parameter._stype == parameter._grad_stype == 'default'
                and 0 < np.prod(parameter.shape) < SMALL)

    def _signature(self):
        """Changes when an array is replaced or a multiplier set."""
        d, states = self.device, {index: id(self.updater.states.get(index)) for index in self.served}
        return [(id(p._data[d]), p._grad and id(p._grad[d]), states.get(index), p.lr_mult, p.wd_mult)
                for index, p in self.parameters.items()]

    def gather(self) -> None:
        """Start to copy what ``update`` needs; nothing of the network changes."""
        for array, piece in self._singly:
            array.copyto(piece)
        _copy(self._together)

    def update(self, optimizer: APGNAG) -> None:
        """One step of everything that is bound, after ``gather``."""
        optimizer._update_count(self.served)
        for segment in self.segments:
            segment.update(optimizer)
        _copy(self._results)


class _Bucket:
    """Parameters with the same multipliers; either all of them are factors or none."""

    def __init__(self, indices: List[int], buffers: GradientBuckets, factors: bool):
        d = buffers.device
        self.indices, self.factors = indices, factors
        parameters = [buffers.parameters[i] for i in indices]
        self.sizes = [int(np.prod(p.shape)) for p in parameters]
        context = parameters[0]._data[d].context
        self.weight, self.grad, self.velocity, self.ahead = (nd.zeros(sum(self.sizes), ctx=context) for _ in range(4))
        # (index, array of the network, its slice) and (array, slice), where array and slice are not the same
        self.weights, self.gradients = [], []
        self._thresholds = None, None
        begin = 0
        for index, parameter, size in zip(indices, parameters, self.sizes):
            weight, grad, velocity = (flat[begin:begin + size].reshape(parameter.shape)
                                      for flat in (self.weight, self.grad, self.velocity))
            begin += size
            states = buffers.updater.states
            if index in states:
                states[index].copyto(velocity)
            states[index], buffers.updater.states_synced[index] = velocity, True
            if not buffers.views:
                self.weights.append((index, parameter._data[d], weight))
                self.gradients.append((parameter._grad[d], grad))
                continue
            fresh = parameter._data[d]._fresh_grad
            parameter._grad[d] = parameter._grad[d].copyto(grad)
            if len(parameter.shape) == 1:
                parameter._data[d] = parameter._data[d].copyto(weight)
            else:
                self.weights.append((index, parameter._data[d], weight))
            autograd.mark_variables([parameter._data[d]], [grad], parameter.grad_req)
            parameter._data[d]._fresh_grad = fresh

    def update(self, optimizer: APGNAG) -> None:
        lr, wd = optimizer._get_lr(self.indices[0]), optimizer._get_wd(self.indices[0])
        if self.factors:
            optimizer.update_factor(self.weight, self.grad, self.velocity, lr, wd, self._threshold(optimizer, lr))
        else:
            optimizer.update_weight(self.weight, self.grad, self.velocity, lr, wd, self.ahead)

    def _threshold(self, optimizer: APGNAG, lr: float) -> nd.NDArray:
        each = tuple(optimizer.threshold(index, lr) for index in self.indices)
        if self._thresholds[0] != each:
            self._thresholds = each, nd.array(np.repeat(each, self.sizes), ctx=self.weight.context)
        return self._thresholds[1]


def _copy(pairs: List[Tuple[nd.NDArray, nd.NDArray]]) -> None:
    """All of (source, target) in one operator."""
    if pairs:
        sources, targets = zip(*pairs)
        nd.amp_multicast(*sources, num_outputs=len(sources), out=list(targets))


# What NDArray._fresh_grad does, in a quarter of the time: a network has hundreds of parameters, and each is asked twice
# in every step.

def all_fresh(arrays: Iterable[nd.NDArray]) -> bool:
    """Was the gradient of every array computed since the last step?"""
    state = ctypes.c_int()
    get, place = _LIB.MXNDArrayGetGradState, ctypes.byref(state)
    for array in arrays:
        check_call(get(array.handle, place))
        if not state.value:
            return False
    return True


def set_stale(arrays: Iterable[nd.NDArray]) -> None:
    """Say that the gradients of arrays were used."""
    put, stale = _LIB.MXNDArraySetGradState, ctypes.c_int(0)
    for array in arrays:
        check_call(put(array.handle, stale))
