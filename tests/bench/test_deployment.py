"""What is removed before a network is timed."""
import numpy as np
import pytest

from sss_gluon import compact, get_model, scaling_factors, timing
from sss_gluon.bench import deployment
from sss_gluon.bench.deployment import RUNTIMES, compact_seconds, gain, pruned, zero_half
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


def test_blocks_of_channels_go_together():
    """Widths stay multiples of the block."""
    wide = dict(stages=((32, 32), (32, 32), (32, 32, 32), (32, 32, 32), (32, 32, 32)))
    net = get_model('cifar_vgg16', neuron_block=4, **wide)
    net.initialize()
    zero_half(net, 'neuron')
    assert {factor.parameter.shape for factor in scaling_factors(net)} == {(8,)}
    widths = {layer['after'][0] for layer in compact(net, (1, 3, 32, 32)).structure.layers.values()} - {10}
    assert widths < set(range(4, 33, 4)) and len(widths) > 1


@pytest.mark.parametrize('runtime', RUNTIMES)
def test_the_gain_in_latency_is_divided_by_the_gain_in_macs(runtime, monkeypatch):
    """A compact network that takes a quarter of the time for a half of the MACs is twice as good as needed."""
    if runtime != 'MXNet':
        pytest.importorskip('onnxruntime')
    result = pruned(QUICK, 'cifar_vgg16')
    fewer = result.before.macs / result.after.macs
    assert fewer > 1.5
    outputs = {}

    def timed(call, calls):
        output, = np.array(call()[0] if runtime != 'MXNet' else call().asnumpy())[np.newaxis]
        outputs[len(outputs)] = output
        return timing.timed(call, calls)

    def measured(turns, rounds, lasting):
        assert list(turns) == ['dense', 'compact'] and rounds == 2
        for turn in turns.values():
            assert turn() > 0
        return {'dense': np.array([0.4, 0.4]), 'compact': np.array([0.1, 0.1])}

    monkeypatch.setattr(deployment, 'timed', timed)
    monkeypatch.setattr(deployment, 'interleaved', measured)
    found = gain(QUICK, 'cifar_vgg16', 2, runtime)['gain']
    assert found.value == pytest.approx(4 / fewer) and f'{fewer:.2f} x fewer MACs' in found.note
    assert [output.shape for output in outputs.values()] == [(2, 10)] * 2
    assert not np.allclose(outputs[0], outputs[1])      # two networks


def test_seconds_of_a_compaction(monkeypatch):
    clock = iter([0.0, 3.0, 10.0, 11.0])
    monkeypatch.setattr(deployment.time, 'perf_counter', lambda: next(clock))
    found = compact_seconds(Settings(rounds=8, quick=True), 'resnet50')['seconds']
    assert found.value == 2.0 and found.note.endswith('first time 3.00 s')
