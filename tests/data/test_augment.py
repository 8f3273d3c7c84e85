import time

import numpy as np
import pytest

from sss_gluon.data import Augmentation
from sss_gluon.data.augment import Draw
from sss_gluon.errors import SSSError

IDENTITY = {'mean': [0], 'std': [1]}


def reference(images, draw, pad, mean, std):
    """The recipe, one image at a time: pad with zeros, crop, mirror, normalise."""
    result = []
    for i, image in enumerate(images):
        _, height, width = image.shape
        padded = np.pad(image, ((0, 0), (pad, pad), (pad, pad)))
        top, left = (0, 0) if draw.top is None else (draw.top[i], draw.left[i])
        crop = padded[:, top:top + height, left:left + width]
        if draw.flipped is not None and draw.flipped[i]:
            crop = crop[:, :, ::-1]
        result.append((crop.astype(np.float64) - np.reshape(mean, (-1, 1, 1))) / np.reshape(std, (-1, 1, 1)))
    return np.stack(result)


@pytest.mark.parametrize('top, left, flipped, expected', [
    (1, 1, False, [[1, 2, 3], [4, 5, 6]]),        # the middle: the image itself
    (1, 1, True, [[3, 2, 1], [6, 5, 4]]),
    (0, 1, False, [[0, 0, 0], [1, 2, 3]]),
    (2, 1, False, [[4, 5, 6], [0, 0, 0]]),
    (1, 0, False, [[0, 1, 2], [0, 4, 5]]),
    (1, 2, False, [[2, 3, 0], [5, 6, 0]]),
    (1, 2, True, [[0, 3, 2], [0, 6, 5]]),
])
def test_crop_and_flip_by_hand(top, left, flipped, expected):
    augmentation = Augmentation(**IDENTITY, pad=1)
    images = np.array([[[[1, 2, 3], [4, 5, 6]]]], np.uint8)
    draw = Draw(np.array([top]), np.array([left]), np.array([flipped]))
    assert augmentation.apply(images, draw)[0, 0].tolist() == expected


def test_normalise_by_hand():
    augmentation = Augmentation(mean=[100, 10], std=[50, 2])
    images = np.array([[[[200, 100]], [[0, 13]]]], np.uint8)
    normalised = augmentation.normalise(images)
    assert normalised.dtype == np.float32
    assert normalised.tolist() == [[[[2, 0]], [[-5, 1.5]]]]


@pytest.mark.parametrize('pad', [0, 1, 4])
@pytest.mark.parametrize('flip', [False, True])
def test_against_one_image_at_a_time(colour_images, pad, flip):
    images = np.ascontiguousarray(colour_images[0][:, :, :, :27])       # not square
    before = images.copy()
    mean, std = [70, 180, 35], [80, 81, 40]
    augmentation = Augmentation(mean, std, pad=pad, flip=flip)
    draw = augmentation.draw(len(images), np.random.default_rng(3))
    result = augmentation.apply(images, draw)
    np.testing.assert_allclose(result, reference(images, draw, pad, mean, std), atol=1e-6)
    assert result.dtype == np.float32 and result.flags.c_contiguous and result.shape == images.shape
    assert (images == before).all()
    assert (augmentation(images, np.random.default_rng(3)) == result).all()


def test_result_is_contiguous_whatever_the_images_are(colour_images):
    images = colour_images[0].transpose(0, 1, 3, 2)
    assert Augmentation([0] * 3, [1] * 3).normalise(images).flags.c_contiguous


def test_nothing_random_takes_no_random_numbers(colour_images):
    augmentation = Augmentation([1, 2, 3], [4, 5, 6], pad=0, flip=False)
    assert augmentation.draw(7, None) == (None, None, None)
    assert (augmentation(colour_images[0], None) == augmentation.normalise(colour_images[0])).all()


def test_draws_are_uniform():
    """81,000 draws: each of 9 x 9 crops 1,000 times, half of them flipped, within 5 standard deviations."""
    draw = Augmentation(**IDENTITY).draw(81000, np.random.default_rng(0))
    counts = np.bincount(9 * draw.top + draw.left, minlength=81)
    assert len(counts) == 81 and abs(counts - 1000).max() < 5 * np.sqrt(1000)
    chi_square = ((counts - 1000) ** 2 / 1000).sum()
    assert abs(chi_square - 80) < 5 * np.sqrt(2 * 80)
    assert abs(draw.flipped.sum() - 40500) < 5 * np.sqrt(81000 / 4)
    flipped_in_the_middle = draw.flipped[(draw.top == 4) & (draw.left == 4)].mean()
    assert abs(flipped_in_the_middle - 0.5) < 5 * np.sqrt(0.25 / 1000)          # independent of the crop


def test_part_of_a_draw():
    draw = Draw(np.arange(4), np.arange(4) + 10, None).part(slice(1, 3))
    assert draw.top.tolist() == [1, 2] and draw.left.tolist() == [11, 12] and draw.flipped is None


@pytest.mark.parametrize('setting, message', [
    ({'mean': [0, 0], 'std': [1]}, 'one finite entry per channel'),
    ({'mean': [0], 'std': [0]}, 'std above 0'),
    ({'mean': [np.nan], 'std': [1]}, 'finite'),
    ({'mean': [0], 'std': [np.nan]}, 'finite'),
    ({'mean': [0], 'std': [1], 'pad': -1}, 'pad=-1'),
])
def test_refuses(setting, message):
    with pytest.raises(SSSError, match=message):
        Augmentation(**setting)


def test_channels_must_fit(colour_images):
    with pytest.raises(SSSError, match='images have 3 channels but mean and std have 1'):
        Augmentation(**IDENTITY).normalise(colour_images[0])


def test_speed(colour_images):
    """At least 20,000 images of CIFAR's size per second; an idle core makes about 200,000."""
    images = np.resize(colour_images[0], (64, 3, 32, 32))
    augmentation = Augmentation([70, 180, 35], [80, 81, 40])
    generator = np.random.default_rng(0)
    best = min(seconds(lambda: augmentation(images, generator)) for _ in range(20))
    assert len(images) / best > 20000


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
