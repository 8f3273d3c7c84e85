"""The rule of operators that combine several inputs position by position."""
from __future__ import annotations

from typing import Callable

import numpy as np

from ..ir import Entry
from .rule import Coupled, is_zero


class Elementwise(Coupled):
    """Inputs with the same number of dimensions, combined position by position, with broadcasting.

    Parameters
    ----------
    function : callable
        ``function(a, b)`` of two inputs.
    zero_wins : bool
        The output is 0 wherever one input is 0, as in a product.
    """

    def __init__(self, function: Callable, zero_wins: bool = False):
        self.function, self.zero_wins = function, zero_wins

    def applies(self, node, view):
        shapes = [view.shape(entry) for entry in node.inputs]
        return min(len(shape) for shape in shapes) >= 2 and len({len(shape) for shape in shapes}) == 1

    def _full(self, node, view):
        channels = view.channels(Entry(node))
        return [view.channels(entry) == channels for entry in node.inputs]

    def constants(self, node, view):
        values = [view.constant(entry) for entry in node.inputs]
        with np.errstate(all='ignore'):
            result = values[0]
            for value in values[1:]:
                result = self.function(result, value)
        result = np.where(np.isfinite(result), result, np.nan)
        if self.zero_wins:
            for value in values:
                result = np.where(is_zero(value), 0.0, result)
        return [np.broadcast_to(result, (view.channels(Entry(node)),)).copy()]

    def labels(self, node, view):
        full = [entry for entry, is_full in zip(node.inputs, self._full(node, view)) if is_full]
        for entry in full[1:]:
            view.couple(view.label(full[0]), view.label(entry))
        return [view.label(full[0])]

    def require_inputs(self, node, view):
        for entry, is_full in zip(node.inputs, self._full(node, view)):
            if not is_full:     # one channel is broadcast to all
                view.mark_required(view.label(entry))

    def rewrite(self, node, view):
        for entry, is_full in zip(node.inputs, self._full(node, view)):
            if is_full and view.is_parameter(entry):
                view.slice(entry, 1, view.kept(entry))
        return {}
