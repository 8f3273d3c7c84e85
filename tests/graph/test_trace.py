import os
import subprocess
import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon
from mxnet.gluon import nn

from sss_gluon.errors import SSSError
from sss_gluon.graph import count
from sss_gluon.graph.trace import structural_names, trace
from sss_gluon.models import get_model
from sss_gluon.structures import compact


class Block(nn.HybridBlock):
    """A block around one function of F, the input and a 1x1 convolution to 4 channels."""

    def __init__(self, function, in_channels=3, scale_shape=(1, 4, 1, 1)):
        super().__init__()
        self.function = function
        with self.name_scope():
            self.conv = nn.Conv2D(4, 1, in_channels=in_channels)
            self.scale = self.params.get('scale', shape=scale_shape, allow_deferred_init=True)

    def hybrid_forward(self, F, x, scale):
        return self.function(F, self.conv(x), scale)


def test_names_are_the_same_in_every_instance():
    first, second = (trace(get_model('cifar_resnet20'), (1, 3, 32, 32), values=False) for _ in range(2))
    assert [(node.op, node.name) for node in first.nodes()] == [(node.op, node.name) for node in second.nodes()]
    assert list(first.values) == list(second.values)


def test_names_are_structural():
    net = get_model('cifar_resnet20', depths=(1,), widths=(4,))
    names = [node.name for node in trace(net, (1, 3, 8, 8), values=False).nodes() if node.op != 'null']
    for name in ('stem', 'stage1_0_norm1', 'stage1_0_conv1', 'stage1_0_norm2', 'stage1_0_conv2', 'stage1_0_shortcut',
                 'norm', 'output'):
        assert names.count(name) == 1
    assert structural_names(net)[net.stage1[0].conv2.factor.name] == 'stage1.0.conv2.factor'


def test_values_are_those_of_the_parameters(fill):
    net = fill(get_model('cifar_resnet20', depths=(1,), widths=(4,)))
    values = trace(net, (1, 3, 8, 8)).values
    parameters = net._collect_params_with_prefix()
    assert {name.replace('.', '_') for name in parameters} == set(values)
    for name, parameter in parameters.items():
        np.testing.assert_array_equal(values[name.replace('.', '_')], parameter.data().asnumpy())


def test_program_computes_what_the_network_computes(fill, batch):
    net = fill(get_model('cifar_resnext20', depths=(1, 1), widths=(16, 32), groups=4))
    x = batch(2, 3, 8, 8)
    found, = trace(net, x.shape).run(x.asnumpy())
    np.testing.assert_allclose(found, net(x).asnumpy(), rtol=1e-5, atol=1e-5)


def test_symbol_and_back(fill):
    program = trace(fill(get_model('peleenet', depths=(1, 1, 1, 1))), (1, 3, 32, 32))
    symbol = program.symbol()
    assert symbol.list_inputs() == [node.name for node in program.nodes() if node.is_variable]
    _, shapes, _ = symbol.infer_shape(data=(1, 3, 32, 32))
    assert shapes == [(1, 1000)]


def test_multipliers_are_in_the_graph():
    net = get_model('cifar_resnet20', depths=(1,), widths=(4,))
    net.stem.weight.wd_mult, net.output.bias.lr_mult, net.norm.beta.grad_req = 0.5, 2, 'null'
    attributes = {node.name: node.attrs for node in trace(net, (1, 3, 8, 8), values=False).nodes()}
    assert attributes['stem_weight']['__wd_mult__'] == '0.5'
    assert attributes['output_bias']['__lr_mult__'] == '2'
    assert attributes['norm_beta']['__grad_req__'] == 'null'
    assert attributes['stage1_0_conv2_factor']['__wd_mult__'] == '0.0'


def test_deferred_shapes_are_enough_to_count():
    net = nn.HybridSequential()
    net.add(nn.Conv2D(4, 3), nn.Dense(5))
    assert count(net, (1, 3, 8, 8)).params == 4 * 3 * 9 + 4 + 5 * 4 * 36 + 5


def test_float16_networks_are_read_in_float32(fill, zero, batch):
    """Like the same network with rounded weights, because float16 does not run on the CPU."""
    net, wide = (zero(fill(get_model('cifar_resnext20', factors=('group', 'block')))) for _ in range(2))
    net.cast('float16')
    for parameter in wide.collect_params('.*weight|.*bias').values():
        parameter.set_data(parameter.data().astype('float16').astype('float32'))
    x = batch(2, 3, 16, 16)
    small, expected = compact(net, x.shape), compact(wide, x.shape)
    assert small.net(x).dtype == np.float32 and count(net, x.shape) == count(wide, x.shape)
    np.testing.assert_allclose(small.net(x).asnumpy(), wide(x).asnumpy(), rtol=1e-4, atol=1e-4)
    assert [node.op for node in small.program.nodes()] == [node.op for node in expected.program.nodes()]


class TwoInputs(nn.HybridBlock):
    def hybrid_forward(self, F, x, y=None):
        return x + F.var('noise')


class NotHybrid(gluon.Block):
    def forward(self, x):
        return x


def of_one_channel():
    """A network whose layers got their shapes from a batch."""
    net = nn.HybridSequential()
    net.add(nn.Conv2D(4, 3), nn.Dense(2))
    net.initialize()
    net(mx.nd.zeros((1, 1, 8, 8)))
    return net


@pytest.mark.parametrize('make, message', [
    (of_one_channel, r'HybridSequential does not accept an input of shape \(1, 3, 8, 8\): '),
    (lambda: NotHybrid(), 'NotHybrid is not a HybridBlock and cannot be traced; write it with hybrid_forward'),
    (lambda: Block(lambda F, x, scale: x if x.shape[1] else -x),
     'Block cannot be traced with a symbolic input: AttributeError'),
    (lambda: TwoInputs(), r"TwoInputs has the inputs \['data', 'noise'\], and a shape is given for \['data'\] only"),
    (lambda: Block(lambda F, x, scale: F.Convolution(x, scale, num_filter=1, kernel=(9, 9), no_bias=True)),
     r'Block does not accept an input of shape \(1, 3, 8, 8\): '),
    (lambda: Block(lambda F, x, scale: x, in_channels=5), r'Block does not accept an input of shape \(1, 3, 8, 8\): '),
])
def test_errors(make, message):
    net = make()
    net.initialize()
    for function in (compact, count):
        with pytest.raises(SSSError, match=message) as error:
            function(net, (1, 3, 8, 8))
        assert '\n' not in str(error.value)


def test_values_are_needed_to_compact():
    net = get_model('cifar_resnet20')
    with pytest.raises(SSSError, match=r'parameter .*weight of ResNet has no values yet; call net.initialize\(\)'):
        compact(net, (1, 3, 8, 8))
    net = nn.HybridSequential()
    net.add(nn.Conv2D(4, 3), nn.Dense(5))
    net.initialize()
    assert compact(net, (1, 3, 8, 8)).max_difference == 0       # the input gives the shapes, as the first batch would
    assert net[0].weight.data().shape == (4, 3, 3, 3)


@pytest.mark.filterwarnings('ignore:Cannot decide shape:UserWarning')
def test_shapes_that_cannot_be_inferred():
    net = Block(lambda F, x, scale: F.broadcast_mul(x, scale), scale_shape=(1, 0, 1, 1))
    with pytest.raises(SSSError, match=r'shapes inside Block cannot be inferred from an input of shape \(1, 3, 8, 8\)'):
        count(net, (1, 3, 8, 8))


def test_without_parameters():
    net = nn.HybridSequential()
    net.add(nn.GlobalAvgPool2D(), nn.Flatten())
    small = compact(net, (2, 3, 8, 8))
    assert small.max_difference == 0 and small.after.params == 0
    assert small.net(mx.nd.ones((2, 3, 8, 8))).asnumpy().tolist() == [[1, 1, 1]] * 2


GROWTH = """
import os
import sss_gluon
from sss_gluon.graph.trace import trace

net = sss_gluon.get_model('cifar_resnet20', depths=[1, 1, 1], widths=[4, 8, 8])
net.initialize()


def pages_after(count):
    for _ in range(count):
        trace(net, (1, 3, 8, 8))
    with open('/proc/self/statm') as file:
        return int(file.read().split()[1])


first = pages_after(20)
print((pages_after(100) - first) * os.sysconf('SC_PAGE_SIZE'))
"""


@pytest.mark.skipif(not Path('/proc/self/statm').exists(), reason='reads the size of a process where Linux tells it')
def test_memory_stays_the_same():
    """Training traces the network after every epoch; a Symbol that is never freed takes 66 kB each time.

    In a process of its own: in one that has run other tests, what these freed is given back and taken at random.
    """
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, '-c', GROWTH], env=dict(os.environ, PYTHONPATH=str(root)), text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 2 * 2 ** 20
