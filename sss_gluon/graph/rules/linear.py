"""The rule of convolutions and dense layers, whose outputs are sums over weighted inputs."""
from __future__ import annotations

import numpy as np

from ..ir import Entry
from .rule import Rule, is_zero


class Linear(Rule):
    """Outputs are sums over weighted inputs.

    Parameters
    ----------
    kind : {'conv', 'deconv', 'dense'}
    """

    def __init__(self, kind: str):
        self.kind = kind

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
        """(groups, outputs, inputs) booleans: is any weight between the two not zero?"""
        return view.cached(node, lambda: (self._weight(node, view) != 0).any(axis=-1))

    def _bias(self, node, view):
        return view.value(node.inputs[2]).astype('float64') if len(node.inputs) > 2 else 0.0

    def input_labels(self, node, view):
        """Labels of the inputs. A dense layer sees each channel of an unflattened input once per position."""
        labels = view.label(node.inputs[0])
        return np.repeat(labels, view.positions(node.inputs[0])) if self.kind == 'dense' else labels

    def _input_constants(self, node, view):
        value = view.constant(node.inputs[0])
        return np.repeat(value, view.positions(node.inputs[0])) if self.kind == 'dense' else value

    def pads(self, node):
        """Does the layer see zeros beside its input, or some values of it less often than others?"""
        return self.kind == 'deconv' or any(np.ravel(node.get('pad', 0)))

    def offsets(self, node, view):
        """(inputs,) constants that add the same to an output at every position; NaN where an input has none."""
        value = self._input_constants(node, view)
        return np.where(is_zero(value), value, np.nan) if self.pads(node) else value

    def idle(self, node, view):
        """(C,) booleans: the input channels that the layer can do without, if its bias takes up their constants."""
        if self.groups(node) > 1:
            return np.zeros(view.channels(node.inputs[0]), bool)
        idle = ~np.isnan(self.offsets(node, view)) | ~self.connected(node, view)[0].any(axis=0)
        return idle.reshape(view.channels(node.inputs[0]), -1).all(axis=1)

    def constants(self, node, view):
        connected, groups = self.connected(node, view), self.groups(node)
        value = self.offsets(node, view).reshape(groups, 1, -1)
        constant = ~(connected & np.isnan(value)).any(axis=2)
        result = np.zeros(constant.shape)
        if (constant & (connected & ~is_zero(value)).any(axis=2)).any():
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
        view.couple(np.broadcast_to(first, inputs.shape).ravel(), inputs.ravel())
        view.couple(np.broadcast_to(first, outputs.shape).ravel(), outputs.ravel())
        return [outputs.ravel()]

    def require_inputs(self, node, view):
        if self.groups(node) > 1:
            return
        out = Entry(node)
        # A channel kept only as the last one of its layer may become anything, unless its constant value was used.
        matters = view.required(view.label(out)) | view.kept_labels(view.label(out)) & ~np.isnan(view.constant(out))
        used = self.connected(node, view)[0][matters].any(axis=0) & np.isnan(self.offsets(node, view))
        view.mark_required(self.input_labels(node, view)[used])

    def rewrite(self, node, view):
        keep_out, keep_in = view.kept(Entry(node)), view.kept_labels(self.input_labels(node, view))
        groups = self.groups(node)
        weight = node.inputs[1]
        if len(node.inputs) > 2:
            view.slice(node.inputs[2], 0, keep_out)
        outputs = str(int(keep_out.sum()))
        if groups > 1:
            kept_groups = int(keep_out.reshape(groups, -1)[:, 0].sum())
            view.slice(weight, 0, keep_in if self.kind == 'deconv' else keep_out)
            return {'num_filter': outputs, 'num_group': str(kept_groups)}
        gone = np.where(keep_in, 0.0, np.nan_to_num(self.offsets(node, view)))
        if gone.any():
            view.shift(node, self._weight(node, view)[0].sum(axis=-1, dtype='float64') @ gone)
        first, second = (keep_in, keep_out) if self.kind == 'deconv' else (keep_out, keep_in)
        view.slice(weight, 0, first)
        view.slice(weight, 1, second)
        return {'num_hidden' if self.kind == 'dense' else 'num_filter': outputs}
