"""Factors put in place: on Gluon layers, and into the graph of a SymbolBlock."""
from __future__ import annotations

from typing import Dict, List, Optional, Sequence

import mxnet as mx
from mxnet import gluon

from ..factors import Fold, multiplied, scale_layer, scaled_class
from ..graph.ir import Node, Program, from_symbol, rewritten, to_json
from ..graph.trace import structural_names
from .plan import Placement


def attach(net: gluon.HybridBlock, traced: Program, placements: List[Placement]) -> None:
    """Add the factors of a plan to a network in place."""
    _set_shapes(net, traced, placements)
    for placement in placements:
        shared: Optional[gluon.Parameter] = None
        for carrier in placement.carriers:
            put = _scale_symbols if isinstance(carrier.block, gluon.SymbolBlock) else scale_layer
            shared = put(carrier.block, placement.kind, placement.size, carrier.names, shared)
    net.apply(lambda block: block._clear_cached_op() if isinstance(block, gluon.HybridBlock) else None)


def _set_shapes(net: gluon.HybridBlock, traced: Program, placements: List[Placement]) -> None:
    """Tell the parameters that are multiplied their shapes, which are not inferred through a product."""
    structural = structural_names(net)
    for placement in placements:
        for carrier in placement.carriers:
            for parameter in carrier.block._reg_params.values():
                variable = traced.variables.get(structural.get(parameter.name, ''))
                if variable:
                    parameter.shape = traced.values[variable].shape


def _scale_symbols(block: gluon.SymbolBlock, kind: str, size: int, names: Sequence[str],
                   shared: Optional[gluon.Parameter] = None) -> gluon.Parameter:
    """``scale_layer`` for a part of a SymbolBlock: its graph is rewritten."""
    parameters = {name: block._reg_params[name] for name in names}
    first = next(iter(parameters.values()))
    block.__class__ = scaled_class(type(block))
    stem = first.name.rpartition('_')[0]
    name = f'{stem}_factor' if stem else 'factor'
    if name in block._reg_params:
        name = f'{stem}_{kind}_factor'
    if shared is None:
        shared = block.params.get(name, shape=(size,), init='ones', wd_mult=0.0)
        try:
            shared.initialize(ctx=first.list_ctx())
        except RuntimeError:        # it waits for net.initialize()
            pass
    else:
        block.params.update({shared.name: shared})
    block._reg_params[name] = shared
    block.folds = dict(getattr(block, 'folds', {}), **{name: Fold(kind, tuple(names))})
    inputs, symbol = block._cached_graph
    block._cached_graph = inputs, _multiplied(symbol, parameters, shared)
    return shared


def _multiplied(symbol: mx.sym.Symbol, parameters: Dict[str, gluon.Parameter], factor: gluon.Parameter
                ) -> mx.sym.Symbol:
    """The graph with a factor multiplied into some of its variables."""
    outputs = from_symbol(symbol)
    nodes = Program(outputs, {}, {}).nodes()
    variables = {node.name: node for node in nodes if node.is_variable}
    names = {parameter.name: name for name, parameter in parameters.items()}
    fixed = {node: names[node.inputs[1].node.name] for node in nodes if 'BatchNorm' in node.op
             and node.get('fix_gamma', True) and node.inputs[1].node.name in names}
    results = multiplied(mx.sym, {name: mx.sym.var(p.name) for name, p in parameters.items()},
                         dict(parameters, factor=factor), {'factor': (mx.sym.var(factor.name), tuple(parameters))},
                         tuple(fixed.values()))
    shapes = {parameter.name: parameter.shape for parameter in (factor, *parameters.values())}

    def leaf(node: Node, entries) -> Node:
        if not node.is_variable:
            return Node(node.op, node.name, node.attrs, entries, node.extra)
        made = variables.setdefault(node.name, Node('null', node.name, {'__wd_mult__': '0.0'}))
        made.attrs['__shape__'] = str(shapes[node.name])
        return made
    made = rewritten(from_symbol(mx.sym.Group(list(results.values()))), leaf)
    products = {variables[parameters[name].name]: entry for name, entry in zip(results, made)}

    def replace(node: Node, entries):
        if node in products:
            return {0: products[node]}
        attrs = dict(node.attrs, fix_gamma='False') if node in fixed else node.attrs
        return node if node.is_variable else Node(node.op, node.name, attrs, entries, node.extra)
    return mx.sym.load_json(to_json(rewritten(outputs, replace)))
