"""Files downloaded from their public address: checked by SHA-256, written under a temporary name, then renamed."""
from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple, Sequence, Union

import pooch

from ..errors import SSSError

FOLDER_VARIABLE = 'SSS_GLUON_DATA'


class RemoteFile(NamedTuple):
    """A file, where it is published, and the SHA-256 of its bytes in hexadecimal."""
    name: str
    url: str
    sha256: str


def data_folder(name: str, root: Union[None, str, Path] = None) -> Path:
    """Folder of a data set: ``root``, else $SSS_GLUON_DATA/name, else name in the user's cache folder."""
    if root is not None:
        return Path(root).expanduser()
    base = os.environ.get(FOLDER_VARIABLE)
    return (Path(base).expanduser() if base else Path(pooch.os_cache('sss_gluon'))) / name


def provide(name: str, files: Sequence[RemoteFile], folder: Path, allowed: bool) -> None:
    """Download those of ``files`` that are not in ``folder``.

    Each file is written under a temporary name in ``folder`` and renamed when its checksum is right, so a file that
    exists is complete, and several processes may download at the same time.

    Parameters
    ----------
    name : str
        The data set, for messages.
    allowed : bool
        False: nothing is downloaded, and a missing file is an error.

    Raises
    ------
    SSSError
        A file is missing and may not or cannot be downloaded, or is not the one expected. The message says which files
        to put where by hand.
    """
    for file in files:
        if (folder / file.name).exists():
            continue
        if not allowed:
            raise _by_hand(name, files, folder, 'downloads are switched off')
        try:
            pooch.retrieve(file.url, known_hash=f'sha256:{file.sha256}', fname=file.name, path=folder,
                           downloader=pooch.HTTPDownloader(progressbar=sys.stderr.isatty()))
        except (OSError, ValueError) as error:   # ValueError: a wrong checksum; requests' errors are OSErrors
            reason = ' '.join(str(error).split())
            raise _by_hand(name, files, folder, f'download of {file.url} failed: {reason}') from error


def _by_hand(name: str, files: Sequence[RemoteFile], folder: Path, reason: str) -> SSSError:
    missing = ', '.join(file.url for file in files if not (folder / file.name).exists())
    return SSSError(f'{name}: files are missing in {folder} ({reason}); put there by hand: {missing}, or '
                    'name the folder that holds the data set: data_root=DIR (in Python root=)')
