"""INT8 in ONNX: layers between QuantizeLinear and DequantizeLinear, which ONNX Runtime computes in 8-bit integers."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Tuple, Union

import numpy as np

from ..errors import SSSError
from ..files import atomic_write
from .int8 import BATCH, check_calibration
from .ir import Program
from .onnx import to_onnx
from .onnx_runtime import open_session, packages

LARGEST = 64        # of a weight: CPUs without VNNI add two products of 8 bits in 16, which 127 would overflow
ACTIVATIONS = ('Relu', 'Clip')          # become a part of the layer in front of them
# The same values in other places, at the same scale; and what has integer kernels where all inputs are integers.
MOVING = ('MaxPool', 'Flatten', 'Gather', 'Reshape', 'Slice', 'Squeeze', 'Transpose', 'Unsqueeze')
COMPUTED = (*ACTIVATIONS, 'Add', 'Mul', 'Concat', 'AveragePool', 'GlobalAveragePool', 'LeakyRelu', 'Sigmoid')


class Scale(NamedTuple):
    """real = scale * (integer - zero), with integers from 0 to 255."""
    scale: float
    zero: int

    @classmethod
    def of(cls, low: float, high: float) -> Scale:
        low, high = min(low, 0.0), max(high, 0.0)
        scale = (high - low) / 255 or 1.0
        return cls(scale, int(round(-low / scale)))


def write_onnx_int8(program: Program, path: Union[str, Path], images: np.ndarray, name: str = 'sss_gluon',
                    metadata: Optional[Dict[str, str]] = None) -> List[str]:
    """Write an ONNX file that computes in 8-bit integers: a QDQ model, whose weights are stored as integers.

    Parameters
    ----------
    program : Program
        Preferably from ``for_inference``.
    path : path
    images : numpy.ndarray
        float32, (N, ...), normalised as for the network: some hundred of its training images. What each layer reads and
        returns gets the range that it has on them, as in ``int8.quantize``; weights get one per output channel.
    name, metadata
        As in ``write_onnx``.

    Returns
    -------
    list of str
        What is still computed in float32, as ``operator(name)``.

    Raises
    ------
    SSSError
        onnx or onnxruntime is not installed; the images do not fit; an operator has no translation; ONNX Runtime
        refuses the file.

    Notes
    -----
    Compare it with the network: the loss of accuracy depends on network and images. Weights are integers from -64 to
    64, because with 127 CPUs without VNNI instructions overflow, silently.
    """
    onnx, _ = packages()
    check_calibration(program, images)
    model = to_onnx(program, name, metadata)
    left = _Quantizer(onnx, model, images).rewrite()
    with atomic_write(path) as temporary:
        try:
            onnx.save_model(model, temporary)
            onnx.checker.check_model(temporary, full_check=True)
            open_session(temporary)
        except Exception as error:      # onnx and ONNX Runtime have their own exceptions
            raise SSSError(f'the network in INT8 is not valid ONNX ({" ".join(str(error).split())[:200]}); no file was '
                           f'written') from error
    return left


class _Quantizer:
    """Rewrites a float32 model in place."""

    def __init__(self, onnx, model, images: np.ndarray):
        self.onnx, self.graph = onnx, model.graph
        self.constants = {value.name: value for value in self.graph.initializer}
        self._norms_as_layers(model)
        self.users: Dict[str, List[Any]] = {}
        for node in self.graph.node:
            for given in node.input:
                self.users.setdefault(given, []).append(node)
        self.outputs = {given.name for given in self.graph.output}
        self.new: List[Any] = []        # nodes of the new graph
        self.whole: List[Any] = []      # those of the old one that are computed in integers
        self.integers, same = self._integers()
        scales = {tensor: Scale.of(*extremes) for tensor, extremes in
                  _ranges(onnx, model, set(self.integers) - set(same), images).items()}
        for tensor, source in same.items():
            scales[tensor] = scales[source]
        self.scales = scales
        self.read = {given.name: given.name for given in self.graph.input}

    def _norms_as_layers(self, model) -> None:
        """BatchNorms as depthwise convolutions of one pixel, which have integer kernels."""
        shapes = {given.name: given.type.tensor_type.shape.dim
                  for given in self.onnx.shape_inference.infer_shapes(model).graph.value_info}
        for node in self.graph.node:
            axes = len(shapes.get(node.input[0], ())) - 2 if node.op_type == 'BatchNormalization' else 0
            if axes < 1 or not all(given in self.constants for given in node.input[1:]):
                continue
            gamma, beta, mean, variance = (self.onnx.numpy_helper.to_array(self.constants[given]).astype('float64')
                                           for given in node.input[1:])
            scale = gamma / np.sqrt(variance + _attributes(self.onnx, node).get('epsilon', 1e-5))
            made = node.output[0]
            parameters = [self._constant(f'{made}_scale', scale.reshape((-1, 1) + (1,) * axes).astype('float32')),
                          self._constant(f'{made}_shift', (beta - scale * mean).astype('float32'))]
            node.CopyFrom(self.onnx.helper.make_node('Conv', [node.input[0], *parameters], [made], node.name,
                                                     group=len(scale), kernel_shape=(1,) * axes))
        del self.graph.initializer[:]
        self.graph.initializer.extend(self.constants.values())

    def _integers(self) -> Tuple[Dict[str, None], Dict[str, str]]:
        """Tensors that become integers, in order, and those of them that share the scale of an earlier one."""
        found: Dict[str, None] = {}
        same: Dict[str, str] = {}
        for node in self.graph.node:
            made = node.output[0]
            if self._is_layer(node):
                found[node.input[0]] = None
                self.whole.append(node)
                if node.op_type == 'Gemm' and made in self.outputs:     # integers in, float32 out
                    continue
            elif made in found or node.input[0] not in found:       # a part of the operator in front, or of float32
                continue
            elif node.op_type in MOVING:
                same[made] = node.input[0]
            elif node.op_type not in COMPUTED or not all(given in found for given in self._data(node)):
                continue
            self.whole += [node, *self._activation(node)]
            found[self.whole[-1].output[0]] = None
        return found, same

    def _is_layer(self, node) -> bool:
        if node.op_type not in ('Conv', 'Gemm') or not all(given in self.constants for given in node.input[1:]):
            return False
        return node.op_type == 'Conv' or _attributes(self.onnx, node) == dict(transB=1)

    def _data(self, node) -> List[str]:
        return list(node.input[:1] if node.op_type in ACTIVATIONS else node.input)      # the others are bounds

    def _activation(self, node) -> List[Any]:
        """The activation behind an operator, if it alone reads the result."""
        users = self.users.get(node.output[0], [])
        alone = len(users) == 1 and users[0].op_type in ACTIVATIONS and node.output[0] not in self.outputs
        return users if alone else []

    def rewrite(self) -> List[str]:
        """Change the model; return what is left in float32."""
        left = self._float32()
        for given in self.graph.input:
            if given.name in self.integers:
                self.read[given.name] = f'{given.name}_dequantized'
                self._pair(given.name, given.name, self.read[given.name])
        for node in list(self.graph.node):
            new = type(node)()
            new.CopyFrom(node)
            new.input[:] = [self.read.get(name, name) for name in node.input]
            if self._is_layer(node):
                new.input[1:] = self._parameters(node)
            self.new.append(new)
            for number, made in enumerate(node.output):
                if made in self.integers:
                    new.output[number] = f'{made}_float'
                    self._pair(made, new.output[number], made)
        used = {name for node in self.new for name in node.input}
        kept = [value for value in self.constants.values() if value.name in used]
        del self.graph.node[:], self.graph.initializer[:], self.graph.value_info[:]
        self.graph.node.extend(self.new)
        self.graph.initializer.extend(kept)
        return left

    def _float32(self) -> List[str]:
        whole, computed, left = {node.output[0] for node in self.whole}, set(self.read), []
        for node in self.graph.node:
            if computed.intersection(node.input):       # the others depend on constants alone
                computed.update(node.output)
                if node.output[0] not in whole and node.op_type not in (*MOVING, 'Identity'):
                    left.append(f'{node.op_type}({node.name})')
        return left

    def _pair(self, tensor: str, before: str, after: str) -> None:
        """From float32 ``before`` through integers to float32 ``after``."""
        scale = [self._constant(f'{tensor}_scale', np.float32(self.scales[tensor].scale)),
                 self._constant(f'{tensor}_zero', np.uint8(self.scales[tensor].zero))]
        self._add('QuantizeLinear', [before, *scale], f'{tensor}_quantized')
        self._add('DequantizeLinear', [f'{tensor}_quantized', *scale], after)

    def _parameters(self, node) -> List[str]:
        """Weight and bias of a layer as integers; a bias has the scale of the products that it is added to."""
        prefix, array = node.output[0], self.onnx.numpy_helper.to_array
        weight, *biases = (array(self.constants[name]).astype('float64') for name in node.input[1:])
        given = self.scales[node.input[0]].scale
        scale = np.abs(weight.reshape(len(weight), -1)).max(axis=1, initial=0) / LARGEST
        for bias in biases:
            scale = np.maximum(scale, np.abs(bias) / given / 2 ** 30)       # it is an integer of 32 bits
        scale = np.where(scale > 0, scale, 1).astype('float32')
        shape = (-1,) + (1,) * (weight.ndim - 1)
        names = [self._integer(f'{prefix}_weight', np.rint(weight / scale.reshape(shape)).astype('int8'), scale)]
        for bias in biases:
            names.append(self._integer(f'{prefix}_bias', np.rint(bias / (given * scale)).astype('int32'),
                                       np.float32(given) * scale))
        return names

    def _integer(self, name: str, values: np.ndarray, scale: np.ndarray) -> str:
        inputs = [self._constant(f'{name}_quantized', values), self._constant(f'{name}_scale', scale),
                  self._constant(f'{name}_zero', np.zeros(len(scale), values.dtype))]
        self._add('DequantizeLinear', inputs, f'{name}_dequantized', axis=0)
        return f'{name}_dequantized'

    def _constant(self, name: str, value) -> str:
        self.constants[name] = self.onnx.numpy_helper.from_array(np.asarray(value), name)
        return name

    def _add(self, op: str, inputs: List[str], output: str, **attrs) -> None:
        self.new.append(self.onnx.helper.make_node(op, inputs, [output], f'{output}_{op.lower()}', **attrs))


def _attributes(onnx, node) -> Dict[str, Any]:
    return {given.name: onnx.helper.get_attribute_value(given) for given in node.attribute}


def _ranges(onnx, model, tensors: Iterable[str], images: np.ndarray) -> Dict[str, Tuple[float, float]]:
    """{tensor: its smallest and largest value on the images}."""
    watched = type(model)()
    watched.CopyFrom(model)
    graph, names = watched.graph, sorted(tensors)
    del graph.output[:]
    for op in ('ReduceMin', 'ReduceMax'):
        for number, name in enumerate(names):
            graph.node.append(onnx.helper.make_node(op, [name], [f'{op}{number}'], f'{op}{number}', keepdims=0))
            graph.output.append(onnx.helper.make_tensor_value_info(f'{op}{number}', onnx.TensorProto.FLOAT, []))
    session = open_session(watched.SerializeToString())
    data = session.get_inputs()[0].name
    found = np.array([session.run(None, {data: images[start:start + BATCH]})
                      for start in range(0, len(images), BATCH)]).reshape(-1, 2, len(names))
    return dict(zip(names, zip(found[:, 0].min(axis=0).tolist(), found[:, 1].max(axis=0).tolist())))
