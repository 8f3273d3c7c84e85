import subprocess
import sys

from mxnet.gluon import nn

from sss_gluon.factors import ScaledConv2D
from sss_gluon.graph.inference import for_inference
from sss_gluon.models import get_model
from sss_gluon.structures import compact

TRAIN = '''
import sys
import sss_gluon
import mxnet as mx
from mxnet import autograd
from mxnet.gluon import nn


def train(widths):
    net = nn.HybridSequential()
    branches = mx.gluon.contrib.nn.HybridConcurrent(axis=1)
    for width in widths:
        branch = nn.HybridSequential()
        branch.add(sss_gluon.ScaledConv2D(16, 3, padding=1, in_channels=3, kind='neuron'), nn.Activation('relu'))
        branches.add(branch)
    net.add(branches, nn.Conv2D(8, 3, padding=1, in_channels=16 * len(widths)), nn.BatchNorm(in_channels=8))
    net.initialize()
    for factor, width in zip(sss_gluon.scaling_factors(net), widths):
        factor.parameter.set_data(mx.nd.arange(16) < width)
    small = sss_gluon.compact(net, (1, 3, 16, 16)).net
    small.hybridize(static_alloc=True, static_shape=True)
    for _ in range(2):
        with autograd.record():
            loss = (small(mx.nd.ones((4, 3, 16, 16))) ** 2).sum()
        loss.backward()
    mx.nd.waitall()


for widths in sys.argv[1:]:
    train([int(width) for width in widths.split()])
    print(widths, flush=True)
'''


def test_concatenations_of_odd_widths_train():
    """In a separate process, which dies of a floating point exception without the guard."""
    widths = ['3 5', '13 3', '1 7 8', '8 16']
    done = subprocess.run([sys.executable, '-c', TRAIN, *widths], capture_output=True, text=True, timeout=100)
    assert done.stdout.splitlines() == widths, (done.returncode, done.stderr[-500:])


def operators(program):
    return [node.op for node in program.nodes()]


def test_only_where_widths_are_odd_and_only_to_train(narrow, fill, zero, difference, batch):
    options, size = narrow['peleenet']
    net = fill(get_model('peleenet', classes=4, **options))
    assert 'slice_axis' not in operators(compact(net, (1, 3, size, size)).program)      # nothing was removed
    small = compact(zero(net), (1, 3, size, size))
    assert operators(small.program).count('slice_axis') == operators(small.program).count('Concat') > 3
    again = compact(small.net, (1, 3, size, size))
    assert operators(again.program) == operators(small.program)
    deployed = for_inference(small.program)
    assert 'slice_axis' not in operators(deployed)
    x = batch(2, 3, size, size)
    assert difference(net(x), small.net(x)) < 1e-4
    assert abs(deployed.run(x.asnumpy())[0] - net(x).asnumpy()).max() < 1e-4 * abs(net(x).asnumpy()).max()


def test_concatenated_vectors_need_no_guard(zero):
    class Two(nn.HybridBlock):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.one = ScaledConv2D(8, 1, kind='neuron', in_channels=3)
                self.two = ScaledConv2D(8, 1, kind='neuron', in_channels=3)

        def hybrid_forward(self, F, x):
            return F.concat(F.flatten(self.one(x)), F.flatten(self.two(x)), dim=1)

    net = Two()
    net.initialize()
    assert 'slice_axis' not in operators(compact(zero(net), (1, 3, 1, 1)).program)
