"""Concatenations that train: MXNet 1.9.1 on the CPU needs a slice behind those of odd widths."""
from __future__ import annotations

from .ir import Entry, Node, Program, rewritten, unique_names

CONCAT = ('Concat', 'concat')
BLOCK = 8       # channels in a block of the smallest of oneDNN's blocked layouts


def guard_concats(program: Program) -> Program:
    """The same function, with a slice over the whole width behind each concatenation of odd widths.

    If the gradient of a concatenation arrives in a blocked layout, oneDNN cannot cut it inside a block: the process
    ends with a floating point exception, or "could not construct a sub-memory". The slice asks for the plain layout.
    """
    nodes = program.nodes()
    if not any(node.op in CONCAT for node in nodes):
        return program
    shapes, claim = program.shapes(), unique_names({node.name for node in nodes})

    def replace(node: Node, inputs):
        copy = Node(node.op, node.name, node.attrs, inputs, node.extra)
        if node.op in CONCAT and len(shapes[Entry(node)]) > 2 and node.get('dim', 1) == 1 \
                and any(shapes[entry][1] % BLOCK for entry in node.inputs):
            whole = {'axis': '1', 'begin': '0', 'end': 'None'}
            return {0: Entry(Node('slice_axis', claim(f'{node.name}_whole'), whole, [Entry(copy)]))}
        return copy

    return program.derived(rewritten(program.outputs, replace))


def is_whole_slice(node: Node) -> bool:
    """Is a node a slice over the whole width, as ``guard_concats`` adds them?"""
    return node.op == 'slice_axis' and node.get('begin') == 0 and node.get('end') is None
