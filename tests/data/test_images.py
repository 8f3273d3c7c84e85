import numpy as np
import pytest

from sss_gluon.data import DataSet, ImageSet
from sss_gluon.data.images import channel_statistics, hold_out
from sss_gluon.errors import SSSError


def image_set(count=4, shape=(1, 2, 2), labels=None):
    images = np.arange(count * np.prod(shape)).astype(np.uint8).reshape((count,) + shape)
    return ImageSet(images, np.array(np.arange(count) % 2 if labels is None else labels, np.int32))


@pytest.mark.parametrize('images, labels, message', [
    (np.zeros((2, 1, 4, 4), np.float32), np.zeros(2, np.int32), 'uint8'),
    (np.zeros((2, 4, 4), np.uint8), np.zeros(2, np.int32), r'\(N, C, H, W\)'),
    (np.zeros((0, 1, 4, 4), np.uint8), np.zeros(0, np.int32), 'not empty'),
    (np.zeros((2, 1, 4, 8), np.uint8)[..., ::2], np.zeros(2, np.int32), 'contiguous'),
    (np.zeros((2, 1, 4, 4), np.uint8), np.zeros(2, np.int64), 'int32'),
    (np.zeros((2, 1, 4, 4), np.uint8), np.zeros(3, np.int32), r'shape \(2,\)'),
])
def test_image_set_refuses(images, labels, message):
    with pytest.raises(SSSError, match=message):
        ImageSet(images, labels)


def test_image_set_take_and_shape():
    images = image_set(4, (3, 2, 5))
    part = images.take(np.array([2, 0]))
    assert images.shape == part.shape == (3, 2, 5)
    assert len(images) == 4 and len(part) == 2
    assert part.images[0, 0, 0, 0] == 60 and part.images[1, 0, 0, 0] == 0     # 3 * 2 * 5 pixels per image
    assert part.labels.tolist() == [0, 0]


def test_pad_to_centres_and_puts_the_odd_pixel_last():
    images = ImageSet(np.array([[[[1, 2], [3, 4]]]], np.uint8), np.zeros(1, np.int32))
    assert images.pad_to(4).images[0, 0].tolist() == [[0, 0, 0, 0], [0, 1, 2, 0], [0, 3, 4, 0], [0, 0, 0, 0]]
    assert images.pad_to(3).images[0, 0].tolist() == [[1, 2, 0], [3, 4, 0], [0, 0, 0]]


def test_pad_to_is_a_minimum():
    images = image_set(2, (1, 2, 6))
    assert images.pad_to(2) is images
    padded = images.pad_to(4)
    assert padded.shape == (1, 4, 6)
    assert (padded.images[:, :, 1:3] == images.images).all() and padded.images.sum() == images.images.sum()
    assert padded.labels is images.labels


def test_pad_to_of_a_data_set_pads_every_part_and_measures_again():
    images = ImageSet(np.full((4, 1, 2, 2), 8, np.uint8), np.zeros(4, np.int32))
    data = DataSet.build('x', images, images, 1, validation=images)
    padded = data.pad_to(4)
    assert data.shape == (1, 2, 2) and padded.shape == (1, 4, 4)
    assert padded.validation.shape == padded.test.shape == (1, 4, 4)
    assert data.mean == 8 and padded.mean == 2                    # 4 of 16 pixels are 8
    assert padded.std == pytest.approx(np.sqrt(12))               # (4 * 36 + 12 * 4) / 16
    assert DataSet.build('x', images, images, 1).pad_to(4).validation is None


def test_statistics_by_hand():
    images = np.zeros((2, 3, 1, 2), np.uint8)
    images[:, 0] = [[[0, 0]], [[0, 4]]]           # mean 1, variance (3 * 1 + 9) / 4 = 3
    images[:, 1] = [[[10, 20]], [[10, 20]]]       # mean 15, variance 25
    images[:, 2] = 7                              # constant: std 1 by definition
    mean, std = channel_statistics(images)
    assert mean.dtype == std.dtype == np.float32
    assert mean.tolist() == [1, 15, 7]
    assert std == pytest.approx([np.sqrt(3), 5, 1])


def test_statistics_over_several_chunks():
    images = np.random.RandomState(0).randint(0, 256, (1500, 2, 96, 96)).astype(np.uint8)
    assert images[0].size * len(images) > 2 ** 24
    mean, std = channel_statistics(images)
    assert mean == pytest.approx(images.mean(axis=(0, 2, 3), dtype=np.float64), rel=1e-6)
    assert std == pytest.approx(images[:, 0].std(dtype=np.float64), rel=1e-3)


def test_hold_out_never_changes():
    images = image_set(10)
    kept, held = hold_out(images, 3)
    assert (held.images == images.images[[3, 8, 9]]).all()
    assert (kept.images == images.images[[0, 1, 2, 4, 5, 6, 7]]).all()


def test_hold_out_is_nested_and_complete():
    images = ImageSet(np.zeros((100, 1, 1, 1), np.uint8), np.arange(100, dtype=np.int32))
    kept, held = hold_out(images, 30)
    smaller = hold_out(images, 10)[1]
    assert set(smaller.labels) < set(held.labels)
    assert sorted(np.concatenate([kept.labels, held.labels])) == list(range(100))
    assert (np.diff(kept.labels) > 0).all() and (np.diff(held.labels) > 0).all()


def test_hold_out_does_not_depend_on_the_global_seed():
    images = image_set(50)
    np.random.seed(1)
    first = hold_out(images, 20)[1].images
    np.random.seed(2)
    assert (hold_out(images, 20)[1].images == first).all()


@pytest.mark.parametrize('count', [-1, 4, 5, 0.5, 2.0])
def test_hold_out_refuses(count):
    with pytest.raises(SSSError, match='whole number from 1 to 3'):
        DataSet.build('x', image_set(4), image_set(2), 2, validation=count)


def test_build_holds_out_before_measuring():
    images = image_set(10)
    data = DataSet.build('x', images, image_set(2), 2, validation=4)
    assert (len(data.train), len(data.validation), len(data.test)) == (6, 4, 2)
    assert data.mean == pytest.approx(data.train.images.mean())
    assert data.mean != pytest.approx(images.images.mean())
    assert DataSet.build('x', images, image_set(2), 2, validation=0).validation is None


@pytest.mark.parametrize('part', ['train', 'validation', 'test'])
@pytest.mark.parametrize('labels, wrong', [([0, 1, 2, 1], 'label 2 of image 2'),
                                           ([0, -1, 0, -1], 'label -1 of image 1')])
def test_build_checks_labels(part, labels, wrong):
    parts = {'train': image_set(), 'validation': image_set(), 'test': image_set()}
    parts[part] = image_set(labels=labels)
    with pytest.raises(SSSError, match=rf'x {part}: {wrong} is outside 0\.\.1'):
        DataSet.build('x', classes=2, **parts)


def test_build_checks_shapes():
    with pytest.raises(SSSError, match=r'test images have shape \(1, 3, 3\), train images \(1, 2, 2\)'):
        DataSet.build('x', image_set(), image_set(shape=(1, 3, 3)), 2)
