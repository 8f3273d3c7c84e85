"""The IDX format of MNIST and Fashion-MNIST: a header of big-endian sizes, then the bytes of one array."""
from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from ..errors import SSSError

_UNSIGNED_BYTE = 0x08
_FIRST, _PIECE = 2 ** 16, 2 ** 24      # bytes


def read_idx(path: Path, ndim: int) -> np.ndarray:
    """Read an IDX file of unsigned bytes, plain or compressed with gzip (detected by its content, not its name).

    Format: two zero bytes, a type code (8 = unsigned byte), the number of dimensions, one big-endian uint32 per
    dimension, the data. Source: http://yann.lecun.com/exdb/mnist/

    Returns
    -------
    numpy.ndarray
        uint8, read-only, with ``ndim`` dimensions.

    Raises
    ------
    SSSError
        The file cannot be read, is damaged, or is not an IDX file of unsigned bytes with ``ndim`` dimensions.
    """
    start = 4 + 4 * ndim
    expected = bytes((0, 0, _UNSIGNED_BYTE, ndim))
    try:
        with open(path, 'rb') as file:
            packed = file.read(2) == b'\x1f\x8b'
            file.seek(0)
            with gzip.open(file) if packed else file as stream:
                first = stream.read(_FIRST)     # more than the header, to tell a damaged file from a wrong one
                header = first[:start]
                if header[:4] != expected or len(header) < start:
                    raise SSSError(f'{path}: is not an IDX file of unsigned bytes with {ndim} dimensions: it must '
                                   f'start with {expected.hex()} and a header of {start} bytes, found '
                                   f'{header[:4].hex() or "nothing"} in {len(header)} bytes')
                shape = struct.unpack(f'>{ndim}I', header[4:])
                size = math.prod(shape)
                content = first[start:start + size + 1]
                content += _read(stream, size + 1 - len(content))       # no more: a small file may unpack to terabytes
    except (OSError, EOFError, zlib.error) as error:
        raise SSSError(f'{path}: cannot be read ({error}); get the file again') from error
    if len(content) != size:
        more = ' or more' if len(content) > size else ''
        raise SSSError(f'{path}: its header says {" x ".join(map(str, shape))} = {size} bytes of data, '
                       f'found {len(content)}{more}; get the file again')
    return np.frombuffer(content, np.uint8).reshape(shape)


def _read(stream: io.BufferedIOBase, size: int) -> bytes:
    """At most ``size`` bytes; memory is allocated only for bytes that exist."""
    pieces = []
    while size > 0:
        piece = stream.read(min(size, _PIECE))
        if not piece:
            break
        pieces.append(piece)
        size -= len(piece)
    return b''.join(pieces)
