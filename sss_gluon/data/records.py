"""Images in a RecordIO file, decoded on demand, for data sets that do not fit into memory."""
from __future__ import annotations

import tempfile
from pathlib import Path
from typing import IO, Optional, Tuple, Union

import numpy as np

from ..errors import SSSError, reason
from .images import ImageSet
from .recordio import read_head, read_image, read_index, read_list

CUBIC = 2       # MXNet's code for cubic interpolation


class RecordSet:
    """The images of a RecordIO file, or a contiguous part of them, with the interface of an `ImageSet`.

    Parameters
    ----------
    rec, idx : path
        The RecordIO file and its index.
    offsets, labels : numpy.ndarray
        int64 and int32, shape (N,): those of all records, in the order of the file.
    size : int
        Height and width of the decoded images, see ``images``.
    start, stop : int
        The range of records that belong to the set; default all.
    """
    AUGMENTATIONS = ('facebook', 'resized-crop')        # kinds of augmentation; the first is the default

    def __init__(self, rec: Path, idx: Path, offsets: np.ndarray, labels: np.ndarray, size: int, start: int = 0,
                 stop: Optional[int] = None):
        self.rec, self.size, self.start = rec, size, start
        self.stop = len(offsets) if stop is None else stop
        self._idx, self._offsets, self._labels = idx, offsets, labels
        self._tail_index: Optional[IO[str]] = None

    @classmethod
    def open(cls, stem: Union[str, Path], size: int) -> RecordSet:
        """The records of stem.rec, with stem.idx and stem.lst.

        Raises
        ------
        SSSError
            A file is missing, damaged or truncated, or the files do not belong together.
        """
        rec, idx, lst = (Path(f'{stem}.{kind}') for kind in ('rec', 'idx', 'lst'))
        numbers, offsets = read_index(idx)
        listed, labels = read_list(lst)
        order = np.argsort(listed)
        listed = listed[order]
        if len(listed) != len(numbers) or not np.array_equal(np.sort(numbers), listed):
            raise SSSError(f'{lst} lists {len(listed)} images and {idx} {len(numbers)}, or different ones; both must '
                           f'belong to {rec.name}')
        try:
            size_of_file = rec.stat().st_size
            with open(rec, 'rb') as file:
                first, last = (read_head(file, int(offset), size_of_file) for offset in (offsets[0], offsets[-1]))
        except OSError as error:
            raise SSSError(f'{rec}: cannot be read: {error.strerror}') from error
        if first is None or last is None or last.end != size_of_file:
            raise SSSError(f'{rec}: is truncated, damaged, or not the file that {idx.name} indexes: its {len(offsets)} '
                           f'records should end at byte {size_of_file}; get or make it again')
        return cls(rec, idx, offsets, labels[order][np.searchsorted(listed, numbers)], size)

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def shape(self) -> Tuple[int, int, int]:
        """(C, H, W) of one image."""
        return 3, self.size, self.size

    @property
    def labels(self) -> np.ndarray:
        """int32, shape (N,)."""
        return self._labels[self.start:self.stop]

    @property
    def images(self) -> Decoded:
        """Like a uint8 array (N, 3, size, size) that is read piece by piece: ``images[:32]``, ``images[indices]``.

        As in evaluation, the short side is resized to 256/224 of ``size`` pixels, and the centre is cropped.
        """
        return Decoded(self)

    def take(self, indices: np.ndarray) -> ImageSet:
        """The images and labels at ``indices``, in memory."""
        return ImageSet(self.images[indices], self.labels[indices])

    def between(self, start: int, stop: Optional[int] = None) -> RecordSet:
        """The images from ``start`` up to ``stop``, not copied."""
        start, stop, _ = slice(start, stop).indices(len(self))
        return RecordSet(self.rec, self._idx, self._offsets, self._labels, self.size, self.start + start,
                         self.start + stop)

    def part(self, index: int, count: int) -> RecordSet:
        """The ``index``-th of ``count`` contiguous parts of almost the same size."""
        ends = np.linspace(0, len(self), count + 1).astype(int)
        return self.between(ends[index], ends[index + 1])

    def pad_to(self, size: int) -> RecordSet:
        """The set itself, if its images are large enough; decoded images are never padded."""
        if self.size < size:
            raise SSSError(f'images of {self.size} x {self.size} pixels are too small for this network, which needs '
                           f'image_size={size}')
        return self

    @property
    def at_end(self) -> bool:
        """Whether the last image is the last one of the file."""
        return self.stop == len(self._offsets)

    @property
    def short_side(self) -> int:
        """Length of the short side before the centre is cropped: 256 for 224."""
        return round(256 * self.size / 224)

    @property
    def index_file(self) -> str:
        """An index of the records from ``start`` to the end of the file.

        MXNet's reader takes the size of a record from the beginning of the next one in the index, so no record behind
        the first may be left out.
        """
        if not self.start:
            return str(self._idx)
        if self._tail_index is None:
            self._tail_index = tempfile.NamedTemporaryFile('w', prefix='sss_gluon.', suffix='.idx')
            self._tail_index.writelines(f'{i}\t{offset}\n' for i, offset in enumerate(self._offsets[self.start:]))
            self._tail_index.flush()
        return self._tail_index.name


class Decoded:
    """The images of a `RecordSet` by number."""
    dtype, ndim = np.dtype(np.uint8), 4

    def __init__(self, records: RecordSet):
        self._records = records

    @property
    def shape(self) -> Tuple[int, int, int, int]:
        return (len(self._records), *self._records.shape)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, key) -> np.ndarray:
        """uint8, (3, H, W) for a number; (n, 3, H, W) for a slice, or integers or booleans in one dimension."""
        records = self._records
        numbers = np.arange(records.start, records.stop)[key]
        if numbers.ndim > 1:
            raise IndexError('images are indexed by a number, a slice, or an array of one dimension')
        found = np.empty((numbers.size, *records.shape), np.uint8)
        with open(records.rec, 'rb') as file:
            for row, number in enumerate(numbers.reshape(-1)):
                content = read_image(file, int(records._offsets[number]))
                if content is None:
                    raise SSSError(f'{records.rec}: record {number} is damaged; get or make the file again')
                found[row] = self._decode(content, f'{records.rec}: record {number}')
        return found if numbers.ndim else found[0]

    def __array__(self, *args, **kwargs):
        raise TypeError(f'{len(self)} images are not decoded all at once; index them: images[:32]')

    def _decode(self, content: bytes, where: str) -> np.ndarray:
        """Like ImageRecordIter, bit by bit."""
        import mxnet as mx  # only here: the rest of this package does not need it
        size, short = self._records.size, self._records.short_side
        try:
            pixels = mx.image.imdecode(content)
            height, width, _ = pixels.shape
            if height > width:
                pixels = mx.image.imresize(pixels, short, short * height // width, interp=CUBIC)
            else:
                pixels = mx.image.imresize(pixels, short * width // height, short, interp=CUBIC)
            pixels = pixels.asnumpy()
        except mx.base.MXNetError as error:
            raise SSSError(f'{where} cannot be decoded: {reason(error)}') from error
        top, left = ((side - size) // 2 for side in pixels.shape[:2])
        return pixels[top:top + size, left:left + size].transpose(2, 0, 1)
