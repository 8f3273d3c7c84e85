"""Networks with several inputs, with outputs in any form, and with heads that exist in training only."""
import warnings

import mxnet as mx
import numpy as np
import pytest
from called import Auxiliary, Inputs, Outputs
from mxnet import autograd, gluon
from mxnet.gluon import nn

import sss_gluon as sss
from sss_gluon.graph.trace import trace
from sss_gluon.structures import MaskedCounter
from sss_gluon.structures.masked_count import mac_weights

SHAPE = (2, 3, 8, 8)
SHAPES = [(2, 3, 8, 8), (2, 2, 8, 8), (2, 6)]
FORMS = {       # what hybrid_forward returns: what the compact network returns
    'array': (lambda F, a, b: F.concat(a, b), lambda a, b: [a, b]),
    'pair': (lambda F, a, b: (a, b), lambda a, b: [a, b]),
    'list of one': (lambda F, a, b: [F.concat(a, b)], lambda a, b: [[a, b]]),
    'nested': (lambda F, a, b: (a, [b, (a, b)]), lambda a, b: [a, [b, [a, b]]]),
    'nested one': (lambda F, a, b: ((a,), [[b]]), lambda a, b: [[a], [[b]]]),
    'twice the same': (lambda F, a, b: [b, a, b], lambda a, b: [b, a, b]),
    'several of one operator': (lambda F, a, b: [F.split(a, num_outputs=2, axis=1), b],
                                lambda a, b: [[a[:, :2], a[:, 2:]], b]),
    'dict': (lambda F, a, b: {'a': a, 'b': b}, lambda a, b: [a, b]),
    'dict of one': (lambda F, a, b: {'a': [b]}, lambda a, b: [b]),
    'dict in a list': (lambda F, a, b: [{'a': a}, {'b': {'c': b}}], lambda a, b: [a, b]),
    'None': (lambda F, a, b: (None, a, [b, None]), lambda a, b: [a, b]),
    'nothing but one': (lambda F, a, b: (None, b), lambda a, b: [b]),
}


def same(found, expected):
    assert type(found) is type(expected) and len(found) == len(expected) if isinstance(expected, list) \
        else not isinstance(found, (list, dict))
    if isinstance(expected, list):
        return all(same(a, b) for a, b in zip(found, expected))
    a, b = found.asnumpy(), expected.asnumpy()
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())
    return True


@pytest.mark.parametrize('form', FORMS)
def test_outputs(form, fill, zero, batch):
    given, expected = FORMS[form]
    net, x = zero(fill(Outputs(given))), batch(*SHAPE)
    small = sss.compact(net, SHAPE)
    assert small.after.params < small.before.params
    net.form = lambda F, a, b: [a, b]
    a, b = net(x)
    if form == 'array':
        same(small.net(x), mx.nd.concat(a, b))
    elif form == 'list of one':
        same(small.net(x), [mx.nd.concat(a, b)])
    else:
        same(small.net(x), expected(a, b))


@pytest.mark.parametrize('form', FORMS)
def test_outputs_again(form, fill, zero, batch, tmp_path):
    """What a compact network returns is what its own compact form, its exported file and hybridization return."""
    small, x = sss.compact(zero(fill(Outputs(FORMS[form][0]))), SHAPE), batch(*SHAPE)
    small.export(tmp_path / 'x')
    expected = small.net(x)
    small.net.hybridize(static_alloc=True, static_shape=True)
    same(small.net(x), expected)
    same(sss.load(tmp_path / 'x')(x), expected)
    same(sss.compact(small.net, SHAPE).net(x), expected)
    plain = gluon.SymbolBlock.imports(str(tmp_path / 'x-symbol.json'), ['data'], str(tmp_path / 'x-0000.params'))
    outputs = plain(x)
    assert len(outputs if isinstance(outputs, list) else [outputs]) == len(small.program.outputs)


@pytest.mark.parametrize('form, message', [
    (lambda F, a, b: (), 'it has no output'), (lambda F, a, b: {'a': None}, 'it has no output'),
    (lambda F, a, b: (a, 3.5), 'it returns an output of type float'),
    (lambda F, a, b: {'a': {'b': 'a'}}, 'it returns an output of type str'),
])
def test_outputs_that_are_none(form, message, fill):
    with pytest.raises(sss.SSSError, match=message):
        sss.compact(fill(Outputs(form)), SHAPE)


@pytest.mark.parametrize('given, names', [
    (SHAPES, ['data0', 'data1', 'data2']), (tuple(SHAPES), ['data0', 'data1', 'data2']),
    (dict(zip(('image', 'other', 'number'), SHAPES)), ['image', 'other', 'number']),
    (dict(number=SHAPES[2], image=SHAPES[0], other=SHAPES[1]), ['image', 'other', 'number']),
    (dict(zip('cab', SHAPES)), ['c', 'a', 'b']),
])
def test_several_inputs(given, names, fill, zero, batch, difference, tmp_path):
    net, inputs = zero(fill(Inputs())), [batch(*shape, seed=i) for i, shape in enumerate(SHAPES)]
    small = sss.compact(net, given)
    assert small.after.macs < small.before.macs and small.before == sss.count(net, given)
    assert list(small.program.inputs) == names
    assert difference(net(*inputs), small.net(*inputs)) < 1e-5
    small.export(tmp_path / 'x')
    loaded = sss.load(tmp_path / 'x')
    assert difference(net(*inputs), loaded(*inputs)) < 1e-5
    shapes = dict(zip(names, SHAPES))
    assert sss.Structure.load(tmp_path / 'x-structure.json') == small.structure
    assert small.structure.input_shape == shapes
    again = sss.compact(loaded, shapes)
    assert again.after == small.after == sss.count(loaded, SHAPES)
    fresh = sss.rebuild(small.structure, model=Inputs)
    assert [p.shape for p in fresh.collect_params().values()] == [p.shape for p in small.net.collect_params().values()]
    assert fresh(*inputs).shape == net(*inputs).shape


def test_inputs_that_nothing_reads(fill, set_factors, batch, difference):
    """An input whose branch is gone is still an argument."""
    net, inputs = fill(Inputs()), [batch(*shape, seed=i) for i, shape in enumerate(SHAPES)]
    set_factors(net, {'second.norm': 0})
    small = sss.compact(net, SHAPES)
    assert small.structure.layers['second_conv']['after'] is None
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')         # MXNet asks whether this is intended
        assert difference(net(*inputs), small.net(*inputs)) < 1e-5


@pytest.mark.parametrize('shapes, message', [
    (SHAPE, 'missing 2 required positional arguments.*give the shape of every input'),
    (SHAPES[:2], "missing 1 required positional argument: 'number'; give the shape of every input"),
    (SHAPES + [(1,)], 'Inputs cannot be traced'),
    ([SHAPES[0], SHAPES[2], SHAPES[1]], r'Inputs does not accept an input of shape \(2, 3, 8, 8\), \(2, 6\)'),
])
def test_wrong_inputs(shapes, message, fill):
    with pytest.raises(sss.SSSError, match=message):
        sss.compact(fill(Inputs()), shapes)


def test_a_loaded_network_says_what_it_takes(fill):
    small = sss.compact(fill(Inputs()), SHAPES)
    with pytest.raises(sss.SSSError, match=r"has the inputs \['data0', 'data1', 'data2'\], and 1 shapes are given"):
        sss.count(small.net, SHAPE)
    with pytest.raises(sss.SSSError, match='needs a network with one input, and the network has data0, data1, data2'):
        assert small.program.input_shape


# Heads that exist in training only

AUX = (2, 1, 8, 8)
SKIPPED = 'these factors take no part in what Auxiliary computes, .* and are left out: head.norm'


@pytest.fixture
def auxiliary(fill, set_factors):
    net = fill(Auxiliary())
    return set_factors(net, {'stem.norm': [1, 0] * 4, 'head.norm': [0, 1] * 8, 'body.norm': [1, 1, 0] * 4})


@pytest.mark.parametrize('call', [
    lambda net: sss.compact(net, AUX), lambda net: sss.count(net, AUX), lambda net: MaskedCounter(net, AUX),
    lambda net: mac_weights(net, AUX), lambda net: sss.make_trainer(net, gamma_weighting='macs', input_shape=AUX),
    lambda net: sss.Budget(net, sss.make_trainer(net), AUX, target=0.5, steps=10),
    lambda net: sss.rebuild(sss.compact(net, AUX).structure, model=Auxiliary),
])
def test_factors_outside_of_the_graph_are_named(call, auxiliary):
    with pytest.warns(UserWarning, match=SKIPPED) as told:
        call(auxiliary)
    assert len({str(warning.message) for warning in told if 'factors' in str(warning.message)}) == 1


@pytest.mark.filterwarnings('ignore')
def test_compact_leaves_the_head_out(auxiliary, batch, difference):
    small, x = sss.compact(auxiliary, AUX), batch(*AUX)
    assert difference(auxiliary(x), small.net(x)) < 1e-5
    assert set(small.structure.factors) == {'stem.norm', 'body.norm'}
    assert small.structure.layers['stem_conv']['after'] == [4, 1] and 'head_conv' not in small.structure.layers
    assert small.before.macs == 64 * (1 * 8 + 8 * 12) + 12 * 10


@pytest.mark.filterwarnings('ignore')
def test_weights_and_counts(auxiliary):
    weights = mac_weights(auxiliary, AUX)
    # a stem channel: 64 (1 + 12) MACs; a channel of the body: 64 · 8 + 10; mean over 20 structures
    mean = (8 * 64 * 13 + 12 * 522) / 20
    assert weights == pytest.approx({'stem.norm': 64 * 13 / mean, 'body.norm': 522 / mean, 'head.norm': 0})
    counter = MaskedCounter(auxiliary, AUX, weights='nonzero')
    assert counter.count({'head.norm': np.zeros(16)}) == counter.count({})


def steps(net, trainer, count=3, budget=None):
    random, losses = np.random.RandomState(0), []
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    for _ in range(count):
        x, y = mx.nd.array(random.standard_normal((4, 1, 8, 8))), mx.nd.array(random.randint(0, 10, 4))
        with autograd.record():
            output, extra = net(x)
            total = loss(output, y) + 0.3 * loss(extra, y)
        total.backward()
        trainer.step(4)
        if budget:
            budget.step()
        losses.append(total.asnumpy())
    return np.array(losses)


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('form', [list, tuple])
def test_shrink_keeps_the_head(form, auxiliary, fill, batch, difference):
    """The smaller network trains exactly as the whole one, which has the same head, held at the same zeros."""
    nets = [Auxiliary(form=form) for _ in range(2)]
    for net in nets:
        fill(net)
        for factor, source in zip(sss.scaling_factors(net), sss.scaling_factors(auxiliary)):
            factor.parameter.set_data(source.parameter.data())
    trainers = [sss.make_trainer(net, gamma=0.01, learning_rate=0.05) for net in nets]
    masks = {name: values == 0 for name, values in trainers[0].factor_values().items()}
    for trainer in trainers:
        trainer.hold(masks)
    shrunk = sss.shrink(nets[1], trainers[1], AUX, align=1)
    assert shrunk.net is not nets[1]
    assert {name.rpartition('.')[0] for name in shrunk.kept if len(shrunk.kept[name][0]) == 8} >= {'head.conv'}
    np.testing.assert_allclose(steps(nets[0], trainers[0]), steps(shrunk.net, trainers[1]), rtol=1e-4, atol=1e-5)
    x = batch(*AUX)
    assert difference(nets[0](x), shrunk.restore()(x)) < 1e-5
    assert difference(nets[0](x), shrunk.net(x)[0]) < 1e-5


@pytest.mark.filterwarnings('ignore')
def test_budget_leaves_the_head_alone(fill):
    """Whatever γ the search needs, factors outside of what is counted feel the γ that training began with."""
    net = fill(Auxiliary())
    trainer = sss.make_trainer(net, gamma=0.001, learning_rate=0.05)
    budget = sss.Budget(net, trainer, AUX, target=0.5, steps=60)
    for _ in range(100):
        steps(net, trainer, 1, budget)
        index = trainer.factors['head.norm']
        felt = np.max(trainer.gamma * trainer.optimizer.gamma_mult.get(index, 1.0))
        assert felt == pytest.approx(0.001) or budget.met
    assert budget.met and trainer.gamma == 0 and (trainer.factor_values()['head.norm'] != 0).all()
    assert sss.compact(net, AUX).after.macs <= 0.5 * MaskedCounter(net, AUX).dense.macs


def test_a_sequence_of_names(fill):
    """Inputs that are no arguments are refused by name, wherever they come from."""
    net = nn.HybridSequential()
    net.add(nn.HybridLambda(lambda F, x: x + F.var('noise') if F is mx.sym else x))
    with pytest.raises(sss.SSSError, match=r"has the inputs \['data', 'noise'\], and a shape is given for \['data'\]"):
        trace(net, SHAPE)
