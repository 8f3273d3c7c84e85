"""The base classes of rules: subclass one of them to write a rule for another operator."""
from __future__ import annotations

from typing import Callable, Dict, Optional

import numpy as np

from ..ir import Entry, Node


def is_zero(constant):
    return constant == 0


class Rule:
    """An operator that mixes channels: all its inputs and outputs are kept. The base class of all rules.

    Attributes
    ----------
    understood : bool
        False makes the pass report the operator (``Compact.unhandled``).
    """
    understood = True

    def applies(self, node: Node, view) -> bool:
        """Whether the rule holds for this node; otherwise the node keeps all its channels and is reported."""
        return True

    def constants(self, node: Node, view):
        """Constant values of the output channels.

        Returns
        -------
        list of numpy.ndarray
            One per output of the node, float64, shape (C,); NaN where the channel varies, or may vary.
        """
        return [np.full(view.channels(Entry(node, i)), np.nan) for i in range(view.output_count(node))]

    def labels(self, node: Node, view):
        """Labels of the output channels. A label of an input, returned for an output, ties the two.

        Returns
        -------
        list of numpy.ndarray
            One per output of the node, integers, shape (C,).
        """
        return [view.new_labels(Entry(node, i)) for i in range(view.output_count(node))]

    def require_inputs(self, node: Node, view) -> None:
        """Call ``view.mark_required(labels)`` for all that the kept outputs depend on beyond shared labels.

        It is called until nothing changes any more.
        """
        for entry in node.inputs + [Entry(node, i) for i in range(view.output_count(node))]:
            view.mark_required(view.label(entry))

    def rewrite(self, node: Node, view) -> Dict[str, str]:
        """Cut the parameters with ``view.slice``.

        Returns
        -------
        dict of str to str
            The attributes of the node that change, as MXNet's JSON writes them.
        """
        return {}


class Unknown(Rule):
    """An operator without a rule."""
    understood = False


class Coupled(Rule):
    """Output channels live and die with input channels, and ``labels`` says all of it. A base class."""

    def labels(self, node, view):
        raise NotImplementedError(f'{type(self).__name__} must say which labels the outputs share with the inputs')

    def require_inputs(self, node, view) -> None:
        pass


class Channelwise(Coupled):
    """Each output channel is a function of the same channel of the first input.

    Parameters
    ----------
    function : callable, optional
        ``function(node, value)`` maps constant channel values, a float64 array of shape (C,), to those of the output.
        None stands for a function of which only f(0) = 0 is known.
    """

    def __init__(self, function: Optional[Callable] = None):
        self.function = function

    def constants(self, node, view):
        value = view.constant(node.inputs[0])
        function = self._function(node, view)
        if function is None:
            return [np.where(is_zero(value), 0.0, np.nan)]
        with np.errstate(all='ignore'):
            result = np.where(np.isnan(value), np.nan, function(node, np.nan_to_num(value)))
        return [np.where(np.isfinite(result), result, np.nan)]

    def _function(self, node, view):
        return self.function

    def labels(self, node, view):
        return [view.label(node.inputs[0])]
