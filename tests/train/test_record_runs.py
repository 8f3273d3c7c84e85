"""A run on RecordIO files whose images do not fill the last batch, computed again in float64."""
import numpy as np
import pytest
from PIL import Image

from sss_gluon.data import digits
from sss_gluon.data.pack import pack_images
from sss_gluon.methods import METHODS, train
from sss_gluon.methods.method_run import MethodRun
from sss_gluon.train import RunFolder
from sss_gluon.train.checkpoint import checkpoints, read_checkpoint
from sss_gluon.train.devices import contexts
from sss_gluon.train.loop import Training

RATE, MOMENTUM, DECAY, EPOCHS, BATCH = 0.05, 0.9, 0.01, 2, 4
LINEAR = """
from mxnet.gluon import nn


def net(classes, in_channels):
    net = nn.HybridSequential()
    net.add(nn.GlobalAvgPool2D(), nn.Dense(classes, in_units=in_channels))
    return net
"""


def quiet(line):
    pass


@pytest.fixture
def config(configure, tmp_path, monkeypatch):
    """5 images of 3 classes in batches of 4: the last batch of an epoch has 1 image and 3 that come again."""
    found = digits.load().train.images[:, 0]
    for i in range(7):
        path = tmp_path / 'images' / ('train' if i < 5 else 'val') / 'abc'[i % 3] / f'{i}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.merge('RGB', [Image.fromarray(found[3 * i + c]) for c in range(3)]).save(path)
    for name in 'abc':
        (tmp_path / 'images/val' / name).mkdir(parents=True, exist_ok=True)
    pack_images(tmp_path / 'images', tmp_path / 'records')
    (tmp_path / 'linear_net.py').write_text(LINEAR)
    monkeypatch.syspath_prepend(str(tmp_path))
    return configure(data='imagenet', data_root=str(tmp_path / 'records'), image_size=16, validation=0, factors=[],
                     model='linear_net:net', model_options={}, batch_size=BATCH, epochs=EPOCHS, learning_rate=RATE,
                     lr_mode='constant', momentum=MOMENTUM, weight_decay=DECAY, augment_pad=0)


def test_every_step_has_the_gradient_of_a_whole_batch(config):
    training = Training(config, MethodRun(METHODS['sss']), RunFolder(config.run + '-first'), contexts(['cpu0']), quiet)
    weight, bias = (array.list_data()[0].asnumpy().astype('float64')
                    for array in training.net.collect_params().values())
    velocity = [0 * weight, 0 * bias]
    losses = []
    for epoch in range(EPOCHS):
        losses.append([])
        for x, y in training.batches.epoch(epoch):
            assert len(y) == BATCH and (y >= 0).all()
            x, one = x.astype('float64').mean(axis=(2, 3)), np.eye(3)[y.astype(int)]
            output = np.exp(x @ weight.T + bias)
            share = output / output.sum(axis=1, keepdims=True)
            losses[-1] += (-np.log((share * one).sum(axis=1))).tolist()
            force = [(share - one).T @ x / BATCH + DECAY * weight, (share - one).mean(axis=0)]
            velocity = [MOMENTUM * v + g for v, g in zip(velocity, force)]
            weight, bias = (w - RATE * (g + MOMENTUM * v) for w, g, v in zip((weight, bias), force, velocity))
    run = train(config, quiet)
    arrays, _ = read_checkpoint(checkpoints(run.checkpoints)[-1])
    np.testing.assert_allclose(arrays['param:1.weight'], weight, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(arrays['param:1.bias'], bias, rtol=1e-5, atol=1e-6)
    assert [float(row['train_loss']) for row in run.metrics.rows()] == pytest.approx(np.mean(losses, axis=1), rel=1e-5)
