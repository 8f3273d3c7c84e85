"""Data sets as uint8 arrays, augmentation of whole batches, and the batches a network is trained on."""
from __future__ import annotations

import difflib
from functools import partial
from pathlib import Path
from typing import Callable, Dict, Optional, Union

from ..errors import SSSError
from . import cifar, digits, fashion_mnist, folder
from .augment import Augmentation
from .batches import TrainBatches, evaluation_batches
from .images import DataSet, ImageSet

__all__ = ['Augmentation', 'DATA_SETS', 'DataSet', 'ImageSet', 'TrainBatches', 'evaluation_batches', 'load']

DATA_SETS: Dict[str, Callable[..., DataSet]] = {
    'digits': digits.load,
    'fashion-mnist': fashion_mnist.load,
    **{name: partial(cifar.load, name) for name in cifar.FORMATS},
    'folder': folder.load,
}


def load(name: str, root: Union[None, str, Path] = None, validation: Optional[int] = None,
         size: Optional[int] = None, download: bool = True) -> DataSet:
    """Load a data set.

    Parameters
    ----------
    name : str
        digits, fashion-mnist, cifar10, cifar100 or folder.
    root : str or Path, optional
        The folder that holds the files. Default: $SSS_GLUON_DATA/name if that variable is set, else a folder
        in the user's cache; fashion-mnist looks into the folder of Debian's package first; digits ship with
        the package.
    validation : int, optional
        Number of images held out of the training images, the same ones in every run. Default: none; for
        digits 300.
    size : int, optional
        Side of the images in pixels, for digits and folder.
    download : bool
        Whether files that are not there may be downloaded (into ``root`` if it is given).

    Raises
    ------
    SSSError
        The name is unknown, or files are missing, damaged or cannot be downloaded.
    """
    if name not in DATA_SETS:
        nearest = difflib.get_close_matches(name, DATA_SETS, n=1, cutoff=0)[0]
        raise SSSError(f'data set {name!r} is unknown; did you mean {nearest}? '
                       f'(known: {", ".join(DATA_SETS)})')
    return DATA_SETS[name](root=root, validation=validation, size=size, download=download)
