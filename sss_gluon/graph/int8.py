"""INT8 inference: a network quantized by MXNet (oneDNN kernels), with ranges measured on real images."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, List

import mxnet as mx
import numpy as np
from mxnet import gluon
from mxnet.contrib import quantization

from ..errors import SSSError, reason
from .block import export_program, to_block
from .ir import Node, Program, from_symbol, rewritten, to_json

BATCH = 64
BACKEND = 'MKLDNN_QUANTIZE'
MAX_ERROR = 0.25        # largest relative RMS error of INT8 outputs; 0.02 to 0.08 is normal

# What MXNet 1.9.1 quantizes and computes rightly, some of it under conditions (``_is_right``). It also takes products
# (of signed and unsigned integers, which end in an error), RNNs (which cannot be loaded) and embeddings.
QUANTIZED = ('Convolution', 'FullyConnected', '_sg_mkldnn_conv', '_sg_mkldnn_fully_connected', 'Pooling',
             'elemwise_add', 'Concat', 'Flatten', 'Activation', 'BatchNorm')
# What only moves values, or is part of the change between integers and float32.
MOVING = ('null', '_copy', 'Flatten', 'Reshape', 'transpose', 'SwapAxis', 'expand_dims', 'squeeze', 'slice',
          'slice_axis', 'slice_like', 'SliceChannel', 'Concat', 'Cast', 'Dropout', 'BlockGrad', 'Pad', 'take', 'stack',
          'tile', 'repeat', 'reverse', 'shape_array', '_zeros', '_contrib_dequantize', '_contrib_requantize',
          '_contrib_quantize_v2')
# What MXNet would fuse into a convolution or dense layer wrongly, and a stand-in that it leaves alone.
HIDDEN = {'elemwise_add': 'broadcast_add', 'LeakyReLU': 'erf'}


@dataclass
class Int8:
    """A network in 8-bit integers.

    Attributes
    ----------
    net : mxnet.gluon.SymbolBlock
        For CPUs, and for inference only.
    float32 : list of str
        What it still computes in float32, as ``operator(name)``.
    """
    net: gluon.SymbolBlock = field(repr=False)
    float32: List[str]
    program: Program = field(repr=False)

    @classmethod
    def of(cls, program: Program, images: np.ndarray) -> Int8:
        """``quantize`` a program, as a network."""
        quantized = quantize(program, images)
        return cls(to_block(quantized), float32_operators(quantized), quantized)

    def export(self, prefix) -> List[str]:
        """Write ``prefix-symbol.json`` and ``prefix-0000.params``; return the names."""
        return export_program(self.program, self.net, prefix)


def quantize(program: Program, images: np.ndarray) -> Program:
    """Compute convolutions, dense layers, poolings and sums in 8-bit integers.

    Weights get one range per output channel; layer outputs get their range on the given images.

    Parameters
    ----------
    program : Program
        Preferably from ``for_inference``. It is not changed.
    images : numpy.ndarray
        float32, (N, ...), normalised as for the network: some hundred of its training images.

    Returns
    -------
    Program
        With MXNet's ``_sg_mkldnn_...`` and ``_contrib_quantized_...`` operators, for CPUs only. Compare it with the
        original: the loss of accuracy depends on network and images. Its files are not smaller, because MXNet's INT8
        convolutions and dense layers take float32 weights and quantize them when they are first used; weights that are
        dequantized in the graph would be quantized again at every call. Those of ``onnx_int8`` are.

    Raises
    ------
    SSSError
        The images do not fit, or the outputs on them are off by more than a quarter (RMS).

    Notes
    -----
    What MXNet 1.9.1 does not quantize rightly stays in float32 (``float32_operators`` lists it): grouped convolutions,
    whose outputs were off by 15 to 24 % where those of plain and depthwise ones were by 2 %, convolutions in one
    dimension, products (Swish), GELU, recurrent layers.

    It would also fuse a convolution and the residual sum after it into one operator that overwrites values which the
    shortcut still reads, and a convolution and GELU, or a dense layer and a LeakyReLU, into one that is off by 23 %.
    They are hidden from that pass as operators that it does not fuse. Ranges chosen by entropy are not offered: with
    them a VGG-16 on the digits fell from 99 % to 9 %, while minimum and maximum kept 99 %.
    """
    check_calibration(program, images)
    before = {node.name: node for node in program.nodes()}
    hidden = program.derived(rewritten(program.outputs, _hide))
    fused = from_symbol(hidden.symbol().get_backend_symbol(BACKEND))
    fused = rewritten(fused, lambda node, inputs: _shown(node, inputs, before))
    symbol = mx.sym.load_json(to_json(fused))
    auxiliary = set(symbol.list_auxiliary_states())
    arrays = {name: mx.nd.array(value, dtype=value.dtype) for name, value in program.used_values().items()}
    groups = ({name: array for name, array in arrays.items() if name not in auxiliary},
              {name: array for name, array in arrays.items() if name in auxiliary})
    ranges = _Ranges(symbol, arrays, program.input_name, images)
    kept = [node.name for node in Program(fused, {}, {}).nodes() if not node.is_variable and not _is_right(node)]
    try:
        quantized, *_ = quantization.quantize_graph(
            symbol, *groups, excluded_sym_names=kept, calib_mode='customize', LayerOutputCollector=ranges,
            quantized_dtype='auto', quantize_mode='smart', quantize_granularity='channel-wise')
        quantized, *groups = quantization.calib_graph(quantized, *groups, ranges, 'customize', 'auto', logger=None)
        values = {name: array.asnumpy() for group in groups for name, array in group.items()}
        result = _with_types(quantized.get_backend_symbol(BACKEND), values, program)
        off = _error(program, result, images[:BATCH])
    except mx.base.MXNetError as error:
        raise SSSError(f'MXNet cannot quantize this network: {reason(error)}') from error
    if not off <= MAX_ERROR:
        raise SSSError(f'INT8 outputs are off by {off:.0%} of the float32 ones (root mean square), more than '
                       f'{MAX_ERROR:.0%}, on the images that calibrated them: this network does not bear 8 bits')
    return result


def check_calibration(program: Program, images: np.ndarray) -> None:
    """Refuse images that are not a batch of the network."""
    if str(images.dtype) != 'float32' or images.shape[1:] != tuple(program.input_shape[1:]) or not len(images):
        raise SSSError(f'calibration needs float32 images of shape (N, {", ".join(map(str, program.input_shape[1:]))})'
                       f', not {images.dtype} {images.shape}')


def float32_operators(program: Program) -> List[str]:
    """What a quantized program still computes in float32, as ``operator(name)``; a fused one under its layer's name."""
    found = []
    for node in program.nodes():
        if node.op.startswith('_sg_mkldnn') and node.get('quantized', False) not in (True, 'true'):
            found += [str(part) for part in _inside(node) if part.op in ('Convolution', 'FullyConnected')]
        elif not node.op.startswith(('_sg_mkldnn', '_contrib_quantized')) and node.op not in MOVING:
            found.append(str(node))
    return found


def _error(program: Program, quantized: Program, images: np.ndarray) -> float:
    """Largest RMS error of an output over its RMS value."""
    return max(float(np.sqrt(np.square(found - expected).mean() / max(np.square(expected).mean(), 1e-30)))
               for expected, found in zip(program.run(images), quantized.run(images)))


def _hide(node: Node, inputs) -> Node:
    if node.op == 'elemwise_add' or node.op == 'LeakyReLU' and (
            node.get('act_type') == 'gelu' or node.inputs[0].node.op == 'FullyConnected'):
        return Node(HIDDEN[node.op], node.name, {}, inputs)
    return Node(node.op, node.name, node.attrs, inputs, node.extra)


def _shown(node: Node, inputs, before: Dict[str, Node]) -> Node:
    old = before.get(node.name, node)
    old = old if HIDDEN.get(old.op) == node.op else node
    return Node(old.op, node.name, old.attrs, inputs, node.extra)


def _is_right(node: Node) -> bool:
    """Whether MXNet's INT8 form of a node, which may be fused, computes the same but for rounding."""
    if node.op == 'Pooling':
        return node.get('pool_type', 'max') in ('max', 'avg')       # others crash
    if node.op == 'Activation':
        return node.get('act_type') == 'relu'
    for part in [node, *_inside(node)]:
        if part.op == 'Convolution' and (len(part.get('kernel')) < 2 or
                                         1 < part.get('num_group', 1) < part.get('num_filter')):
            return False
    return node.op in QUANTIZED


def _inside(node: Node) -> List[Node]:
    """The operators that a fused one consists of."""
    return [Node(row['op'], row['name'], row.get('attrs')) for graph in node.extra.get('subgraphs', ())
            for row in graph['nodes']]


class _Ranges:
    """Smallest and largest value of every output inside a network, on given images, in the form that MXNet expects.

    MXNet's own collector binds the network, which applies the wrong fusion.
    """

    def __init__(self, symbol, arrays, input_name, images):
        inside = [output for output in symbol.get_internals() if output.name not in arrays]
        names = [output.list_outputs()[0] for output in inside]
        extremes = mx.sym.Group([part for output in inside for part in (output.min(), output.max())])
        run = mx.nd.CachedOp(extremes)
        found = []
        for start in range(0, len(images), BATCH):
            batch = mx.nd.array(images[start:start + BATCH])
            parts = run(*[batch if name == input_name else arrays[name] for name in extremes.list_inputs()])
            found.append([float(part.asscalar()) for part in parts])
        found = np.reshape(found, (len(found), -1, 2))
        self.min_max_dict = dict(zip(names, zip(found[:, :, 0].min(axis=0), found[:, :, 1].max(axis=0))))


def _with_types(symbol, values: Dict[str, np.ndarray], program: Program) -> Program:
    """The quantized network as a Program whose variables declare their shape and type."""
    def replace(node: Node, inputs):
        if not node.is_variable or node.name == program.input_name:
            return Node(node.op, node.name, node.attrs, inputs, node.extra)
        declared = mx.sym.var(node.name, shape=values[node.name].shape, dtype=values[node.name].dtype)
        return Node('null', node.name, declared.list_attr())

    return program.derived(rewritten(from_symbol(symbol), replace), values)
