"""How kinds of operators treat channels: one rule per family, for the analysis in channels.py.

The channel axis is axis 1. A rule answers four questions about a node:

- ``constants``: which output channels have one and the same value for every image and position, in inference?
- ``labels``: which channel of which input does an output channel live and die with?
- ``needs``: which input channels does a set of kept output channels depend on?
- ``rewrite``: how do attributes and parameters look when only some channels are kept?

Channel labels are integers (see channels.py); constants are float64 arrays of shape (C,), NaN where not constant.
"""
from __future__ import annotations

from typing import Callable, Dict, Optional

import numpy as np

from .ir import Entry, Node


def is_zero(constant):
    return constant == 0


class Rule:
    """The default: the operator is not understood, everything around it is kept."""
    understood = False

    def applies(self, node: Node, view) -> bool:
        return True

    def constants(self, node, view):
        return [np.full(view.channels(Entry(node, i)), np.nan) for i in range(view.output_count(node))]

    def labels(self, node, view):
        return [view.new_labels(Entry(node, i)) for i in range(view.output_count(node))]

    def require_inputs(self, node, view) -> None:
        """Call ``view.mark_required(labels)`` for what the kept outputs depend on beyond sharing a label."""
        if not self.understood:
            for entry in node.inputs + [Entry(node, i) for i in range(view.output_count(node))]:
                view.mark_required(view.label(entry))

    def rewrite(self, node, view) -> Dict[str, str]:
        """Attributes that change; parameters are cut by ``view.slice(entry, axis, keep)``."""
        return {}


class Channelwise(Rule):
    """Each output channel is a function of the same channel of the first input.

    ``function`` maps a constant channel value to the output value; None means that only zero is known to stay.
    """
    understood = True

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


class Pooling(Channelwise):
    """Max pooling pads with −∞ and global pooling does not pad; average pooling may count zeros of the padding."""

    def _function(self, node, view):
        kind = node.get('pool_type', 'max')
        whole = node.get('global_pool', False) or not any(np.ravel(node.get('pad', 0))) \
            and node.get('pooling_convention', 'valid') == 'valid'
        exact = kind == 'max' or kind == 'avg' and (whole or node.get('count_include_pad', True) is False)
        return (lambda _, value: value) if exact else None


class UpSampling(Channelwise):
    """Of one input, by repetition; the bilinear form is a grouped convolution with weights of its own."""

    def applies(self, node, view):
        return len(node.inputs) == 1


class Pad(Channelwise):
    def _function(self, node, view):
        if node.get('mode') in ('edge', 'reflect'):
            return lambda _, value: value
        return None if float(node.get('constant_value', 0)) == 0 else lambda _, value: np.nan * value

    def applies(self, node, view):
        return not any(node.get('pad_width', (1,))[:4])


class PReLU(Channelwise):
    """All forms of LeakyReLU; ``prelu`` has a slope per channel, cut with the channels."""

    def _function(self, node, view):
        slope = node.get('slope', 0.25)
        return {'leaky': lambda _, v: np.where(v > 0, v, slope * v),
                'elu': lambda _, v: np.where(v > 0, v, slope * np.expm1(np.minimum(v, 0)))
                }.get(node.get('act_type', 'leaky'))

    def rewrite(self, node, view):
        if node.get('act_type') == 'prelu' and view.shape(node.inputs[1])[0] > 1:
            view.slice(node.inputs[1], 0, view.keep(node.inputs[0]))
        return {}


class BatchNorm(Channelwise):
    """Inference: β + γ·(x − mean)/√(var + eps). Where γ is 0 the channel is β, in training too."""

    def applies(self, node, view):
        return node.get('axis', 1) == 1 and view.output_count(node) == 1 \
            and all(view.is_parameter(entry) for entry in node.inputs[1:])

    def constants(self, node, view):
        gamma, beta, mean, var = (view.value(entry).astype('float64') for entry in node.inputs[1:5])
        if node.get('fix_gamma', True):
            gamma = np.ones_like(gamma)
        value = view.constant(node.inputs[0])
        with np.errstate(all='ignore'):
            result = beta + gamma * (value - mean) / np.sqrt(var + node.get('eps', 1e-3))
        result = np.where(gamma == 0, beta, result)
        return [np.maximum(result, 0) if 'ReLU' in node.op else result]

    def rewrite(self, node, view):
        for entry in node.inputs[1:]:
            view.slice(entry, 0, view.keep(node.inputs[0]))
        return {}


class Elementwise(Rule):
    """Several inputs of the same number of dimensions, combined position by position, with broadcasting."""
    understood = True

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
            if not is_full:     # one channel that serves all
                view.mark_required(view.label(entry))

    def rewrite(self, node, view):
        for entry, is_full in zip(node.inputs, self._full(node, view)):
            if is_full and view.is_parameter(entry):
                view.slice(entry, 1, view.keep(entry))
        return {}


class Concat(Rule):
    understood = True

    def applies(self, node, view):
        return node.get('dim', 1) == 1 and len(view.shape(Entry(node))) >= 2 \
            and not any(view.is_parameter(entry) for entry in node.inputs)

    def constants(self, node, view):
        return [np.concatenate([view.constant(entry) for entry in node.inputs])]

    def labels(self, node, view):
        return [np.concatenate([view.label(entry) for entry in node.inputs])]


class Flatten(Rule):
    """(N, C, H, W) to (N, C·H·W), or a reshape that leaves the first two axes alone."""
    understood = True

    def applies(self, node, view):
        before, after = view.shape(node.inputs[0]), view.shape(Entry(node))
        return len(before) >= 2 and len(after) >= 2 and before[0] == after[0] and \
            (before[1] == after[1] or len(after) == 2)

    def _spread(self, node, view, array):
        return np.repeat(array, view.channels(Entry(node)) // view.channels(node.inputs[0]))

    def constants(self, node, view):
        return [self._spread(node, view, view.constant(node.inputs[0]))]

    def labels(self, node, view):
        return [self._spread(node, view, view.label(node.inputs[0]))]

    def rewrite(self, node, view):
        if node.op == 'Flatten':
            return {}
        before, after = view.shape(node.inputs[0]), view.shape(Entry(node))
        given = tuple(np.ravel(node.get('shape', ())).tolist())
        if len(after) == 2:
            rest = (0, -1)
        elif len(given) == len(after) and min(given) >= -1:     # other sizes than that of the trace stay possible
            rest = (0, 0) + given[2:]
        elif before == after:
            rest = (0,) * len(after)
        else:
            rest = (0, 0) + tuple(after[2:-1]) + (-1,)
        return {'shape': str(rest), 'reverse': 'False'}


class Axes(Channelwise):
    """Reductions and new axes that leave batch and channel alone."""

    def __init__(self, function=None, new_axis: bool = False):
        super().__init__(function)
        self.new_axis = new_axis

    def applies(self, node, view):
        before, after = view.shape(node.inputs[0]), view.shape(Entry(node))
        axes = np.ravel(node.get('axis', ()) if node.get('axis', ()) is not None else ())
        return len(after) >= 2 and before[:2] == after[:2] and axes.size > 0 and (axes > 1).all() \
            and not node.get('exclude', False)


class SliceAxis(Rule):
    understood = True

    def applies(self, node, view):
        return len(view.shape(node.inputs[0])) >= 2 and node.get('axis') >= 0 and node.get('axis') != 0

    def _range(self, node, view):
        size = view.channels(node.inputs[0])
        begin, end, _ = slice(node.get('begin'), node.get('end')).indices(size)
        return begin, end

    def _cut(self, node, view, array):
        if node.get('axis') != 1:
            return array
        begin, end = self._range(node, view)
        return array[begin:end]

    def constants(self, node, view):
        return [self._cut(node, view, view.constant(node.inputs[0]))]

    def labels(self, node, view):
        return [self._cut(node, view, view.label(node.inputs[0]))]

    def rewrite(self, node, view):
        if node.get('axis') != 1:
            return {}
        begin, end = self._range(node, view)
        keep = view.keep(node.inputs[0])
        return {'begin': str(int(keep[:begin].sum())), 'end': str(int(keep[:end].sum()))}


class Split(Rule):
    """SliceChannel along the channel axis: parts stay equally long, so equal positions live and die together."""
    understood = True

    def applies(self, node, view):
        return node.get('axis', 1) == 1 and not node.get('squeeze_axis', False)

    def _parts(self, node, array):
        return list(array.reshape(int(node.get('num_outputs')), -1))

    def constants(self, node, view):
        return self._parts(node, view.constant(node.inputs[0]))

    def labels(self, node, view):
        parts = self._parts(node, view.label(node.inputs[0]))
        for part in parts[1:]:
            view.couple(parts[0], part)
        return parts
