"""The inverse of ``fold`` after pruning: the weights and scaling factors of a smaller network, apart again."""
from __future__ import annotations

from typing import Dict, List

import numpy as np

from ..errors import SSSError
from .fold import fold
from .ir import Entry, Node, Program, evaluate, rewritten, unique_names

Cut = Dict[int, np.ndarray]     # {axis: the indices that remain}


def unfold(reduced: Program, program: Program) -> Program:
    """A pruned program whose parameters are computed as in ``program``, from ingredients that are cut to what remains.

    λ·W becomes the product of a cut λ and a cut W again, so that both can be trained.

    Parameters
    ----------
    reduced : Program
        What ``prune_graph`` made of ``fold(program)``, whatever the values were.
    program : Program

    Returns
    -------
    Program
        With the values of ``program``; ``kept_indices`` holds their cuts.

    Raises
    ------
    SSSError
        A parameter is computed in a way that cutting its ingredients does not preserve, such as a weight that is
        divided by its norm.
    """
    folded = fold(program)
    names = [node.name for node in reduced.nodes() if node.name in folded.origins]
    cuts = _cuts(reduced, folded, program, names)
    values = {name: cut_to(program.values[name], cut) for name, cut in cuts.items()}
    variables = {node.name: node for node in program.nodes() if node.is_variable}
    leaves = {name: Node('null', name, dict(variables[name].attrs, __shape__=str(value.shape)))
              for name, value in values.items()}
    claim = unique_names({node.name for node in reduced.nodes()} | leaves.keys())
    copies: Dict[Node, Node] = {}

    def copy(entry: Entry) -> Entry:
        node = entry.node
        if node.name not in leaves and node not in copies:
            copies[node] = Node(node.op, claim(node.name), node.attrs, [copy(e) for e in node.inputs], node.extra)
        return Entry(leaves[node.name] if node.is_variable else copies[node], entry.output)

    computed = {name: copy(folded.origins[name]) for name in names}
    for name, value in zip(computed, evaluate(list(computed.values()), values) if computed else ()):
        if not np.array_equal(value, cut_to(folded.values[name], reduced.kept_indices.get(name, {}))):
            raise SSSError(f'{name} is computed from its parameters in a way that does not allow them to be cut while '
                           f'the network trains; train without shrink')

    def replace(node: Node, inputs):
        if node.is_variable:
            return {0: computed[node.name]} if node.name in computed else leaves.get(node.name, node)
        return Node(node.op, node.name, node.attrs, inputs, node.extra)

    return program.derived(rewritten(reduced.outputs, replace), values, cuts)


def cut_to(value: np.ndarray, cut: Cut) -> np.ndarray:
    """The entries of an array that remain."""
    for axis, indices in cut.items():
        value = np.take(value, indices, axis=axis)
    return value


def _cuts(reduced: Program, folded: Program, program: Program, names: List[str]) -> Dict[str, Cut]:
    """{parameter of ``program`` that is still used: its cut}."""
    cuts: Dict[str, Cut] = {}

    def add(leaf: str, cut: Cut) -> None:
        known = cuts.setdefault(leaf, cut)
        if known.keys() != cut.keys() or not all(np.array_equal(known[axis], cut[axis]) for axis in cut):
            raise SSSError(f'{leaf} is used in two ways that need different parts of it, which cannot be cut while the '
                           f'network trains; train without shrink')

    for node in reduced.nodes():
        if program.is_parameter(node) and node.name not in folded.origins:
            add(node.name, reduced.kept_indices.get(node.name, {}))
    vectors: Dict[str, List[str]] = {}      # {computed parameter: ingredients with one value for each channel or group}
    for name in names:
        cut = reduced.kept_indices.get(name, {})
        for node in Program([folded.origins[name]], {}, ()).nodes():
            if not program.is_parameter(node):
                continue
            size = program.values[node.name].shape
            if size == folded.values[name].shape:
                add(node.name, cut)
            elif 0 in cut and np.prod(size) > 1:
                vectors.setdefault(name, []).append(node.name)
            else:
                add(node.name, {})
    if vectors:     # computed from numbered entries, the channels that remain show which entries they need
        numbered = {leaf for leaves in vectors.values() for leaf in leaves}
        tags = {leaf: np.arange(value.size, dtype='float32').reshape(value.shape) if leaf in numbered
                else np.ones_like(value) for leaf, value in program.values.items()}
        for (name, leaves), value in zip(vectors.items(), evaluate([folded.origins[name] for name in vectors], tags)):
            needed = np.unique(value[reduced.kept_indices[name][0]]).astype(int)
            for leaf in leaves:
                add(leaf, {0: needed} if needed.size < program.values[leaf].size else {})
    return cuts
