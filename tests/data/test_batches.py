import gc
import threading
import time

import numpy as np
import pytest

from sss_gluon.data import Augmentation, TrainBatches, digits, evaluation_batches
from sss_gluon.data.batches import in_background
from sss_gluon.errors import SSSError

PLAIN = Augmentation([0], [1], pad=0, flip=False)


@pytest.fixture(scope='module')
def train():
    return digits.load().train


@pytest.fixture(scope='module')
def augmentation():
    data = digits.load()
    return Augmentation(data.mean, data.std, pad=2)


def equal(left, right):
    left, right = list(left), list(right)
    return len(left) == len(right) and all(
        np.array_equal(a, b) for one, other in zip(left, right) for a, b in zip(one, other))


@pytest.fixture
def workers():
    """A function that lists the threads that prepare batches, without those of other tests."""
    before = set(threading.enumerate())
    return lambda: [thread for thread in threading.enumerate()
                    if thread.name == 'batches' and thread not in before]


def wait_until(condition):
    """True as soon as the condition is, False after 5 seconds."""
    end = time.monotonic() + 5
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.001)
    return True


def test_shapes_and_types(train, augmentation):
    batches = TrainBatches(train, 64, augmentation, seed=0)
    assert len(batches) == 18                     # 1197 = 18 * 64 + 45
    found = list(batches.epoch(0))
    assert len(found) == 18
    assert {(x.shape, x.dtype, y.shape, y.dtype) for x, y in found} == {
        ((64, 1, 16, 16), np.dtype(np.float32), (64,), np.dtype(np.float32))}


def test_each_image_at_most_once_per_epoch_with_its_own_label(numbered):
    batches = TrainBatches(numbered(50), 8, PLAIN, seed=5)
    seen = []
    for x, y in batches.epoch(0):
        assert (x == y[:, None, None, None]).all()
        seen.extend(y)
    assert len(seen) == len(set(seen)) == 48


def test_remainder_differs_from_epoch_to_epoch(numbered):
    batches = TrainBatches(numbered(50), 8, PLAIN, seed=5)
    dropped = {frozenset(range(50)) - {int(label) for _, y in batches.epoch(epoch) for label in y}
               for epoch in range(20)}
    assert {len(part) for part in dropped} == {2} and len(dropped) > 15


def test_order_depends_on_seed_and_epoch_only(numbered):
    def order(seed, epoch):
        return tuple(np.concatenate([y for _, y in TrainBatches(numbered(50), 10, PLAIN, seed).epoch(epoch)]))
    orders = {(seed, epoch): order(seed, epoch) for seed in (0, 1, 2) for epoch in (0, 1, 2)}
    assert len(set(orders.values())) == 9 and tuple(range(50)) not in orders.values()
    assert order(1, 2) == orders[1, 2]


def test_augmentation_differs_from_step_to_step_and_epoch_to_epoch(train, augmentation):
    batches = TrainBatches(train.take(np.zeros(60, int)), 20, augmentation, seed=0)     # 60 times one image
    found = [x.tobytes() for epoch in (0, 1) for x, _ in batches.epoch(epoch)]
    assert len(set(found)) == len(found) == 6


@pytest.mark.parametrize('start', [0, 1, 7, 17, 18])
def test_resume_in_the_middle_is_bit_identical(train, augmentation, start):
    batches = TrainBatches(train, 64, augmentation, seed=3)
    whole = list(batches.epoch(4))
    assert equal(TrainBatches(train, 64, augmentation, seed=3).epoch(4, start), whole[start:])


@pytest.mark.parametrize('shards', [2, 4, 8])
def test_shards_together_are_the_global_batch(train, augmentation, shards):
    whole = list(TrainBatches(train, 64, augmentation, seed=3).epoch(1))
    parts = [list(TrainBatches(train, 64, augmentation, seed=3, shard=(i, shards)).epoch(1))
             for i in range(shards)]
    assert parts[0][0][0].shape[0] == 64 // shards
    assert equal(((np.concatenate([x for x, _ in step]), np.concatenate([y for _, y in step]))
                  for step in zip(*parts)), whole)


@pytest.mark.parametrize('setting, message', [
    ({'batch_size': 51}, 'batch size 51 must be from 1 to the number of training images, 50'),
    ({'batch_size': 0}, 'batch size 0'),
    ({'shard': (0, 3)}, 'batch size 10 cannot be shared by 3 workers'),
    ({'shard': (2, 2)}, 'shard 2 of 2'),
    ({'shard': (0, 0)}, 'shard 0 of 0'),
    ({'seed': -1}, 'seed -1'),
    ({'seed': 2 ** 32}, 'seed 4294967296'),
])
def test_refuses(numbered, setting, message):
    with pytest.raises(SSSError, match=message):
        TrainBatches(numbered(50), **{'batch_size': 10, 'augmentation': PLAIN, 'seed': 0, **setting})


@pytest.mark.parametrize('epoch, start', [(-1, 0), (0, -1), (0, 6)])
def test_refuses_steps_that_do_not_exist(numbered, epoch, start):
    with pytest.raises(SSSError, match=f'no step {start} of epoch {epoch}: an epoch has 5 steps'):
        TrainBatches(numbered(50), 10, PLAIN, 0).epoch(epoch, start)


@pytest.mark.parametrize('count, batch_size, expected', [
    (6, 3, [([0, 1, 2], 3), ([3, 4, 5], 3)]),
    (5, 4, [([0, 1, 2, 3], 4), ([4, 0, 1, 2], 1)]),
    (2, 5, [([0, 1, 0, 1, 0], 2)]),
])
def test_evaluation(numbered, count, batch_size, expected):
    found = list(evaluation_batches(numbered(count), batch_size, Augmentation([1], [2])))
    assert [(y.tolist(), valid) for _, y, valid in found] == expected
    for x, y, _ in found:
        assert x.dtype == y.dtype == np.float32
        assert (x == (y[:, None, None, None] - 1) / 2).all() and x.shape == (batch_size, 1, 4, 4)


def test_evaluation_refuses(numbered):
    with pytest.raises(SSSError, match='batch size 0'):
        evaluation_batches(numbered(4), 0, PLAIN)


def test_batches_are_prepared_ahead_but_not_too_far(workers):
    made = []
    items = in_background((made.append(i) or i for i in range(100)), ahead=2)
    assert next(items) == 0
    assert wait_until(lambda: len(made) == 4)     # the first, two that wait, one in work
    time.sleep(0.05)
    assert len(made) == 4
    assert list(items) == list(range(1, 100))
    assert not workers()


def test_closing_stops_the_thread(numbered, workers):
    batches = TrainBatches(numbered(200), 2, PLAIN, 0).epoch(0)
    next(batches)
    assert len(workers()) == 1
    batches.close()
    assert not workers()


@pytest.mark.timeout(30)
def test_closing_stops_a_thread_that_waits_for_room(workers):
    made = []
    items = in_background((made.append(i) or i for i in range(100)), ahead=2)
    next(items)
    assert wait_until(lambda: len(made) == 4)
    items.close()
    assert not workers() and len(made) == 4


def test_break_stops_the_thread(numbered, workers):
    for _ in TrainBatches(numbered(200), 2, PLAIN, 0).epoch(0):
        break
    gc.collect()
    assert not workers()


def test_error_of_the_consumer_stops_the_thread(numbered, workers):
    with pytest.raises(ZeroDivisionError):
        for _ in TrainBatches(numbered(200), 2, PLAIN, 0).epoch(0):
            raise ZeroDivisionError
    gc.collect()
    assert not workers()


def test_never_started_leaves_no_thread(numbered, workers):
    TrainBatches(numbered(200), 2, PLAIN, 0).epoch(0)
    assert not workers()


def test_closing_does_not_wait_for_batches_nobody_wants(workers):
    made = []

    def items():
        for i in range(100):
            time.sleep(0.01)
            made.append(i)
            yield i

    background = in_background(items())
    next(background)
    background.close()
    assert len(made) <= 6 and not workers()


def test_error_of_the_thread_travels(train, workers):
    class Broken(Augmentation):
        def draw(self, count, generator):
            if len(steps) == 3:
                raise MemoryError('step 3')
            steps.append(count)
            return super().draw(count, generator)

    steps = []
    found = []
    with pytest.raises(MemoryError, match='step 3'):
        for x, _ in TrainBatches(train, 64, Broken([0], [1]), 0).epoch(0):
            found.append(x)
    assert len(found) == 3 and not workers()


def test_two_epochs_at_the_same_time(numbered, workers):
    batches = TrainBatches(numbered(40), 4, PLAIN, 0)
    alone = [list(batches.epoch(epoch)) for epoch in (0, 1)]
    together = list(zip(batches.epoch(0), batches.epoch(1)))
    assert equal((one for one, _ in together), alone[0]) and equal((two for _, two in together), alone[1])
    gc.collect()
    assert not workers()
