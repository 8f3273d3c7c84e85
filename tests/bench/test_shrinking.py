"""Rows of a network that is cut while it trains: what is timed, and that it is the network it should be."""
from types import SimpleNamespace

import mxnet as mx
import numpy as np
import pytest

from sss_gluon import SSSError
from sss_gluon.bench import shrinking
from sss_gluon.bench.settings import Settings
from sss_gluon.bench.shrinking import CutStep, cut_seconds, step_after_cut, total_time

QUICK = Settings(rounds=2, quick=True)


@pytest.fixture
def runs(monkeypatch):
    """The configurations that are trained; a dense run takes 8 s of a false clock, one to a budget 5 s."""
    found = SimpleNamespace(configs=[], clock=0.0, macs_left=50)

    def train(config, log):
        found.configs.append(config)
        found.clock += 8 if config.target_macs is None else 5
        rows = [dict(macs='100', macs_left='90'), dict(macs='100', macs_left=str(found.macs_left))]
        return SimpleNamespace(metrics=SimpleNamespace(rows=lambda: rows))

    monkeypatch.setattr(shrinking, 'train', train)
    monkeypatch.setattr(shrinking.time, 'perf_counter', lambda: found.clock)
    return found


def test_whole_runs_differ_in_nothing_but_the_budget(runs):
    found = total_time(Settings(rounds=10), 'cifar_vgg16')['total']
    assert found.value == found.low == found.high == pytest.approx(5 / 8) and '50.0% of the MACs' in found.note
    budget, dense = runs.configs[:2]
    assert len(runs.configs) == 4 and (budget.factors, dense.factors) == (['neuron'], [])
    assert (budget.target_macs, dense.target_macs) == (0.5, None)
    different = {key for key in vars(budget) if getattr(budget, key) != getattr(dense, key)}
    assert different == {'run', 'factors', 'target_macs'} and budget.epochs == 20


def test_a_run_that_misses_its_budget_is_no_measurement(runs):
    runs.macs_left = 51
    with pytest.raises(SSSError, match='51.0%'):
        total_time(QUICK, 'cifar_resnet20')


@pytest.mark.parametrize('name', ['cifar_resnet20', 'cifar_vgg16', 'cifar_resnet164'])
def test_steps_go_on_with_the_smaller_network(name):
    cut = shrinking._half_cut(QUICK, name)
    before = cut.step.backward().asnumpy()
    size = sum(p.data().size for p in cut.whole.collect_params().values())
    cut.cut()
    np.testing.assert_allclose(cut.step.backward().asnumpy(), before, rtol=1e-4)       # the same network
    parameters = cut.step.net.collect_params().values()
    assert sum(p.data().size for p in parameters) < 0.9 * size
    old = [p.data().asnumpy() for p in parameters]
    cut.step.trainer.step(QUICK.batch)
    assert any((p.data().asnumpy() != value).any() for p, value in zip(parameters, old))


def test_a_cut_is_timed_with_the_first_step_after_it(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(shrinking.time, 'perf_counter', lambda: clock.now)
    cut, call = CutStep.cut, shrinking.Step.__call__

    def cutting(self):
        clock.now += 3
        cut(self)

    def stepping(self):
        clock.now += 0.5
        return call(self)

    monkeypatch.setattr(CutStep, 'cut', cutting)
    monkeypatch.setattr(shrinking.Step, '__call__', stepping)
    assert cut_seconds(QUICK, 'cifar_resnet20')['seconds'][:3] == (3.5, 3.5, 3.5)


def test_a_cut_network_is_compared_with_the_same_network_built_anew(monkeypatch):
    steps = []
    monkeypatch.setattr(shrinking, 'timed', lambda step: steps.append(step) or step)
    monkeypatch.setattr(shrinking, 'interleaved', lambda turns, rounds: {
        'cut': np.array([1.0, 1.0]), 'rebuilt': np.array([0.8, 0.8])} if list(turns) == ['cut', 'rebuilt'] else None)
    assert step_after_cut(QUICK, 'cifar_vgg16')['step'].value == pytest.approx(1.25)
    sizes = [sorted(p.shape for name, p in step.net.collect_params().items() if not name.endswith('factor'))
             for step in steps]
    assert sizes[0] == sizes[1]
    assert all(np.isfinite(step().asnumpy()).all() for step in steps)
    mx.nd.waitall()
