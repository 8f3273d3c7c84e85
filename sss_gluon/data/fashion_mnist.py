"""Fashion-MNIST (Xiao, Rasul, Vollgraf, arXiv 1708.07747): 28 x 28 grey images of 10 kinds of clothing."""
from __future__ import annotations

from pathlib import Path
from typing import Dict, Optional, Union

import numpy as np

from ..errors import SSSError
from .data_set import DataSet
from .download import RemoteFile, data_folder, provide
from .idx import read_idx
from .images import ImageSet, check_labels

NAME = 'fashion-mnist'
DEBIAN_FOLDER = Path('/usr/share/datasets/fashion-mnist')    # Debian's package dataset-fashion-mnist
COUNTS = {'train': 60000, 't10k': 10000}
NAMES = ('T-shirt/top', 'Trouser', 'Pullover', 'Dress', 'Coat', 'Sandal', 'Shirt', 'Sneaker', 'Bag', 'Ankle boot')
_SIDE = 28
_URL = 'https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/'
FILES = tuple(RemoteFile(name, _URL + name, sha256) for name, sha256 in (
    ('train-images-idx3-ubyte.gz', '3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84'),
    ('train-labels-idx1-ubyte.gz', 'a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845'),
    ('t10k-images-idx3-ubyte.gz', '346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073'),
    ('t10k-labels-idx1-ubyte.gz', '67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5')))


def load(root: Union[None, str, Path] = None, validation: Optional[int] = None, size: Optional[int] = None,
         download: bool = True) -> DataSet:
    """60,000 train and 10,000 test images, (1, 28, 28); see `sss_gluon.data.load` for the parameters.

    Without ``root``, the folder of Debian's package is searched first. The files may be compressed with gzip. Debian
    compresses them again, so files are checked by header, size and labels, and not by a checksum.
    """
    if size not in (None, _SIDE):
        raise SSSError(f'{NAME} images are 28 x 28: leave out image_size={size} (in Python size=)')
    folder = data_folder(NAME, root)
    paths = _find(DEBIAN_FOLDER) if root is None else {}
    if len(paths) < len(FILES):
        paths = _find(folder)
    if len(paths) < len(FILES):
        provide(NAME, [file for file in FILES if file.name not in paths], folder, download)
        paths = _find(folder)
    train, test = (_read(paths[f'{part}-images-idx3-ubyte.gz'], paths[f'{part}-labels-idx1-ubyte.gz'], count)
                   for part, count in COUNTS.items())
    return DataSet.build(NAME, train, test, len(NAMES), validation, NAMES)


def _find(folder: Path) -> Dict[str, Path]:
    """{published name: path} of the files that are in the folder, compressed or not."""
    found = {}
    for file in FILES:
        for path in (folder / file.name, folder / file.name[:-len('.gz')]):
            if path.exists():
                found[file.name] = path
                break
    return found


def _read(images_path: Path, labels_path: Path, count: int) -> ImageSet:
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    for path, array, expected in ((images_path, images, (count, _SIDE, _SIDE)),
                                  (labels_path, labels, (count,))):
        if array.shape != expected:
            raise SSSError(f'{path}: holds an array of shape {array.shape}, expected {expected}')
    check_labels(labels, len(NAMES), str(labels_path))
    return ImageSet(images[:, None], labels.astype(np.int32))
