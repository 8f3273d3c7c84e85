"""A folder of images per class: root/train/<class>/*.png, root/test/<class>/*.jpg, …"""
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple, Union

import numpy as np
from PIL import Image

from ..errors import SSSError
from .data_set import DataSet
from .decode import GRAY_MODES, ORIENTATION, Rejected, open_image, upright
from .images import ImageSet

_THREADS = 4


class _Header(NamedTuple):
    gray: bool
    width: int
    height: int


def load(root: Union[None, str, Path] = None, validation: Optional[int] = None, size: Optional[int] = None,
         download: bool = True) -> DataSet:
    """Images in one folder per class; see `sss_gluon.data.load` for the parameters.

    ``root`` holds ``train`` and ``test`` (or ``val`` instead; with both, ``val`` holds the validation images). Each
    holds one folder per class, with the same names; label 0 is the first name in sorted order. Files and folders whose
    name starts with a dot are skipped; every other file must be an image (PNG, JPEG, BMP, GIF, WebP, TIFF, PPM). With
    ``size``, every image is resized to size x size pixels (bilinear, smoothed when it shrinks); otherwise all must have
    the same size. The images are grey if every one is grey, else RGB without alpha. Floating point in 0..1 and 16 bits
    become 8 bits; pixels of an uncertain range and animations are an error (see `decode.upright`). The images are held
    in memory: N * C * size * size bytes.
    """
    if root is None:
        raise SSSError('folder: name the folder that holds train/ and test/: data_root=DIR (in Python root=)')
    if size is not None and size < 1:
        raise SSSError(f'folder: image_size={size} (in Python size=) must be at least 1 pixel')
    root = Path(root).expanduser()
    sources = _sources(root)
    if 'validation' in sources and validation is not None:
        raise SSSError(f'{root}: has validation images in val/; leave out validation={validation}')
    listed = {part: _list(path) for part, path in sources.items()}
    names = list(listed['train'])
    if len(names) < 2:
        raise SSSError(f'{sources["train"]}: holds one class, {names[0]}; at least two are needed')
    for part, classes in listed.items():
        differing = sorted(set(names).symmetric_difference(classes))
        if differing:
            raise SSSError(f'{sources[part]}: must have the same class folders as {sources["train"]}; '
                           f'only one of them has {", ".join(differing)}')

    paths = {part: [path for files in classes.values() for path in files] for part, classes in listed.items()}
    with ThreadPoolExecutor(_THREADS) as pool:
        headers = {part: list(pool.map(_header, files)) for part, files in paths.items()}
        everything = [(path, header) for part in paths for path, header in zip(paths[part], headers[part])]
        gray = all(header.gray for _, header in everything)
        height, width = (size, size) if size is not None else _common_size(everything)
        sets = {}
        for part, files in paths.items():
            images = np.empty((len(files), 1 if gray else 3, height, width), np.uint8)
            for row, pixels in enumerate(pool.map(lambda path: _pixels(path, gray, height, width), files)):
                images[row] = pixels
            counts = [len(listed[part][name]) for name in names]
            labels = np.repeat(np.arange(len(names), dtype=np.int32), counts)
            sets[part] = ImageSet(images, labels)
    return DataSet.build('folder', sets['train'], sets['test'], len(names),
                         sets.get('validation', validation), names)


def _sources(root: Path) -> Dict[str, Path]:
    """{split: its folder}."""
    if not root.exists():
        raise SSSError(f'there is no folder {root}; it must hold train/ and test/ (or val/)')
    has_test, has_val = (root / 'test').is_dir(), (root / 'val').is_dir()
    if not (root / 'train').is_dir() or not (has_test or has_val):
        raise SSSError(f'{root}: must hold the folders train/ and test/ (or val/)')
    sources = {'train': root / 'train', 'test': root / ('test' if has_test else 'val')}
    if has_test and has_val:
        sources['validation'] = root / 'val'
    return sources


def _list(folder: Path) -> Dict[str, List[Path]]:
    """{class name: its files}, both sorted."""
    classes = {}
    for path in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith('.')):
        classes[path.name] = sorted(file for file in path.iterdir() if not file.name.startswith('.'))
        if not classes[path.name]:
            raise SSSError(f'{path}: is empty; put images there, or remove the folder in every split')
    if not classes:
        raise SSSError(f'{folder}: has no folder of images per class')
    return classes


def _not_an_image(path: Path, error: Exception) -> SSSError:
    return SSSError(f'{path}: is not a readable image ({type(error).__name__}); remove or replace it')


def _header(path: Path) -> _Header:
    if path.exists() and not path.is_file():     # opening a pipe would block
        raise SSSError(f'{path}: is not an image but a folder or device; remove it')
    try:
        with open_image(path) as image:
            turned = image.getexif().get(ORIENTATION) in (5, 6, 7, 8)     # EXIF orientations that swap the sides
            width, height = image.size[::-1] if turned else image.size
            return _Header(image.mode in GRAY_MODES, width, height)
    except Exception as error:                   # a decoder may raise anything on a damaged file
        raise _not_an_image(path, error) from error


def _common_size(images: List[Tuple[Path, _Header]]) -> Tuple[int, int]:
    first, (_, width, height) = images[0]
    for path, header in images:
        if (header.width, header.height) != (width, height):
            raise SSSError(f'{path}: is {header.width} x {header.height} pixels but {first} is '
                           f'{width} x {height}; resize all of them with image_size=N (in Python size=)')
    return height, width


def _pixels(path: Path, gray: bool, height: int, width: int) -> np.ndarray:
    """uint8 (1 or 3, height, width)."""
    try:
        with open_image(path) as stored:
            image = upright(stored, 'L' if gray else 'RGB')
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BILINEAR)
    except Rejected as error:
        raise SSSError(f'{path}: {error}') from error
    except Exception as error:                   # as above
        raise _not_an_image(path, error) from error
    return np.asarray(image).reshape(height, width, -1).transpose(2, 0, 1)
