"""INT8 inference: a network quantized by MXNet (oneDNN kernels), with ranges measured on real images."""
from __future__ import annotations

from typing import Dict, List

import mxnet as mx
import numpy as np
from mxnet.contrib import quantization

from ..errors import SSSError
from .ir import Entry, Node, Program, from_symbol, rewritten, to_json

BATCH = 64
BACKEND = 'MKLDNN_QUANTIZE'


def quantize(program: Program, images: np.ndarray) -> Program:
    """Compute convolutions (except grouped ones), dense layers, poolings and sums in 8-bit integers.

    Weights get one range per output channel; layer outputs get their range on the given images.

    Parameters
    ----------
    program : Program
        Preferably from ``for_inference``. It is not changed.
    images : numpy.ndarray
        float32, (N, C, H, W), normalised as for the network: some hundred of its training images.

    Returns
    -------
    Program
        With MXNet's ``_sg_mkldnn_...`` and ``_contrib_quantized_...`` operators, for CPUs only. Compare it with the
        original: the loss of accuracy depends on network and images. Its files are not smaller, because MXNet
        quantizes the weights of convolutions when they are first used.

    Notes
    -----
    MXNet 1.9.1 would fuse a convolution and the residual sum after it into one operator that overwrites values which
    the shortcut still reads: the outputs of pre-activation ResNets would be wrong. The sums are hidden from that pass
    as ``broadcast_add``, which it does not fuse, and quantized separately. Grouped convolutions stay in float32: their
    INT8 outputs were off by 15 to 24 %, those of plain and depthwise ones by 2 %. Ranges chosen by entropy are not
    offered: with them a VGG-16 on the digits fell from 99 % to 9 %, while minimum and maximum kept 99 %.
    """
    if str(images.dtype) != 'float32' or images.shape[1:] != tuple(program.input_shape[1:]) or not len(images):
        raise SSSError(f'calibration needs float32 images of shape (N, {", ".join(map(str, program.input_shape[1:]))})'
                       f', not {images.dtype} {images.shape}')
    hidden = Program(_renamed(program.outputs, 'elemwise_add', 'broadcast_add'), program.values, program.inputs)
    sums = [node.name for node in program.nodes() if node.op == 'elemwise_add']
    fused = from_symbol(hidden.symbol().get_backend_symbol(BACKEND))
    symbol = mx.sym.load_json(to_json(_renamed(fused, 'broadcast_add', 'elemwise_add', sums)))
    auxiliary = set(symbol.list_auxiliary_states())
    arrays = {name: mx.nd.array(value, dtype=value.dtype) for name, value in program.used_values().items()}
    groups = ({name: array for name, array in arrays.items() if name not in auxiliary},
              {name: array for name, array in arrays.items() if name in auxiliary})
    ranges = _Ranges(symbol, arrays, program.input_name, images)
    quantized, *_ = quantization.quantize_graph(
        symbol, *groups, excluded_sym_names=_grouped(fused), calib_mode='customize', LayerOutputCollector=ranges,
        quantized_dtype='auto', quantize_mode='smart', quantize_granularity='channel-wise')
    quantized, *groups = quantization.calib_graph(quantized, *groups, ranges, 'customize', 'auto', logger=None)
    values = {name: array.asnumpy() for group in groups for name, array in group.items()}
    return _with_types(quantized.get_backend_symbol(BACKEND), values, program)


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


def _grouped(outputs: List[Entry]) -> List[str]:
    """Names of fused operators with a grouped convolution that is not depthwise."""
    def inside(node):
        return [Node(row['op'], row['name'], row.get('attrs')) for graph in node.extra.get('subgraphs', ())
                for row in graph['nodes']]

    return [node.name for node in Program(outputs, {}, {}).nodes() if any(
        part.op == 'Convolution' and 1 < part.get('num_group', 1) < part.get('num_filter') for part in inside(node))]


def _renamed(outputs: List[Entry], old: str, new: str, names=None) -> List[Entry]:
    """The graph with one operator replaced by another."""
    def replace(node: Node, inputs):
        op = new if node.op == old and (names is None or node.name in names) else node.op
        return Node(op, node.name, node.attrs, inputs, node.extra)

    return rewritten(outputs, replace)


def _with_types(symbol, values: Dict[str, np.ndarray], program: Program) -> Program:
    """The quantized network as a Program whose variables declare their shape and type."""
    def replace(node: Node, inputs):
        if not node.is_variable or node.name == program.input_name:
            return Node(node.op, node.name, node.attrs, inputs, node.extra)
        declared = mx.sym.var(node.name, shape=values[node.name].shape, dtype=values[node.name].dtype)
        return Node('null', node.name, declared.list_attr())

    return program.derived(rewritten(from_symbol(symbol), replace), values)
