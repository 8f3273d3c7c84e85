"""Constant channels that the next layer takes up, and channels that one layer needs and another does not.

Cases as in channel_cases.py. A selection pays where it saves 32 MACs for each value that it copies.
"""
import numpy as np
from channel_cases import ALL, Case
from small_networks import S, conv, dense, head, norm, pool, pooled, unit

HALF = {'b_bn_gamma': [0, 1, 0, 1], 'b_bn_beta': [0.5, 0.1, 0.7, 2]}       # channels 0 and 2 of b: constants above 0
SELECTED = ('take', 'transpose')
BELOW, ABOVE = ({'g_bn_beta': beta, 'g_bn_moving_mean': 0} for beta in (-1, 1))    # behind a depthwise convolution


def activated(x, name):
    return S.Activation(norm(x, f'{name}_bn'), act_type='relu')


def hard_swish(x):
    return x * S.clip(x + 3, 0, 6) / 6


def inverted(act, middle=lambda g: g, width=5):
    """MobileNet's: expansion a, depthwise g, projection d."""
    def build(x):
        a = act(norm(conv(x, 'a', 4, 1), 'a_bn'))
        g = middle(act(norm(conv(a, 'g', 4, num_group=4), 'g_bn')))
        return head(norm(conv(g, 'd', width, 1), 'd_bn'))
    return build


def excited(g):
    return S.broadcast_mul(g, S.reshape(S.sigmoid(dense(pooled(g), 'excite', 4)), shape=(-1, 4, 1, 1)))


def preactivated(*layers):
    """A stream a of 4 channels, to which branches of normalisation n, ReLU and these layers are added."""
    def build(x):
        a = conv(x, 'a', 4)
        for i, layer in enumerate(layers):
            a = a + layer(activated(a, 'n' * (i + 1)))
        return head(a)
    return build


def narrowing(x):
    """ResNet v2's first block of a stage: two layers read the normalised stream, which a third reads as it is."""
    a = conv(x, 'a', 4)
    n = activated(a, 'n')
    return head(S.concat(conv(n, 'b', 16) + conv(n, 's', 16, 1), conv(a, 'c', 2)))


def dense_connections(x):
    for i, name in enumerate('abc'):
        n = activated(x, f'{name}0') if i else x
        x = S.concat(x, conv(n, name, 16), dim=1)
    return head(x)


CASES = {
    # Constants that the next layer takes up
    'constants into a layer without padding': Case(
        lambda x: head(unit(unit(unit(x, 'a', 4), 'b', 4), 'c', 5, 1)), {},
        {'a': [4, 3], 'b': [2, 4], 'c': [5, 2], 'out': [5, 5]}, HALF),
    'constants into a layer with a bias': Case(
        lambda x: head(unit(unit(unit(x, 'a', 4), 'b', 4), 'c', 5, 1, no_bias=False)), {},
        {'a': [4, 3], 'b': [2, 4], 'c': [5, 2], 'out': [5, 5]}, HALF),
    'constants into a kernel without padding': Case(
        lambda x: head(unit(unit(unit(x, 'a', 4), 'b', 4), 'c', 5, 3, pad=0)), {},
        {'a': [4, 3], 'b': [2, 4], 'c': [5, 2], 'out': [5, 5]}, HALF),
    'constants into padding': Case(
        lambda x: head(unit(unit(unit(x, 'a', 4), 'b', 4), 'c', 5)), {},
        {'a': [4, 3], 'b': [4, 4], 'c': [5, 4], 'out': [5, 5]}, HALF),
    'constants into padding and into none': Case(      # c needs them, so that d reads them too
        lambda x: (lambda b: head(unit(b, 'c', 5) + unit(b, 'd', 5, 1)))(unit(unit(x, 'a', 4), 'b', 4)), {},
        {'a': [4, 3], 'b': [4, 4], 'c': [5, 4], 'd': [5, 4], 'out': [5, 5]}, HALF),
    'constants into a dense layer': Case(
        lambda x: head(unit(unit(x, 'a', 4), 'b', 4)), {}, {'a': [4, 3], 'b': [2, 4], 'out': [5, 2]}, HALF),
    'constants into a dense layer without bias, flattened': Case(
        lambda x: dense(S.Flatten(unit(unit(x, 'a', 4), 'b', 4)), no_bias=True), {},
        {'a': [4, 3], 'b': [2, 4], 'out': [5, 2 * 64]}, HALF),
    'constants through a concatenation': Case(
        lambda x: (lambda a: head(unit(S.concat(a, unit(a, 'b', 4)), 'c', 5, 1)))(unit(x, 'a', 4)), {'a': [1]},
        {'a': [3, 3], 'b': [2, 3], 'c': [5, 5], 'out': [5, 5]}, HALF),
    'constants through pooling': Case(
        lambda x: head(unit(pool(unit(unit(x, 'a', 4), 'b', 4), pool_type='max'), 'c', 5, 1)), {},
        {'a': [4, 3], 'b': [2, 4], 'c': [5, 2], 'out': [5, 5]}, HALF),
    'constants into a transposed convolution': Case(
        lambda x: head(S.Deconvolution(unit(unit(x, 'a', 4), 'b', 4), num_filter=3, kernel=(3, 3), name='d')), {},
        {'a': [4, 3], 'b': [4, 4], 'd': [3, 4], 'out': [5, 3]}, HALF),
    'a constant of every channel': Case(       # c is constant too: the chain ends in the bias of out
        lambda x: head(unit(unit(unit(x, 'a', 4), 'b', 4), 'c', 5, 1)), {},
        {'a': [1, 3], 'b': [1, 1], 'c': [1, 1], 'out': [5, 1]}, {'b_bn_gamma': 0, 'b_bn_beta': 1}),
    # A factor in front of a depthwise convolution
    'in front of a depthwise convolution': Case(
        inverted(S.relu), {'a': [0, 2]}, {'a': [2, 3], 'g': [2, 1], 'd': [5, 2], 'out': [5, 5]}, ABOVE),
    'in front of a depthwise convolution, hard-swish': Case(
        inverted(hard_swish), {'a': [0, 2]}, {'a': [2, 3], 'g': [2, 1], 'd': [5, 2], 'out': [5, 5]}, BELOW),
    'in front and behind': Case(
        inverted(hard_swish), {'a': [0, 2], 'g': [1]}, {'a': [1, 3], 'g': [1, 1], 'd': [5, 1], 'out': [5, 5]}, {}),
    'a constant that is excited varies': Case(
        inverted(hard_swish, excited), {'a': [0, 2]},
        {'a': [4, 3], 'g': [4, 1], 'excite': [4, 4], 'd': [5, 4], 'out': [5, 5]}, ABOVE),
    'a zero that is excited': Case(
        inverted(S.relu, excited), {'a': [0, 2]},
        {'a': [2, 3], 'g': [2, 1], 'excite': [2, 2], 'd': [5, 2], 'out': [5, 5]}, BELOW),
    # Selections
    'in front of a pre-activation layer': Case(
        preactivated(lambda n: conv(n, 'b', 4)), {'n': [0, 2]}, {'a': [4, 3], 'b': [4, 2], 'out': [5, 4]},
        left=SELECTED),
    'what would not pay': Case(
        preactivated(lambda n: conv(n, 'b', 4, 1)), {'n': [0, 2]}, {'a': [4, 3], 'b': [4, 4], 'out': [5, 4]}),
    'constants other than 0': Case(
        preactivated(lambda n: conv(conv(n, 'b', 40, 1), 'c', 4, 1)), {},
        {'a': [4, 3], 'b': [40, 2], 'c': [4, 40], 'out': [5, 4]}, {'n_bn_gamma': [0, 1, 0, 1], 'n_bn_beta': 1},
        left=SELECTED),
    'two blocks, a channel that neither reads': Case(     # out reads the stream
        preactivated(lambda n: conv(n, 'b', 4), lambda n: conv(n, 'c', 4)), {'n': [0, 2], 'nn': [0, 1, 2]},
        {'a': [4, 3], 'b': [4, 2], 'c': [4, 1], 'out': [5, 4]}, left=SELECTED),
    'two layers behind one selection': Case(
        narrowing, {'n': [1, 2]}, {'a': [4, 3], 'b': [16, 2], 's': [16, 2], 'c': [2, 4], 'out': [5, 18]},
        left=SELECTED),
    'densely connected': Case(      # of the 35 channels of x, a and b together, c reads 19
        dense_connections, {'b0': [0, 1, 2, 3, 4, 5, 6, 7, 8], 'c0': range(0, 32, 2)},
        {'a': [16, 3], 'b': [16, 10], 'c': [16, 19], 'out': [5, 51]}, left=SELECTED),
    'weights that are zero, for one of two layers': Case(
        lambda x: (lambda a: head(conv(a, 'b', 8) + conv(a, 'c', 8)))(conv(x, 'a', 4)), {},
        {'a': [4, 3], 'b': [8, 2], 'c': [8, 4], 'out': [5, 8]},
        {'b_weight': np.reshape([0, 1, 0, 1], (1, 4, 1, 1))}, left=SELECTED),
    'of the input': Case(lambda x: head(conv(activated(x, 'n'), 'a', 16)), {'n': [1]},
                         {'a': [16, 2], 'out': [5, 16]}, left=SELECTED),
    'nobody else reads the rest': Case(     # the concatenation can do without it
        lambda x: head(conv(activated(S.concat(conv(x, 'a', 3), conv(x, 'b', 3)), 'n'), 'c', 8)), {'n': [0, 4, 5]},
        {'a': [2, 3], 'b': [1, 3], 'c': [8, 3], 'out': [5, 8]}),
    'all of it': Case(
        preactivated(lambda n: conv(n, 'b', 4)), {'n': ALL}, {'a': [4, 3], 'b': None, 'out': [5, 4]}),
    'a selection of the user': Case(
        lambda x: head(conv(S.take(unit(x, 'a', 4), S.var('which', shape=(3,)), axis=1), 'b', 4)), {'a': [1, 2]},
        {'a': [1, 3], 'b': [4, 2], 'out': [5, 4]}, {'which': [3, 1, 9]}, left=SELECTED),    # 9 is clipped to 3
}
