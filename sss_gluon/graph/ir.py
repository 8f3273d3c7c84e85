"""A network as data: nodes, edges and parameter values, read from and written to an MXNet Symbol."""
from __future__ import annotations

import ast
import json
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple, Union, cast

import mxnet as mx
import numpy as np

from ..errors import SSSError

Shape = Tuple[int, ...]


class Node:
    """One operator, or a variable if ``op`` is ``null``. Attributes are strings, as in MXNet's JSON."""
    __slots__ = ('op', 'name', 'attrs', 'inputs', 'extra')

    def __init__(self, op: str, name: str, attrs=None, inputs=(), extra=None):
        self.op, self.name, self.attrs, self.inputs = op, name, dict(attrs or {}), list(inputs)
        self.extra = extra or {}        # subgraphs of control-flow operators, which are copied untouched

    @property
    def is_variable(self) -> bool:
        return self.op == 'null'

    def get(self, key: str, default=None):
        """An attribute as a Python value: a number, bool, tuple, None or str."""
        text = self.attrs.get(key)
        return default if text is None else _parsed(text)

    @property
    def operator(self) -> str:
        """Its name in the tables of rules and counts: ``op``, or the ``op_type`` of an operator written in Python."""
        return self.attrs.get('op_type', self.op) if self.op == 'Custom' else self.op

    def __repr__(self):
        return f'{self.operator}({self.name})'


@lru_cache(maxsize=4096)
def _parsed(text: str):
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


class Entry(NamedTuple):
    """One output of a node."""
    node: Node
    output: int = 0


@dataclass
class Program:
    """A graph with the values of its parameters.

    Attributes
    ----------
    outputs : list of Entry
    values : dict of str to numpy.ndarray
        Values of all variables except the inputs, auxiliary states included.
    inputs : dict of str to tuple of int
        {name of an input: its shape}, in the order in which the network takes them; one input is called ``data``.
    variables : dict of str to str
        {structural name of a parameter, e.g. ``stage1.0.conv1.weight``: name of its variable}.
    kept_indices : dict of str to dict of int to numpy.ndarray
        For each parameter that was cut, {axis: the indices before the cut that remain}.
    origins : dict of str to Entry
        The result of ``fold`` that each of its new parameters holds, as an entry of the program before.
    """
    outputs: List[Entry]
    values: Dict[str, np.ndarray]
    inputs: Mapping[str, Shape]
    kept_indices: Dict[str, Dict[int, np.ndarray]] = field(default_factory=dict)
    variables: Dict[str, str] = field(default_factory=dict)
    origins: Dict[str, Entry] = field(default_factory=dict, repr=False, compare=False)
    _nodes: Optional[List[Node]] = field(default=None, repr=False, compare=False)
    _shapes: Optional[Dict[Entry, Shape]] = field(default=None, repr=False, compare=False)
    _spelling: Optional[Dict[str, str]] = field(default=None, repr=False, compare=False)

    @property
    def input_name(self) -> str:
        """Name of the only input."""
        if len(self.inputs) != 1:
            raise SSSError(f'this needs a network with one input, and the network has {", ".join(self.inputs)}')
        return next(iter(self.inputs))

    @property
    def input_shape(self) -> Shape:
        """Shape of the only input."""
        return self.inputs[self.input_name]

    def nodes(self) -> List[Node]:
        """All nodes that the outputs depend on, inputs before their users. Found once: graphs are not changed."""
        if self._nodes is not None:
            return self._nodes
        self._nodes = order = []
        seen = set()
        stack = [(entry.node, False) for entry in reversed(self.outputs)]
        while stack:
            node, expanded = stack.pop()
            if expanded:
                order.append(node)
            elif node not in seen:
                seen.add(node)
                stack.append((node, True))
                stack.extend((entry.node, False) for entry in reversed(node.inputs))
        return order

    def is_parameter(self, node: Node) -> bool:
        return node.is_variable and node.name not in self.inputs

    def is_input(self, node: Node) -> bool:
        return node.is_variable and node.name in self.inputs

    def spelled(self, name: str) -> str:
        """The structural name of a layer or parameter, 'stage1.0.conv1' of the node ``stage1_0_conv1``, or ``name``."""
        if self._spelling is None:
            parts = {(variable, structural) for structural, variable in self.variables.items()
                     if variable == structural.replace('.', '_')}
            layers = {structural.rpartition('.')[0] for _, structural in parts}
            self._spelling = {**{layer.replace('.', '_'): layer for layer in layers}, **dict(parts)}
        return self._spelling.get(name, name)

    def value(self, entry: Entry) -> np.ndarray:
        return self.values[entry.node.name]

    def consumers(self) -> Dict[Node, List[Tuple[Node, int]]]:
        """{node: (user, input position) pairs}."""
        users: Dict[Node, List[Tuple[Node, int]]] = {node: [] for node in self.nodes()}
        for node in users:
            for position, entry in enumerate(node.inputs):
                users[entry.node].append((node, position))
        return users

    def shapes(self) -> Dict[Entry, Shape]:
        """The shape of every entry, by MXNet's own inference."""
        if self._shapes is None:
            internals = self.symbol().get_internals()
            known = {**{name: value.shape for name, value in self.values.items()}, **self.inputs}
            names = set(internals.list_inputs())
            _, shapes, _ = internals.infer_shape(**{k: s for k, s in known.items() if k in names})
            by_name: Dict[str, List[Shape]] = {}
            for part, shape in zip(internals, shapes):
                by_name.setdefault(part.name, []).append(shape)
            self._shapes = {Entry(node, i): shape for node in self.nodes()
                            for i, shape in enumerate(by_name[node.name])}
        return self._shapes

    def output_shapes(self) -> List[Shape]:
        return [tuple(self.shapes()[entry]) for entry in self.outputs]

    def derived(self, outputs: List[Entry], values: Optional[Dict[str, np.ndarray]] = None,
                kept_indices: Optional[Dict[str, Dict[int, np.ndarray]]] = None) -> Program:
        """The program that computes ``outputs``, made from nodes of this one, with the values that they depend on."""
        program = Program(outputs, self.values if values is None else values, self.inputs,
                          self.kept_indices if kept_indices is None else kept_indices, self.variables, self.origins)
        program.values = program.used_values()
        return program

    def symbol(self) -> mx.sym.Symbol:
        """The graph as an MXNet Symbol."""
        return mx.sym.load_json(to_json(self.outputs))

    def used_values(self) -> Dict[str, np.ndarray]:
        """Values of the variables that the outputs depend on."""
        return {node.name: self.values[node.name] for node in self.nodes() if self.is_parameter(node)}

    def run(self, *batches: np.ndarray) -> List[np.ndarray]:
        """Outputs for a batch of each input, in float32 and inference mode on the CPU."""
        return evaluate(self.outputs, {**self.values, **dict(zip(self.inputs, batches))})


def evaluate(outputs: List[Entry], arrays: Mapping[str, np.ndarray]) -> List[np.ndarray]:
    """Values of entries, given those of the variables, in inference mode on the CPU."""
    return evaluator(outputs, arrays)({})


def evaluator(outputs: List[Entry], fixed: Mapping[str, np.ndarray]
              ) -> Callable[[Mapping[str, np.ndarray]], List[np.ndarray]]:
    """A function that computes entries from the variables that are not fixed, as ``evaluate`` does."""
    symbol = mx.sym.load_json(to_json(outputs))
    names = symbol.list_inputs()
    operator = mx.nd.CachedOp(symbol)       # bind rewrites the graph for oneDNN, wrongly at times, and logs it
    known = {name: to_ndarray(fixed[name]) for name in names if name in fixed}

    def run(arrays: Mapping[str, np.ndarray]) -> List[np.ndarray]:
        results = operator(*(known[name] if name in known else to_ndarray(arrays[name]) for name in names))
        return [result.asnumpy() for result in (results if isinstance(results, list) else [results])]

    return run


def to_ndarray(value: np.ndarray) -> mx.nd.NDArray:
    """An array of the same type on the CPU; ``mx.nd.array`` takes five times as long for small ones."""
    array = mx.nd.empty(value.shape, dtype=value.dtype)
    array._sync_copyfrom(value)
    return array


def to_json(outputs: List[Entry]) -> str:
    """MXNet's symbol JSON of everything that the outputs depend on."""
    nodes = Program(outputs, {}, {}).nodes()
    number = {node: i for i, node in enumerate(nodes)}

    def reference(entry):
        return [number[entry.node], entry.output, 0]

    rows = [dict(node.extra, op=node.op, name=node.name, inputs=[reference(entry) for entry in node.inputs],
                 **({'attrs': node.attrs} if node.attrs else {})) for node in nodes]
    return json.dumps({'nodes': rows, 'arg_nodes': [number[node] for node in nodes if node.is_variable],
                       'heads': [reference(entry) for entry in outputs],
                       'attrs': {'mxnet_version': ['int', 10901]}})


def from_symbol(symbol: mx.sym.Symbol) -> List[Entry]:
    """The outputs of a Symbol as entries of fresh nodes."""
    graph = json.loads(symbol.tojson(remove_amp_cast=False))    # True would leak the Symbol that MXNet makes
    nodes: List[Node] = []
    for row in graph['nodes']:
        inputs = [Entry(nodes[i], index) for i, index, *_ in row['inputs']]
        extra = {key: value for key, value in row.items() if key not in ('op', 'name', 'attrs', 'inputs')}
        nodes.append(Node(row['op'], row['name'], row.get('attrs'), inputs, extra))
    return [Entry(nodes[i], index) for i, index, *_ in graph['heads']]


def rewritten(outputs: List[Entry], replace: Callable[[Node, List[Optional[Entry]]], Union[Node, Dict[int, Entry]]]
              ) -> List[Entry]:
    """A copy of the graph in which each node is replaced by the result of ``replace(node, new_inputs)``.

    ``replace`` gets every node after its inputs. It returns a node, or {output index: entry} for the outputs that are
    still used. An input without a replacement is None.
    """
    done: Dict[Node, Union[Node, Dict[int, Entry]]] = {}

    def find(entry: Entry) -> Optional[Entry]:
        new = done[entry.node]
        return Entry(new, entry.output) if isinstance(new, Node) else new.get(entry.output)

    for node in Program(outputs, {}, {}).nodes():
        done[node] = replace(node, [find(entry) for entry in node.inputs])
    return cast(List[Entry], [find(entry) for entry in outputs])    # outputs are still used


def unique_names(taken: Iterable[str]) -> Callable[[str], str]:
    """A function that returns a name unchanged, or with a number if it is taken."""
    taken = set(taken)

    def claim(name: str) -> str:
        candidate, number = name, 1
        while candidate in taken:
            candidate, number = f'{name}_{number}', number + 1
        taken.add(candidate)
        return candidate

    return claim
