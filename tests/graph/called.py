"""Small networks with unusual inputs and outputs, built like those of users."""
from mxnet import autograd
from mxnet.gluon import nn

from sss_gluon.factors import ScaledBatchNorm


class Unit(nn.HybridBlock):
    """A 1x1 convolution, batch normalisation with a factor for each channel, ReLU."""

    def __init__(self, width, in_channels):
        super().__init__()
        with self.name_scope():
            self.conv = nn.Conv2D(width, 1, in_channels=in_channels, use_bias=False)
            self.norm = ScaledBatchNorm(width)

    def hybrid_forward(self, F, x):
        return F.relu(self.norm(self.conv(x)))


class Outputs(nn.HybridBlock):
    """Two heads on a common stem, in any form that ``form(F, a, b)`` gives them."""

    def __init__(self, form):
        super().__init__()
        self.form = form
        with self.name_scope():
            self.stem, self.a, self.b = Unit(6, 3), Unit(4, 6), Unit(2, 6)

    def hybrid_forward(self, F, x):
        x = self.stem(x)
        return self.form(F, self.a(x), self.b(x))


class Inputs(nn.HybridBlock):
    """image, other and number: the second is scaled, the third is added to what the first gives."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.first, self.second, self.last = Unit(6, 3), Unit(5, 2), Unit(4, 11)

    def hybrid_forward(self, F, image, other, number):
        first = F.broadcast_add(self.first(image), F.expand_dims(F.expand_dims(number, 2), 3))
        return self.last(F.concat(first, self.second(other), dim=1))


class Auxiliary(nn.HybridBlock):
    """A classifier for 8x8 images with an auxiliary head that exists while it trains."""
    always = False

    def __init__(self, classes=10, in_channels=1, form=tuple):
        super().__init__()
        self.form = form
        with self.name_scope():
            self.stem, self.body, self.head = Unit(8, in_channels), Unit(12, 8), Unit(16, 8)
            self.output, self.extra = nn.Dense(classes, in_units=12), nn.Dense(classes, in_units=16)

    def hybrid_forward(self, F, x):
        x = self.stem(x)
        output = self.output(F.mean(self.body(x), axis=(2, 3)))
        if not (self.always or autograd.is_training()):
            return output
        return self.form([output, self.extra(F.mean(self.head(x), axis=(2, 3)))])


class TwoHeads(Auxiliary):
    """The same with both heads always, as a GoogLeNet with aux_logits."""
    always = True


class Wrong(nn.HybridBlock):
    """A second output that is no class."""

    def __init__(self, classes, in_channels):
        super().__init__()
        with self.name_scope():
            self.unit, self.output = Unit(8, in_channels), nn.Dense(classes, in_units=8)

    def hybrid_forward(self, F, x):
        x = F.mean(self.unit(x), axis=(2, 3))
        return self.output(x), x
