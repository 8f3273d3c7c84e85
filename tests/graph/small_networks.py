"""Small networks as functions of the input symbol, and the layers that they are made of.

``unit`` is convolution, batch normalisation ``<name>_bn`` and activation.
"""
import mxnet as mx

S = mx.sym


def conv(x, name, width, kernel=3, no_bias=True, pad=None, **arguments):
    return S.Convolution(x, num_filter=width, kernel=(kernel, kernel), no_bias=no_bias, name=name,
                         pad=(kernel // 2 if pad is None else pad,) * 2, **arguments)


def norm(x, name):
    return S.BatchNorm(x, fix_gamma=False, eps=1e-5, name=name)


def unit(x, name, width, kernel=3, act='relu', **arguments):
    y = norm(conv(x, name, width, kernel, **arguments), f'{name}_bn')
    return S.Activation(y, act_type=act) if act else y


def deconv(x, name, width, **arguments):
    y = norm(S.Deconvolution(x, num_filter=width, kernel=(2, 2), stride=(2, 2), name=name, **arguments), f'{name}_bn')
    return S.Activation(y, act_type='relu')


def pooled(x):
    return S.Pooling(x, kernel=(1, 1), global_pool=True, pool_type='avg')


def dense(x, name='out', units=5, **arguments):
    return S.FullyConnected(x, num_hidden=units, name=name, **arguments)


def head(x):
    return dense(pooled(x))


def squeeze_and_excitation(x):
    a = unit(x, 'a', 6)
    s = S.Activation(dense(pooled(a), 'squeeze', 3), act_type='relu')
    s = S.Activation(dense(s, 'excite', 6), act_type='sigmoid')
    return head(S.broadcast_mul(a, S.reshape(s, shape=(-1, 6, 1, 1))))


def excitation_with_new_axes(x):
    a = unit(x, 'a', 6)
    s = S.Activation(dense(S.mean(a, axis=(2, 3)), 'excite', 6, flatten=False), act_type='sigmoid')
    return head(S.broadcast_mul(a, S.expand_dims(S.expand_dims(s, axis=2), axis=2)))


def slices(x, *cuts):
    a = unit(x, 'a', 6)
    return head(S.concat(*[unit(S.slice_axis(a, axis=1, begin=begin, end=end), f'part{i}', 2)
                           for i, (begin, end) in enumerate(cuts)]))


def split(x):
    a = S.split(unit(x, 'a', 6), num_outputs=2, axis=1)
    return head(S.concat(unit(a[0], 'b', 2), unit(a[1], 'c', 3)))


def shared_weights(x):
    a = unit(x, 'a', 4)
    weight = S.var('weight', shape=(4, 4, 3, 3))
    for name in ('first', 'second'):
        a = S.Activation(norm(S.Convolution(a, weight, num_filter=4, kernel=(3, 3), pad=(1, 1), no_bias=True,
                                            name=name), f'{name}_bn'), act_type='relu')
    return head(a)


def two_outputs(x):
    a = unit(x, 'a', 4)
    return S.Group([dense(pooled(a), 'small', 2), head(unit(a, 'b', 4))])


def shuffle(x):
    """ShuffleNet's: channels of two groups alternate."""
    a = S.reshape(unit(x, 'a', 4), shape=(0, -4, 2, -1, -2))
    return head(unit(S.reshape(S.swapaxes(a, dim1=1, dim2=2), shape=(0, -3, -2)), 'b', 4))


def constant_branch(middle):
    """x → a, to which a branch is added whose batch normalisation has gamma 0: ``middle`` of a constant."""
    def build(x):
        a = unit(x, 'a', 4)
        return head(a + middle(unit(a, 'b', 4)))
    return build


def pool(x, **arguments):
    return S.Pooling(x, **{**dict(kernel=(3, 3), pad=(1, 1), stride=(1, 1), pool_type='avg'), **arguments})


def between(middle, **arguments):
    """a, an operator, b: what happens to the zero channel 1 of a?"""
    return lambda x: head(unit(middle(unit(x, 'a', 4, **arguments)), 'b', 4))
