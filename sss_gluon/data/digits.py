"""Handwritten digits that ship with the package, for quick experiments: no download, seconds per run.

The test set of "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak, UCI Machine Learning
Repository, CC BY 4.0; see files/NOTICE): the 1,797 images that scikit-learn ships too. They have 8 x 8 pixels
with values 0..16, and are loaded as 16 x 16 pixels with values 0..255 (bilinear).

The split is fixed: `images.hold_out` takes 300 test images, then 300 validation images from the rest; 1,197 remain for
training. One test image is a third of a point, so differences of a point are noise: use several seeds.
"""
from __future__ import annotations

from pathlib import Path
from typing import Optional, Union

import numpy as np

from ..errors import SSSError
from .data_set import DataSet
from .idx import read_idx
from .images import ImageSet, hold_out

FILES = Path(__file__).with_name('files')
_LARGEST_VALUE = 16


def load(root: Union[None, str, Path] = None, validation: Optional[int] = None, size: Optional[int] = None,
         download: bool = True) -> DataSet:
    """1,797 digits in 10 classes, (1, 16, 16); see `sss_gluon.data.load` for the parameters.

    ``validation`` is 300 unless given (0: none); the test images are always the same. ``size`` is the side of
    the images in pixels, at least 8.
    """
    if root is not None:
        raise SSSError(f'digits ship with the package and not in a folder: leave out data_root={root} '
                       f'(in Python root=)')
    images = read_idx(FILES / 'digits-images-idx3-ubyte.gz', 3)
    labels = read_idx(FILES / 'digits-labels-idx1-ubyte.gz', 1)
    side = 2 * images.shape[1] if size is None else size
    if side < images.shape[1]:
        raise SSSError(f'digits: image_size={size} (in Python size=) must be at least that of the '
                       f'images, {images.shape[1]}')
    enlarged = _enlarge(images, side) * (255 / _LARGEST_VALUE)
    everything = ImageSet(np.rint(enlarged).astype(np.uint8)[:, None], labels.astype(np.int32))
    rest, test = hold_out(everything, 300)
    return DataSet.build('digits', rest, test, 10, 300 if validation is None else validation, '0123456789')


def _enlarge(images: np.ndarray, size: int) -> np.ndarray:
    """Bilinear interpolation of square images (N, S, S) to float64 (N, size, size), pixel centres aligned.

    It multiplies by a matrix of weights instead of calling a library, so that the values, which are multiples of 1/16
    at twice the size, are exact, and the same in every version.
    """
    side = images.shape[-1]
    position = (np.arange(size) + 0.5) * side / size - 0.5
    below = np.floor(position).astype(int)
    fraction = position - below
    weights = np.zeros((size, side))
    for neighbour, weight in ((below, 1 - fraction), (below + 1, fraction)):
        np.add.at(weights, (np.arange(size), np.clip(neighbour, 0, side - 1)), weight)
    return weights @ images @ weights.T
