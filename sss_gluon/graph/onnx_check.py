"""Does ONNX Runtime compute what MXNet computes?"""
from __future__ import annotations

from typing import Container, Dict, List, Mapping, Sequence

import numpy as np

from ..errors import SSSError
from .ir import Entry, Program
from .onnx_runtime import open_onnx, open_session, packages
from .verify import TOLERANCE, is_jump


def onnx_difference(program: Program, model, run, batch: np.ndarray) -> float:
    """Largest difference between the outputs of MXNet and of ONNX Runtime, over the largest output.

    Where rounding is enough to make a result jump (of two boxes with nearly the same score, another one goes), it is
    the largest difference of what goes into such operators, of what each of them makes of the same inputs, and of what
    becomes of the same results.

    Parameters
    ----------
    program : Program
    model
        The program in ONNX.
    run : callable
        Computes its outputs.
    batch : numpy.ndarray

    Raises
    ------
    SSSError
        The difference is larger than rounding, or shapes differ.
    """
    expected, found = program.run(batch), run(batch)
    worst = _largest(expected, found)
    if not worst <= TOLERANCE and any(map(is_jump, program.nodes())):
        worst = _around_jumps(program, model, batch)
    if worst <= TOLERANCE:
        return worst
    said = f'differs by {worst:.1e} of the largest output, more than rounding ({TOLERANCE:.0e})'
    for a, b in zip(expected, found):
        if a.shape != b.shape:
            said = f'has outputs of shape {b.shape} instead of {a.shape}'
    raise SSSError(f'with a batch of {len(batch)} ONNX Runtime {said}; it first differs in '
                   f'{_first_wrong(program, model, batch)}; nothing was written')


def onnx_name(entry: Entry, made: Container[str]) -> str:
    """The name of a result in ONNX: that of the operator, which is followed by a number if it has several outputs."""
    return entry.node.name if entry.node.name in made and not entry.output else f'{entry.node.name}{entry.output}'


def _largest(expected: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> float:
    return max(map(_error, expected, found), default=0.0)


def _error(expected: np.ndarray, found: np.ndarray) -> float:
    if expected.shape != found.shape:
        return np.inf
    return float(np.abs(expected - found).max(initial=0) / max(np.abs(expected).max(initial=0), 1e-30))


def _made(model) -> set:
    return {name for node in model.graph.node for name in node.output}


def _around_jumps(program: Program, model, batch: np.ndarray) -> float:
    made, jumps = _made(model), {node for node in program.nodes() if is_jump(node)}
    results = [entry for entry in program.shapes() if entry.node in jumps and onnx_name(entry, made) in made]
    read = {node: [entry for entry in node.inputs if not program.is_parameter(entry.node)] for node in jumps}
    ends = [entry for entry in [*program.outputs, *(entry for entries in read.values() for entry in entries)]
            if entry.node not in jumps and not entry.node.is_variable]
    entries = list(dict.fromkeys([*results, *ends, *(entry for each in read.values() for entry in each)]))
    computed = dict(zip(entries, program.derived(entries).run(batch)))
    types = {info.name: info.type.tensor_type.elem_type
             for info in packages()[0].shape_inference.infer_shapes(model).graph.value_info}

    def compare(given: Sequence[Entry], wanted: Sequence[Entry]) -> float:
        arrays = {onnx_name(entry, made): computed[entry] for entry in given}
        arrays[program.input_name] = batch
        names = [onnx_name(entry, made) for entry in wanted]
        return _largest([computed[entry] for entry in wanted], _part(model, arrays, names, types))

    ends = list(dict.fromkeys(ends))
    return max([compare(results, ends), *(compare(
        [entry for entry in inputs if not entry.node.is_variable], [entry for entry in results if entry.node is node])
        for node, inputs in read.items())])


def _part(model, given: Mapping[str, np.ndarray], wanted: Sequence[str], types: Mapping[str, int]) -> List[np.ndarray]:
    """Results of a part of a model, computed from others; ``types`` are those of ONNX, which has more of integers."""
    onnx, _ = packages()
    maker = {name: number for number, node in enumerate(model.graph.node) for name in node.output}
    stack, needed = list(wanted), set()
    while stack:
        name = stack.pop()
        if name not in given and name in maker and maker[name] not in needed:
            needed.add(maker[name])
            stack.extend(model.graph.node[maker[name]].input)
    nodes = [model.graph.node[number] for number in sorted(needed)]
    read = {name for node in nodes for name in node.input}
    inputs, arrays = [], {}
    for name, array in given.items():
        if name in read:
            kind = types.get(name) or onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
            arrays[name] = array.astype(onnx.helper.tensor_dtype_to_np_dtype(kind))
            inputs.append(onnx.helper.make_tensor_value_info(name, kind, [None] * array.ndim))
    graph = onnx.helper.make_graph(nodes, 'part', inputs, list(map(onnx.helper.make_empty_tensor_value_info, wanted)),
                                   [value for value in model.graph.initializer if value.name in read])
    part = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return open_session(part.SerializeToString()).run(list(wanted), arrays)


def _first_wrong(program: Program, model, batch: np.ndarray) -> str:
    """The first operator whose result in ONNX Runtime is not that of MXNet."""
    onnx, _ = packages()
    made = _made(model)
    checked: Dict[str, Entry] = {onnx_name(entry, made): entry for entry in map(Entry, program.nodes())
                                 if not entry.node.is_variable}
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in checked)
    entries = list(checked.values())
    for entry, expected, found in zip(entries, program.derived(entries).run(batch),
                                      open_onnx(model.SerializeToString())(batch)):
        if not _error(expected, found) <= TOLERANCE:
            return str(entry.node)
    return 'its outputs'
