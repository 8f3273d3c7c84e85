"""A budget of the latency: with a clock that counts convolutions, and once for real."""
import json
import re
from types import SimpleNamespace

import mxnet as mx
import numpy as np
import pytest

from sss_gluon import get_model, make_trainer, scaling_factors, timing
from sss_gluon.budget import LatencyShare
from sss_gluon.deploy import evaluate, prune
from sss_gluon.methods import sss, train

NET = dict(model_options=dict(depths=[3, 3, 3], widths=[8, 8, 8]), factors=['block'])
DENSE = 2 * 9 + 3 + 1       # two convolutions in a block, shortcuts of three stages, the first


def convolutions(net):
    nodes = json.loads(net(mx.sym.var('data')).tojson())['nodes']
    return sum(node['op'] == 'Convolution' for node in nodes)


def odd_widths(net):
    return sum(parameter.shape[0] % 8 != 0 for name, parameter in net.collect_params().items()
               if len(parameter.shape) == 4)


@pytest.fixture(params=[0.0, pytest.param(0.3, marks=pytest.mark.slow)], ids=['quiet', 'noisy'])
def clock(request, monkeypatch):
    """Every convolution takes a second, give or take the noise; a list of the networks that were measured."""
    random, measured = np.random.RandomState(0), []

    def timed(call, *rest):
        seconds = float(convolutions(call.func))
        measured.append(seconds)
        return lambda: seconds * (1 + request.param * random.uniform(-1, 1))
    monkeypatch.setattr(timing, 'timed', timed)
    monkeypatch.setattr(timing, 'LASTING', 0.0)
    monkeypatch.setattr(timing, 'AT_MOST', 5.0)
    return request.param, measured


def test_shares_are_measured_once(clock):
    noise, measured = clock
    net = get_model('cifar_resnet20', 10, ('block',), 1, **NET['model_options'])
    net.initialize()
    share = LatencyShare(net, (1, 1, 8, 8), 2, mx.cpu())
    masks = {factor.name: np.array([True]) for factor in scaling_factors(net)}
    assert share(masks) == 1 and not measured
    masks['stage1.1.conv2'] = np.array([False])
    found = [share(masks) for _ in range(3)]
    assert len(set(found)) == 1 and found[0] == pytest.approx(1 - 2 / DENSE, rel=noise) and len(measured) == 2


def test_the_fastest_alignment_counts(monkeypatch):
    """A convolution of an odd width takes two seconds: filled up with zeros, it takes one."""
    monkeypatch.setattr(timing, 'timed', lambda call, *rest: lambda: float(
        convolutions(call.func) + odd_widths(call.func)))
    monkeypatch.setattr(timing, 'LASTING', 0.0)
    monkeypatch.setattr(timing, 'AT_MOST', 5.0)
    net = get_model('cifar_vgg16', 10, ('neuron',), 1, stages=((8,), (16,), (24,)))
    net.initialize()
    share = LatencyShare(net, (1, 1, 8, 8), 2, mx.cpu())
    masks = {factor.name: np.ones(factor.parameter.shape, bool) for factor in scaling_factors(net)}
    third = list(masks)[2]
    masks[third][:3] = False        # 21 channels: 24 are as fast as before
    assert share(masks) == 1


def test_the_budget_is_met_as_it_was_measured(clock, configure):
    """The last decision, the table and the log agree, whatever the noise."""
    noise, _ = clock
    lines = []
    run = train(configure(**NET, target_latency=0.6, epochs=4, search=0.5), lines.append)
    last = run.metrics.rows()[-1]
    line, = (' '.join(line.split()) for line in lines if line.startswith('budget met'))
    left = float(last['held_left'])
    assert left <= 0.6 and f'{left:.1%} of the latency is left of the 60.0% asked for' in line
    assert f'  {left:.1%} latency  ' in lines[-2] + lines[-1] + lines[-3]
    assert left == pytest.approx(1 - 2 * int(last['held']) / DENSE, abs=0.05 + noise / 3)       # a shortcut may go
    assert noise or int(last['held']) <= 5
    assert max(map(len, '\n'.join(lines).splitlines())) <= 80


@pytest.mark.slow
def test_for_real(configure, monkeypatch):
    """Another program may be in the way of a measurement, so the best of some counts."""
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    monkeypatch.setattr(timing, 'AT_MOST', 5.0)
    lines = []
    run = train(configure(**dict(NET, image_size=16, target_latency=0.6, epochs=6, search=0.4)), lines.append)
    assert float(run.metrics.rows()[-1]['held_left']) <= 0.6
    assert re.search('of the latency', '\n'.join(lines))
    prune(run.path, lambda line: None)
    shares = []
    for _ in range(5):
        rows = {row.name: row for row in evaluate(run.path)}
        shares.append(rows['compact'].seconds[1] / rows['unpruned'].seconds[1])
    assert min(shares) < 0.8 and rows['compact'].macs < 0.8 * rows['unpruned'].macs


@pytest.mark.parametrize('chief', [True, False])
def test_the_first_worker_measures_for_all(chief, clock, configure):
    """The others measure nothing, so that they do not disturb it, and take what it found."""
    _, measured = clock
    net = get_model('cifar_resnet20', 10, ('block',), 1, **NET['model_options'])
    net.initialize()
    workers = SimpleNamespace(chief=chief, allgather=lambda name, values: [np.array([0.55]), values])
    holder = sss._holder(SimpleNamespace(
        config=configure(target_latency=0.6, epochs=4, search=0.5), network=SimpleNamespace(whole=net),
        input_shape=(1, 1, 8, 8), trainer=make_trainer(net), batches=range(18), devices=[mx.cpu()], workers=workers))
    assert (len(measured) > 0) == chief and holder.left(np.ones(9, bool)) == 0.55
