"""Concatenations that train: MXNet 1.9.1 on the CPU needs a layer behind those of odd widths."""
from __future__ import annotations

from .ir import Entry, Node, Program, rewritten, unique_names

BLOCK = 8       # channels that the smallest of oneDNN's blocked layouts keeps together


def guard_concats(program: Program) -> Program:
    """The same function, with a slice that takes everything behind each concatenation of odd widths.

    When the gradient of a concatenation arrives in a blocked layout, oneDNN cannot cut it between the blocks: the
    process ends with a floating point exception, or "could not construct a sub-memory". The slice asks for the plain
    layout.
    """
    shapes, claim = program.shapes(), unique_names({node.name for node in program.nodes()})

    def replace(node: Node, inputs):
        copy = Node(node.op, node.name, node.attrs, inputs, node.extra)
        if node.op in ('Concat', 'concat') and len(shapes[Entry(node)]) > 2 and node.get('dim', 1) == 1 \
                and any(shapes[entry][1] % BLOCK for entry in node.inputs):
            whole = {'axis': '1', 'begin': '0', 'end': 'None'}
            return {0: Entry(Node('slice_axis', claim(f'{node.name}_whole'), whole, [Entry(copy)]))}
        return copy

    return program.derived(rewritten(program.outputs, replace))


def is_whole_slice(node: Node) -> bool:
    """Does a node take all of its input, as those of ``guard_concats``?"""
    return node.op == 'slice_axis' and node.get('begin') == 0 and node.get('end') is None
