"""What was removed of a network, what was not although it is zero, and why."""
from __future__ import annotations

from collections import Counter
from typing import Any, Callable, Dict, List, Optional, Set

import numpy as np

from ..factors import KINDS
from ..graph.channels import Channels
from ..graph.ir import Entry, Node, Program
from ..graph.rules import Linear
from ..graph.selection import along_channels
from .factor_values import traced_factors
from .structure import Structure

PLACEHOLDER = 'no layer can be left without channels'


def describe(net, program: Program, reduced: Program) -> Structure:
    """The structure of a network that was pruned.

    A structure that is not zero is kept if a channel of it remains, or a constant that it computes. Some are not: the
    neurons inside a block that is removed, or a channel that became a negative constant before a ReLU.
    """
    factors: Dict[str, Dict[str, Any]] = {}
    gone_with: Dict[str, int] = {}
    branches, taken_up = _constant_branches(program, reduced), None
    for name, kind, parameter in traced_factors(program, net):
        values = parameter.list_data()[0].asnumpy()
        nonzero, scaled = values != 0, _scaled(name, program)
        left = np.ones(values.size, bool)
        if scaled is not None:
            left = _left(scaled, values.size, program, reduced)
            if scaled not in reduced.values and scaled in branches:
                left = nonzero
            elif (nonzero & ~left).any():
                taken_up = taken_up or _taken_up(program, reduced)
                left |= nonzero & taken_up(scaled, values.size)
        factors[name] = {'kind': kind, 'size': int(values.size), 'kept': np.flatnonzero(nonzero & left).tolist()}
        if kind == 'neuron' and scaled is not None and _width(scaled, program) > values.size:
            factors[name]['channels'] = _width(scaled, program) // int(values.size)
        if (nonzero & ~left).any():
            gone_with[name] = int((nonzero & ~left).sum())
        if scaled is not None and (left & ~nonzero).any():
            factors[name]['stay'] = np.flatnonzero(left & ~nonzero).tolist()
    after = _widths(reduced)
    layers = {name: {'before': width, 'after': after.get(name)} for name, width in _widths(program).items()}
    inputs = dict(program.inputs)
    shape = inputs if len(inputs) > 1 or 'data' not in inputs else program.input_shape
    return Structure(getattr(net, 'spec', None), shape, factors, layers, gone_with=gone_with)


def _taken_up(program: Program, reduced: Program) -> Callable[[str, int], np.ndarray]:
    """Which structures compute constants other than 0 that the bias of a remaining layer takes up?

    Returns
    -------
    callable
        ``(a parameter that their layer has, how many they are)`` to (size,) booleans.
    """
    channels = Channels(program)
    channels.solve()
    found: Set[int] = set()
    names = {node.name for node in reduced.nodes()}

    def holds(labels: np.ndarray) -> np.ndarray:
        return np.isin(channels.classes(labels), list(found))

    for node in reversed(channels.nodes):
        rule = channels.rules.get(node)
        if isinstance(rule, Linear) and rule.groups(node) == 1 \
                and (node.name in names or holds(channels.label(Entry(node))).any()):
            used = rule.connected(node, channels)[0].any(axis=0) & (np.nan_to_num(rule.offsets(node, channels)) != 0)
            found.update(channels.classes(rule.input_labels(node, channels)[used]).tolist())

    def structures(parameter: str, size: int) -> np.ndarray:
        return holds(channels.label(Entry(_owner(program, parameter)))).reshape(size, -1).any(axis=1)

    return structures


def _owner(program: Program, parameter: str) -> Node:
    """The layer that has a parameter."""
    return next(node for node in program.nodes() if any(entry.node.name == parameter for entry in node.inputs))


def reasons(structure: Structure, program: Program, reduced: Program) -> List[str]:
    """One line for each factor and reason why structures that are zero stay.

    '12 of 24 neurons of expand are zero but stay, because project pads with zeros, and they are other constants'.
    """
    rows = {name: row for name, row in structure.factors.items() if row.get('stay')}
    if not rows:
        return []
    channels = Channels(along_channels(reduced))
    channels.solve()
    lines = []
    for name, row in rows.items():
        parameter = str(_scaled(name, program))     # what stays has one
        owner = _owner(channels.program, parameter)
        labels, structures = channels.label(Entry(owner)), _structures(parameter, row['size'], program, reduced)
        found = Counter(_reason(channels, labels[structures == number]) for number in row['stay'])
        lines += [_stay(count, row, name or channels.program.spelled(owner.name), why) for why, count in found.items()]
    return lines


def _stay(count: int, row: Dict[str, Any], name: str, why: str) -> str:
    structures, stay = f'{row["size"]} {row["kind"]}s of {name}', 'stays' if count == 1 else 'stay'
    if why == PLACEHOLDER and not row['kept']:
        return f'all {structures} are zero; {count} {stay}, because {why}'
    return f'{count} of {structures} {"is" if count == 1 else "are"} zero but {stay}, because {why}'


def _reason(channels: Channels, labels: np.ndarray) -> str:
    required = labels[channels.required(labels)]
    if not required.size:
        return PLACEHOLDER if channels.kept_labels(labels).any() else 'the widths of layers are filled up'
    label = required[:1]
    node = channels.askers(label)[0]
    if node is None:
        return 'an output of the network contains them'
    if node.is_variable:
        return 'the input of the network contains them'
    rule, name = channels.rules[node], channels.program.spelled(node.name)
    if not rule.understood:
        return f'{node.operator}({name}) needs all of its input'
    if isinstance(rule, Linear) and rule.pads(node):
        tied = channels.classes(channels.label(node.inputs[0])) == channels.classes(label)
        if not np.isnan(channels.constant(node.inputs[0])[tied]).any():
            return f'they become constants other than 0 in front of {name}, which pads with zeros'
    return f'{name} reads channels that are tied to them and not constant'


def _scaled(name: str, program: Program) -> Optional[str]:
    """The parameter that the factor of a layer scales, as a variable of the folded program."""
    layer, _, kind = name.rpartition('.')
    stems = [name] + [layer] * (kind in KINDS)      # the second factor of a layer is called layer.kind
    names = [f'{stem}{dot}{suffix}' if stem else suffix for stem in stems for suffix in ('gamma', 'weight')
             for dot in '._']
    found = (program.variables.get(parameter) for parameter in names)
    return next((parameter for parameter in found if parameter in program.values), None)


def _structures(parameter: str, size: int, program: Program, reduced: Program) -> np.ndarray:
    """For each channel that is left of a parameter: the number of its structure."""
    width, axis = _width(parameter, program), _outputs(parameter, program)
    return reduced.kept_indices.get(parameter, {}).get(axis, np.arange(width)) // (width // size)


def _width(parameter: str, program: Program) -> int:
    """Number of channels that the layer of a parameter has, or writes."""
    return program.values[parameter].shape[_outputs(parameter, program)]


def _outputs(parameter: str, program: Program) -> int:
    """The axis of a parameter along which those channels are."""
    return int(_owner(program, parameter).op == 'Deconvolution')


def _left(parameter: str, size: int, program: Program, reduced: Program) -> np.ndarray:
    """(size,) booleans: the structures with a channel that remains, of those of the layer that has a parameter."""
    left = np.zeros(size, bool)
    if parameter in reduced.values:
        left[_structures(parameter, size, program, reduced)] = True
    return left


def _constant_branches(program: Program, reduced: Program) -> Set[str]:
    """Parameters of the branches that a constant has replaced: the constant still depends on their factors."""
    left = {node.name for node in reduced.nodes()}
    new = reduced.values.keys() - program.values.keys()
    stack = [node for node in program.nodes() if f'{node.name}_constant' in new]
    found: Set[str] = set()
    seen = set(stack)
    if not stack:
        return found
    channels = Channels(program)
    while stack:
        for entry in stack.pop().inputs:
            node = entry.node
            if node.is_variable:
                found.add(node.name)
            elif node not in seen and node.name not in left and (np.nan_to_num(channels.constant(entry)) != 0).any():
                stack.append(node)      # values that vary are outside the branch, zeros contribute nothing
                seen.add(node)
    return found


def _widths(program: Program) -> Dict[str, List[int]]:
    """{layer: [outputs, inputs]} of convolutions and dense layers, with the inputs of one group if there are groups."""
    shapes, widths = program.shapes(), {}
    for node in program.nodes():
        if node.op in ('Convolution', 'FullyConnected'):
            widths[node.name] = [int(n) for n in shapes[node.inputs[1]][:2]]
        elif node.op == 'Deconvolution':
            widths[node.name] = [int(n) for n in shapes[node.inputs[1]][1::-1]]
    return widths
