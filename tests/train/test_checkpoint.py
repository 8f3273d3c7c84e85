"""Checkpoints: what is in them, what comes back, and that a good one is never lost."""
import errno
import json
import os
import zipfile

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon, nd

from sss_gluon import get_model, make_trainer, scaling_factors
from sss_gluon.errors import SSSError
from sss_gluon.train import Config
from sss_gluon.train.checkpoint import FORMAT, Position, checkpoints, load_latest, read_checkpoint, save_checkpoint
from sss_gluon.train.parameters import named_parameters

OPTIONS = dict(classes=4, in_channels=1, depths=(1, 1), widths=(4, 6), factors=('neuron', 'block'))
CONFIG = Config(seed=5, gamma=0.3)
ONE, TWO = (mx.cpu(0),), (mx.cpu(0), mx.cpu(1))


def make(devices=ONE, seed=0, **changes):
    mx.random.seed(seed)
    np.random.seed(seed)
    net = get_model('cifar_resnet20', **dict(OPTIONS, **changes))
    net.initialize(ctx=list(devices))
    return net, make_trainer(net, gamma=0.3, learning_rate=0.1, wd=1e-3)


def train(net, trainer, steps, start=0, devices=ONE):
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    for step in range(start, start + steps):
        for i, device in enumerate(devices):
            random = np.random.RandomState(10 * step + i)
            x = nd.array(random.standard_normal((8, 1, 8, 8)), ctx=device)
            with autograd.record():
                error = loss(net(x), nd.array(random.randint(0, 4, 8), ctx=device))
            error.backward()
        trainer.step(8 * len(devices))


def state(net, trainer):
    """Everything that training depends on: parameters of every device, momenta, number of updates."""
    found = {f'{name} on {i}': copy.asnumpy() for name, parameter in named_parameters(net)
             for i, copy in enumerate(parameter.list_data())}
    return dict(found, **{f'state {name}': array for name, array in trainer.states().items()})


def assert_equal(found, expected):
    assert list(found) == list(expected)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def quiet(line):
    raise AssertionError(f'nothing was to be said: {line}')


def test_what_is_in_it(tmp_path):
    net, trainer = make()
    train(net, trainer, 3)
    path = save_checkpoint(tmp_path, net, trainer, Position(2, 3, 4.5, 6.0), CONFIG, 2)
    assert path.name == 'epoch-0002-step-000003.npz' and os.listdir(tmp_path) == [path.name]
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    head = json.loads(arrays['position'].tobytes().decode())
    assert {k: head[k] for k in ('format', 'seed', 'epoch', 'step', 'loss_sum', 'correct')} \
        == dict(format=FORMAT, seed=5, epoch=2, step=3, loss_sum=4.5, correct=6.0)
    assert 'gamma: 0.3' in head['config']
    parameters = [name for name, _ in named_parameters(net)]
    trained = [name for name, p in named_parameters(net) if p.grad_req != 'null']
    assert set(arrays) == {'position', 'state:num_update', *(f'param:{n}' for n in parameters),
                           *(f'state:{n}' for n in trained)}
    assert int(arrays['state:num_update']) == 3
    assert np.abs(arrays['state:stage1.0.conv2.factor']).max() > 0
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None


@pytest.mark.parametrize('trained', [0, 2], ids=['new', 'trained before'])
@pytest.mark.parametrize('devices', [ONE, TWO], ids=['one device', 'two devices'])
def test_everything_comes_back(tmp_path, devices, trained):
    net, trainer = make(devices)
    train(net, trainer, 5, devices=devices)
    save_checkpoint(tmp_path, net, trainer, Position(1, 2, 0.1 + 0.2, 7.0), CONFIG, 2)
    saved = state(net, trainer)
    train(net, trainer, 5, start=5, devices=devices)
    final = state(net, trainer)

    other, again = make(devices, seed=1)
    train(other, again, trained, start=100, devices=devices)
    assert load_latest(tmp_path, other, again, quiet) == Position(1, 2, 0.1 + 0.2, 7.0)
    found = state(other, again)
    assert_equal(found, saved)
    assert any(np.abs(found[name]).max() > 0 for name in found if name.startswith('state ') and 'factor' in name)
    statistics = [name for name in found if 'running_mean' in name]
    if len(devices) == 2:       # those of each device are its own
        assert all((found[n] != found[n.replace('on 1', 'on 0')]).any() for n in statistics if n.endswith('on 1'))
    train(other, again, 5, start=5, devices=devices)
    assert_equal(state(other, again), final)


def test_a_network_without_trainer(tmp_path):
    net, trainer = make()
    train(net, trainer, 2)
    save_checkpoint(tmp_path, net, trainer, Position(1), CONFIG, 2)
    other, _ = make(seed=1)
    assert load_latest(tmp_path, other, None, quiet) == Position(1)
    for (name, a), (_, b) in zip(named_parameters(net), named_parameters(other)):
        np.testing.assert_array_equal(a.data().asnumpy(), b.data().asnumpy(), err_msg=name)


def test_the_newest_are_kept_in_the_order_of_the_run(tmp_path):
    net, trainer = make()
    positions = [(1, 0), (1, 5), (1, 12), (2, 0), (9, 0), (10, 0), (10, 1)]
    for i, position in enumerate(positions):
        save_checkpoint(tmp_path, net, trainer, Position(*position), CONFIG, 3)
        expected = positions[max(0, i - 2):i + 1]
        assert [(p.epoch, p.step) for p in (read_checkpoint(path)[1] for path in checkpoints(tmp_path))] == expected
    assert load_latest(tmp_path, net, trainer, quiet) == Position(10, 1)


def test_none_at_all(tmp_path):
    net, trainer = make()
    assert load_latest(tmp_path, net, trainer, quiet) is None
    assert load_latest(tmp_path / 'nothing', net, trainer, quiet) is None


def cut(content):
    return content[:len(content) * 2 // 3]


def flip(content):
    """One bit in the middle of the largest member: only its checksum can tell."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 16]) + content[middle + 1:]


DAMAGE = {'cut short': cut, 'one bit': flip, 'empty': lambda content: b'', 'text': lambda content: b'not a checkpoint',
          'zeros': lambda content: bytes(len(content)), 'an empty zip': lambda content: b'PK\5\6' + bytes(18)}


def two_checkpoints(folder):
    """Checkpoints of epoch 1 and 2 of a network, and its state at each."""
    net, trainer = make()
    states = []
    for epoch in (1, 2):
        train(net, trainer, 3, start=epoch)
        save_checkpoint(folder, net, trainer, Position(epoch), CONFIG, 2)
        states.append(state(net, trainer))
    return states


@pytest.mark.parametrize('damage', DAMAGE)
def test_a_damaged_one_is_passed_over_and_said_so(tmp_path, damage):
    first, _ = two_checkpoints(tmp_path)
    newest = tmp_path / 'epoch-0002.npz'
    newest.write_bytes(DAMAGE[damage](newest.read_bytes()))
    net, trainer = make(seed=1)
    said = []
    assert load_latest(tmp_path, net, trainer, said.append) == Position(1)
    assert_equal(state(net, trainer), first)
    line, = said
    assert str(newest) in line and line.endswith('; trying the checkpoint before it') and '\n' not in line

    older = tmp_path / 'epoch-0001.npz'
    older.write_bytes(DAMAGE[damage](older.read_bytes()))
    net, trainer = make(seed=1)
    before = state(net, trainer)
    with pytest.raises(SSSError, match='2 checkpoints .*damaged'):
        load_latest(tmp_path, net, trainer, said.append)
    assert_equal(state(net, trainer), before)


@pytest.mark.parametrize('change', [
    dict(format='sss_gluon checkpoint 0'), dict(format=None), dict(epoch=None), None, 'not json', [1, 2],
])
def test_a_head_that_is_wrong(tmp_path, change):
    two_checkpoints(tmp_path)
    with np.load(tmp_path / 'epoch-0002.npz') as file:
        arrays = dict(file)
    head = json.loads(arrays.pop('position').tobytes())
    if isinstance(change, dict):
        head = {k: v for k, v in dict(head, **change).items() if v is not None}
        change = json.dumps(head)
    if change is not None:
        text = change if isinstance(change, str) else json.dumps(change)
        arrays['position'] = np.frombuffer(text.encode(), np.uint8)
    np.savez(tmp_path / 'epoch-0002.npz', **arrays)
    with pytest.raises(SSSError, match='epoch-0002.npz .*(checkpoint of sss_gluon|version)'):
        read_checkpoint(tmp_path / 'epoch-0002.npz')


def test_nothing_pickled_is_ever_loaded(tmp_path):
    made = tmp_path / 'made'

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(made),)

    np.savez(tmp_path / 'epoch-0001.npz', position=np.array([Evil()], dtype=object))
    with pytest.raises(SSSError, match='damaged'):
        read_checkpoint(tmp_path / 'epoch-0001.npz')
    assert not made.exists()


@pytest.mark.parametrize('changes, words', [
    (dict(factors=('block',)), 'is in only one of them'), (dict(depths=(1, 2)), 'is in only one of them'),
    (dict(classes=5), r'output.weight has shape \(4, 6\) there, \(5, 6\) here'),
])
def test_a_checkpoint_of_another_model_is_an_error(tmp_path, changes, words):
    """Not passed over: the one before it would be of that model too."""
    two_checkpoints(tmp_path)
    net, trainer = make(**changes)
    before = state(net, trainer)
    with pytest.raises(SSSError, match=f'epoch-0002.npz .*another model: .*{words}'):
        load_latest(tmp_path, net, trainer, quiet)
    assert_equal(state(net, trainer), before)


def _full(*_, **__):
    raise OSError(errno.ENOSPC, 'No space left on device')


@pytest.mark.parametrize('where', ['numpy.lib.format.write_array', 'os.replace', 'os.fsync'])
def test_disk_full_leaves_the_checkpoint_before(tmp_path, monkeypatch, where):
    net, trainer = make()
    train(net, trainer, 3)
    for position in (Position(1), Position(2)):
        save_checkpoint(tmp_path, net, trainer, position, CONFIG, 2)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    train(net, trainer, 1)

    def half_written(file, *_, **__):
        file.write(b'and not much more')
        _full()

    with monkeypatch.context() as patch:
        patch.setattr(where, half_written if 'numpy' in where else _full)
        with pytest.raises(SSSError, match=r'epoch-0003.npz.*No space left'):
            save_checkpoint(tmp_path, net, trainer, Position(3), CONFIG, 2)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    save_checkpoint(tmp_path, net, trainer, Position(3), CONFIG, 2)
    assert [path.name for path in checkpoints(tmp_path)] == ['epoch-0002.npz', 'epoch-0003.npz']


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
@pytest.mark.parametrize('position, where', [(Position(2), 'after epoch 2'), (Position(2, 7), 'after epoch 3, step 7')])
def test_values_that_are_not_finite_are_not_saved(tmp_path, value, position, where):
    net, trainer = make()
    train(net, trainer, 1)
    good = save_checkpoint(tmp_path, net, trainer, Position(1), CONFIG, 1)
    factor = scaling_factors(net)[0].parameter
    factor.set_data(factor.data() * value)
    with pytest.raises(SSSError, match=rf'stage1.0.norm2.factor .*{where}.*{good}'):
        save_checkpoint(tmp_path, net, trainer, position, CONFIG, 1)
    assert os.listdir(tmp_path) == [good.name]
