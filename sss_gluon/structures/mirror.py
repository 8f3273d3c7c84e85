"""Parameters of a whole network that follow a smaller network, which trains in its place."""
from __future__ import annotations

from functools import lru_cache
from typing import Any, List, Optional, Tuple

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon

Index = Tuple[np.ndarray, ...]      # what np.ix_ returns: the part of an array that remains


class Following:
    """Mixin of a parameter: whoever reads it gets what the smaller network has learnt by now.

    It is copied when it is read and has changed since, so the whole network may also be given other values.
    """
    _smaller: gluon.Parameter
    _kept: Index
    _seen: List[np.ndarray]     # values of ``_smaller`` that were copied last, on every device

    def data(self, ctx=None):
        self._follow()
        return super().data(ctx)

    def list_data(self):
        self._follow()
        return super().list_data()

    def _set_trainer(self, trainer):
        follow(self, None)      # the whole network trains on by itself, and this is a plain parameter again
        self._set_trainer(trainer)

    def _follow(self) -> None:
        mx.nd.waitall()     # with static_shape, parameters could otherwise be read as an earlier step left them
        arrays, parts = super().list_data(), self._smaller.list_data()      # type: ignore[misc]
        for device, (array, part) in enumerate(zip(arrays, parts)):
            learnt = part.asnumpy()
            if not np.array_equal(learnt, self._seen[device]):
                value = array.asnumpy()
                value[self._kept] = learnt
                with autograd.pause():
                    mx.nd.array(value, dtype=value.dtype).copyto(array)     # whatever its layout
                self._seen[device] = learnt
        mx.nd.waitall()


@lru_cache(maxsize=None)
def _following(kind: Any) -> Any:
    return type(kind.__name__, (Following, kind), {})


def write(parameter: gluon.Parameter, value: np.ndarray) -> None:
    """Set a parameter on all devices, and the one that trains in its place."""
    copies = [(parameter, value)]
    if isinstance(parameter, Following):
        copies.append((parameter._smaller, value[parameter._kept]))
    for one, part in copies:
        for array in one.list_data():
            array[:] = part


def follow(parameter: gluon.Parameter, smaller: Optional[gluon.Parameter], kept: Index = ()) -> None:
    """Let a parameter follow the one that trains in its place, and now holds the same values; None: nothing more.

    ``kept`` is the index of the values of ``smaller`` in it.
    """
    if isinstance(parameter, Following):
        parameter._follow()
        parameter.__class__ = type(parameter).__mro__[2]
        del parameter._smaller, parameter._kept, parameter._seen
    if smaller is not None:
        parameter._smaller, parameter._kept = smaller, kept
        parameter._seen = [part.asnumpy() for part in smaller.list_data()]
        parameter.__class__ = _following(type(parameter))     # type: ignore[arg-type]
