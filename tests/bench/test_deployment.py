"""What is removed before a network is timed."""
import numpy as np
import pytest

from sss_gluon import scaling_factors, timing
from sss_gluon.bench import deployment
from sss_gluon.bench.deployment import compact_seconds, latency, pruned, zero_half
from sss_gluon.bench.settings import Settings

QUICK = Settings(rounds=2, quick=True)


@pytest.mark.parametrize('name, kind', [('cifar_vgg16', 'neuron'), ('resnext50_32x4d', 'group'), ('resnet50', 'block')])
def test_half_of_the_structures_of_a_kind_go_and_always_the_same(name, kind):
    first, second = QUICK.net(name), QUICK.net(name)
    for net in (first, second):
        zero_half(net, kind)
    values = {factor.name: factor.values() for factor in scaling_factors(first)}
    for factor in scaling_factors(second):
        assert (factor.values() == values[factor.name]).all()
        assert factor.kind == kind or (factor.values() == 1).all()
    mine = np.concatenate([values[f.name] for f in scaling_factors(first) if f.kind == kind])
    assert set(mine) == {0, 1} and int(mine.sum()) == len(mine) // 2 > 0


def test_the_gain_in_latency_is_divided_by_the_gain_in_macs(monkeypatch):
    """A compact network that takes a quarter of the time for a half of the MACs is twice as good as needed."""
    result = pruned(QUICK, 'cifar_vgg16')
    gain = result.before.macs / result.after.macs
    assert gain > 1.5

    def measured(turns, rounds):
        assert list(turns) == ['dense', 'compact'] and rounds == 2
        for turn in turns.values():
            assert turn() > 0
        return {'dense': np.array([0.4, 0.4]), 'compact': np.array([0.1, 0.1])}

    monkeypatch.setattr(deployment, 'interleaved', measured)
    found = latency(QUICK, 'cifar_vgg16', batch=2)['latency']
    assert found.value == pytest.approx(4 / gain) and f'{gain:.2f} x fewer MACs' in found.note


def test_every_network_is_called_on_the_batch(monkeypatch):
    """The two turns run the two networks: MXNet's own operators are counted."""
    sizes = []
    monkeypatch.setattr(deployment, 'timed', lambda call, calls: sizes.append(call()) or timing.timed(call, calls))
    latency(QUICK, 'cifar_vgg16', batch=2)
    assert [output.shape for output in sizes] == [(2, 10)] * 2


def test_seconds_of_a_compaction(monkeypatch):
    clock = iter([0.0, 3.0, 10.0, 11.0])
    monkeypatch.setattr(deployment.time, 'perf_counter', lambda: next(clock))
    found = compact_seconds(Settings(rounds=8, quick=True), 'resnet50')['seconds']
    assert found.value == 2.0 and found.note.endswith('first time 3.00 s')
