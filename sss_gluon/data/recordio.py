"""RecordIO, MXNet's format of many images in one file: its records, and the text files beside it.

train.rec   records: magic number, kind and length, content, zeros up to a multiple of 4 bytes. An image record is a
            header (flag, label, number, 0) and a JPEG or PNG file.
train.idx   one line per record: number, tab, offset in train.rec
train.lst   one line per record: number, tab, label, tab, name of the image
classes.txt one class name per line; label 0 is the first

``mx.recordio`` and ``mx.io.ImageRecordIter`` read these files, and ``im2rec`` writes them. Source: MXNet's
documentation, "Image Record Format", and dmlc-core's recordio.h.
"""
from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO, Iterator, List, NamedTuple, Optional, Tuple, Union

import numpy as np

from ..errors import SSSError

_MAGIC = struct.pack('<I', 0xced7230a)
_PART = struct.Struct('<4sI')           # magic number; kind in the upper 3 bits, length in the lower 29
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_IMAGE = struct.Struct('<IfQQ')         # flag 0: one label; label; number of the record, lower and upper half
LONGEST = 2 ** 29 - 1 - _IMAGE.size     # bytes of an image file


class Head(NamedTuple):
    """The header of an image record, and the offset of the next record."""
    label: float
    number: int
    end: int


def image_record(number: int, label: int, image: bytes) -> bytes:
    """The bytes of a record in a file.

    If the magic number occurs in the content at a multiple of four bytes, it is left out and the record is split there,
    so that a reader that searches for it finds beginnings only. This affects a few of ImageNet's JPEG files.
    """
    content = _IMAGE.pack(0, label, number, 0) + image
    parts, start, found = [], 0, content.find(_MAGIC)
    while found >= 0:
        if found % 4 == 0:
            parts.append(content[start:found])
            start = found + 4
        found = content.find(_MAGIC, start if found % 4 == 0 else found + 1)
    parts.append(content[start:])
    kinds = [_FIRST] + [_MIDDLE] * (len(parts) - 2) + [_LAST] if len(parts) > 1 else [_WHOLE]
    return b''.join(_PART.pack(_MAGIC, kind << 29 | len(part)) + part + bytes(-len(part) % 4)
                    for kind, part in zip(kinds, parts))


def read_image(file: BinaryIO, offset: int) -> Optional[bytes]:
    """The image file in the record at an offset; None if no complete record begins there."""
    parts = []
    for kind, start, length in _parts(file, offset):
        file.seek(start)
        parts.append(file.read(length))
        if len(parts[-1]) < length:
            return None
        if kind in (_WHOLE, _LAST):
            content = _MAGIC.join(parts)
            return content[_IMAGE.size:] if len(content) >= _IMAGE.size else None
    return None


def walk(file: BinaryIO) -> Iterator[Head]:
    """Heads of the image records of a file, from its beginning to its end or the first incomplete record."""
    offset, size = 0, os.fstat(file.fileno()).st_size
    while True:
        head = read_head(file, offset, size)
        if head is None:
            return
        yield head
        offset = head.end


def read_head(file: BinaryIO, offset: int, size: int) -> Optional[Head]:
    """Head of the record at an offset of a file of ``size`` bytes; None if no complete record begins there."""
    image = None
    for kind, start, length in _parts(file, offset):
        if image is None:
            image = file.read(_IMAGE.size)
            if length < _IMAGE.size or len(image) < _IMAGE.size:
                return None
        end = start + length + -length % 4
        if end > size:
            return None
        if kind in (_WHOLE, _LAST):
            flag, label, number, _ = _IMAGE.unpack(image)
            return Head(label, number, end) if flag == 0 else None
    return None


def _parts(file: BinaryIO, offset: int) -> Iterator[Tuple[int, int, int]]:
    """(kind, offset of the content, length) of the parts of one record, as long as they are consistent."""
    expected = (_WHOLE, _FIRST)
    while True:
        file.seek(offset)
        head = file.read(_PART.size)
        if len(head) < _PART.size:
            return
        magic, word = _PART.unpack(head)
        kind, length = word >> 29, word & 2 ** 29 - 1
        if magic != _MAGIC or kind not in expected:
            return
        yield kind, offset + _PART.size, length
        if kind in (_WHOLE, _LAST):
            return
        expected = (_MIDDLE, _LAST)
        offset += _PART.size + length + -length % 4


def read_index(path: Union[str, Path]) -> Tuple[np.ndarray, np.ndarray]:
    """Numbers and offsets of an .idx file, int64, in the order of the offsets."""
    try:
        table = np.array(Path(path).read_bytes().split()).astype(np.int64).reshape(-1, 2)
    except OSError as error:
        raise SSSError(f'{path}: cannot be read: {error.strerror}') from error
    except (ValueError, OverflowError, UnicodeDecodeError) as error:
        raise SSSError(f'{path}: is not an index of a RecordIO file: every line must hold a number and an offset'
                       ) from error
    if not table.size:
        raise SSSError(f'{path}: is empty')
    table = table[np.argsort(table[:, 1], kind='stable')]
    return table[:, 0], table[:, 1]


def read_list(path: Union[str, Path]) -> Tuple[np.ndarray, np.ndarray]:
    """Numbers (int64) and labels (int32) of an .lst file."""
    numbers, labels = [], []
    try:
        with open(path, 'rb') as file:
            for line in file:
                number, label, _ = line.split(b'\t')
                if float(label) != int(float(label)):
                    raise ValueError(f'{label!r} is not a label')
                numbers.append(int(number))
                labels.append(int(float(label)))
        return np.array(numbers, np.int64), np.array(labels, np.int32)
    except OSError as error:
        raise SSSError(f'{path}: cannot be read: {error.strerror}') from error
    except (ValueError, OverflowError) as error:
        raise SSSError(f'{path}, line {len(numbers) + 1}: must be a number, a label and a name, separated by tabs'
                       ) from error


def read_classes(file: Path) -> List[str]:
    """Names of the classes, by label."""
    try:
        names = file.read_text('utf-8').splitlines()
    except OSError as error:
        raise SSSError(f'{file}: cannot be read: {error.strerror}; it must hold one class name per line'
                       ) from error
    except UnicodeDecodeError as error:
        raise SSSError(f'{file}: is not UTF-8 text: {error}') from error
    if not names or len(set(names)) != len(names):
        raise SSSError(f'{file}: must hold the class names, one per line, each once')
    return names
