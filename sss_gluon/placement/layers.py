"""The layers of a traced network: which block owns the parameters of a node, and can it carry a factor?"""
from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Set, Tuple, Union

import numpy as np
from mxnet import gluon

from ..factors import Scaled
from ..graph.ir import Entry, Node, Program
from ..graph.rules import BatchNorm, Linear
from ..graph.trace import structural_names

SLOTS = {BatchNorm: ('gamma', 'beta'), Linear: ('weight', 'bias')}      # inputs 1 and 2 of the node


class Carrier(NamedTuple):
    """A node whose parameters a factor can be multiplied into.

    Attributes
    ----------
    node : Node
        Of the folded program.
    layer : str
        Structural name of the layer.
    block : mxnet.gluon.HybridBlock
        The layer, or the ``SymbolBlock`` that it is a part of.
    names : tuple of str
        The attributes of the block that hold the parameters.
    variables : tuple of str
        Their variables in the folded program.
    """
    node: Node
    layer: str
    block: gluon.HybridBlock
    names: Tuple[str, ...]
    variables: Tuple[str, ...]

    def kinds(self) -> Dict[str, int]:
        """{kind: number} of the factors that it has already; 0 where the first batch tells the number."""
        folds = self.block.folds.items() if isinstance(self.block, Scaled) else ()
        return {fold.kind: self.block._reg_params[attribute].shape[0] for attribute, fold in folds
                if set(fold.names) & set(self.names)}


class Layers:
    """Finds the carrier of a node.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
    traced, folded : Program
        The network before and after ``fold``.
    rules : dict of Node to Rule
        Of the folded program.
    fixed : set of str
        Names of the BatchNorms whose gamma is fixed at 1.
    """

    def __init__(self, net: gluon.HybridBlock, traced: Program, folded: Program, rules, fixed: Set[str]):
        self.folded, self.rules, self.fixed = folded, rules, fixed
        self._users, self._traced_users = folded.consumers(), traced.consumers()
        self._traced = {node.name: node for node in self._traced_users}
        self._owners: Dict[str, List[Tuple[str, gluon.Block, str]]] = {}
        self._factors: Set[str] = set()
        structural = structural_names(net)

        def visit(block, path, seen):
            if id(block) in seen:
                return
            seen.add(id(block))
            for name, parameter in getattr(block, '_reg_params', {}).items():
                variable = traced.variables.get(structural.get(parameter.name, ''))
                if variable and name in (block.folds if isinstance(block, Scaled) else ()):
                    self._factors.add(variable)
                elif variable:
                    self._owners.setdefault(variable, []).append((_layer(block, path, parameter.name), block, name))
            for name, child in block._children.items():
                visit(child, path + (name,), seen)
        visit(net, (), set())

    def name(self, node: Node) -> str:
        """The structural name of a layer, or that of the node if no layer owns its parameters."""
        base = self._base(node.inputs[1]) if len(node.inputs) > 1 else None
        owners = self._owners.get(base or '', ())
        return owners[0][0] if owners and owners[0][0] else node.name

    def carrier(self, node: Node) -> Union[Carrier, str]:
        """The carrier of a convolution, dense layer or BatchNorm; or why it cannot carry a factor."""
        rule = self.rules[node]
        slots = next((slots for kind, slots in SLOTS.items() if isinstance(rule, kind)), None)
        if slots is None:
            shared = any(len(self._users[entry.node]) > 1 for entry in node.inputs[1:])
            whole = shared or all(self.folded.is_parameter(entry.node) for entry in node.inputs[1:])
            return 'its parameters are used more than once' if shared else 'its input has no channels along axis 1' \
                if whole else 'its weight is not a parameter'
        if isinstance(rule, Linear) and rule.kind == 'deconv':     # oneDNN fails on the gradient of the product
            return 'MXNet cannot train a transposed convolution whose weight is a product; a BatchNorm behind it can'
        names, variables, owners = [], [], []
        for slot, entry in zip(slots, node.inputs[1:]):
            base = self._base(entry)
            if base is None or len(self._users[entry.node]) > 1 or len(self._traced_users[self._traced[base]]) > 1 \
                    or len(self._owners.get(base, ())) != 1:
                return f'its {slot} is computed, or used more than once'
            owner = self._owners[base][0]
            owners.append(owner)
            names.append(owner[2])
            variables.append(entry.node.name)
        layer, block, _ = owners[0]
        if any(owner[1] is not block for owner in owners):
            return 'its parameters belong to several layers'
        if type(block).forward not in (gluon.HybridBlock.forward, gluon.SymbolBlock.forward):
            return 'it computes in forward, not in hybrid_forward'
        if node.name in self.fixed and not isinstance(block, gluon.SymbolBlock) \
                and 'fix_gamma' not in getattr(block, '_kwargs', {}):
            return 'it has no gamma to multiply (fix_gamma)'
        return Carrier(node, layer, block, tuple(names), tuple(variables))

    def _base(self, entry: Entry) -> Optional[str]:
        """The variable, before ``fold``, of which a parameter is a multiple."""
        name = entry.node.name
        if name not in self.folded.origins:
            return name if entry.node.is_variable else None
        made_of = Program([self.folded.origins[name]], {}, {}).nodes()
        bases = [node.name for node in made_of if node.is_variable and node.name not in self._factors]
        multiplied = any(node.name in self._factors for node in made_of)
        return bases[0] if len(bases) == 1 and multiplied else None


def _layer(block, path: Tuple[str, ...], parameter: str) -> str:
    """Structural name of the layer that owns a parameter; in a SymbolBlock, the name of the parameter tells."""
    if isinstance(block, gluon.SymbolBlock):
        path += (parameter.rpartition('_')[0] or parameter,)
    return '.'.join(path)


def zeroed(values: Dict[str, np.ndarray], carrier: Carrier, size: int) -> None:
    """Set the first of ``size`` structures that a carrier scales to zero, in a dictionary of parameter values."""
    for name in carrier.variables:
        values[name] = values[name].copy()
        values[name][:len(values[name]) // size] = 0
