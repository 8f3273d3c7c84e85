"""A Program as an ONNX file, written by MXNet's exporter and checked with ONNX Runtime."""
from __future__ import annotations

import io
import warnings
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Callable, Dict, Iterator, Optional, Tuple, Union

import numpy as np

from ..errors import SSSError, reason
from ..files import atomic_write
from .ir import Entry, Node, Program, unique_names
from .onnx_check import onnx_difference, onnx_name
from .onnx_operators import translations
from .onnx_runtime import open_onnx, packages
from .selection import along_channels

OPSET = 13              # the newest one that MXNet 1.9.1 translates to
IR_VERSION = 8          # as old as that opset, for older runtimes
BATCHES = (1, 3, 8)     # batch sizes that the file is checked with


def write_onnx(program: Program, path: Union[str, Path], images: Optional[np.ndarray] = None,
               name: str = 'sss_gluon', metadata: Optional[Dict[str, str]] = None) -> float:
    """Write an ONNX file, and check that ONNX Runtime computes the same outputs from it.

    Parameters
    ----------
    program : Program
        Preferably from ``for_inference``.
    path : path
        The file appears only if all checks pass.
    images : numpy.ndarray, optional
        float32, (N, ...), to compare the outputs on; default normal random numbers.
    name : str
        Name of the graph.
    metadata : dict of str to str, optional
        Key-value pairs stored in the file, e.g. how images are normalised.

    Returns
    -------
    float
        Largest difference to MXNet over the largest output, at batch sizes 1, 3 and 8.

    Raises
    ------
    SSSError
        onnx or onnxruntime is not installed; an operator has no translation; the outputs differ by more than
        rounding (1e-4 of the largest).

    Notes
    -----
    The batch dimension of inputs and outputs is the symbol ``N``. Parameters are initializers and not inputs, so that
    ONNX Runtime treats them as constants, and folds and fuses them.
    """
    onnx, _ = packages()
    if images is None:
        images = np.random.RandomState(0).standard_normal((max(BATCHES),) + tuple(program.input_shape[1:]))
    images = np.resize(images.astype('float32'), (max(BATCHES),) + images.shape[1:])
    program = _translatable(program)
    model = to_onnx(program, name, metadata)
    with atomic_write(path) as temporary:
        onnx.save_model(model, temporary)
        try:
            onnx.checker.check_model(temporary, full_check=True)
            run = open_onnx(temporary)
            return max(onnx_difference(program, model, run, images[:size]) for size in BATCHES)
        except SSSError:
            raise
        except Exception as error:      # onnx and ONNX Runtime have their own exceptions
            raise SSSError(f'the exported network is not valid ONNX ({_line(error)}); nothing was written') from error


def to_onnx(program: Program, name: str = 'sss_gluon', metadata: Optional[Dict[str, str]] = None):
    """The model that ``write_onnx`` writes, not checked: an ``onnx.ModelProto``."""
    onnx, _ = packages()
    with _quiet(onnx):
        model = _model(onnx, _translatable(program), name)
    onnx.helper.set_model_props(model, metadata or {})
    return model


def _translatable(program: Program) -> Program:
    return along_channels(_separate(program))      # one Gather for a selection


def _model(onnx, program: Program, name: str):
    from mxnet.onnx.mx2onnx._export_onnx import MXNetGraph  # export_model cannot choose the opset

    symbol, values, targets = program.symbol(), program.used_values(), _targets(program)
    shapes = {**{key: value.shape for key, value in values.items()}, program.input_name: program.input_shape}
    names = symbol.list_inputs()
    types = [onnx.helper.np_dtype_to_tensor_dtype(values[key].dtype) if key in values else onnx.TensorProto.FLOAT
             for key in names]
    try:    # parameters as inputs, because values would become Python lists: 140 million numbers in VGG-16
        with _registered(MXNetGraph, lambda known: translations(onnx, program, targets, known)):
            graph = MXNetGraph().create_onnx_graph_proto(symbol, {}, [shapes[key] for key in names], types,
                                                         opset_version=OPSET, dynamic=False)
    except onnx.checker.ValidationError as error:
        raise SSSError(f'MXNet cannot translate this network to ONNX: {_line(error)}') from error
    graph.name = name
    graph.initializer.extend(onnx.numpy_helper.from_array(value, key) for key, value in values.items())
    inputs = [given for given in graph.input if given.name == program.input_name]
    del graph.input[:]
    graph.input.extend(inputs)
    found = {given.name: given for given in graph.output}
    outputs = [found[onnx_name(entry, found)] for entry in program.outputs]
    del graph.output[:]     # the exporter orders them as its nodes
    graph.output.extend(outputs)
    _mark_batch(graph.input[0], (-1, *program.input_shape[1:]), program.input_shape)
    for given, entry in zip(graph.output, program.outputs):
        _mark_batch(given, targets[entry], program.input_shape)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid('', OPSET)], ir_version=IR_VERSION,
                                  producer_name='sss_gluon')


def _separate(program: Program) -> Program:
    """Copy outputs that are an input or occur twice, because names of outputs are unique in ONNX."""
    claim, seen, outputs = unique_names({node.name for node in program.nodes()}), set(), []
    for entry in program.outputs:
        if entry in seen or entry.node.is_variable:
            entry = Entry(Node('_copy', claim('copy'), {}, [entry]))
        seen.add(entry)
        outputs.append(entry)
    return program.derived(outputs)


def _targets(program: Program) -> Dict[Entry, Tuple[int, ...]]:
    """The shape of every entry, with -1 for the sizes that depend on the batch size."""
    size, *rest = program.input_shape
    try:
        larger = replace(program, inputs={program.input_name: (2 * size, *rest)}, _shapes=None).shapes()
    except Exception as error:      # MXNetError, and Exception itself for more than 2^31 elements
        raise SSSError(f'an ONNX file takes any batch size, but this network takes {size} and not {2 * size}: '
                       f'{reason(error)}') from error
    return {entry: tuple(a if a == b else -1 for a, b in zip(shape, larger[entry]))
            for entry, shape in program.shapes().items()}


def _mark_batch(given, target: Tuple[int, ...], input_shape: Tuple[int, ...]) -> None:
    """Name the sizes that are the batch size ``N``, and leave open those that only depend on it."""
    for size, wanted in zip(given.type.tensor_type.shape.dim, target):
        if wanted == -1 and size.dim_value == input_shape[0]:
            size.dim_param = 'N'
        elif wanted == -1:
            size.Clear()


@contextmanager
def _registered(exporter, translated: Callable[[Dict[str, Callable]], Dict[str, Callable]]) -> Iterator[None]:
    """Replace the functions of MXNet's exporter, which takes that of the newest opset that has one."""
    before = exporter.registry_
    known = {op: function for opset in sorted(before) if opset <= OPSET for op, function in before[opset].items()}
    exporter.registry_ = {OPSET: translated(known)}
    try:
        yield
    finally:
        exporter.registry_ = before


def _line(error: Exception) -> str:
    return ' '.join(str(error).split())[:200]


@contextmanager
def _quiet(onnx) -> Iterator[None]:
    """MXNet's exporter uses names that onnx deprecates, and checks its graph against the newest opset."""
    context = onnx.checker.DEFAULT_CONTEXT
    before = dict(context.opset_imports)
    context.opset_imports = {'': OPSET}
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter('ignore')
            yield
    finally:
        context.opset_imports = before
