"""The IDX format of MNIST and Fashion-MNIST: a header of big-endian sizes, then the bytes of one array."""
from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from ..errors import SSSError

_UNSIGNED_BYTE = 0x08


def read_idx(path: Path, ndim: int) -> np.ndarray:
    """Read an IDX file of unsigned bytes, plain or compressed with gzip (told by its content, not its name).

    Format: two zero bytes, a type code (8 = unsigned byte), the number of dimensions, one big-endian uint32
    per dimension, the data. Source: http://yann.lecun.com/exdb/mnist/

    Returns
    -------
    numpy.ndarray
        uint8, read-only, with ``ndim`` dimensions.

    Raises
    ------
    SSSError
        The file cannot be read, is damaged, or is not an IDX file of unsigned bytes with ``ndim`` dimensions.
    """
    try:
        content = path.read_bytes()
        if content[:2] == b'\x1f\x8b':
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise SSSError(f'{path}: cannot be read ({error}); get the file again') from error

    start = 4 + 4 * ndim
    expected = bytes((0, 0, _UNSIGNED_BYTE, ndim))
    if content[:4] != expected or len(content) < start:
        raise SSSError(f'{path}: is no IDX file of unsigned bytes with {ndim} dimensions: it must start with '
                       f'{expected.hex()} and a header of {start} bytes, found '
                       f'{content[:4].hex() or "nothing"} in {len(content)} bytes')
    shape = struct.unpack(f'>{ndim}I', content[4:start])
    size = math.prod(shape)
    if len(content) - start != size:
        raise SSSError(f'{path}: its header says {" x ".join(map(str, shape))} = {size} bytes of data, '
                       f'found {len(content) - start}; get the file again')
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
