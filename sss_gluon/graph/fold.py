"""Evaluate all that depends on parameters alone, so that scaling factors disappear into plain weights."""
from __future__ import annotations

from .ir import Entry, Node, Program, evaluate, rewritten, unique_names

# Operators whose result does not depend on their inputs alone: they train, or draw random numbers.
NOT_CONSTANT = ('Dropout', 'BatchNorm', 'random', 'sample', 'shuffle', 'Custom')
NO_GRADIENT = ('BlockGrad', 'stop_gradient', 'zeros_like', 'ones_like')


def fold(program: Program) -> Program:
    """Replace every subgraph that depends on parameters alone by one parameter with its value.

    Operators without inputs (``arange``, ``zeros``) stay operators, because a parameter would train. The new parameter
    takes its name, multipliers and initializer from the first parameter of the same shape in the subgraph: λ·W is
    called ``..._weight`` again.
    """
    nodes = program.nodes()
    constant, folded = set(), set()     # folded: the constant nodes that depend on a parameter
    for node in nodes:
        if program.is_parameter(node):
            constant.add(node)
            folded.add(node)
        elif not node.is_variable and not any(word in node.op for word in NOT_CONSTANT) \
                and all(entry.node in constant for entry in node.inputs):
            constant.add(node)
            if any(entry.node in folded for entry in node.inputs):
                folded.add(node)
    frontier = []       # results of constant operators that other operators use
    for user in nodes:
        if user not in constant:
            frontier += [entry for entry in user.inputs if entry.node in folded and not entry.node.is_variable]
    frontier += [entry for entry in program.outputs if entry.node in folded and not entry.node.is_variable]
    frontier = list(dict.fromkeys(frontier))
    if not frontier:
        return program
    folded_values = evaluate(frontier, program.values)

    live = {node.name for node in nodes if node not in constant}
    live |= {entry.node.name for user in nodes if user not in constant for entry in user.inputs
             if entry.node.is_variable}
    claim = unique_names(live)
    values, replacement, same, origins = dict(program.values), {}, {}, {}
    numbers = _numbered(nodes, folded)
    for entry, value in zip(frontier, folded_values):
        computation = numbers[entry.node], entry.output
        if computation not in same:     # a layer that is called twice computes λ·W twice
            source = _source(program, entry, value.shape)
            name = claim(source.name if source else entry.node.name)
            attrs = dict(source.attrs if source else {}, __shape__=str(value.shape))
            if any(node.op in NO_GRADIENT for node in Program([entry], {}, {}).nodes()):
                attrs['__grad_req__'] = 'null'
            same[computation] = Node('null', name, attrs)
            values[name], origins[name] = value, entry
        replacement[entry] = same[computation]

    def replace(node, inputs):
        if node in folded and not node.is_variable:
            return {i: Entry(new) for (origin, i), new in replacement.items() if origin is node}
        return Node(node.op, node.name, node.attrs, inputs, node.extra)

    result = program.derived(rewritten(program.outputs, replace), values)
    result.origins = origins
    return result


def _numbered(nodes, folded):
    """{node: number}; nodes that compute the same from the same parameters have the same number."""
    numbers, known = {}, {}
    for node in nodes:
        if node.is_variable or node not in folded:
            key = id(node)
        else:
            key = (node.op, tuple(sorted(node.attrs.items())), tuple((numbers[e.node], e.output) for e in node.inputs))
        numbers[node] = known.setdefault(key, len(known))
    return numbers


def _source(program, entry, shape):
    for node in Program([entry], {}, {}).nodes():
        if node.is_variable and program.values[node.name].shape == shape:
            return node
    return None
