"""What the channel analysis knows of each operator: one rule per family, one table from operator to rule.

The channel axis is axis 1. A rule answers four questions about a node:

- ``constants``: which output channels have one and the same value for every image and position, in inference?
- ``labels``: which channel of which input does an output channel live and die with?
- ``needs``: which input channels does a set of kept output channels depend on?
- ``rewrite``: how do attributes and parameters look when only some channels are kept?

Channel labels are integers (see channels.py); constants are float64 arrays of shape (C,), NaN where not constant.
An operator without a rule keeps all channels of all its inputs, and is reported.
"""
from __future__ import annotations

import math
from typing import Callable, Dict, Optional

import numpy as np

from .ir import Entry, Node


def _zero(constant):
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

    def needs(self, node, view) -> None:
        """Call ``view.need(labels)`` for what the kept outputs depend on beyond sharing a label."""
        if not self.understood:
            for entry in node.inputs + [Entry(node, i) for i in range(view.output_count(node))]:
                view.need(view.label(entry))

    def rewrite(self, node, view) -> Dict[str, str]:
        """Attributes that change; parameters are cut by ``view.cut(entry, axis, keep)``."""
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
            return [np.where(_zero(value), 0.0, np.nan)]
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
            view.cut(node.inputs[1], 0, view.keep(node.inputs[0]))
        return {}


class BatchNorm(Channelwise):
    """Inference: β + γ·(x − mean)/√(var + eps). Where γ is 0 the channel is β, in training too."""

    def applies(self, node, view):
        return node.get('axis', 1) == 1 and all(view.is_parameter(entry) for entry in node.inputs[1:])

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
            view.cut(entry, 0, view.keep(node.inputs[0]))
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
                result = np.where(_zero(value), 0.0, result)
        return [np.broadcast_to(result, (view.channels(Entry(node)),)).copy()]

    def labels(self, node, view):
        full = [entry for entry, is_full in zip(node.inputs, self._full(node, view)) if is_full]
        for entry in full[1:]:
            view.tie(view.label(full[0]), view.label(entry))
        return [view.label(full[0])]

    def needs(self, node, view):
        for entry, is_full in zip(node.inputs, self._full(node, view)):
            if not is_full:     # one channel that serves all
                view.need(view.label(entry))

    def rewrite(self, node, view):
        for entry, is_full in zip(node.inputs, self._full(node, view)):
            if is_full and view.is_parameter(entry):
                view.cut(entry, 1, view.keep(entry))
        return {}


class Linear(Rule):
    """Convolution, transposed convolution and dense layer: outputs are sums over weighted inputs."""
    understood = True

    def __init__(self, kind: str):
        self.kind = kind        # 'conv', 'deconv' or 'dense'

    def applies(self, node, view):
        if not all(view.is_parameter(entry) for entry in node.inputs[1:]):
            return False
        if self.kind == 'dense':
            return node.get('flatten', True) or len(view.shape(node.inputs[0])) == 2
        layout = node.get('layout', None)
        return layout is None or str(layout).startswith('NC')

    def groups(self, node):
        return 1 if self.kind == 'dense' else int(node.get('num_group', 1))

    def _weight(self, node, view):
        """Weight as (groups, outputs per group, inputs per group, taps)."""
        weight = view.value(node.inputs[1])
        groups = self.groups(node)
        if self.kind == 'deconv':       # stored as (inputs, outputs per group, ...)
            inputs, outputs = weight.shape[:2]
            return weight.reshape(groups, inputs // groups, outputs, -1).transpose(0, 2, 1, 3)
        if self.kind == 'dense':
            return weight.reshape(1, weight.shape[0], weight.shape[1], 1)
        return weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)

    def connected(self, node, view):
        """(groups, outputs, inputs) booleans: is any weight between them not zero?"""
        return view.remember(node, lambda: (self._weight(node, view) != 0).any(axis=-1))

    def _bias(self, node, view):
        return view.value(node.inputs[2]).astype('float64') if len(node.inputs) > 2 else 0.0

    def _input_labels(self, node, view):
        """Labels of the inputs; a dense layer sees each channel of an unflattened input once per position."""
        labels = view.label(node.inputs[0])
        return np.repeat(labels, view.positions(node.inputs[0])) if self.kind == 'dense' else labels

    def _input_constants(self, node, view):
        value = view.constant(node.inputs[0])
        return np.repeat(value, view.positions(node.inputs[0])) if self.kind == 'dense' else value

    def constants(self, node, view):
        connected, groups = self.connected(node, view), self.groups(node)
        value = self._input_constants(node, view).reshape(groups, 1, -1)
        padded = any(np.ravel(node.get('pad', 0))) or self.kind == 'deconv'
        known = _zero(value) if padded else ~np.isnan(value)     # a constant does not reach into the padding
        constant = ~(connected & ~known).any(axis=2)
        result = np.zeros(constant.shape)
        if not padded and (constant & (connected & ~_zero(value)).any(axis=2)).any():
            weight = self._weight(node, view).sum(axis=-1, dtype='float64')
            result = (weight * np.nan_to_num(value)).sum(axis=2)
        return [np.where(constant, result, np.nan).ravel() + self._bias(node, view)]

    def labels(self, node, view):
        groups = self.groups(node)
        if groups == 1:
            return [view.new_labels(Entry(node))]
        # A group is kept or dropped as a whole, with its inputs and outputs.
        inputs = view.label(node.inputs[0]).reshape(groups, -1)
        outputs = view.new_labels(Entry(node)).reshape(groups, -1)
        first = inputs[:, :1]
        view.tie(np.broadcast_to(first, inputs.shape).ravel(), inputs.ravel())
        view.tie(np.broadcast_to(first, outputs.shape).ravel(), outputs.ravel())
        return [outputs.ravel()]

    def needs(self, node, view):
        if self.groups(node) > 1:
            return
        kept = view.kept(view.label(Entry(node)))
        used = self.connected(node, view)[0][kept].any(axis=0) & ~_zero(self._input_constants(node, view))
        view.need(self._input_labels(node, view)[used])

    def rewrite(self, node, view):
        keep_out, keep_in = view.keep(Entry(node)), view.kept(self._input_labels(node, view))
        groups = self.groups(node)
        weight = node.inputs[1]
        if len(node.inputs) > 2:
            view.cut(node.inputs[2], 0, keep_out)
        outputs = str(int(keep_out.sum()))
        if groups > 1:
            kept_groups = int(keep_out.reshape(groups, -1)[:, 0].sum())
            view.cut(weight, 0, keep_in if self.kind == 'deconv' else keep_out)
            return {'num_filter': outputs, 'num_group': str(kept_groups)}
        first, second = (keep_in, keep_out) if self.kind == 'deconv' else (keep_out, keep_in)
        view.cut(weight, 0, first)
        view.cut(weight, 1, second)
        return {'num_hidden' if self.kind == 'dense' else 'num_filter': outputs}


class Concat(Rule):
    understood = True

    def applies(self, node, view):
        return node.get('dim', 1) == 1 and len(view.shape(Entry(node))) >= 2

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
        after = view.shape(Entry(node))
        rest = (-1,) if len(after) == 2 else (0,) + tuple(after[2:])
        return {'shape': str((0,) + rest), 'reverse': 'False'}


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
            view.tie(parts[0], part)
        return parts


def _activation(node, value):
    return {'relu': lambda v: np.maximum(v, 0), 'sigmoid': lambda v: 1 / (1 + np.exp(-v)), 'tanh': np.tanh,
            'softrelu': lambda v: np.log1p(np.exp(v)), 'softsign': lambda v: v / (1 + np.abs(v))
            }.get(node.get('act_type'), lambda v: np.nan * v)(value)


def _scalar(function):
    return Channelwise(lambda node, value: function(value, float(node.get('scalar', 0))))


def _same(node, value):
    return value


def _add(a, b):
    return a + b


def _multiply(a, b):
    return a * b


IDENTITY = ('_copy', 'BlockGrad', 'Dropout', 'Cast', 'amp_cast', 'identity', '_contrib_AdaptiveAvgPooling2D',
            '_contrib_BilinearResize2D')

RULES: Dict[str, Rule] = {
    **{op: Channelwise(_same) for op in IDENTITY},
    'UpSampling': UpSampling(_same),
    'Activation': Channelwise(_activation),
    'relu': Channelwise(lambda _, v: np.maximum(v, 0)),
    'sigmoid': Channelwise(lambda _, v: 1 / (1 + np.exp(-v))),
    'hard_sigmoid': Channelwise(lambda n, v: np.clip(n.get('alpha', 0.2) * v + n.get('beta', 0.5), 0, 1)),
    'erf': Channelwise(lambda _, v: np.vectorize(math.erf, otypes=[float])(v)),
    **{op: Channelwise(lambda _, v, f=f: f(v)) for op, f in
       dict(tanh=np.tanh, exp=np.exp, sqrt=np.sqrt, square=np.square, abs=np.abs, negative=np.negative).items()},
    'clip': Channelwise(lambda n, v: np.clip(v, n.get('a_min'), n.get('a_max'))),
    '_plus_scalar': _scalar(lambda v, s: v + s), '_minus_scalar': _scalar(lambda v, s: v - s),
    '_rminus_scalar': _scalar(lambda v, s: s - v), '_mul_scalar': _scalar(lambda v, s: v * s),
    '_div_scalar': _scalar(lambda v, s: v / s), '_maximum_scalar': _scalar(np.maximum),
    '_minimum_scalar': _scalar(np.minimum), '_power_scalar': _scalar(np.power),
    'LeakyReLU': PReLU(),
    'Pooling': Pooling(),
    'Pad': Pad(), 'pad': Pad(),
    'BatchNorm': BatchNorm(), '_contrib_BatchNormWithReLU': BatchNorm(),
    **{op: Elementwise(_add) for op in ('elemwise_add', 'broadcast_add', '_plus', '_Plus', 'add_n', 'broadcast_plus')},
    **{op: Elementwise(np.subtract) for op in ('elemwise_sub', 'broadcast_sub', '_minus', 'broadcast_minus')},
    **{op: Elementwise(_multiply, zero_wins=True) for op in ('elemwise_mul', 'broadcast_mul', '_mul')},
    **{op: Elementwise(np.divide) for op in ('elemwise_div', 'broadcast_div', '_div')},
    **{op: Elementwise(np.maximum) for op in ('_maximum', 'broadcast_maximum')},
    **{op: Elementwise(np.minimum) for op in ('_minimum', 'broadcast_minimum')},
    'Convolution': Linear('conv'), 'Deconvolution': Linear('deconv'), 'FullyConnected': Linear('dense'),
    'Concat': Concat(), 'concat': Concat(),
    'Flatten': Flatten(), 'flatten': Flatten(), 'Reshape': Flatten(), 'reshape': Flatten(),
    'expand_dims': Axes(_same), 'squeeze': Axes(_same), 'mean': Axes(_same), 'max': Axes(_same),
    'sum': Axes(None),
    'slice_axis': SliceAxis(),
    'SliceChannel': Split(), 'split': Split(),
}
UNKNOWN = Rule()
ADDITIONS = ('elemwise_add', 'broadcast_add', '_plus', '_Plus', 'broadcast_plus')
