"""Small networks of each family, and the factors that they should get, worked out by hand.

``FAMILIES``: {name: (function that builds the network, {layer: (kind, number)}, {layer: a word of the reason})}. Their
input is 3 x 8 x 8.
"""
from mxnet import gluon
from mxnet.gluon import nn

SHAPE = (2, 3, 8, 8)


def conv(width, kernel=3, bias=False, **arguments):
    return nn.Conv2D(width, kernel, padding=kernel // 2, use_bias=bias, **arguments)


def chain(*layers):
    net = nn.HybridSequential()
    for layer in layers:
        net.add(nn.Activation('relu') if layer == 'relu' else layer)
    return net


def head(*layers, classes=4):
    return chain(*layers, nn.GlobalAvgPool2D(), nn.Dense(classes))


class Residual(nn.HybridBlock):
    """relu(shortcut(x) + body(x)); without the ReLU, and with one shortcut behind the first ``before`` layers."""

    def __init__(self, body, shortcut=None, relu=True, before=None):
        super().__init__()
        self.relu = relu
        with self.name_scope():
            self.before, self.body, self.shortcut = before, body, shortcut

    def hybrid_forward(self, F, x):
        before = x if self.before is None else self.before(x)
        y = (x if self.shortcut is None else self.shortcut(before)) + self.body(before)
        return F.relu(y) if self.relu else y


class Concat(nn.HybridBlock):
    """The results of several branches side by side, after the input itself where ``keep``."""

    def __init__(self, *branches, keep=False):
        super().__init__()
        self.keep = keep
        with self.name_scope():
            for branch in branches:
                self.register_child(branch)

    def hybrid_forward(self, F, x):
        return F.concat(*([x] if self.keep else []), *(branch(x) for branch in self._children.values()), dim=1)


class Gate(nn.HybridBlock):
    """Squeeze-and-excitation."""

    def __init__(self, inner, width, convolutions):
        super().__init__()
        with self.name_scope():
            self.squeeze = conv(inner, 1, bias=True) if convolutions else nn.Dense(inner)
            self.excite = conv(width, 1, bias=True) if convolutions else nn.Dense(width)
        self.convolutions = convolutions

    def hybrid_forward(self, F, x):
        pooled = F.contrib.AdaptiveAvgPooling2D(x, output_size=1)
        scale = F.sigmoid(self.excite(F.relu(self.squeeze(pooled))))
        return F.broadcast_mul(x, scale if self.convolutions else scale.expand_dims(2).expand_dims(2))


class Fuse(nn.HybridBlock):
    """HRNet's exchange: the finer scale gets the coarser one, after a 1x1 convolution, upsampled."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.fine, self.coarse = chain(conv(4), nn.BatchNorm(), 'relu'), chain(conv(6, strides=2), nn.BatchNorm())
            self.up = chain(conv(4, 1), nn.BatchNorm())
            self.body = chain(conv(4), nn.BatchNorm())

    def hybrid_forward(self, F, x):
        fine, coarse = self.fine(x), F.relu(self.coarse(x))
        fine = F.relu(fine + self.body(fine))
        return F.relu(fine + F.UpSampling(self.up(coarse), scale=2, sample_type='nearest'))


class Doubled(nn.Conv2D):
    """A convolution of one's own."""

    def hybrid_forward(self, F, x, weight, bias=None):
        return super().hybrid_forward(F, 2 * x, weight, bias)


class Standardised(nn.Conv2D):
    """The weight is divided by its own norm, which would undo a factor."""

    def hybrid_forward(self, F, x, weight, bias=None):
        return super().hybrid_forward(F, x, F.broadcast_div(weight, F.sqrt(F.sum(weight ** 2))), bias)


class Twice(nn.HybridBlock):
    def __init__(self, layer):
        super().__init__()
        with self.name_scope():
            self.layer = layer

    def hybrid_forward(self, F, x):
        return self.layer(F.relu(self.layer(x)))


class Bare(nn.HybridBlock):
    """One block that owns the weights of two convolutions."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.first = self.params.get('first_weight', shape=(6, 3, 3, 3))
            self.second = self.params.get('second_weight', shape=(5, 6, 1, 1))
            self.shift = self.params.get('shift', shape=(5,))

    def hybrid_forward(self, F, x, first, second, shift):
        x = F.relu(F.Convolution(x, first, num_filter=6, kernel=(3, 3), no_bias=True))
        return F.relu(F.Convolution(x, second, shift, num_filter=5, kernel=(1, 1)))


def residual_v1():
    return head(conv(4), nn.BatchNorm(), 'relu',
                Residual(chain(conv(4), nn.BatchNorm(), 'relu', conv(4), nn.BatchNorm())),
                Residual(chain(conv(5, 1), nn.BatchNorm(), 'relu', conv(6), nn.BatchNorm(), 'relu', conv(8, 1),
                               nn.BatchNorm()), chain(conv(8, 1), nn.BatchNorm())))


def residual_v2():
    return head(conv(4),
                Residual(chain(nn.BatchNorm(), 'relu', conv(4), nn.BatchNorm(), 'relu', conv(4)), relu=False),
                Residual(chain(conv(6), nn.BatchNorm(), 'relu', conv(8)), conv(8, 1), relu=False,
                         before=chain(nn.BatchNorm(), 'relu')),
                nn.BatchNorm(), 'relu')


def grouped():
    return head(conv(8), nn.BatchNorm(), 'relu',
                Residual(chain(conv(12, 1), nn.BatchNorm(), 'relu', conv(12, groups=4), nn.BatchNorm(), 'relu',
                               conv(8, 1), nn.BatchNorm())))


def inverted(gate=None, act='relu'):
    return head(conv(4), nn.BatchNorm(),
                Residual(chain(conv(12, 1), nn.BatchNorm(), act, conv(12, groups=12), nn.BatchNorm(),
                               *([gate] if gate else []), act, conv(4, 1), nn.BatchNorm()), relu=False))


def gated():
    return head(conv(4), nn.BatchNorm(), 'relu',
                Residual(chain(conv(6), nn.BatchNorm(), 'relu', conv(4), nn.BatchNorm(), Gate(3, 4, False))))


def inception():
    return head(Concat(chain(conv(4, 1), nn.BatchNorm(), 'relu'),
                       chain(conv(3, 1, bias=True), 'relu', conv(5), nn.BatchNorm(), 'relu')),
                conv(6), nn.BatchNorm(), 'relu')


def transposed():
    return head(chain(conv(4, strides=2), nn.BatchNorm(), 'relu', nn.Conv2DTranspose(6, 2, 2), 'relu',
                      nn.Conv2DTranspose(5, 2, 2, use_bias=False), nn.BatchNorm(), 'relu'))


SUM, OUT = 'added', 'output'
FAMILIES = {
    'plain': (lambda: chain(conv(6), nn.BatchNorm(), 'relu', nn.MaxPool2D(), conv(7, bias=True, activation='relu'),
                            nn.Flatten(), nn.Dense(9, activation='relu'), nn.Dropout(0.5), nn.Dense(8, use_bias=False),
                            nn.Dense(4)),
              {'1': ('neuron', 6), '4': ('neuron', 7), '6': ('neuron', 9), '8': ('neuron', 8)}, {'9': OUT}),
    'residual': (residual_v1,
                 {'3.body.1': ('neuron', 4), '3.body.4': ('block', 1), '4.body.1': ('neuron', 5),
                  '4.body.4': ('neuron', 6), '4.body.7': ('block', 1)},
                 {'0': SUM, '4.shortcut.0': SUM, '6': OUT}),
    'pre-activation': (residual_v2,
                       {'1.body.3': ('neuron', 4), '1.body.5': ('block', 1), '2.body.1': ('neuron', 6),
                        '2.body.3': ('block', 1)},
                       {'0': SUM, '2.shortcut': SUM, '6': OUT}),
    'grouped': (grouped, {'3.body.4': ('group', 4), '3.body.7': ('block', 1)}, {'0': SUM, '5': OUT}),
    'depthwise': (inverted, {'2.body.4': ('neuron', 12), '2.body.7': ('block', 1)}, {'0': SUM, '4': OUT}),
    'depthwise, gated': (lambda: inverted(Gate(3, 12, True), nn.Swish()),
                         {'2.body.4': ('neuron', 12), '2.body.5.squeeze': ('neuron', 3), '2.body.8': ('block', 1)},
                         {'0': SUM, '4': OUT}),
    'squeeze and excitation': (gated, {'3.body.1': ('neuron', 6), '3.body.5.squeeze': ('neuron', 3),
                                       '3.body.4': ('block', 1)},
                               {'0': SUM, '3.body.5.excite': 'scales', '5': OUT}),
    'inception': (inception, {'0.0.1': ('neuron', 4), '0.1.0': ('neuron', 3), '0.1.3': ('neuron', 5),
                              '2': ('neuron', 6)}, {'5': OUT}),
    'fire': (lambda: head(conv(6, 1, bias=True), 'relu', Concat(chain(conv(4, 1, bias=True), 'relu'),
                                                                chain(conv(5, bias=True), 'relu')),
                          conv(3, 1, bias=True)),
             {'0': ('neuron', 6), '2.0.0': ('neuron', 4), '2.1.0': ('neuron', 5), '3': ('neuron', 3)}, {'5': OUT}),
    'two scales': (lambda: head(Fuse()),
                   {'0.body.1': ('block', 1), '0.coarse.1': ('neuron', 6), '0.up.1': ('block', 1)},
                   {'0.fine.0': SUM, '2': OUT}),
    'transposed': (transposed, {'0.1': ('neuron', 4), '0.6': ('neuron', 5)},
                   {'0.3': 'transposed', '2': OUT}),
    'no gamma': (lambda: head(conv(6), nn.BatchNorm(scale=False), 'relu', conv(5), nn.BatchNorm(center=False), 'relu'),
                 {'1': ('neuron', 6), '4': ('neuron', 5)}, {'7': OUT}),
    'norms': (lambda: head(conv(6), gluon.contrib.nn.SyncBatchNorm(num_devices=1), 'relu', conv(5), nn.BatchNormReLU()),
              {'1': ('neuron', 6), '4': ('neuron', 5)}, {'6': OUT}),
    'own layers': (lambda: head(Standardised(6, 3, in_channels=3), 'relu', Doubled(5, 3), 'relu', conv(7), 'relu'),
                   {'2': ('neuron', 5), '4': ('neuron', 7)}, {'0': 'computed', '7': OUT}),
    'a layer used twice': (lambda: head(conv(3), 'relu', Twice(conv(3)), conv(5), 'relu'),
                           {'3': ('neuron', 5)}, {'0': 'Convolution', '2.layer': 'used more than once', '6': OUT}),
    'two weights in a block': (lambda: head(Bare()), {'0': ('neuron', 6), '0#2': ('neuron', 5)}, {'2': OUT}),
}
