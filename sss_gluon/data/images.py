"""Images with labels as arrays: taken, padded, held out, checked and measured."""
from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import ClassVar, Tuple

import numpy as np

from ..errors import SSSError

_HOLD_OUT_SEED = 170701213


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of the same size with one label each.

    Attributes
    ----------
    images : numpy.ndarray
        uint8, shape (N, C, H, W), C-contiguous, N at least 1.
    labels : numpy.ndarray
        int32, shape (N,).

    Raises
    ------
    SSSError
        A dtype or shape is wrong.
    """
    AUGMENTATIONS: ClassVar[Tuple[str, ...]] = ('pad-crop',)        # kinds of augmentation; the first is the default

    images: np.ndarray
    labels: np.ndarray

    def __post_init__(self):
        images, labels = self.images, self.labels
        if images.dtype != np.uint8 or images.ndim != 4 or not images.size or not images.flags.c_contiguous:
            raise SSSError('images must be a contiguous uint8 array of shape (N, C, H, W), not empty, not '
                           f'{images.dtype} {images.shape}')
        if labels.dtype != np.int32 or labels.shape != images.shape[:1]:
            raise SSSError(f'labels must be int32 of shape ({len(images)},) for {len(images)} images, '
                           f'not {labels.dtype} {labels.shape}')

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> Tuple[int, int, int]:
        """(C, H, W) of one image."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def take(self, indices: np.ndarray) -> ImageSet:
        """The images and labels at ``indices``, copied."""
        return ImageSet(self.images[indices], self.labels[indices])

    def part(self, index: int, count: int) -> ImageSet:
        """The ``index``-th of ``count`` contiguous parts of almost the same size, not copied."""
        ends = np.linspace(0, len(self), count + 1).astype(int)
        part = slice(ends[index], ends[index + 1])
        return ImageSet(self.images[part], self.labels[part])

    def pad_to(self, size: int) -> ImageSet:
        """Zero-pad the images to at least ``size`` x ``size`` pixels, centred (an odd row or column last).

        Images that are large enough are returned unchanged.
        """
        count, channels, height, width = self.images.shape
        padded_height, padded_width = max(height, size), max(width, size)
        if (padded_height, padded_width) == (height, width):
            return self
        padded = np.zeros((count, channels, padded_height, padded_width), np.uint8)
        top, left = (padded_height - height) // 2, (padded_width - width) // 2
        padded[:, :, top:top + height, left:left + width] = self.images
        return ImageSet(padded, self.labels)


def hold_out(images: ImageSet, count: int) -> Tuple[ImageSet, ImageSet]:
    """Hold out ``count`` images, the same ones every time: the seed is fixed and not that of the run.

    They are the first of a random permutation, so a smaller choice is part of a larger one. Both results keep the order
    of ``images``.

    Returns
    -------
    (ImageSet, ImageSet)
        The remaining images, and the ``count`` images held out.

    Raises
    ------
    SSSError
        ``count`` is not a whole number from 1 to ``len(images) - 1``.
    """
    check_count(count, images)
    # RandomState: NumPy promises that its stream never changes; a Generator's may, and so would the split.
    order = np.random.RandomState(_HOLD_OUT_SEED).permutation(len(images))
    return images.take(np.sort(order[count:])), images.take(np.sort(order[:count]))


def check_count(count: int, images) -> None:
    """Raise SSSError if ``count`` images cannot be held out of ``images``."""
    if not isinstance(count, Integral) or not 0 < count < len(images):
        raise SSSError(f'cannot hold out {count!r} of {len(images)} images: give a whole number from 1 to '
                       f'{len(images) - 1}')


def check_labels(labels: np.ndarray, classes: int, where: str) -> None:
    """Raise SSSError, naming ``where``, if a label of the array is not in ``range(classes)``."""
    outside = np.flatnonzero((labels < 0) | (labels >= classes))
    if outside.size:
        raise SSSError(f'{where}: label {labels[outside[0]]} of image {outside[0]} is outside '
                       f'0..{classes - 1} ({outside.size} of {labels.size} labels are)')


def channel_statistics(images: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation per channel of uint8 images (N, C, H, W), as in `DataSet`."""
    count, channels, height, width = images.shape
    total = np.zeros(channels, np.int64)
    squares = np.zeros(channels, np.int64)
    chunk = max(1, 2 ** 24 // (channels * height * width))
    for start in range(0, count, chunk):         # integer sums are exact; chunks limit the memory
        part = images[start:start + chunk]
        total += part.sum(axis=(0, 2, 3), dtype=np.int64)
        squares += np.square(part, dtype=np.uint16).sum(axis=(0, 2, 3), dtype=np.int64)
    pixels = count * height * width
    # Python integers, because pixels * squares may exceed 64 bits; 0 then means exactly a constant channel.
    variance = [(pixels * int(q) - int(s) ** 2) / pixels ** 2 or 1 for s, q in zip(total, squares)]
    return (total / pixels).astype(np.float32), np.sqrt(variance).astype(np.float32)
