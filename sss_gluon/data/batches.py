"""Batches for training and evaluation, prepared in a thread while the network runs."""
from __future__ import annotations

import queue
import threading
from typing import Generator, Iterator, Tuple, TypeVar

import numpy as np

from ..errors import SSSError
from .augment import Augmentation
from .images import ImageSet

Item = TypeVar('Item')
_AHEAD = 3
_END = object()


class TrainBatches:
    """Augmented batches, with a new permutation of the images in every epoch.

    The contents of a batch depend on (seed, epoch, step) only, not on the step at which an epoch is entered, and not on
    the number of shards, which together make up the global batch. If the batch size does not divide the number of
    images, the remaining ones, which differ from epoch to epoch, are left out, so that all batches have the same shape.

    Parameters
    ----------
    images : ImageSet
    batch_size : int
        Global batch size, over all shards.
    augmentation : Augmentation
    seed : int
        From 0 to 2**32 - 1.
    shard : (int, int)
        Index of this shard and number of shards. Each shard gets a contiguous part of every global batch.

    Raises
    ------
    SSSError
        The batch is larger than the set or not divisible by the number of shards, or a number is out of range.
    """

    def __init__(self, images: ImageSet, batch_size: int, augmentation: Augmentation, seed: int,
                 shard: Tuple[int, int] = (0, 1)):
        check_batches(images, batch_size, augmentation, seed, shard)
        index, count = shard
        side = min(images.shape[1:])
        if augmentation.pad > side:
            raise SSSError(f'pad={augmentation.pad} (augment_pad: in a configuration) must not be more than the side '
                           f'of the images, {side}')
        self.images = images
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.seed = seed
        share = batch_size // count
        self._part = slice(index * share, (index + 1) * share)

    def __len__(self) -> int:
        """Steps in an epoch."""
        return len(self.images) // self.batch_size

    def epoch(self, epoch: int, start: int = 0) -> Generator[Tuple[np.ndarray, np.ndarray], None, None]:
        """The batches of an epoch (0, 1, …) from step ``start`` on.

        Yields
        ------
        x : numpy.ndarray
            float32, shape (batch_size / shards, C, H, W).
        y : numpy.ndarray
            float32, shape (batch_size / shards,): labels.
        """
        if epoch < 0 or not 0 <= start <= len(self):
            raise SSSError(f'there is no step {start} of epoch {epoch}: an epoch has {len(self)} steps')
        return in_background(self._prepare(epoch, start))

    def _prepare(self, epoch: int, start: int) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
        # Steps count from 1: NumPy pads seeds with zeros, so (seed, epoch) is (seed, epoch, 0).
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.images))
        for step in range(start, len(self)):
            generator = np.random.default_rng((self.seed, epoch, step + 1))
            draw = self.augmentation.draw(self.batch_size, generator)
            batch = order[step * self.batch_size:(step + 1) * self.batch_size][self._part]
            yield (self.augmentation.apply(self.images.images[batch], draw.part(self._part)),
                   self.images.labels[batch].astype(np.float32))


def check_batches(images, batch_size: int, augmentation: Augmentation, seed: int, shard: Tuple[int, int]) -> None:
    """Raise SSSError if training batches of an `ImageSet` or `RecordSet` cannot be made."""
    index, count = shard
    if not 1 <= batch_size <= len(images):
        raise SSSError(f'batch size {batch_size} must be from 1 to the number of training images, {len(images)}')
    if count < 1 or not 0 <= index < count:
        raise SSSError(f'shard {index} of {count} does not exist')
    if batch_size % count:
        raise SSSError(f'batch size {batch_size} cannot be shared by {count} workers: make it a multiple')
    if not 0 <= seed < 2 ** 32:
        raise SSSError(f'seed {seed} must be from 0 to {2 ** 32 - 1}')
    if augmentation.kind not in (None, *images.AUGMENTATIONS):
        raise SSSError(f'augmentation={augmentation.kind} does not support these images; use '
                       f'{" or ".join(images.AUGMENTATIONS)}')


def evaluation_batches(images: ImageSet, batch_size: int,
                       augmentation: Augmentation) -> Iterator[Tuple[np.ndarray, np.ndarray, int]]:
    """All images in their order, normalised (`Augmentation.normalise`) but not augmented.

    Yields
    ------
    x : numpy.ndarray
        float32, shape (batch_size, C, H, W), also for the last batch, which is filled up with the first images.
    y : numpy.ndarray
        float32, shape (batch_size,): labels.
    valid : int
        Number of images, from the first on, that count; the others are the filling.

    Raises
    ------
    SSSError
        ``batch_size`` is smaller than 1.
    """
    if batch_size < 1:
        raise SSSError(f'batch size {batch_size} must be at least 1')

    def prepare():
        for start in range(0, len(images), batch_size):
            batch = np.arange(start, start + batch_size) % len(images)
            yield (augmentation.normalise(images.images[batch]), images.labels[batch].astype(np.float32),
                   min(batch_size, len(images) - start))

    return in_background(prepare())


def in_background(items: Iterator[Item], ahead: int = _AHEAD) -> Generator[Item, None, None]:
    """Iterate over ``items`` in a thread, which prepares at most ``ahead`` items (plus one) in advance.

    The thread starts when the first item is requested. It ends with the last item, with an exception, which is raised
    here, or, after the current item, when the iterator is closed or dropped.
    """
    ready: queue.Queue = queue.Queue(maxsize=ahead)
    stop = threading.Event()

    def work():
        try:
            for item in items:
                ready.put((item, None))
                if stop.is_set():
                    return
            ready.put((_END, None))
        except BaseException as error:           # raised in the consumer
            ready.put((None, error))

    thread = threading.Thread(target=work, name='batches', daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        stop.set()
        while not ready.empty():                 # so that a waiting put can finish
            ready.get_nowait()
        if threading.current_thread() is not thread:     # garbage collection may close the iterator in that thread
            thread.join()
