"""Operators that an ONNX file must compute as MXNet does: {name: function of a Symbol and a maker of parameters}.

``p(name, shape)`` is a parameter with normal random values, or with the array given instead of a shape. Unless
``SHAPES`` says otherwise, the input is (N, 4, 6, 6).
"""
import mxnet as mx
import numpy as np

S, C = mx.sym, mx.sym.contrib


def _pool(**options):
    return lambda x, p: S.Pooling(x, **dict(dict(kernel=(3, 3), stride=(2, 2), pad=(1, 1)), **options))


def _conv(x, p, shape, **options):
    return S.Convolution(x, p('weight', shape), p('bias', shape[:1]), num_filter=shape[0], kernel=shape[2:], **options)


def _deconv(shape, bias=False, **options):
    """``shape`` of the weight: (inputs, outputs per group, ...)."""
    filters = shape[1] * options.get('num_group', 1)
    return lambda x, p: S.Deconvolution(x, p('weight', shape), *([p('bias', (filters,))] if bias else []),
                                        kernel=shape[2:], num_filter=filters, no_bias=not bias, **options)


def _norm(operator=S.BatchNorm, size=4, **options):
    return lambda x, p: operator(x, p('gamma', (size,)), p('beta', (size,)), p('mean', (size,)),
                                 p('variance', np.linspace(0.5, 2, size)), **options)


ACTIVATIONS = {
    **{f'Activation {kind}': lambda x, p, kind=kind: S.Activation(x, act_type=kind)
       for kind in ('relu', 'sigmoid', 'tanh', 'softrelu', 'softsign')},
    **{f'LeakyReLU {kind}': lambda x, p, kind=kind: S.LeakyReLU(x, act_type=kind, slope=0.3)[0]
       for kind in ('leaky', 'elu', 'selu', 'gelu', 'rrelu')},
    'LeakyReLU default': lambda x, p: S.LeakyReLU(x),
    'LeakyReLU rrelu with bounds': lambda x, p: S.LeakyReLU(x, act_type='rrelu', lower_bound=0.2, upper_bound=0.6)[0],
    'PReLU per channel': lambda x, p: S.LeakyReLU(x, p('gamma', (4,)), act_type='prelu'),
    'PReLU shared': lambda x, p: S.LeakyReLU(x, p('gamma', (1,)), act_type='prelu'),
    'PReLU of features': lambda x, p: S.LeakyReLU(S.flatten(x), p('gamma', (144,)), act_type='prelu'),
    'hard sigmoid': lambda x, p: S.hard_sigmoid(x, alpha=0.3, beta=0.4),
    'hard sigmoid default': lambda x, p: S.hard_sigmoid(x),
    'ReLU6': lambda x, p: S.clip(4 * x, 0, 6),
    'hard swish': lambda x, p: x * S.clip(x + 3, 0, 6) / 6,
    'swish': lambda x, p: x * S.sigmoid(x, name='gate'),
    'GELU': lambda x, p: S.LeakyReLU(x, act_type='gelu'),
    'softmax': lambda x, p: S.softmax(x),
    'softmax over channels': lambda x, p: S.softmax(x, axis=1, temperature=2),
    'log softmax': lambda x, p: S.log_softmax(x, axis=1),
    'softmin': lambda x, p: S.softmin(x, axis=1),
    'SoftmaxActivation channel': lambda x, p: S.SoftmaxActivation(x, mode='channel'),
    'SoftmaxActivation': lambda x, p: S.SoftmaxActivation(S.flatten(x)),
    'SoftmaxOutput': lambda x, p: S.SoftmaxOutput(S.flatten(x), S.BlockGrad(S.sum(x, axis=(1, 2, 3)))),
}

ELEMENTWISE = {
    **{name: lambda x, p, name=name: getattr(S, name)(x)
       for name in ('relu', 'sigmoid', 'tanh', 'softsign', 'erf', 'exp', 'expm1', 'abs', 'negative', 'square', 'sign',
                    'floor', 'ceil', 'sin', 'cos', 'arctan', 'sinh', 'cosh', 'arcsinh', 'identity', 'BlockGrad',
                    'ones_like', 'zeros_like', 'trunc', 'fix', 'cbrt')},
    **{name: lambda x, p, name=name: getattr(S, name)(S.abs(x) + 1)
       for name in ('sqrt', 'rsqrt', 'log', 'log2', 'log10', 'log1p', 'reciprocal', 'rcbrt')},
    'scalars': lambda x, p: 2 / (3 - (x * 2 + 1) / 3) ** 2 - 1,
    'scalars of parameters': lambda x, p: S.broadcast_add(x, 2 / (3 - p('shift', (1, 4, 1, 1)) * 0.1)),
    'scalar powers': lambda x, p: 2 ** x + S.abs(x) ** 1.5,
    'maximum of a scalar': lambda x, p: S.maximum(x, 0.3) + S.minimum(x, -0.2),
    'add_n': lambda x, p: S.add_n(x, 2 * x, S.relu(x)),
    **{name: lambda x, p, name=name: getattr(S, name)(x, S.relu(x) + 1)
       for name in ('elemwise_add', 'elemwise_sub', 'elemwise_mul', 'elemwise_div', 'maximum', 'minimum')},
    **{name: lambda x, p, name=name: getattr(S, name)(x, p('other', (1, 4, 1, 1)))
       for name in ('broadcast_add', 'broadcast_sub', 'broadcast_mul', 'broadcast_div', 'broadcast_maximum',
                    'broadcast_minimum')},
    'broadcast_power': lambda x, p: S.broadcast_power(S.abs(x) + 1, p('other', (1, 4, 1, 1))),
    'comparisons': lambda x, p: S.broadcast_greater(x, p('a', (1, 4, 1, 1))) + S.broadcast_lesser(x, p('b', (1,) * 4))
        + (x > 0.1) + (x < 0.3),
    'where': lambda x, p: S.where(x > 0, x, x * 0.1),
    'clip': lambda x, p: S.clip(x, -0.5, 0.7),
    'Cast': lambda x, p: S.cast(S.cast(x * 3, 'int32'), 'float32'),
    'Dropout': lambda x, p: S.Dropout(x, p=0.5),
    'Dropout always': lambda x, p: S.Dropout(x, p=0.0, mode='always'),
}

SHAPING = {
    'reshape 0, -1': lambda x, p: S.reshape(x, (0, -1)),
    'reshape -1 first': lambda x, p: S.reshape(x, (-1, 144)),
    'reshape -2': lambda x, p: S.reshape(x, (0, -2)),
    'reshape -3': lambda x, p: S.reshape(x, (0, -3, 0)),
    'reshape -4': lambda x, p: S.reshape(x, (0, -4, 2, -1, -2)),
    'reshape -4 of the batch': lambda x, p: S.reshape(x, (-4, -1, 1, -2)),
    'reshape batch and channels': lambda x, p: S.reshape(x, (-3, -2)),
    'reshape reverse': lambda x, p: S.reshape(x, (-1, 0, 0), reverse=True),
    'reshape_like': lambda x, p: S.reshape_like(S.flatten(x), x),
    'channel shuffle': lambda x, p: S.reshape(S.SwapAxis(S.reshape(x, (0, -4, 2, -1, -2)), 1, 2), (0, -3, -2)),
    'SwapAxis': lambda x, p: S.SwapAxis(x, 1, 3),
    'transpose': lambda x, p: S.transpose(x, (0, 2, 3, 1)),
    'Flatten': lambda x, p: S.Flatten(x),
    'expand_dims': lambda x, p: S.expand_dims(S.expand_dims(x, axis=2), axis=-1),
    'squeeze': lambda x, p: S.squeeze(S.slice_axis(x, axis=2, begin=1, end=2), axis=2),
    'squeeze negative': lambda x, p: S.squeeze(S.slice_axis(x, axis=-1, begin=1, end=2), axis=-1),
    'slice': lambda x, p: S.slice(x, begin=(None, 1, 4), end=(None, 3, 1), step=(None, 1, -2)),
    'slice_axis': lambda x, p: S.slice_axis(x, axis=1, begin=1, end=-1),
    'slice_axis to the end': lambda x, p: S.slice_axis(x, axis=-1, begin=-4, end=None),
    'slice_like': lambda x, p: S.slice_like(x, S.slice_axis(x, axis=2, begin=0, end=3)),
    'slice_like of a parameter': lambda x, p: S.slice_like(x, p('like', (1, 2, 3, 4)), axes=(1, -1)),
    'slice_like of anchors': lambda x, p: S.broadcast_add(
        x, S.slice_like(p('anchors', (1, 1, 9, 9)), x * 0, axes=(2, 3))),
    'Crop': lambda x, p: S.Crop(x, S.slice(x, begin=(None, None, 0, 0), end=(None, None, 4, 3)), num_args=2),
    'Concat': lambda x, p: S.concat(x, S.relu(x), dim=1),
    'Concat of the last axis': lambda x, p: S.concat(x, S.relu(x), dim=-1),
    'stack': lambda x, p: S.stack(x, S.relu(x), axis=2),
    'SliceChannel': lambda x, p: S.split(x, 2, axis=1)[1] - S.split(x, 2, axis=1)[0],
    'SliceChannel squeezed': lambda x, p: S.split(x, 4, axis=1, squeeze_axis=True)[3],
    'split_v2': lambda x, p: S.split_v2(x, (1,), axis=1)[1],
    'take channels': lambda x, p: S.take(x, p('kept', np.array([3, 0, 2])), axis=1),
    'take integer channels': lambda x, p: S.take(x, p('kept', np.array([3, 0], 'int32')), axis=1),
    'take the last axis': lambda x, p: S.take(x, p('kept', np.array([5, 9, -1])), axis=-1, mode='clip'),
    'take wrapped': lambda x, p: S.take(x, p('kept', np.array([5, 9, -1])), axis=-2, mode='wrap'),
    'tile': lambda x, p: S.tile(x, (1, 2, 1, 3)),
    'repeat': lambda x, p: S.repeat(x, 2, axis=1),
    'reverse': lambda x, p: S.flip(x, axis=2),
    'broadcast_like': lambda x, p: S.broadcast_like(S.mean(x, axis=(2, 3), keepdims=True), x),
    'broadcast_like of the batch': lambda x, p: S.broadcast_like(p('queries', (1, 4, 1, 6)), x) + x,
    'broadcast_axis': lambda x, p: S.broadcast_axis(S.mean(x, axis=(2, 3), keepdims=True), axis=(2, 3), size=(2, 3)),
    'broadcast_to': lambda x, p: S.broadcast_to(S.mean(x, axis=(2, 3), keepdims=True), (0, 0, 2, 3)),
    'depth_to_space': lambda x, p: S.depth_to_space(x, 2),
    'space_to_depth': lambda x, p: S.space_to_depth(x, 2),
    **{f'Pad {mode}': lambda x, p, mode=mode: S.Pad(x, mode=mode, pad_width=(0, 0, 0, 0, 1, 2, 3, 0), constant_value=5)
       for mode in ('constant', 'edge', 'reflect')},
}

REDUCTIONS = {
    **{f'{name} {options}': lambda x, p, name=name, options=options: getattr(S, name)(x, **options)
       for name in ('sum', 'mean', 'max', 'min', 'prod')
       for options in (dict(axis=(2, 3)), dict(axis=-1, keepdims=True), dict(axis=(0, 2), exclude=True), dict(axis=1))},
    'norm': lambda x, p: S.norm(x, axis=1, keepdims=True),
    'norm 1': lambda x, p: S.norm(x, axis=(2, 3), ord=1),
    'argmax': lambda x, p: S.argmax(x, axis=1),
    **{f'L2Normalization {mode}': lambda x, p, mode=mode: S.L2Normalization(x, mode=mode, eps=0.1)
       for mode in ('channel', 'instance', 'spatial')},
    'topk': lambda x, p: S.topk(S.flatten(x), k=3, ret_typ='value'),
}

LAYERS = {
    'Convolution': lambda x, p: _conv(x, p, (8, 2, 3, 3), num_group=2, pad=(1, 0), stride=(2, 1), dilate=(1, 2)),
    'Convolution 1D': lambda x, p: _conv(S.reshape(x, (0, 0, -1)), p, (3, 4, 5), pad=(2,), stride=(3,)),
    'Convolution 3D': lambda x, p: _conv(S.reshape(x, (0, 2, 2, 6, 6)), p, (3, 2, 2, 3, 3)),
    'Deconvolution': _deconv((4, 3, 4, 4), stride=(2, 2), pad=(1, 1)),
    'Deconvolution with bias and adj': _deconv((4, 3, 3, 3), bias=True, stride=(2, 2), pad=(1, 0), adj=(1, 1)),
    'Deconvolution in groups': _deconv((4, 3, 3, 3), num_group=2, stride=(3, 2), dilate=(2, 1)),
    'Deconvolution with a target': _deconv((4, 3, 4, 4), stride=(2, 2), target_shape=(14, 14)),
    'Deconvolution 1D': lambda x, p: _deconv((4, 3, 4), stride=(2,))(S.reshape(x, (0, 0, -1)), p),
    'FullyConnected': lambda x, p: S.FullyConnected(x, p('w', (5, 144)), p('b', (5,)), num_hidden=5),
    'FullyConnected of the last axis': lambda x, p: S.FullyConnected(x, p('w', (5, 6)), num_hidden=5, no_bias=True,
                                                                     flatten=False),
    'BatchNorm': _norm(fix_gamma=False),
    'BatchNorm with a fixed gamma': _norm(),
    'BatchNorm of the last axis': _norm(axis=-1, size=6, fix_gamma=False, eps=0.1),
    'BatchNorm of features': lambda x, p: _norm(size=144, axis=-1)(S.flatten(x), p),
    'BatchNorm with ReLU': _norm(C.BatchNormWithReLU, fix_gamma=False),
    'SyncBatchNorm': _norm(C.SyncBatchNorm, fix_gamma=False, key='k'),
    'InstanceNorm': lambda x, p: S.InstanceNorm(x, p('gamma', (4,)), p('beta', (4,)), eps=0.1),
    'LayerNorm': lambda x, p: S.LayerNorm(x, p('gamma', (6,)), p('beta', (6,)), eps=0.1),
    'LayerNorm of channels': lambda x, p: S.LayerNorm(x, p('gamma', (4,)), p('beta', (4,)), axis=1),
    'GroupNorm': lambda x, p: S.GroupNorm(x, p('gamma', (2,)), p('beta', (2,)), num_groups=2, eps=0.1),
    'LRN': lambda x, p: S.LRN(x, nsize=3, alpha=0.5),
    'Embedding': lambda x, p: S.Embedding(S.argmax(x, axis=1), p('w', (4, 3)), input_dim=4, output_dim=3),
    'batch_dot': lambda x, p: S.batch_dot(S.reshape(x, (0, 0, -1)), S.reshape(x, (0, 0, -1)), transpose_b=True),
    'dot': lambda x, p: S.dot(S.flatten(x), p('w', (144, 5))),
    **{f'pooling {kind} {convention}': _pool(pool_type=kind, pooling_convention=convention, **options)
       for kind, options in (('max', {}), ('avg', {}), ('sum', {}), ('lp', dict(p_value=2)))
       for convention in ('valid', 'full')},
    'pooling avg without padding': _pool(pool_type='avg', count_include_pad=False),
    'pooling avg full without padding': _pool(pool_type='avg', count_include_pad=False, pooling_convention='full'),
    'pooling full with a part of a window': _pool(pool_type='avg', pooling_convention='full', pad=(0, 0)),
    'pooling full, even': _pool(pool_type='avg', pooling_convention='full', kernel=(2, 2), pad=(1, 1)),
    'pooling 1D': lambda x, p: S.Pooling(S.reshape(x, (0, 0, -1)), kernel=(3,), stride=(2,), pool_type='max'),
    **{f'pooling global {kind}': _pool(pool_type=kind, global_pool=True) for kind in ('max', 'avg', 'sum')},
    **{f'adaptive pooling {size}': lambda x, p, size=size: C.AdaptiveAvgPooling2D(x, output_size=size)
       for size in (1, 2, 4, (3, 5))},
    'adaptive pooling default': lambda x, p: C.AdaptiveAvgPooling2D(x),
    **{f'resize {options}': lambda x, p, options=options: C.BilinearResize2D(x, **options)
       for options in (dict(height=9, width=13), dict(height=4, width=1), dict(height=11, width=5, align_corners=False),
                       dict(scale_height=2.5, scale_width=1.5, mode='odd_scale'), dict(height=3, width=4,
                                                                                       align_corners=False))},
    'resize like': lambda x, p: C.BilinearResize2D(x, S.tile(x, (1, 1, 2, 3)), mode='like'),
    'UpSampling': lambda x, p: S.UpSampling(x, scale=3, sample_type='nearest'),
    'UpSampling of two': lambda x, p: S.UpSampling(x, S.tile(x, (1, 1, 2, 2)), scale=2, sample_type='nearest',
                                                   num_args=2),
    'UpSampling bilinear': lambda x, p: S.UpSampling(x, p('w', (4, 1, 4, 4)), scale=2, sample_type='bilinear',
                                                     num_filter=4, num_args=2),
}



def _boxes(order='cspp', **options):
    """Rows of a box each: ``c`` a class of -1, 0, 1 or 2, ``s`` a score, ``p`` a point; the points are far or near."""
    def build(x, p):
        x = S.reshape(x, (0, 24, 6))
        one = S.slice_axis(x, axis=2, begin=2, end=4)
        parts = {'c': S.floor(1.5 * S.abs(S.slice_axis(x, axis=2, begin=0, end=1))) - 1,
                 's': S.slice_axis(x, axis=2, begin=1, end=2), 'p': one,
                 'q': one + 1 + S.abs(S.slice_axis(x, axis=2, begin=4, end=6))}
        rows = S.concat(*[parts['q' if part == 'p' and 'p' in order[:i] else part] for i, part in enumerate(order)],
                        dim=2)
        return C.box_nms(rows, **dict(dict(overlap_thresh=0.3, valid_thresh=-0.5), **options))
    return build


BOXES = {
    'box_nms': _boxes(),
    'box_nms by class': _boxes(id_index=0),
    'box_nms of the best by class': _boxes(id_index=0, topk=15),
    'box_nms by class, forced': _boxes(id_index=0, force_suppress=True, topk=15),
    'box_nms without the background': _boxes(id_index=0, background_id=0),
    'box_nms, other columns': _boxes('ppcs', coord_start=0, score_index=5, id_index=4, topk=40),
    'box_nms of centers': _boxes('spp', score_index=0, coord_start=1, in_format='center', out_format='center'),
    'box_nms of nothing': _boxes(valid_thresh=100),
}

CASES = {**ACTIVATIONS, **ELEMENTWISE, **SHAPING, **REDUCTIONS, **LAYERS, **BOXES}
