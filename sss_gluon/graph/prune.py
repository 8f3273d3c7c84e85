"""Prune: turn a network with zeros into a smaller network with the same outputs."""
from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Tuple

import mxnet as mx
import numpy as np

from .channels import Channels
from .concat import guard_concats, is_whole_slice
from .ir import Entry, Node, Program, rewritten, unique_names
from .operators import ADDITIONS
from .rules import Concat
from .selection import along_channels, index_attributes, rows_in_front, select, worthwhile


def prune_graph(program: Program, align: int = 1, training: bool = False, runs: Optional[Mapping[str, int]] = None
                ) -> Tuple[Program, List[str]]:
    """Prune a folded program; return the compact program and the operators that were not understood.

    Repeated until nothing changes: a grouped convolution with one group left is pruned like a plain one then. Where a
    layer could do without more channels, which others need, a selection in front of it leaves them out (selection.py).

    With ``training``, only what contributes nothing in training mode is removed: BatchNorms of constants stay, groups
    remain whole, because all their channels share a factor, and nothing is selected. ``runs`` are those of
    ``Channels.solve``.
    """
    program = along_channels(program)
    while True:
        channels = simplified(program, training)
        channels.solve(align, runs)
        reduced = cut(channels)
        if training:
            reduced = simplified(reduced, training).program
        elif _size(reduced) == _size(program):      # what remains of idle channels, other layers need
            needed = worthwhile(channels)
            reduced = select(channels.program, needed) if needed else reduced
        if training or _size(reduced) == _size(program):
            return guard_concats(rows_in_front(reduced)), channels.unhandled()
        program = reduced


def _size(program: Program) -> Tuple[int, int]:
    return len(program.nodes()), sum(value.size for value in program.used_values().values())


def simplified(program: Program, training: bool = False) -> Channels:
    """The program without additions of zero, and with one constant for a branch that gives the same for every input.

    A ReLU of a ReLU, which remains where a block between the two was removed, and a slice over the whole width are
    dropped too.
    """
    channels = Channels(program, training)
    values = dict(program.values)
    claim = unique_names(values)
    changed = [program.is_input(entry.node) for entry in program.outputs]

    def shorter(node: Node, inputs):
        if node.op in ADDITIONS and channels.rules[node].understood:
            full = all(channels.shape(entry) == channels.shape(Entry(node)) and not channels.is_parameter(entry)
                       for entry in node.inputs)
            constants = [channels.constant(entry) for entry in node.inputs]
            for this, other in ((0, 1), (1, 0)):
                if full and (constants[this] == 0).all():
                    return {0: inputs[other]}
            for this, other in ((0, 1), (1, 0)):
                if full and not np.isnan(constants[this]).any() and np.isnan(constants[other]).any():
                    name = claim(f'{node.name}_constant')
                    values[name] = _constant(constants[this], channels.shape(Entry(node)))
                    return _plus_constant(node, inputs[other], name, values[name].shape)
        if is_whole_slice(node):
            return {0: inputs[0]}
        if _is_relu(node) and inputs[0] is not None and _is_relu(inputs[0].node):
            return {0: inputs[0]}
        return None

    def replace(node: Node, inputs):
        found = shorter(node, inputs)
        changed.append(found is not None)
        return found or Node(node.op, node.name, node.attrs, inputs, node.extra)

    outputs = [Entry(Node('_copy', claim('copy'), {}, [entry])) if program.is_input(entry.node) else entry
               for entry in rewritten(program.outputs, replace)]        # a SymbolBlock needs an operator
    return Channels(program.derived(outputs, values), training) if any(changed) else channels


def _is_relu(node: Node) -> bool:
    return node.op == 'relu' or node.op == 'Activation' and node.attrs.get('act_type') == 'relu'


def _constant(values, shape) -> np.ndarray:
    """One value per channel, with axes that broadcast over batch and positions."""
    return values.astype('float32').reshape((1, -1) + (1,) * (len(shape) - 2))


def _plus_constant(node, other: Entry, name: str, shape) -> Node:
    """x + k with one value k per channel: exact in inference, where the removed branch used running statistics."""
    return Node('broadcast_add', node.name, {}, [other, _new_parameter(name, shape)])


def _new_parameter(name: str, shape) -> Entry:
    attrs = {'__shape__': str(shape), '__lr_mult__': '1.0', '__wd_mult__': '0.0',
             '__init__': mx.init.Zero().dumps(), '__grad_req__': 'write'}
    return Entry(Node('null', name, attrs))


def cut(channels: Channels) -> Program:
    """Cut parameters to the channels that are kept, and drop branches without any."""
    program, attributes = channels.program, channels.rewrite()
    values, kept = dict(program.values), dict(program.kept_indices)
    biases = _shifted(channels, values)
    for name, cuts in channels.cuts.items():
        for axis, keep in cuts.items():
            if not keep.all():
                values[name] = np.compress(keep, values[name], axis=axis)
                before = kept.get(name, {})
                kept[name] = {**before, axis: before.get(axis, np.arange(keep.size))[keep]}
    values.update((name, value.astype(values[name].dtype)) for name, value in channels.replaced.items())

    def replace(node: Node, inputs):
        if node.is_variable:
            attrs = dict(node.attrs, __shape__=str(values[node.name].shape)) if node.name in values else node.attrs
            if node.name in channels.replaced:
                attrs.update(index_attributes(values[node.name]))
            return Node('null', node.name, attrs)
        if node not in channels.alive:
            return {}
        attrs = dict(node.attrs, **attributes[node])
        if isinstance(channels.rules[node], Concat):
            inputs = [new for old, new in zip(node.inputs, inputs) if not channels.dropped_branch(node, old)]
            if len(inputs) == 1:
                return {0: inputs[0]}
            attrs['num_args'] = str(len(inputs))
        if node in biases:
            inputs, attrs['no_bias'] = [*inputs, biases[node]], 'False'
        return Node(node.op, node.name, attrs, inputs, node.extra)

    return program.derived(rewritten(program.outputs, replace), values, kept)


def _shifted(channels: Channels, values: Dict[str, np.ndarray]) -> Dict[Node, Entry]:
    """Add to biases the constants that they take up; return the biases of layers that had none."""
    claim, new = unique_names(values), {}
    for node, offset in channels.shifts.items():
        if len(node.inputs) > 2:
            bias = node.inputs[2].node.name
            values[bias] = (values[bias] + offset).astype(values[bias].dtype)
        else:
            bias, keep = claim(f'{node.name}_bias'), channels.kept(Entry(node))
            values[bias] = offset[keep].astype(channels.value(node.inputs[1]).dtype)
            new[node] = _new_parameter(bias, values[bias].shape)
    return new
