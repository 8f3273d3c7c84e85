"""Small networks that once were pruned wrongly."""
import mxnet as mx
import pytest
from mxnet.gluon import nn

from sss_gluon.factors import ScaledBatchNorm, ScaledConv2D
from sss_gluon.structures import compact


class Called(nn.HybridBlock):
    """A small network from a function of F, its input and its layers."""

    def __init__(self, forward, **layers):
        super().__init__()
        self._forward = forward
        with self.name_scope():
            for name, layer in layers.items():
                setattr(self, name, layer)

    def hybrid_forward(self, F, x, **own):
        return self._forward(self, F, x, **own)


def test_other_input_sizes_stay_possible(fill, set_factors, batch, difference):
    net = fill(Called(lambda s, F, x: s.last(F.mean(F.reshape(s.norm(s.conv(x)), shape=(0, 0, -1)), axis=2)),
                      conv=nn.Conv2D(4, 3, padding=1, in_channels=2), norm=ScaledBatchNorm(4),
                      last=nn.Dense(2, in_units=4)))
    set_factors(net, {'norm': [1, 0, 1, 1]})
    small = compact(net, (1, 2, 8, 8))
    assert (small.before.macs, small.after.macs) == (64 * 18 * 4 + 8, 64 * 18 * 3 + 6)
    x = batch(2, 2, 16, 16)
    assert difference(net(x), small.net(x)) < 1e-5


def test_a_layer_called_twice_stays_one_layer(fill, batch, difference):
    net = fill(Called(lambda s, F, x: s.conv(x) + s.conv(F.relu(x)),
                      conv=ScaledConv2D(3, 3, padding=1, use_bias=False, in_channels=3)))
    small = compact(net, (1, 3, 6, 6))
    assert small.before.params == small.after.params == 3 * 3 * 9
    assert list(small.net.collect_params()) == ['conv_weight']
    x = batch(1, 3, 6, 6)
    assert difference(net(x), small.net(x)) < 1e-5


@pytest.mark.parametrize('value', [0.0, 0.5])
def test_an_added_parameter_of_the_network_itself_stays(value, batch, difference):
    net = Called(lambda s, F, x, shift: s.pool(x) + shift, pool=nn.GlobalAvgPool2D())
    with net.name_scope():
        net.shift = net.params.get('shift', shape=(1, 3, 1, 1), init=mx.init.Constant(value), lr_mult=2, wd_mult=3)
    net.initialize()
    small = compact(net, (1, 3, 4, 4))
    shift, = small.net.collect_params().values()
    assert (shift.name, shift.lr_mult, shift.wd_mult) == ('shift', 2, 3)
    x = batch(1, 3, 4, 4)
    assert difference(net(x), small.net(x)) < 1e-6


def test_a_concatenated_parameter_keeps_its_channels(fill, set_factors, batch, difference):
    net = Called(lambda s, F, x, code: s.last(F.concat(s.norm(s.conv(x)), code, dim=1)),
                 conv=nn.Conv2D(4, 1, in_channels=2), norm=ScaledBatchNorm(4), last=nn.Conv2D(3, 1, in_channels=6))
    with net.name_scope():
        net.code = net.params.get('code', shape=(1, 2, 4, 4))
    fill(net)
    set_factors(net, {'norm': [0, 1, 0, 1]})
    small = compact(net, (1, 2, 4, 4))
    assert any('oncat' in operator for operator in small.unhandled)
    x = batch(1, 2, 4, 4)
    assert difference(net(x), small.net(x)) < 1e-5
