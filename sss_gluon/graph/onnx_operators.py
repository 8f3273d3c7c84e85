"""MXNet operators in ONNX, where MXNet's exporter has no translation, a wrong one, or one in ten nodes for one.

Shapes inside a network are known but for the batch size, so that a translation can write them as constants.
"""
from __future__ import annotations

import math
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from ..errors import SSSError
from .ir import Entry, Node, Program
from .onnx_boxes import box_nms

Shape = Tuple[int, ...]
FLOATS = ('alpha', 'beta', 'bias', 'epsilon')       # attributes that ONNX does not take as whole numbers
FORWARD, BACKWARD = np.iinfo(np.int64).max, np.iinfo(np.int64).min       # ONNX: to the end, to the start


class Writer:
    """The ONNX nodes of one MXNet operator.

    Attributes
    ----------
    inputs, shapes
        Names of the inputs in ONNX, and their shapes; ``x`` and ``shape`` are the first of them.
    name
        Of the result: that of the operator, with a 0 where MXNet counts several outputs.
    out, target
        Shape of the first output, and the same with -1 where it depends on the batch size.
    """

    def __init__(self, onnx, node: Node, inputs: List[str], shapes: List[Shape], out: Shape, target: Shape):
        self.onnx, self.node, self.inputs, self.name = onnx, node, inputs, node.name
        self.shapes, self.out, self.target = shapes, out, target
        self.x, self.shape = (inputs[0], shapes[0]) if inputs else ('', ())
        self.nodes: List[Any] = []
        self.constants: List[Any] = []

    def get(self, key: str, default=None):
        return self.node.get(key, default)

    def __call__(self, op: str, *inputs, **attrs) -> str:
        """Add a node, and return the name of its output. Inputs are names, float32 arrays or lists of int64."""
        name = f'{self.node.name}_{op.lower()}{len(self.nodes)}'
        attrs = {key: float(value) if key in FLOATS else value for key, value in attrs.items()}
        names = [self._name(given) for given in inputs]
        self.nodes.append(self.onnx.helper.make_node(op, names, [name], name, **attrs))
        return name

    def _name(self, given) -> str:
        if isinstance(given, str):
            return given
        value = np.asarray(given, 'int64' if isinstance(given, list) else 'float32')
        name = f'{self.node.name}_constant{len(self.constants)}'
        self.constants.append(self.onnx.numpy_helper.from_array(value, name))
        return name

    def finish(self, result: str) -> List[Any]:
        """The nodes, of which the last one gives the result its name."""
        if not self.nodes or self.nodes[-1].output[0] != result:
            self('Identity', result)
        self.nodes[-1].name = self.nodes[-1].output[0] = self.name
        return self.nodes


Translation = Callable[[Writer], Optional[str]]     # the name of the result, or None where MXNet's exporter is right


def translations(onnx, program: Program, targets: Dict[Entry, Shape], registered: Dict[str, Callable]
                 ) -> Dict[str, Callable]:
    """Functions that MXNet's exporter calls for its operators: ours for one program, and else those ``registered``."""
    shapes, nodes = program.shapes(), {node.name: node for node in program.nodes()}

    def ours(row, given) -> Optional[List[Any]]:
        translate, node = TRANSLATIONS.get(row['op']), nodes[row['name']]
        if translate is None:
            return None
        inputs = [given['outputs_lookup'][number][index].name for number, index, *_ in row['inputs']]
        writer = Writer(onnx, node, inputs, [shapes[entry] for entry in node.inputs], shapes[Entry(node)],
                        targets[Entry(node)])
        result = translate(writer)
        if result is None:
            return None
        given['initializer'].extend(writer.constants)
        return writer.finish(result)

    def convert(row, **given):
        try:
            return ours(row, given) or registered.get(row['op'], _unknown)(row, **given)
        except Exception as error:      # MXNet's functions raise anything for attributes that they do not expect
            raise SSSError(f'{nodes[row["name"]]} cannot be translated to ONNX: '
                           f'{" ".join(str(error).split())[:200] or type(error).__name__}') from error

    return {node.op: convert for node in nodes.values()}


def _unknown(row, **given):
    raise NotImplementedError('there is no translation of it, or not with these attributes')


def _reshape(w: Writer) -> Optional[str]:
    return w('Reshape', w.x, list(w.target)) if w.target.count(-1) < 2 else None


def _leaky_relu(w: Writer) -> Optional[str]:
    kind = w.get('act_type', 'leaky')
    if kind == 'prelu':     # one slope for all channels, or one for each
        return w('PRelu', w.x, w('Reshape', w.inputs[1], [-1] + [1] * (len(w.shape) - 2)))
    if kind == 'rrelu':     # random in training, its mean in inference
        return w('LeakyRelu', w.x, alpha=(w.get('lower_bound', 0.125) + w.get('upper_bound', 0.334)) / 2)
    return None


def _softmax_activation(w: Writer) -> str:
    if w.get('mode') == 'channel':
        return w('Softmax', w.x, axis=1)
    return w('Reshape', w('Softmax', w('Reshape', w.x, [0, -1]), axis=1), list(w.target))


def _dropout(w: Writer) -> Optional[str]:
    return None if w.get('mode') == 'always' and w.get('p', 0.5) else w.x


def _batch_norm(w: Writer) -> str:
    x, stored, beta, mean, variance = w.inputs
    axis, epsilon = w.get('axis', 1) % len(w.shape), w.get('eps', 1e-3)
    gamma = np.ones(w.shapes[1]) if w.get('fix_gamma', True) else stored
    if axis == 1:
        y = w('BatchNormalization', x, gamma, beta, mean, variance, epsilon=epsilon)
    else:
        scale = w('Div', gamma, w('Sqrt', w('Add', variance, epsilon)))
        shift = w('Sub', beta, w('Mul', mean, scale))
        scale, shift = (w('Reshape', part, [-1] + [1] * (len(w.shape) - 1 - axis)) for part in (scale, shift))
        y = w('Add', w('Mul', x, scale), shift)
    return w('Relu', y) if w.node.op.endswith('ReLU') else y


def _group_norm(w: Writer) -> str:
    x, gamma, beta = w.inputs       # one of each for every group
    grouped = w('Reshape', x, [0, w.get('num_groups', 1), -1])
    return w('Reshape', w('InstanceNormalization', grouped, gamma, beta, epsilon=w.get('eps', 1e-5)), list(w.target))


def _l2_normalization(w: Writer) -> str:
    axes = {'channel': [1], 'spatial': list(range(2, len(w.shape)))}.get(w.get('mode'), list(range(1, len(w.shape))))
    squares = w('ReduceSum', w('Mul', w.x, w.x), axes)
    return w('Div', w.x, w('Sqrt', w('Add', squares, w.get('eps', 1e-10))))


def _reduce(op: str) -> Translation:
    def translate(w: Writer) -> Optional[str]:
        if not w.get('exclude', False):
            return None
        named = w.get('axis', ())
        named = {axis % len(w.shape) for axis in (named if isinstance(named, tuple) else (named,))}
        axes, keep = [axis for axis in range(len(w.shape)) if axis not in named], int(w.get('keepdims', False))
        if op == 'ReduceSum':       # the only one whose axes are an input in this opset
            return w(op, w.x, axes, keepdims=keep)
        return w(op, w.x, axes=axes, keepdims=keep)
    return translate


def _dense(w: Writer) -> str:
    x, weight, *bias = w.inputs
    if w.get('flatten', True):
        x = x if len(w.shape) == 2 else w('Reshape', x, [0, -1])
        return w('Gemm', x, weight, *bias, transB=1)
    y = w('MatMul', x, w('Transpose', weight, perm=[1, 0]))
    return w('Add', y, *bias) if bias else y


def _deconvolution(w: Writer) -> str:
    kernel = w.get('kernel')
    ones = (1,) * len(kernel)
    stride, dilate, pad, adjust = (w.get(key) or default for key, default in (
        ('stride', ones), ('dilate', ones), ('pad', (0,) * len(kernel)), ('adj', (0,) * len(kernel))))
    if w.get('target_shape'):       # pad and adj do not count then; on CPUs, MXNet only runs the full size
        pad = adjust = (0,) * len(kernel)
    return w('ConvTranspose', *w.inputs, kernel_shape=kernel, strides=stride, dilations=dilate, pads=[*pad, *pad],
             output_padding=adjust, group=w.get('num_group', 1))


def _pooling(w: Writer) -> Optional[str]:
    kind, sizes = w.get('pool_type', 'max'), w.shape[2:]
    if w.get('layout') not in (None, 'NCW', 'NCHW', 'NCDHW') or w.get('pooling_convention') == 'same':
        return None
    if w.get('global_pool', False):
        if kind == 'sum':
            return w('ReduceSum', w.x, list(range(2, len(w.shape))))
        power = dict(p=w.get('p_value', 2)) if kind == 'lp' else {}
        return w({'max': 'GlobalMaxPool', 'avg': 'GlobalAveragePool', 'lp': 'GlobalLpPool'}[kind], w.x, **power)
    kernel = w.get('kernel')
    stride, pad = w.get('stride') or (1,) * len(kernel), w.get('pad') or (0,) * len(kernel)
    # With the convention 'full', windows reach past the padding, where MXNet counts no positions.
    past = [max(0, (out - 1) * step + k - size - 2 * p)
            for out, step, k, size, p in zip(w.out[2:], stride, kernel, sizes, pad)]
    ends, options = [p + more for p, more in zip(pad, past)], dict(kernel_shape=kernel, strides=stride)
    if kind == 'max':
        return w('MaxPool', w.x, pads=[*pad, *ends], **options)
    if kind == 'lp':
        return w('LpPool', w.x, pads=[*pad, *ends], p=w.get('p_value', 2), **options)
    x, begins = w.x, list(pad)
    if any(pad) and (kind == 'sum' or w.get('count_include_pad', True)):
        x, begins, ends = w('Pad', x, [0, 0, *pad, 0, 0, *pad]), [0] * len(pad), past
    y = w('AveragePool', x, pads=[*begins, *ends], count_include_pad=int(kind == 'sum'), **options)
    return w('Mul', y, float(np.prod(kernel))) if kind == 'sum' else y


def _adaptive_pooling(w: Writer) -> str:
    if w.out[2:] == (1, 1):
        return w('GlobalAveragePool', w.x)
    down, across = (_averages(*sizes) for sizes in zip(w.shape[2:], w.out[2:]))
    return w('MatMul', w('MatMul', down, w.x), across.T)


def _averages(size: int, out: int) -> np.ndarray:
    """(out, size): row i averages positions floor(i size / out) to ceil((i + 1) size / out)."""
    matrix = np.zeros((out, size))
    for row in range(out):
        start, end = row * size // out, -(-(row + 1) * size // out)
        matrix[row, start:end] = 1 / (end - start)
    return matrix


def _resize(w: Writer, x: str, before: Sequence[int], after: Sequence[int], **options) -> str:
    scales = [np.float32(new / old) for old, new in zip(before, after)]
    while any(int(np.float32(old * scale)) < new for old, scale, new in zip(before, scales, after)):
        scales = [np.nextafter(scale, np.float32(np.inf)) for scale in scales]      # sizes are rounded down
    return w('Resize', x, '', np.array([1, 1, *scales]), **options)


def _bilinear(w: Writer) -> str:
    place = 'align_corners' if w.get('align_corners', True) else 'pytorch_half_pixel'
    return _resize(w, w.x, w.shape[2:], w.out[2:], mode='linear', coordinate_transformation_mode=place)


def _up_sampling(w: Writer) -> str:
    scale = w.get('scale')
    if w.get('sample_type') == 'bilinear':      # a transposed convolution of every channel by itself
        pad = scale // 2
        return w('ConvTranspose', *w.inputs, strides=[scale] * 2, pads=[pad] * 4, group=w.shape[1])
    parts = [_resize(w, name, shape[2:], w.out[2:], mode='nearest', coordinate_transformation_mode='asymmetric',
                     nearest_mode='floor') for name, shape in zip(w.inputs, w.shapes)]
    if len(parts) == 1:
        return parts[0]
    return w('Sum', *parts) if w.get('multi_input_mode') == 'sum' else w('Concat', *parts, axis=1)


def _slice(w: Writer) -> str:
    begins, ends, steps = (w.get(key) or () for key in ('begin', 'end', 'step'))
    cuts = []
    for axis, (begin, end) in enumerate(zip(begins, ends)):
        step = (steps[axis] if axis < len(steps) else None) or 1
        begin = begin if begin is not None else (0 if step > 0 else FORWARD)
        end = end if end is not None else (FORWARD if step > 0 else BACKWARD)
        if (begin, end, step) != (0, FORWARD, 1):
            cuts.append((begin, end, axis, step))
    return w('Slice', w.x, *map(list, zip(*cuts))) if cuts else w.x


def _slice_like(w: Writer) -> Optional[str]:
    cut = [axis for axis, (old, new) in enumerate(zip(w.shape, w.out)) if old != new]
    if any(w.target[axis] < 0 for axis in cut):
        return None
    return w('Slice', w.x, [0] * len(cut), [w.out[axis] for axis in cut], cut) if cut else w.x


def _reverse(w: Writer) -> str:
    axes = w.get('axis')
    axes = list(axes) if isinstance(axes, tuple) else [axes]
    return w('Slice', w.x, [FORWARD] * len(axes), [BACKWARD] * len(axes), axes, [-1] * len(axes))


def _swap_axes(w: Writer) -> str:
    order = list(range(len(w.shape)))
    a, b = w.get('dim1', 0), w.get('dim2', 0)
    order[a], order[b] = order[b], order[a]
    return w('Transpose', w.x, perm=order)


def _expand(w: Writer) -> Optional[str]:
    sizes = [1 if old == new else size for old, new, size in zip(w.shape, w.out, w.target)]
    return w('Expand', w.x, sizes) if len(w.shape) == len(w.out) and -1 not in sizes else None


def _take(w: Writer) -> Optional[str]:
    axis, mode = w.get('axis', 0), w.get('mode', 'clip')
    size = w.shape[axis]
    indices = w('Cast', w.inputs[1], to=w.onnx.TensorProto.INT64)
    if mode == 'clip':
        indices = w('Min', w('Max', indices, [0]), [size - 1])
    elif mode == 'wrap':
        indices = w('Mod', indices, [size])
    return w('Gather', w.x, indices, axis=axis)


def _direct(op: str, **attrs) -> Translation:
    return lambda w: w(op, *w.inputs, **attrs)


def _signed(w: Writer, magnitude: Callable[[str], str]) -> str:
    return w('Mul', w('Sign', w.x), magnitude(w('Abs', w.x)))


def _truncate(w: Writer) -> str:
    return _signed(w, lambda size: w('Floor', size))


def _cube_root(w: Writer) -> str:
    return _signed(w, lambda size: w('Pow', size, 1 / 3))


TRANSLATIONS: Dict[str, Translation] = {
    **{op: _reshape for op in ('Reshape', 'reshape_like')},
    'LeakyReLU': _leaky_relu,
    'SoftmaxActivation': _softmax_activation,
    'softmin': lambda w: w('Softmax', w('Neg', w.x), axis=w.get('axis', -1)) if not w.get('temperature') else None,
    'softsign': _direct('Softsign'), 'erf': _direct('Erf'), 'sign': _direct('Sign'), 'sinh': _direct('Sinh'),
    'cosh': _direct('Cosh'), 'arcsinh': _direct('Asinh'), 'broadcast_maximum': _direct('Max'),
    'expm1': lambda w: w('Sub', w('Exp', w.x), 1),
    'log1p': lambda w: w('Log', w('Add', w.x, 1)),
    'log10': lambda w: w('Mul', w('Log', w.x), 1 / math.log(10)),
    'rsqrt': lambda w: w('Reciprocal', w('Sqrt', w.x)),
    'cbrt': _cube_root, 'rcbrt': lambda w: w('Reciprocal', _cube_root(w)),
    'fix': _truncate, 'trunc': _truncate,
    '_rpower_scalar': lambda w: w('Pow', float(w.get('scalar', 1)), w.x),
    'Dropout': _dropout,
    **{op: _batch_norm for op in ('BatchNorm', '_contrib_BatchNormWithReLU', '_contrib_SyncBatchNorm')},
    'GroupNorm': _group_norm,
    'LRN': lambda w: w('LRN', w.x, alpha=w.get('alpha', 1e-4), beta=w.get('beta', 0.75), bias=w.get('knorm', 2),
                       size=w.get('nsize')),
    'L2Normalization': _l2_normalization,
    **{op: _reduce(f'Reduce{op.title()}') for op in ('sum', 'mean', 'max', 'min', 'prod')},
    'FullyConnected': _dense,
    'Deconvolution': _deconvolution,
    'Pooling': _pooling,
    '_contrib_AdaptiveAvgPooling2D': _adaptive_pooling,
    '_contrib_BilinearResize2D': _bilinear,
    'UpSampling': _up_sampling,
    'slice': _slice, 'slice_like': _slice_like, 'reverse': _reverse,
    'SwapAxis': _swap_axes,
    **{op: _expand for op in ('broadcast_to', 'broadcast_axis', 'broadcast_like')},
    'take': _take, '_contrib_box_nms': box_nms,
}
