"""Random small networks of all operators that the pass knows, and of some unknown ones."""
import numpy as np
import pytest
from drawn_operators import UNKNOWN
from generator import Generated, networks
from hypothesis import given, settings
from mxnet.gluon import nn

from sss_gluon.factors import ScaledConv2D
from sss_gluon.graph.fold import fold
from sss_gluon.graph.trace import trace
from sss_gluon.structures import compact

# Reported although the pass knows them in another form: dense over the last axis, a layer used twice, shuffles.
OTHER_FORMS = {'FullyConnected', 'Convolution', 'Reshape', 'SwapAxis'}


class Identity(nn.HybridBlock):
    """x plus a branch of zeros."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.conv = ScaledConv2D(2, 1, in_channels=2)

    def hybrid_forward(self, F, x):
        return x + self.conv(x)


def test_nothing_but_the_input_is_left(fill, set_factors, check_compact):
    """A block whose output is its own input could not be traced again."""
    net = set_factors(fill(Identity()), {'conv': 0})
    small = compact(net, (2, 2, 4, 4))
    check_compact(net, small, (2, 2, 4, 4))
    assert small.after.params == small.after.macs == 0


@pytest.mark.slow
@settings(max_examples=20 * settings.default.max_examples)
@given(source=networks())
def test_generated_network(source, fill, check_compact):
    net = fill(Generated(source), source.seed)
    net.set_zeros()
    small = compact(net, source.shape)
    check_compact(net, small, source.shape, same_names=all(line.operator != 'again' for line in source.lines))
    constants = [p for p in small.net.collect_params().values() if '_constant' in p.name]
    assert small.after.params <= small.before.params + sum(int(np.prod(p.shape)) for p in constants)

    traced = fold(trace(net, source.shape))
    before = {entry.node.name: shape for entry, shape in traced.shapes().items()}
    reported = {operator.partition(':')[0] for operator in small.unhandled}
    for entry, shape in small.program.shapes().items():
        if entry.node.op in UNKNOWN:
            assert f'{entry.node.op}({entry.node.name})' in reported and shape == before[entry.node.name]
    assert {name.split('(')[0] for name in reported} <= set(UNKNOWN) | OTHER_FORMS
