"""The inverse of ``fold`` after pruning: the weights and scaling factors of a smaller network, apart again."""
from __future__ import annotations

from typing import Dict, List

import mxnet as mx
import numpy as np

from ..errors import SSSError
from .fold import NO_GRADIENT
from .ir import Entry, Node, Program, evaluate, rewritten, to_json, unique_names

Cut = Dict[int, np.ndarray]     # {axis: the indices that remain}
Values = Dict[str, np.ndarray]


def unfold(reduced: Program, folded: Program, stand_ins: Values, program: Program) -> Program:
    """A pruned program whose parameters are computed as in ``program``, from ingredients that are cut to what remains.

    λ·W becomes the product of a cut λ and a cut W again, so that both can be trained.

    Parameters
    ----------
    reduced : Program
        What ``prune_graph`` made of ``folded``.
    folded : Program
        What ``fold`` made of ``program`` with ``stand_ins`` as its values.
    stand_ins : dict of str to numpy.ndarray
        Drawn at random; 0 only in the factors that are removed.
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
    names = [node.name for node in reduced.nodes() if node.name in folded.origins]
    cuts = _cuts(reduced, folded, stand_ins, names)
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
    _check(computed, {name: cut_to(stand_ins[name], cut) for name, cut in cuts.items()}, reduced)

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


def _check(computed: Dict[str, Entry], values: Values, reduced: Program) -> None:
    """Do the cut ingredients give the cut parameters?"""
    try:
        found = dict(zip(computed, evaluate(list(computed.values()), values) if computed else []))
    except mx.base.MXNetError:      # shapes that do not fit
        found = {}
    for name in computed:
        if name not in found or not np.array_equal(found[name], reduced.values[name]):
            raise SSSError(f'{name} is computed from its parameters in a way that does not allow them to be cut while '
                           f'the network trains; train without shrink')


def _cuts(reduced: Program, folded: Program, stand_ins: Values, names: List[str]) -> Dict[str, Cut]:
    """{parameter of the program before ``fold`` that is still used: its cut}."""
    cuts = {node.name: reduced.kept_indices.get(node.name, {}) for node in reduced.nodes()
            if reduced.is_parameter(node) and node.name not in folded.origins}
    for leaf, used in (_used(reduced, folded, stand_ins, names) if names else {}).items():
        lines = {axis: np.flatnonzero(np.moveaxis(used, axis, 0).reshape(size, -1).any(axis=1))
                 for axis, size in enumerate(used.shape)}
        cut = {axis: line for axis, line in lines.items() if 0 < line.size < used.shape[axis]}
        known = cuts.setdefault(leaf, cut)
        if known.keys() != cut.keys() or not all(np.array_equal(known[axis], cut[axis]) for axis in cut):
            raise SSSError(f'{leaf} is used in two ways that need different parts of it, which cannot be cut while the '
                           f'network trains; train without shrink')
    return cuts


def _used(reduced: Program, folded: Program, stand_ins: Values, names: List[str]) -> Dict[str, np.ndarray]:
    """{ingredient: booleans of its shape}: the entries on which what remains of the computed parameters depends.

    These are the entries with a gradient.
    """
    def replace(node: Node, inputs):
        return dict(enumerate(inputs)) if node.op in NO_GRADIENT else \
            Node(node.op, node.name, node.attrs, inputs, node.extra)

    symbol = mx.sym.load_json(to_json(rewritten([folded.origins[name] for name in names], replace)))
    leaves = {name: mx.nd.array(np.where(stand_ins[name] == 0, 1, stand_ins[name])) for name in symbol.list_inputs()}
    random = np.random.RandomState(0)
    heads = []
    for name in names:
        head, cut = np.zeros(folded.values[name].shape, 'float32'), reduced.kept_indices.get(name, {})
        index = np.ix_(*(cut.get(axis, np.arange(size)) for axis, size in enumerate(head.shape)))
        head[index] = random.uniform(0.5, 1.5, head[index].shape)
        heads.append(mx.nd.array(head))
    for leaf in leaves.values():
        leaf.attach_grad()
    with mx.autograd.record():
        results = mx.nd.CachedOp(symbol)(*leaves.values())
    mx.autograd.backward(results, heads if isinstance(results, list) else heads[0])
    return {name: leaf.grad.asnumpy() != 0 for name, leaf in leaves.items()}
