"""What a run writes after every epoch."""
import numpy as np
import pytest

from sss_gluon import Count, get_model, scaling_factors
from sss_gluon.train import Config, RunFolder
from sss_gluon.train.accuracy import Accuracy
from sss_gluon.train.metrics import MetricsLogger, alive

SHAPE = (1, 1, 8, 8)


def small_net():
    net = get_model('cifar_resnet20', classes=3, in_channels=1, factors=['neuron', 'block'], depths=[1, 1],
                    widths=[4, 8])
    net.initialize()
    return net


def recorder(path, **settings):
    net = small_net()
    path.mkdir(exist_ok=True)
    config = Config(**dict(dict(epochs=2), **settings))
    return MetricsLogger(RunFolder(path), config, net, scaling_factors(net), SHAPE), net


def write(record, epoch):
    trained, tested = Accuracy(0.5, 0.75, float('nan'), 10), Accuracy(0.25, 0.5, 1.0, 10)
    return record.write(epoch, 0.1, trained, 'test', tested, 2.0, 5.0, 1.0)


def test_alive_counts_exact_zeros_per_kind():
    net = small_net()
    factors = scaling_factors(net)
    values = {f.name: np.ones(f.parameter.shape[0], 'float32') for f in factors}
    values['stage1.0.conv2'][:] = 0
    values['stage2.0.norm2'][:3] = [0, 1e-30, -0.0]
    assert alive(factors, values) == {'neuron': (4 + 8 - 2, 12), 'block': (1, 2)}


def test_rows_say_what_is_left(tmp_path):
    record, net = recorder(tmp_path / 'run')
    assert '  12/12 neurons 2/2 blocks  100% MACs  3.0 s' in write(record, 1)
    factors = {f.name: f.parameter for f in scaling_factors(net)}
    factors['stage2.0.conv2'].set_data(factors['stage2.0.conv2'].data() * 0)
    assert '  12/12 neurons 1/2 blocks  ' in write(record, 2)
    first, second = RunFolder(tmp_path / 'run').metrics.rows()
    assert (first['blocks_alive'], second['blocks_alive'], second['blocks']) == ('2', '1', '2')
    assert (first['train_top1'], first['top1'], first['evaluated_on']) == ('0.750000', '0.500000', 'test')
    # Block 2 holds conv1 3x3 4->8 and conv2 3x3 8->8 at 4x4; its projection 1x1 4->8 stays.
    assert int(first['macs_left']) - int(second['macs_left']) == 16 * (9 * 4 * 8 + 9 * 8 * 8)
    assert RunFolder(tmp_path / 'run').factors.rows()[1]['stage2.0.conv2[0]'] == '0'


LARGE = {   # epoch, structures left in the middle of a long run of one of the paper's networks, loss, room for the rate
    'VGG-16 on ImageNet': (99, dict(neuron=(12001, 12416)), 2.345, False),
    'VGG-16 on CIFAR': (240, dict(neuron=(1023, 4224)), 2.345, False),
    'ResNeXt-164': (240, dict(group=(1403, 1728), block=(50, 54)), 0.123, False),
    'without factors': (7, {}, 0.0001, True),
}


@pytest.mark.parametrize('asked', ['', '54.3% latency'])
@pytest.mark.parametrize('case', LARGE)
def test_the_longest_lines_fit_a_terminal(case, asked, tmp_path, monkeypatch):
    epoch, counts, loss, room = LARGE[case]
    record, _ = recorder(tmp_path / 'run', epochs=240)
    monkeypatch.setattr(record.regularizer, 'left', lambda: asked)
    whole, left = Count(10 ** 8, 10 ** 8, 15_470_264_320, [], {}), Count(10 ** 7, 10 ** 7, 8_394_264_320, [], {})
    monkeypatch.setattr('sss_gluon.train.metrics.remaining', lambda net, shape: (whole, left))
    monkeypatch.setattr('sss_gluon.train.metrics.alive', lambda factors, values: counts)
    record.values = lambda: {'x': np.ones(1)} if counts else {}
    line = record.write(epoch, 0.0012345, Accuracy(loss, 0.75, 1.0, 10), 'test', Accuracy(0.25, 0.9351, 1.0, 10), 2.0,
                        5.0, 1.0)
    assert len(line) <= 80 and line.startswith(f'epoch {epoch:3d}/240  loss {loss:.3f}  test 93.5%')
    assert ((asked or '54.3% MACs') in line) == bool(counts) and ('lr 0.0012' in line) == room
    assert line.endswith('3.0 s') == (case != 'ResNeXt-164')
    assert (case == 'ResNeXt-164' and bool(asked)) != all(f'{some}/{total} {kind}s' in line
                                                         for kind, (some, total) in counts.items())
    short = record.write(1, 0.1, Accuracy(loss, 0.75, 1.0, 10), 'test', Accuracy(0.25, 0.9, 1.0, 10), 2.0, 5.0, 1.0)
    assert ('lr' in short) == room          # it does not come and go


def test_less_than_everything_is_never_all_of_the_macs(tmp_path, monkeypatch):
    record, _ = recorder(tmp_path / 'run')
    whole, left = (Count(1, 1, macs, [], {}) for macs in (10 ** 9, 10 ** 9 - 1))
    monkeypatch.setattr('sss_gluon.train.metrics.remaining', lambda net, shape: (whole, left))
    record.measure(record.values())
    assert record.left == '99.9% MACs'


def test_tensorboard_gets_scalars_and_histograms(tmp_path):
    pytest.importorskip('tensorboardX')
    record, _ = recorder(tmp_path / 'run', tensorboard=True)
    write(record, 1)
    record.close()
    events, = (tmp_path / 'run' / 'tensorboard').iterdir()
    content = events.read_bytes()
    for tag in (b'macs_left', b'learning_rate', b'factors/stage1.0.conv2'):
        assert tag in content
