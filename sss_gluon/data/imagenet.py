"""ImageNet, or other images, packed into RecordIO files by ``sss-gluon data imagenet-rec``."""
from __future__ import annotations

from pathlib import Path
from typing import Optional, Union

import numpy as np

from ..errors import SSSError
from .data_set import DataSet
from .download import data_folder
from .images import check_count, check_labels
from .recordio import read_classes
from .records import RecordSet

# ImageNet's pixels; source: the authors' code
MEAN = (123.68, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
SIZE, LARGEST = 224, 4096


def load(root: Union[None, str, Path] = None, validation: Optional[int] = None, size: Optional[int] = None,
         download: bool = True) -> DataSet:
    """train.rec for training, val.rec for testing; see `sss_gluon.data.load` for the parameters.

    The folder holds train and val as .rec, .idx and .lst, and classes.txt. ``validation`` images are the first ones of
    train.rec, a random choice, because images are shuffled when they are packed.
    """
    folder = data_folder('imagenet', root)
    size = SIZE if size is None else size
    if not 1 <= size <= LARGEST:
        raise SSSError(f'imagenet: image_size={size} (in Python size=) must be from 1 to {LARGEST} pixels')
    for name in ('train.rec', 'val.rec'):
        if not (folder / name).is_file():
            raise SSSError(f'imagenet: there is no {folder / name}; make it with: sss-gluon data imagenet-rec IMAGES '
                           f'{folder}, or name the folder that holds it: data_root=DIR (in Python root=)')
    names = read_classes(folder / 'classes.txt')
    train, test = (RecordSet.open(folder / part, size) for part in ('train', 'val'))
    for part, images in (('train.lst', train), ('val.lst', test)):
        check_labels(images.labels, len(names), str(folder / part))
    held = None
    if validation:
        check_count(validation, train)
        train, held = train.between(validation), train.between(0, validation)
    return DataSet('imagenet', train, held, test, len(names), np.array(MEAN, np.float32), np.array(STD, np.float32),
                   tuple(names))
