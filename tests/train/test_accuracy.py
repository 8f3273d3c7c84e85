"""Loss and accuracy against NumPy, one image at a time."""
import math

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

from sss_gluon.data import Augmentation, ImageSet
from sss_gluon.train.accuracy import evaluate_images


class AsIs(nn.HybridBlock):
    """The pixels of an image are its outputs."""

    def hybrid_forward(self, F, x):
        return F.flatten(x)


def evaluate(pixels, labels, batch, net=None, mean=0.0, std=1.0):
    images = ImageSet(np.ascontiguousarray(pixels[:, None, None, :].astype('uint8')), np.array(labels, 'int32'))
    augmentation = Augmentation(pad=2, flip=True, mean=np.array([mean], 'float32'), std=np.array([std], 'float32'))
    return evaluate_images(net or AsIs(), images, augmentation, batch, [mx.cpu()])


@pytest.mark.parametrize('batch', [1, 3, 10, 16])
def test_equals_numpy_image_by_image(batch):
    random = np.random.RandomState(4)
    pixels = np.array([random.permutation(12) for _ in range(10)]) * 3
    labels = random.randint(0, 12, 10)
    loss, first, five = 0.0, 0, 0
    for row, label in zip((pixels - 5.0) / 2.0, labels):
        p = np.exp(row) / np.exp(row).sum()
        loss -= math.log(p[label]) / 10
        guesses = sorted(range(12), key=lambda i: -row[i])
        first += guesses[0] == label
        five += label in guesses[:5]
    result = evaluate(pixels, labels, batch, mean=5.0, std=2.0)
    assert result.loss == pytest.approx(loss, rel=1e-6)
    assert (result.top1, result.top5, result.images) == (first / 10, five / 10, 10)
    assert 0 < first < five < 10


@pytest.mark.parametrize('label, top1, top5', [(0, 1, 1), (1, 0, 1), (4, 0, 1), (5, 0, 0), (6, 0, 0)])
def test_equal_outputs_are_guessed_in_their_order(label, top1, top5):
    """A constant network is right for one class, not for all."""
    result = evaluate(np.full((1, 7), 9), [label], 4)
    assert (result.top1, result.top5) == (top1, top5) and result.loss == pytest.approx(math.log(7))


def test_outputs_that_are_no_numbers_are_wrong():
    class Broken(nn.HybridBlock):
        def hybrid_forward(self, F, x):
            return F.flatten(x) * float('nan')

    result = evaluate(np.arange(16).reshape(2, 8), [0, 7], 2, Broken())
    assert (result.top1, result.top5) == (0, 0) and math.isnan(result.loss)


def test_large_outputs_do_not_overflow():
    class Large(nn.HybridBlock):
        def hybrid_forward(self, F, x):
            return F.flatten(x) * 1e4

    result = evaluate(np.array([[200, 100, 0]]), [1], 1, Large())
    assert result.loss == pytest.approx(1e6) and result.top1 == 0


def test_fewer_than_five_classes():
    assert evaluate(np.array([[1, 2, 3], [3, 2, 1]]), [0, 0], 2)[1:] == (0.5, 1.0, 2)


def test_several_devices_take_turns():
    devices, random = [mx.cpu(i) for i in range(3)], np.random.RandomState(0)
    used = []

    class Net(nn.Dense):
        def forward(self, x, *args):
            used.append(x.context)
            return super().forward(x, *args)

    net = Net(6, in_units=12)
    net.initialize(ctx=devices)
    net.hybridize(static_alloc=True, static_shape=True)
    images = ImageSet(random.randint(0, 256, (23, 1, 3, 4)).astype('uint8'), random.randint(0, 6, 23).astype('int32'))
    augmentation = Augmentation(mean=np.zeros(1, 'float32'), std=np.ones(1, 'float32'))
    alone = evaluate_images(net, images, augmentation, 4, devices[:1])
    assert evaluate_images(net, images, augmentation, 4, devices) == alone
    assert used == [devices[0]] * 6 + devices * 2
