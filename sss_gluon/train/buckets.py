"""Gradient buckets: one update serves all small parameters of a device, instead of one update per parameter.

Updating the 500 parameters of a ResNet-164 one by one costs 500 operator calls a step and next to no arithmetic.
"""
from __future__ import annotations

import ctypes
from typing import Container, Dict, Iterable, List, Optional, Tuple

import numpy as np
from mxnet import autograd, gluon, nd
from mxnet.base import _LIB, check_call

from ..apg import APGNAG

SMALL = 2 ** 16     # elements; larger parameters are updated alone, because copying costs more than an operator call


class GradientBuckets:
    """The small parameters of one device as slices of contiguous arrays.

    Arrays of the network are copied in and out. With ``views``, gradients and parameters with one axis (BatchNorm,
    biases, factors) are views of the buckets instead. Weights of convolutions and dense layers are always copied: a
    prediction changes their layout in place (oneDNN) and would overwrite the neighbours of a view. If an array is
    replaced or a multiplier set, the next step notices and everything is copied from then on, because MXNet 1.9.1
    computes wrong gradients when a network that has trained with ``static_shape`` gets new gradient arrays.

    Parameters
    ----------
    parameters : dict of int to mxnet.gluon.Parameter
        By index in the optimizer.
    device : int
        Position of the device in the device list of the parameters.
    updater : mxnet.optimizer.Updater
        Holds the velocities by index; they become views of the buckets.
    views : bool
        Allowed only for networks that have not run yet; arrays fetched earlier are no longer those of the network.
    grouped : set of int, optional
        Indices of the weights of grouped convolutions, which are copied one by one because ``amp_multicast`` cannot
        read the layouts that a prediction gives them. With None, all weights are copied one by one.
    """

    def __init__(self, parameters: Dict[int, gluon.Parameter], device: int, updater, views: bool,
                 grouped: Optional[Container[int]] = None):
        self.parameters, self.device, self.updater, self.views = parameters, device, updater, views
        self.grouped = grouped
        self.buckets: List[_Bucket] = []
        self.served: List[int] = []     # indices of the parameters that update() updates
        self.signature = None

    def bind(self, optimizer: APGNAG) -> None:
        """Build the buckets from the current arrays, unless they are up to date."""
        if self.signature is not None:
            if self._signature() == self.signature:
                return
            self.views = False
        groups: Dict[Tuple, List[int]] = {}
        for index, parameter in self.parameters.items():
            if small(parameter):
                key = index in optimizer.factors, parameter.lr_mult, parameter.wd_mult
                groups.setdefault(key, []).append(index)
        self.served = sorted(index for indices in groups.values() for index in indices)
        gradients = (self.parameters[index]._grad[self.device] for index in self.served)
        self.views = self.views and not any(gradient.asnumpy().any() for gradient in gradients)
        self.buckets = [_Bucket(indices, self, factors) for (factors, *_), indices in groups.items()]
        copied = [triple for bucket in self.buckets for triple in bucket.weights]
        self._singly = [(array, piece) for index, array, piece in copied if self._unreadable(index, array)]
        self._together = [(array, piece) for index, array, piece in copied if not self._unreadable(index, array)]
        self._together += [pair for bucket in self.buckets for pair in bucket.gradients]
        self._results = [(piece, array) for _, array, piece in copied]
        self.signature = self._signature()
        # keeps their identities from being reused
        self._held = [(p._data[self.device], p._grad and p._grad[self.device]) for p in self.parameters.values()]

    def _unreadable(self, index: int, array: nd.NDArray) -> bool:
        return array.ndim > 1 if self.grouped is None else index in self.grouped

    def _signature(self):
        """A value that changes when an array is replaced or a multiplier set."""
        d, states = self.device, {index: id(self.updater.states.get(index)) for index in self.served}
        return [(id(p._data[d]), p._grad and id(p._grad[d]), states.get(index), p.lr_mult, p.wd_mult)
                for index, p in self.parameters.items()]

    def gather(self) -> None:
        """Start copying gradients and weights into the buckets; the network does not change."""
        for array, piece in self._singly:
            array.copyto(piece)
        _copy(self._together)

    def update(self, optimizer: APGNAG) -> None:
        """One optimizer step for all bound parameters; call ``gather`` first."""
        optimizer._update_count(self.served)
        for bucket in self.buckets:
            bucket.update(optimizer)
        _copy(self._results)


def small(parameter: gluon.Parameter) -> bool:
    """Whether a parameter is updated together with others: a dense one of float32 that is trained."""
    return (parameter.grad_req != 'null' and np.dtype(parameter.dtype) == np.float32
            and parameter._stype == parameter._grad_stype == 'default'
            and 0 < np.prod(parameter.shape) < SMALL)


class _Bucket:
    """Parameters with the same multipliers: all of them factors, or none."""

    def __init__(self, indices: List[int], buckets: GradientBuckets, factors: bool):
        d = buckets.device
        self.indices, self.factors = indices, factors
        parameters = [buckets.parameters[i] for i in indices]
        self.sizes = [int(np.prod(p.shape)) for p in parameters]
        context = parameters[0]._data[d].context
        self.weight, self.grad, self.velocity, self.ahead = (nd.zeros(sum(self.sizes), ctx=context) for _ in range(4))
        # (index, array of the network, its slice) and (array, slice), for arrays that are not views
        self.weights, self.gradients = [], []
        self._thresholds: Tuple[Optional[Tuple[float, ...]], Optional[nd.NDArray]] = None, None
        begin = 0
        for index, parameter, size in zip(indices, parameters, self.sizes):
            weight, grad, velocity = (flat[begin:begin + size].reshape(parameter.shape)
                                      for flat in (self.weight, self.grad, self.velocity))
            begin += size
            states = buckets.updater.states
            if index in states:
                states[index].copyto(velocity)
            states[index], buckets.updater.states_synced[index] = velocity, True
            if not buckets.views:
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
        if self.factors and optimizer.train_factors:
            optimizer.update_factor(self.weight, self.grad, self.velocity, lr, wd, self._threshold(optimizer, lr))
        elif not self.factors:
            optimizer.update_weight(self.weight, self.grad, self.velocity, lr, wd, self.ahead)

    def _threshold(self, optimizer: APGNAG, lr: float) -> nd.NDArray:
        key = optimizer.changes, optimizer.gamma, lr
        if self._thresholds[0] != key:
            values = optimizer.thresholds(self.indices, self.sizes, lr)
            self._thresholds = key, nd.array(values, ctx=self.weight.context)
        return self._thresholds[1]


def _copy(pairs: List[Tuple[nd.NDArray, nd.NDArray]]) -> None:
    """Copy every source to its target in one operator."""
    if pairs:
        sources, targets = zip(*pairs)
        nd.amp_multicast(*sources, num_outputs=len(sources), out=list(targets))


# These do what NDArray._fresh_grad does in a quarter of the time; a step asks hundreds of parameters twice.

def all_fresh(arrays: Iterable[nd.NDArray]) -> bool:
    """Whether the gradient of every array was computed since the last step."""
    state = ctypes.c_int()
    get, place = _LIB.MXNDArrayGetGradState, ctypes.byref(state)
    for array in arrays:
        check_call(get(array.handle, place))
        if not state.value:
            return False
    return True


def set_stale(arrays: Iterable[nd.NDArray]) -> None:
    """Mark the gradients of arrays as used."""
    put, stale = _LIB.MXNDArraySetGradState, ctypes.c_int(0)
    for array in arrays:
        check_call(put(array.handle, stale))
