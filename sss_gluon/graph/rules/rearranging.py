"""Rules of operators that move channels: concatenation, reshaping, slicing, splitting, selecting."""
from __future__ import annotations

import numpy as np

from ..ir import Entry
from .rule import Coupled, Rule


class Concat(Coupled):
    """Concatenation along the channel axis."""

    def applies(self, node, view):
        return node.get('dim', 1) == 1 and len(view.shape(Entry(node))) >= 2 \
            and not any(view.is_parameter(entry) for entry in node.inputs)

    def constants(self, node, view):
        return [np.concatenate([view.constant(entry) for entry in node.inputs])]

    def labels(self, node, view):
        return [np.concatenate([view.label(entry) for entry in node.inputs])]


class Flatten(Coupled):
    """(N, C, H, W) to (N, C·H·W), or a reshape that leaves batch and channel axes alone, of whatever size they are."""

    def applies(self, node, view):
        before, after = view.shape(node.inputs[0]), view.shape(Entry(node))
        return len(before) >= 2 and len(after) >= 2 and before[0] == after[0] and \
            (before[1] == after[1] or len(after) == 2) and self._any_batch(node)

    def _any_batch(self, node):
        """A shape with a number for the batch mixes images, or fails, as soon as there are others."""
        given = self._given(node)
        return node.op in ('Flatten', 'flatten') or given == (-2,) or \
            given[:1] in ((0,), (-1,)) and -4 not in given and not node.get('reverse', False)

    def _given(self, node):
        return tuple(np.ravel(node.get('shape', ())).tolist())

    def _spread(self, node, view, array):
        return np.repeat(array, view.channels(Entry(node)) // view.channels(node.inputs[0]))

    def constants(self, node, view):
        return [self._spread(node, view, view.constant(node.inputs[0]))]

    def labels(self, node, view):
        return [self._spread(node, view, view.label(node.inputs[0]))]

    def rewrite(self, node, view):
        given = self._given(node)
        if len(given) < 2 or given[1] <= 0:     # it counts the channels itself
            return {}
        return {'shape': str((given[0], int(view.kept(Entry(node)).sum())) + given[2:])}


class SliceAxis(Coupled):
    """A slice along the channel axis or along one behind it."""

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
        keep = view.kept(node.inputs[0])
        return {'begin': str(int(keep[:begin].sum())), 'end': str(int(keep[:end].sum()))}


class SliceLike(Coupled):
    """The first input cut to the size of the second, of which only height and width matter: grids and anchor boxes.

    A vector is cut to the size of the batch.
    """

    def applies(self, node, view):
        axes = np.ravel(node.get('axes', ())) % len(view.shape(node.inputs[0]))
        return axes.size > 0 and 1 not in axes

    def _is_vector(self, node, view):
        return len(view.shape(node.inputs[0])) == 1

    def constants(self, node, view):
        return super().constants(node, view) if self._is_vector(node, view) else [view.constant(node.inputs[0])]

    def labels(self, node, view):
        return [view.new_labels(Entry(node)) if self._is_vector(node, view) else view.label(node.inputs[0])]

    def require_inputs(self, node, view):
        if self._is_vector(node, view):
            view.mark_required(view.label(node.inputs[0]))
            view.mark_required(view.label(Entry(node)))

    def rewrite(self, node, view):
        if view.is_parameter(node.inputs[0]) and not self._is_vector(node, view):
            view.slice(node.inputs[0], 1, view.kept(node.inputs[0]))
        return {}


class Split(Coupled):
    """SliceChannel along the channel axis. The parts stay equally long, so equal positions live and die together."""
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


class Take(Rule):
    """The channels that a parameter names. Each lives only if it is read itself, whoever else reads the input."""

    def applies(self, node, view):
        data, indices = node.inputs
        return not view.training and node.get('axis', 0) == 1 and len(view.shape(data)) >= 2 \
            and view.is_parameter(indices) and len(view.shape(indices)) == 1

    def indices(self, node, view):
        given, size = view.value(node.inputs[1]).astype(int), view.channels(node.inputs[0])
        return given % size if node.get('mode') == 'wrap' else np.clip(given, 0, size - 1)

    def constants(self, node, view):
        return [view.constant(node.inputs[0])[self.indices(node, view)]]

    def require_inputs(self, node, view):
        labels, sources = view.label(Entry(node)), view.label(node.inputs[0])[self.indices(node, view)]
        view.mark_required(sources[view.required(labels)])
        view.mark_kept(sources[view.kept_labels(labels)])

    def rewrite(self, node, view):
        places = np.cumsum(view.kept(node.inputs[0])) - 1
        view.replace(node.inputs[1], places[self.indices(node, view)[view.kept(Entry(node))]])
        return {}
