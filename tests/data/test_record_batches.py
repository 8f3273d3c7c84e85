"""Batches from a RecordIO file: every image once per epoch, for any number of workers, and repeatable."""
import io
import itertools
import math

import numpy as np
import pytest
from PIL import Image

from sss_gluon.data import (
    Augmentation,
    ImageSet,
    RecordBatches,
    RecordSet,
    TrainBatches,
    evaluation_batches,
    record_batches,
    train_batches,
)
from sss_gluon.errors import SSSError

SIZE = 16
PLAIN = Augmentation([0] * 3, [1] * 3)
CROP = Augmentation([0] * 3, [1] * 3, kind='resized-crop')


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).save(file, 'PNG')
    return file.getvalue()


@pytest.fixture(scope='module')
def numbered_records(tmp_path_factory, photograph, write_records):
    """A function that makes images, each labelled with its number."""
    made = {}

    def make(count):
        if count not in made:
            files = [png(photograph(i, 24, 20)) for i in range(count)]
            made[count] = RecordSet.open(write_records(tmp_path_factory.mktemp('set') / 'set', files), SIZE)
        return made[count]
    return make


@pytest.fixture(scope='module')
def same(tmp_path_factory, write_records):
    """A function that makes copies of one image."""
    def make(pixels, count, size=SIZE):
        return RecordSet.open(write_records(tmp_path_factory.mktemp('same') / 'set', [png(pixels)] * count), size)
    return make


def batches(images, batch_size, shard=(0, 1), augmentation=PLAIN, seed=3):
    return RecordBatches(images, batch_size, augmentation, seed, shard)


def labels(images, batch_size, workers, epoch=0, start=0):
    """Shape (workers, steps, share)."""
    return np.array([[y for _, y in batches(images, batch_size, (i, workers)).epoch(epoch, start)]
                     for i in range(workers)])


def equal(left, right):
    left, right = list(left), list(right)
    return len(left) == len(right) and all(np.array_equal(a, b) and np.array_equal(c, d)
                                           for (a, c), (b, d) in zip(left, right))


# Counting

@pytest.mark.parametrize('count, batch_size, workers', [
    (17, 4, 1), (16, 4, 1), (17, 17, 1), (1, 1, 1), (17, 4, 2), (17, 2, 2), (17, 16, 2), (16, 8, 2), (23, 6, 3),
    (23, 3, 3), (24, 6, 3), (22, 21, 3), (5, 4, 4), (17, 16, 4), (9, 8, 8), (140, 4, 1), (140, 6, 2),
    (300, 300, 3), (300, 258, 2)])
def test_every_image_and_as_many_steps_on_every_worker(count, batch_size, workers, numbered_records):
    """Each once, but for those that fill the batches."""
    found = labels(numbered_records(count), batch_size, workers)
    share, steps = batch_size // workers, len(batches(numbered_records(count), batch_size, (0, workers)))
    assert found.shape == (workers, steps, share)
    assert steps == math.ceil(math.ceil(count / workers) / share)
    assert sorted(set(found.ravel())) == list(range(count))
    for i, part in enumerate(np.split(np.arange(count), np.arange(1, workers) * math.ceil(count / workers))):
        times = np.bincount(found[i].ravel().astype(int), minlength=count)
        assert (times[part] == 1).sum() >= 2 * len(part) - steps * share or not len(part)
        assert times[part].sum() == steps * share or not len(part)


@pytest.mark.parametrize('count, batch_size, filling', [(5, 4, 3), (17, 4, 3), (140, 6, 4), (3, 2, 1), (1, 1, 0)])
def test_the_next_images_fill_the_last_batch(count, batch_size, filling, numbered_records):
    order = labels(numbered_records(count), batch_size, 1)[0].ravel()
    assert sorted(order[:count]) == list(range(count))
    assert len(order[count:]) == len(set(order[count:])) == filling and set(order[count:]) <= set(range(count))


@pytest.mark.parametrize('shard', [(0, 1), (3, 4)])
def test_what_fills_a_batch_is_the_same_again(shard, numbered_records, monkeypatch):
    found = []
    for threads in (1, 2, 4) * 4:
        monkeypatch.setattr(record_batches, 'threads', lambda threads=threads: threads)
        found.append(list(batches(numbered_records(140), 136, shard).epoch(1)))
    assert all(equal(found[0], other) for other in found[1:])


def test_workers_with_fewer_images(numbered_records):
    """5 images for 4 workers: 2, 2, 1 and none, for which MXNet's reader would read arbitrary data."""
    found = labels(numbered_records(5), 4, 4)[..., 0].tolist()
    assert [sorted(found[0]), sorted(found[1]), found[2]] == [[0, 1], [2, 3], [4, 4]] and sorted(found[3]) == [0, 1]


def test_images_and_labels_belong_together(tmp_path, write_records):
    """Each image has the grey value of its number, and so has each crop of it."""
    shades = [png(np.full((20, 24, 3), 10 * i, np.uint8)) for i in range(23)]
    images = RecordSet.open(write_records(tmp_path / 'set', shades), SIZE)
    for i in range(3):
        for x, y in batches(images, 6, (i, 3), CROP).epoch(1):
            assert x.dtype == y.dtype == np.float32 and x.shape == (2, 3, SIZE, SIZE)
            for image, label in zip(x, y):
                assert (image == 10 * label).all()


def test_normalised(tmp_path, write_records):
    shades = [png(np.full((20, 24, 3), 10 * i, np.uint8)) for i in range(4)]
    images = RecordSet.open(write_records(tmp_path / 'set', shades), SIZE)
    augmentation = Augmentation([10, 20, 30], [1, 2, 4], kind='resized-crop')
    for x, y in batches(images, 4, augmentation=augmentation).epoch(0):
        assert (x[:, :, 0, 0] == (10 * y[:, None] - [10, 20, 30]) / [1, 2, 4]).all()


# Repeatable

@pytest.mark.parametrize('kind', ['facebook', 'resized-crop'])
def test_an_epoch_is_the_same_again(kind, numbered_records):
    augmentation = Augmentation([0] * 3, [1] * 3, kind=kind)
    first, again = (list(batches(numbered_records(23), 4, augmentation=augmentation).epoch(2)) for _ in range(2))
    assert equal(first, again)


def test_the_number_of_threads_changes_nothing(numbered_records, monkeypatch):
    found = []
    for threads in (1, 2, 4):
        monkeypatch.setattr(record_batches, 'threads', lambda threads=threads: threads)
        found.append(list(batches(numbered_records(140), 20).epoch(0)))
    assert equal(found[0], found[1]) and equal(found[0], found[2])


def test_order_and_augmentation_depend_on_seed_epoch_and_shard(numbered_records, same):
    one = same(np.asarray(Image.effect_noise((24, 20), 64).convert('RGB')), 23)
    orders, crops = set(), set()
    for seed, epoch in itertools.product((0, 1), (0, 1, 2)):
        orders.add(tuple(np.concatenate([y for _, y in batches(numbered_records(23), 23, seed=seed).epoch(epoch)])))
        crops.add(next(batches(one, 23, seed=seed).epoch(epoch))[0].tobytes())
    assert len(orders) == len(crops) == 6 and tuple(range(23)) not in orders
    left, right = (next(batches(one, 22, (i, 2)).epoch(0))[0] for i in range(2))
    assert not np.array_equal(left, right)


def test_batches_of_an_epoch_are_augmented_differently(same):
    """MXNet's reader repeats its draws in every batch, so our batches are parts of larger ones."""
    one = same(np.asarray(Image.effect_noise((24, 20), 64).convert('RGB')), 60)
    found = [image.tobytes() for x, _ in batches(one, 4).epoch(0) for image in x]
    assert len(set(found)) == len(found) == 60


@pytest.mark.parametrize('start', [0, 1, 4, 5, 6])
@pytest.mark.parametrize('shard', [(0, 1), (2, 3)])
def test_entered_in_the_middle(start, shard, numbered_records):
    images = numbered_records(33 if shard[1] == 1 else 17)
    batch_size = 6 if shard[1] == 1 else 3
    whole = list(batches(images, batch_size, shard).epoch(1))
    assert len(whole) == 6
    assert equal(batches(images, batch_size, shard).epoch(1, start), whole[start:])


@pytest.mark.parametrize('epoch, start', [(-1, 0), (0, -1), (0, 7)])
def test_steps_that_do_not_exist(epoch, start, numbered_records):
    with pytest.raises(SSSError, match=f'no step {start} of epoch {epoch}: an epoch has 6 steps'):
        batches(numbered_records(23), 4).epoch(epoch, start)


def test_two_epochs_at_the_same_time(numbered_records):
    own = batches(numbered_records(23), 4)
    alone = [list(own.epoch(epoch)) for epoch in (0, 1)]
    together = list(zip(own.epoch(0), own.epoch(1)))
    assert equal((one for one, _ in together), alone[0]) and equal((two for _, two in together), alone[1])


def test_left_in_the_middle(numbered_records):
    own = batches(numbered_records(140), 4)
    for _ in range(3):
        epoch = own.epoch(0)
        next(epoch)
        epoch.close()
    assert sorted(np.concatenate([y for _, y in own.epoch(0)])) == list(range(140))


# Augmentation

def gradients(width, height):
    """Red grows from left to right, green from top to bottom."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width).round()
    pixels[..., 1] = np.linspace(0, 255, height).round()[:, None]
    pixels[..., 2] = 100
    return pixels


def test_crops(same):
    """The colours at the borders of a crop give its position and size: area 8 to 100 %, aspect 3/4 to 4/3."""
    x, _ = next(batches(same(gradients(250, 200), 100, 64), 100, augmentation=CROP).epoch(0))
    x = x.astype(float)
    width = abs(x[:, 0, :, -1] - x[:, 0, :, 0]).mean(axis=1) / 255 * 64 / 63
    height = abs(x[:, 1, -1] - x[:, 1, 0]).mean(axis=1) / 255 * 64 / 63
    area, aspect = width * height, 250 * width / (200 * height)
    assert 0.06 < area.min() < 0.15 and 0.7 < area.max() < 1.03 and 0.4 < area.mean() < 0.65
    assert 0.7 < aspect.min() < 0.85 and 1.2 < aspect.max() < 1.4
    flipped = x[:, 0, :, -1].mean(axis=1) < x[:, 0, :, 0].mean(axis=1)
    assert 30 < flipped.sum() < 70 and (abs(x[:, 2] - 100) < 2).all()


def test_no_flip(same):
    augmentation = Augmentation([0] * 3, [1] * 3, flip=False, kind='resized-crop')
    x, _ = next(batches(same(gradients(250, 200), 40), 40, augmentation=augmentation).epoch(0))
    assert (x[:, 0, :, -1] > x[:, 0, :, 0]).all()


def test_colours(same):
    """facebook: brightness times 0.6 to 1.4, so an even grey stays even, but becomes another; noise gives it a hue."""
    grey = same(np.full((20, 24, 3), 120, np.uint8), 100)
    x, _ = next(batches(grey, 100, augmentation=CROP).epoch(0))
    assert (x == 120).all()
    x, _ = next(batches(grey, 100).epoch(0))        # the default
    values = x[:, :, 0, 0]
    assert (x == values[:, :, None, None]).all()
    assert 0.5 * 120 < values.min() < 0.75 * 120 and 1.25 * 120 < values.max() < 1.5 * 120
    assert (np.ptp(values, axis=1) > 0).mean() > 0.2        # channels differ


@pytest.mark.parametrize('images', ['records', 'memory'])
def test_kinds_of_augmentation_belong_to_kinds_of_images(images, numbered_records, numbered):
    if images == 'records':
        own, kind, others = numbered_records(23), RecordBatches, ['pad-crop']
    else:
        own, kind, others = numbered(23, (3, 4, 4)), TrainBatches, ['facebook', 'resized-crop']
    for name in (None, *own.AUGMENTATIONS):
        assert type(train_batches(own, 4, Augmentation([0] * 3, [1] * 3, kind=name), 0)) is kind
    for name in others:
        with pytest.raises(SSSError, match=f'augmentation={name} .*{own.AUGMENTATIONS[0]}'):
            train_batches(own, 4, Augmentation([0] * 3, [1] * 3, kind=name), 0)


def test_an_unknown_kind():
    with pytest.raises(SSSError, match="augmentation 'crop' is unknown; use pad-crop, resized-crop, facebook"):
        Augmentation([0], [1], kind='crop')


@pytest.mark.parametrize('setting, message', [
    ({'batch_size': 24}, 'batch size 24 must be from 1 to the number of training images, 23'),
    ({'batch_size': 0}, 'batch size 0'), ({'shard': (0, 3)}, 'batch size 4 cannot be shared by 3 workers'),
    ({'shard': (2, 2)}, 'shard 2 of 2'), ({'seed': -1}, 'seed -1'), ({'seed': 2 ** 32}, 'seed 4294967296')])
def test_refuses(setting, message, numbered_records):
    with pytest.raises(SSSError, match=message):
        RecordBatches(numbered_records(23), **{'batch_size': 4, 'augmentation': PLAIN, 'seed': 0, **setting})


def test_training_images_are_the_last_of_the_file(numbered_records):
    with pytest.raises(SSSError, match='end of the file'):
        batches(numbered_records(23).between(0, 20), 4)
    images = numbered_records(23).between(6)
    found = {label for i in range(2) for _, y in batches(images, 4, (i, 2)).epoch(0) for label in y}
    assert sorted(found) == list(range(6, 23))


# Evaluation

@pytest.mark.parametrize('start, stop, batch_size', [(0, 23, 23), (0, 23, 8), (0, 23, 1), (0, 23, 40), (5, 23, 6),
                                                     (0, 9, 4), (7, 15, 4), (7, 15, 3), (22, 23, 4), (4, 6, 5)])
def test_evaluation_keeps_the_order(start, stop, batch_size, numbered_records):
    images = numbered_records(23).between(start, stop)
    seen, pixels = [], []
    for x, y, valid in evaluation_batches(images, batch_size, PLAIN):
        assert x.shape == (batch_size, 3, SIZE, SIZE) and y.shape == (batch_size,) and x.dtype == y.dtype == np.float32
        assert 0 < valid <= batch_size
        seen.extend(y[:valid])
        pixels.extend(x[:valid])
    assert seen == list(range(start, stop)) and np.array_equal(pixels, images.images[:])


def test_evaluation_refuses(numbered_records):
    with pytest.raises(SSSError, match='batch size 0'):
        evaluation_batches(numbered_records(23), 0, PLAIN)


def test_a_record_that_is_no_image(tmp_path, photograph, write_records):
    files = [png(photograph(i, 24, 20)) for i in range(3)] + [b'no image']
    images = RecordSet.open(write_records(tmp_path / 'set', files), SIZE)
    with pytest.raises(SSSError, match='set.rec: cannot be read') as caught:
        list(batches(images, 2).epoch(0))
    assert '\n' not in str(caught.value) and '.cpp' not in str(caught.value)


def test_in_memory_sets_go_the_other_way(numbered):
    assert isinstance(numbered(5), ImageSet)
    assert [(y.tolist(), valid) for _, y, valid in evaluation_batches(numbered(3), 2, Augmentation([0], [1]))] == [
        ([0, 1], 2), ([2, 0], 1)]
