"""Batches from RecordIO files, decoded and augmented by the threads of MXNet's reader.

This file is built around facts about ``mx.io.ImageRecordIter`` of MXNet 1.9.1, found by trial and in its source.
``reset()`` races, so every epoch gets a new reader. Without ``seed_aug`` the augmentation depends on the threads and is
the same in every epoch; with it, it depends only on the position of an image in its batch. From a part (``num_parts``)
without records it reads arbitrary data, and a part smaller than a batch is an error. A record that is not an image is
an error in training, but crashes the process in evaluation (it divides by the height), so packing rejects such files.
"""
from __future__ import annotations

from itertools import count, islice
from typing import Generator, Iterator, Tuple

import numpy as np

from ..errors import SSSError, reason
from ..machine import threads
from .augment import Augmentation
from .batches import check_batches, in_background
from .records import CUBIC, RecordSet

DECODED = 128       # images decoded at a time if batches are smaller: as many different random draws
RESIZED_CROP = dict(random_resized_crop=True, min_random_area=0.08, max_random_area=1.0, min_aspect_ratio=3 / 4,
                    max_aspect_ratio=4 / 3, inter_method=CUBIC)
FACEBOOK = dict(RESIZED_CROP, brightness=0.4, contrast=0.4, saturation=0.4, pca_noise=0.1)
OPTIONS = {'resized-crop': RESIZED_CROP, 'facebook': FACEBOOK}


class RecordBatches:
    """Augmented batches of a `RecordSet`, in a new order in every epoch, with the interface of `TrainBatches`.

    Each shard always reads the same contiguous part of the file, in an order and with an augmentation that depend on
    (seed, epoch, shard). Every image occurs in an epoch, once but for those that fill the last batch: as in the
    authors' code, they are the next ones, the first of a new order of the same part. So every step has the gradient of
    a whole batch. A shard without images takes those of the first. Entering an epoch later decodes and drops the
    earlier batches.

    Parameters
    ----------
    images : RecordSet
    batch_size : int
        Global batch size, over all shards.
    augmentation : Augmentation
        Its ``kind`` is facebook (the default) or resized-crop.
    seed : int
        From 0 to 2**32 - 1.
    shard : (int, int)
        Index of this shard and number of shards.

    Raises
    ------
    SSSError
        The batch is larger than the set or not divisible by the number of shards, or a number is out of range.
    """

    def __init__(self, images: RecordSet, batch_size: int, augmentation: Augmentation, seed: int,
                 shard: Tuple[int, int] = (0, 1)):
        check_batches(images, batch_size, augmentation, seed, shard)
        if not images.at_end:
            raise SSSError(f'{images.rec}: training images must extend to the end of the file; hold out the first ones')
        self.images, self.batch_size, self.augmentation, self.seed = images, batch_size, augmentation, seed
        self._index, self._shards = shard
        self._share = batch_size // self._shards

    def __len__(self) -> int:
        """Steps in an epoch, the same on every shard."""
        return -(-len(self.images) // self.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Generator[Tuple[np.ndarray, np.ndarray], None, None]:
        """The batches of an epoch (0, 1, …) from step ``start`` on.

        Yields
        ------
        x : numpy.ndarray
            float32, shape (batch_size / shards, 3, H, W).
        y : numpy.ndarray
            float32, shape (batch_size / shards,): labels.
        """
        if epoch < 0 or not 0 <= start <= len(self):
            raise SSSError(f'there is no step {start} of epoch {epoch}: an epoch has {len(self)} steps')
        return in_background(self._prepare(epoch, start))

    def _prepare(self, epoch: int, start: int) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
        pieces = (piece for turn in count() for piece in self._pieces(epoch, turn))     # a smaller part ends earlier
        for x, y in islice(pieces, start, len(self)):
            yield self.augmentation.normalise(x), y

    def _pieces(self, epoch: int, turn: int) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
        """Images (uint8) and labels in portions of one batch: all of them once, then the first of a new order.

        The next turn has another order too. (NumPy pads seeds with zeros, so turn 0 has the seed without it.)
        """
        most = -(-len(self.images) // self._shards)     # the reader divides so: the last parts are smaller, or empty
        source = self._index if self._index * most < len(self.images) else 0
        size, share = min(most, len(self.images) - source * most), self._share
        chunk = max(1, min(DECODED, size) // share) * share if size >= share else size
        seeds = np.random.SeedSequence((self.seed, epoch, self._index, turn)).generate_state(2) >> 2    # positive ints
        kind = self.augmentation.kind or self.images.AUGMENTATIONS[0]
        for x, y in _read(self.images, chunk, shuffle=True, seed=int(seeds[0]), seed_aug=int(seeds[1]),
                          rand_mirror=self.augmentation.flip, num_parts=self._shards, part_index=source,
                          **OPTIONS[kind]):
            for first in range(0, chunk, share):
                yield _filled(x[first:first + share], share), _filled(y[first:first + share], share)


def record_evaluation_batches(images: RecordSet, batch_size: int,
                              augmentation: Augmentation) -> Iterator[Tuple[np.ndarray, np.ndarray, int]]:
    """All images in their order: short side resized, centre cropped, normalised. See `evaluation_batches`."""
    if batch_size < 1:
        raise SSSError(f'batch size {batch_size} must be at least 1')
    chunk = min(batch_size, len(images))

    def prepare():
        left = len(images)
        for x, y in _read(images, chunk, resize=images.short_side, inter_method=CUBIC):
            valid = min(chunk, left)
            yield augmentation.normalise(_filled(x, batch_size)), _filled(y, batch_size), valid
            left -= valid
            if not left:        # the file may continue with images outside the set
                return

    return in_background(prepare())


def _filled(array: np.ndarray, count: int) -> np.ndarray:
    """``array`` repeated up to ``count`` entries."""
    return array if len(array) == count else np.resize(array, (count, *array.shape[1:]))


def _read(images: RecordSet, batch_size: int, **options) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
    """uint8 (batch_size, 3, H, W) and float32 labels; the last batch is filled up with images from the beginning."""
    import mxnet as mx  # only here: the rest of this package does not need it
    try:
        reader = mx.io.ImageRecordIter(
            path_imgrec=str(images.rec), path_imgidx=images.index_file, data_shape=images.shape, dtype='uint8',
            batch_size=batch_size, round_batch=True, preprocess_threads=threads(), device_id=-1, verbose=False,
            **options)
        for batch in reader:
            yield batch.data[0].asnumpy(), batch.label[0].asnumpy()
    except mx.base.MXNetError as error:
        raise SSSError(f'{images.rec}: cannot be read: {reason(error)}') from error
