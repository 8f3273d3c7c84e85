"""Files that appear complete or not at all: written under a temporary name in the same folder, then renamed."""
from __future__ import annotations

import hashlib
import os
import re
import tempfile
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterator, Union

import numpy as np

from .errors import SSSError


@contextmanager
def atomic_write(path: Union[str, Path]) -> Iterator[str]:
    """A temporary name in the folder of ``path``: renamed to ``path`` if the block succeeds, removed otherwise.

    Raises
    ------
    SSSError
        The file cannot be written (read-only folder, full disk). An earlier file of the name is untouched.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f'.{path.name}.', suffix=path.suffix or '.tmp', dir=path.parent)
        os.close(handle)
        yield temporary
        with open(temporary, 'rb') as written:      # on disk before it is renamed
            os.fsync(written.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise SSSError(f'cannot write {path}: {error.strerror or error}') from error
    finally:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)


def clear_temporaries(folder: Path) -> None:
    """Delete the temporary files that killed processes left in a folder; no other process may be writing there."""
    for path in folder.glob('.*'):
        if re.fullmatch(r'\..+\.[a-z0-9_]{8}\.\w+', path.name) and path.is_file():
            path.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Union[str, Path], text: str) -> None:
    with atomic_write(path) as temporary:
        Path(temporary).write_text(text, 'utf-8')


def check_writable(path: Union[str, Path]) -> None:
    """Raise an error before hours of measuring rather than after them."""
    path = Path(path)
    if path.is_dir():
        raise SSSError(f'cannot write {path}: it is a folder')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise SSSError(f'cannot write {path}: {error.strerror or error}') from error


def sha256(path: Union[str, Path]) -> str:
    """SHA-256 of a file in hexadecimal."""
    with open(path, 'rb') as file:
        return hashlib.sha256(file.read()).hexdigest()


def write_npz(path: Union[str, Path], arrays: Dict[str, np.ndarray]) -> None:
    """Write arrays by name as an uncompressed .npz: an open format with a CRC-32 per array, and without pickle."""
    with atomic_write(path) as temporary:
        with zipfile.ZipFile(temporary, 'w') as archive:        # np.savez leaves it open on a full disk
            for name, array in arrays.items():
                with archive.open(f'{name}.npy', 'w', force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def read_npz(path: Union[str, Path]) -> Dict[str, np.ndarray]:
    """All arrays of an .npz; damage anywhere in the file is an error."""
    try:
        with open(path, 'rb') as stream:
            if not zipfile.is_zipfile(stream):      # np.load would try to unpickle it
                raise zipfile.BadZipFile('truncated, or not a zip file')
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise SSSError(f'there is no {path}') from error
    except (OSError, ValueError, EOFError, KeyError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error,
            NotImplementedError, MemoryError) as error:     # a damaged header can ask for terabytes
        raise SSSError(f'{path} is damaged or not an .npz file ({error})') from error
