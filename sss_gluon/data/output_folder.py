"""The folder that images are packed into: one process at a time, and errors in one line."""
from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

from filelock import FileLock, Timeout

from ..errors import SSSError


@contextmanager
def locked(dst: Path) -> Iterator[None]:
    """Create the folder, and refuse to share it with another process."""
    lock = FileLock(str(dst / '.lock'))
    try:
        dst.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise SSSError(f'{dst} is being written by another process') from error
    except OSError as error:
        raise SSSError(f'cannot write to {dst}: {error.strerror}') from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the errors of a full disk, a read-only folder, … into SSSError."""
    try:
        yield
    except UnicodeEncodeError as error:
        raise SSSError(f'cannot write {path}: a class name is not valid UTF-8; rename it') from error
    except OSError as error:
        raise SSSError(f'cannot write {path}: {error.strerror or error}; run the same command again to '
                       f'continue') from error
