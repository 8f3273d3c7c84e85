"""A Program as an ONNX file, written by MXNet's exporter and checked with ONNX Runtime."""
from __future__ import annotations

import os
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Union

import numpy as np

from ..errors import SSSError
from ..files import atomic_write
from .ir import Entry, Node, Program, rewritten, unique_names
from .prune import TOLERANCE
from .selection import along_channels, selects

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
    with _quiet(onnx), atomic_write(path) as temporary:
        model = _model(onnx, program, name)
        onnx.helper.set_model_props(model, metadata or {})
        onnx.save_model(model, temporary)
        try:
            onnx.checker.check_model(temporary, full_check=True)
            run = open_onnx(temporary)
            return max(_difference(program, run, images[:size]) for size in BATCHES)
        except SSSError:
            raise
        except Exception as error:      # onnx and ONNX Runtime have their own exceptions
            raise SSSError(f'the exported network is not valid ONNX ({_line(error)}); nothing was written') from error


def open_onnx(path: Union[str, Path]) -> Callable[[np.ndarray], List[np.ndarray]]:
    """A function that computes the outputs of an ONNX file for a batch, with ONNX Runtime on the CPU.

    Like MXNet, it uses ``OMP_NUM_THREADS`` threads.
    """
    _, runtime = packages()
    options = runtime.SessionOptions()
    threads = os.environ.get('OMP_NUM_THREADS', '').split(',')[0]
    options.intra_op_num_threads = int(threads) if threads.isdigit() else 0
    options.log_severity_level = 3
    session = runtime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
    data, = (given.name for given in session.get_inputs())
    return lambda batch: session.run(None, {data: batch})


def packages():
    """The modules onnx and onnxruntime; without them, an error that says how to install them."""
    try:
        import onnx
        import onnx.checker
        import onnx.helper
        import onnx.numpy_helper
        import onnxruntime
    except ImportError as error:
        raise SSSError('ONNX needs the packages onnx and onnxruntime: '
                       f'pip install "onnx<=1.16.2" onnxruntime ({error})') from error
    return onnx, onnxruntime


def _model(onnx, program: Program, name: str):
    from mxnet.onnx.mx2onnx._export_onnx import MXNetGraph  # export_model cannot choose the opset

    program = _explicit(program)
    symbol, values = program.symbol(), program.used_values()
    shapes = {**{key: value.shape for key, value in values.items()}, program.input_name: program.input_shape}
    names = symbol.list_inputs()
    types = [onnx.helper.np_dtype_to_tensor_dtype(values[key].dtype) if key in values else onnx.TensorProto.FLOAT
             for key in names]
    try:    # parameters as inputs, because values would become Python lists: 140 million numbers in VGG-16
        graph = MXNetGraph().create_onnx_graph_proto(symbol, {}, [shapes[key] for key in names], types,
                                                     opset_version=OPSET, dynamic=False)
    except (AttributeError, NotImplementedError, ValueError, KeyError, onnx.checker.ValidationError) as error:
        raise SSSError(f'MXNet cannot translate this network to ONNX: {_line(error)}') from error
    graph.name = name
    graph.initializer.extend(onnx.numpy_helper.from_array(value, key) for key, value in values.items())
    inputs = [given for given in graph.input if given.name == program.input_name]
    del graph.input[:]
    graph.input.extend(inputs)
    outputs = _in_order(program, {given.name: given for given in graph.output})
    del graph.output[:]
    graph.output.extend(outputs)
    for given in [*graph.input, *graph.output]:
        for batch in given.type.tensor_type.shape.dim[:1]:
            batch.dim_param = 'N'
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid('', OPSET)], ir_version=IR_VERSION,
                                  producer_name='sss_gluon')


def _explicit(program: Program) -> Program:
    """Write what MXNet's exporter gets wrong, or writes in more operators than it takes.

    It ignores a BatchNorm's ``fix_gamma`` and does not understand a negative axis. A selection of channels is one
    Gather if its indices need not be clipped.
    """
    program = along_channels(program)
    values = dict(program.values)
    claim = unique_names({node.name for node in program.nodes()} | values.keys())

    def replace(node: Node, inputs):
        attrs = dict(node.attrs)
        if node.op == 'BatchNorm':
            attrs['axis'] = str(node.get('axis', 1) % len(program.shapes()[Entry(node)]))
            if node.get('fix_gamma', True):
                gamma = claim(f'{node.name}_ones')
                values[gamma] = np.ones_like(program.value(node.inputs[2]))     # shaped like beta
                inputs[1] = Entry(Node('null', gamma))
                attrs['fix_gamma'] = 'False'
        if selects(program, node, axis=1) \
                and 0 <= program.value(node.inputs[1]).min() <= program.value(node.inputs[1]).max() \
                < program.shapes()[node.inputs[0]][1]:
            attrs['mode'] = 'raise'
        return Node(node.op, node.name, attrs, inputs, node.extra)

    return program.derived(rewritten(program.outputs, replace), values)


def _in_order(program: Program, found: Dict[str, object]) -> list:
    """The outputs in the order of the network; the exporter orders them as its nodes."""
    names = [name if name in found else node.name
             for name, node in ((f'{node.name}{index}', node) for node, index in program.outputs)]
    if not found.keys() >= set(names) or len(set(names)) < len(names):
        raise SSSError('MXNet cannot translate this network to ONNX: an output is an input, or occurs twice')
    return [found[name] for name in names]


def _difference(program: Program, run, batch: np.ndarray) -> float:
    worst, where = 0.0, f'with a batch of {len(batch)} ONNX Runtime'
    for expected, found in zip(program.run(batch), run(batch)):
        if expected.shape != found.shape:
            raise SSSError(f'{where} has outputs of shape {found.shape} instead of {expected.shape}; nothing was '
                           f'written')
        worst = max(worst, float(np.abs(expected - found).max() / max(np.abs(expected).max(), 1e-30)))
    if not worst <= TOLERANCE:
        raise SSSError(f'{where} differs by {worst:.1e} of the largest output, more than rounding ({TOLERANCE:.0e}); '
                       f'nothing was written')
    return worst


def _line(error: Exception) -> str:
    return ' '.join(str(error).split())[:200]


@contextmanager
def _quiet(onnx) -> Iterator[None]:
    """MXNet's exporter uses names that onnx deprecates, and checks its graph against the newest opset."""
    context = onnx.checker.DEFAULT_CONTEXT
    before = dict(context.opset_imports)
    context.opset_imports = {'': OPSET}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        context.opset_imports = before
