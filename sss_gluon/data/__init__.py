"""Data sets as uint8 arrays or RecordIO files, their augmentation, and the batches that a network trains on."""
from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Callable, Dict, Iterator, Optional, Tuple, Union

import numpy as np

from ..errors import SSSError, nearest
from . import batches, cifar, digits, fashion_mnist, folder, imagenet
from .augment import Augmentation
from .batches import TrainBatches
from .data_set import DataSet
from .images import ImageSet
from .record_batches import RecordBatches, record_evaluation_batches
from .records import RecordSet

__all__ = ['Augmentation', 'DATA_SETS', 'DataSet', 'ImageSet', 'RecordBatches', 'RecordSet', 'TrainBatches',
           'evaluation_batches', 'load', 'train_batches']

DATA_SETS: Dict[str, Callable[..., DataSet]] = {
    'digits': digits.load,
    'fashion-mnist': fashion_mnist.load,
    **{name: partial(cifar.load, name) for name in cifar.FORMATS},
    'folder': folder.load,
    'imagenet': imagenet.load,
}


def load(name: str, root: Union[None, str, Path] = None, validation: Optional[int] = None,
         size: Optional[int] = None, download: bool = True) -> DataSet:
    """Load a data set.

    Parameters
    ----------
    name : str
        digits, fashion-mnist, cifar10, cifar100, folder or imagenet.
    root : str or Path, optional
        The folder that holds the files. Default: $SSS_GLUON_DATA/name if that variable is set, else a folder in the
        user's cache; fashion-mnist looks into the folder of Debian's package first; digits ship with the package.
    validation : int, optional
        Number of images to hold out of the training images, the same ones in every run. Default: none; for digits 300.
    size : int, optional
        Side of the images in pixels, for digits, folder and imagenet (default 224).
    download : bool
        Whether missing files may be downloaded (into ``root`` if given).

    Raises
    ------
    SSSError
        The name is unknown, or files are missing, damaged or cannot be downloaded.
    """
    if name not in DATA_SETS:
        raise SSSError(f'data set {name!r} is unknown; did you mean {nearest(name, DATA_SETS)}? '
                       f'Data sets: {", ".join(DATA_SETS)}')
    return DATA_SETS[name](root=root, validation=validation, size=size, download=download)


def train_batches(images: Union[ImageSet, RecordSet], batch_size: int, augmentation: Augmentation, seed: int,
                  shard: Tuple[int, int] = (0, 1)) -> Union[TrainBatches, RecordBatches]:
    """Training batches of images in memory (`TrainBatches`) or in a RecordIO file (`RecordBatches`)."""
    if isinstance(images, RecordSet):
        return RecordBatches(images, batch_size, augmentation, seed, shard)
    return TrainBatches(images, batch_size, augmentation, seed, shard)


def evaluation_batches(images: Union[ImageSet, RecordSet], batch_size: int,
                       augmentation: Augmentation) -> Iterator[Tuple[np.ndarray, np.ndarray, int]]:
    """All images in their order, not augmented: (x, y, valid), see `sss_gluon.data.batches.evaluation_batches`."""
    if isinstance(images, RecordSet):
        return record_evaluation_batches(images, batch_size, augmentation)
    return batches.evaluation_batches(images, batch_size, augmentation)
