"""Operators that a user teaches the pass: all channels kept before, pruned with equal outputs after."""
import doctest

import mxnet as mx
import numpy as np
import pytest
from channel_cases import KEPT, LOST, SHAPE, Case, network
from small_networks import S, between

import sss_gluon as sss
from sss_gluon.graph import register
from sss_gluon.graph.count import HANDLERS
from sss_gluon.graph.operators import RULES


@pytest.fixture(autouse=True)
def restored():
    """Whatever a test registers is unknown again after it."""
    before = dict(RULES), dict(HANDLERS)
    yield
    for table, entries in zip((RULES, HANDLERS), before):
        table.clear()
        table.update(entries)


class Cube(mx.operator.CustomOp):
    def forward(self, is_train, req, in_data, out_data, aux):
        self.assign(out_data[0], req[0], in_data[0] ** 3)


@mx.operator.register('test_register_cube')
class CubeProp(mx.operator.CustomOpProp):
    def infer_shape(self, in_shape):
        return in_shape, [in_shape[0]], []

    def create_operator(self, ctx, shapes, dtypes):
        return Cube()


def softsign(_, value):
    return value / (1 + np.abs(value))


def widths(small):
    return {layer: row['after'] for layer, row in small.structure.layers.items()}


@pytest.mark.parametrize('name, middle', [('softsign', S.softsign),
                                          ('test_register_cube', lambda a: S.Custom(a, op_type='test_register_cube'))])
def test_an_operator_is_pruned_once_it_is_registered(name, middle, fill, difference, batch):
    net, x = network(Case(between(middle), {'a': [1]}, {}), fill), batch(*SHAPE)
    unknown = sss.compact(net, SHAPE)
    assert widths(unknown) == KEPT and [text.split('(')[0] for text in unknown.unhandled] == [name]

    sss.register_rule(name, sss.rules.Channelwise(lambda _, value: softsign(_, value) if name == 'softsign'
                                                  else value ** 3))
    small = sss.compact(net, SHAPE)
    assert widths(small) == LOST and not small.unhandled
    assert difference(net(x), small.net(x)) < 1e-5


def test_a_subclass_registers_itself(fill, difference, batch):
    """The example of the docstring, run as it stands: a rule with parameters, which are cut with the channels."""
    net, x = network(Case(between(lambda a: S.InstanceNorm(a, name='n')), {'a': [1]}, {}, {'n_beta': [1, 0, 1, 1]}),
                     fill), batch(*SHAPE)
    assert widths(sss.compact(net, SHAPE)) == KEPT
    examples = doctest.DocTestParser().get_doctest(register.__doc__, dict(sss=sss, np=np), 'register', None, 0)
    assert len(examples.examples) == 2 and not doctest.DocTestRunner().run(examples, clear_globs=False).failed

    assert type(RULES['InstanceNorm']).__name__ == 'InstanceNorm' and 'softsign' in RULES
    small = sss.compact(net, SHAPE)
    assert widths(small) == LOST and not small.unhandled
    assert small.program.values['n_gamma'].shape == (3,)
    assert difference(net(x), small.net(x)) < 1e-5


def test_macs_are_counted_once_they_are_registered(fill):
    net = network(Case(between(S.softsign), {}, {}), fill)
    before = sss.count(net, SHAPE)
    assert before.uncounted['softsign'] == 1
    sss.register_macs('softsign', lambda node, shapes: 2 * np.prod(shapes[node.inputs[0]][1:]))
    after = sss.count(net, SHAPE)
    assert after.macs - before.macs == 2 * 4 * 8 * 8 and 'softsign' not in after.uncounted
    layer, = (layer for layer in after.layers if layer.op == 'softsign')
    assert layer.macs == 512 and layer.params == 0

    @sss.register_macs('softsign', replace=True)
    def once(node, shapes):
        return np.prod(shapes[sss.rules.Entry(node)][1:])

    assert once and sss.count(net, SHAPE).macs - before.macs == 256


@pytest.mark.parametrize('call, key', [
    (lambda: sss.register_rule('Convolution', sss.rules.Channelwise()), 'Convolution'),
    (lambda: sss.register_macs('Convolution', lambda *_: 0), 'Convolution'),
    (lambda: sss.register_rule('Convolution')(sss.rules.Rule), 'Convolution'),
    (lambda: sss.register_rule('softsign', np.abs), 'softsign'),
    (lambda: sss.register_rule('softsign', dict), 'softsign'),
    (lambda: sss.register_rule('softsign', sss.rules.Linear), 'Linear'),
    (lambda: sss.register_macs('softsign', 3), 'softsign'),
    (lambda: sss.register_rule(sss.rules.Channelwise()), 'name of an operator'),
])
def test_what_cannot_be_registered(call, key):
    before = dict(RULES), dict(HANDLERS)
    with pytest.raises(sss.SSSError, match=key) as error:
        call()
    assert '\n' not in str(error.value) and (RULES, HANDLERS) == before


def test_a_built_in_rule_is_replaced_on_request(fill):
    net = network(Case(between(S.tanh), {'a': [1]}, {}), fill)
    sss.register_rule('tanh', sss.rules.Rule(), replace=True)
    small = sss.compact(net, SHAPE)
    assert widths(small) == KEPT and not small.unhandled        # understood: it mixes channels


class Halved(sss.rules.Channelwise):
    """A rule that is wrong: it says that half of the channels come out."""

    def labels(self, node, view):
        return [view.label(node.inputs[0])[::2]]


def test_a_rule_that_is_wrong_is_an_error(fill):
    net = network(Case(between(S.softsign), {'a': [1]}, {}), fill)
    sss.register_rule('softsign', Halved())
    with pytest.raises(sss.SSSError, match=r'Halved of softsign\('):
        sss.compact(net, SHAPE)
    net = network(Case(between(lambda a: S.sigmoid(S.softsign(a))), {'a': [1]}, {}), fill)
    sss.register_rule('softsign', sss.rules.Channelwise(lambda _, value: value + 1), replace=True)
    sss.register_rule('sigmoid', sss.rules.Channelwise(lambda _, value: 0 * value), replace=True)
    with pytest.raises(sss.SSSError, match='differs by'):
        sss.compact(net, SHAPE)
