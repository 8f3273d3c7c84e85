"""CIFAR-10 and CIFAR-100 (A. Krizhevsky, 2009), binary version: 32 x 32 colour images in 10 or 100 classes.

An image is one label byte (CIFAR-10) or two, coarse and fine (CIFAR-100; the fine one is used), followed by
3 x 32 x 32 bytes: the rows of the red, then the green, then the blue channel. Source:
https://www.cs.toronto.edu/~kriz/cifar.html
"""
from __future__ import annotations

import gzip
import io
import posixpath
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Optional, Tuple, Union

import numpy as np

from ..errors import SSSError
from .data_set import DataSet
from .download import RemoteFile, data_folder, provide
from .images import ImageSet, check_labels

_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32
_URL = 'https://www.cs.toronto.edu/~kriz/'
# fine_label_names.txt
_FINE = tuple("""
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
    castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
    elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard
    lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear
    pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark
    shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone
    television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm""".split())


@dataclass(frozen=True)
class Format:
    """The format of one of the two data sets.

    ``train`` and ``test`` are the names of the files, each with its number of images; the class is the last of the
    ``label_bytes``.
    """
    name: str
    classes: int
    label_bytes: int
    archive: RemoteFile
    folder: str
    names: Tuple[str, ...]
    train: Tuple[Tuple[str, int], ...]
    test: Tuple[Tuple[str, int], ...]

    @property
    def files(self) -> Dict[str, int]:
        """{file name: size in bytes}."""
        return {name: images * (self.label_bytes + _PIXELS) for name, images in self.train + self.test}


FORMATS = {entry.name: entry for entry in (
    Format('cifar10', classes=10, label_bytes=1, folder='cifar-10-batches-bin',
           names=('airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck'),
           archive=RemoteFile('cifar-10-binary.tar.gz', _URL + 'cifar-10-binary.tar.gz',
                              'c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd'),
           train=tuple((f'data_batch_{i}.bin', 10000) for i in range(1, 6)),
           test=(('test_batch.bin', 10000),)),
    Format('cifar100', classes=100, label_bytes=2, folder='cifar-100-binary', names=_FINE,
           archive=RemoteFile('cifar-100-binary.tar.gz', _URL + 'cifar-100-binary.tar.gz',
                              '58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec'),
           train=(('train.bin', 50000),), test=(('test.bin', 10000),)),
)}


def load(name: str, root: Union[None, str, Path] = None, validation: Optional[int] = None,
         size: Optional[int] = None, download: bool = True) -> DataSet:
    """50,000 train and 10,000 test images, (3, 32, 32); see `sss_gluon.data.load` for the parameters.

    The folder may hold the .bin files, the extracted folder, or the archive, which is read without extracting it.
    """
    layout = FORMATS[name]
    if size not in (None, _SHAPE[1]):
        raise SSSError(f'{name} images are 32 x 32: leave out image_size={size} (in Python size=)')
    folder = data_folder(name, root)
    for place in (folder, folder / layout.folder):
        if any((place / file).exists() for file in layout.files):
            where, contents = str(place), _read_folder(layout, place)
            break
    else:
        provide(name, [layout.archive], folder, download)
        path = folder / layout.archive.name
        where, contents = f'{path}: {layout.folder}', _read_archive(layout, path)
    train, test = (_image_set(layout, {f'{where}/{file}': contents[file] for file, _ in group})
                   for group in (layout.train, layout.test))
    return DataSet.build(name, train, test, layout.classes, validation, layout.names)


def _read_folder(layout: Format, folder: Path) -> Dict[str, bytes]:
    """{file name: content}."""
    contents = {}
    for name, expected in layout.files.items():
        path = folder / name
        try:
            _check_size(str(path), expected, path.stat().st_size)
            contents[name] = path.read_bytes()
        except OSError as error:
            raise SSSError(f'{path}: cannot be read ({error.strerror}); {layout.name} needs '
                           f'{", ".join(layout.files)} in one folder') from error
    return contents


def _read_archive(layout: Format, path: Path) -> Dict[str, bytes]:
    """{file name: content} of the members with known names. Nothing is extracted, and other members are skipped."""
    wanted = {f'{layout.folder}/{name}': name for name in layout.files}
    contents = {}
    most = 2 * sum(layout.files.values()) + 2 ** 20
    try:
        with gzip.open(path) as packed, Limited(packed, most) as stream, \
                tarfile.open(fileobj=stream, mode='r:') as archive:
            for member in archive:
                name = wanted.get(posixpath.normpath(member.name))
                if name is not None and member.isfile():
                    _check_size(f'{path}: {member.name}', layout.files[name], member.size)
                    file = archive.extractfile(member)
                    if file is not None:
                        contents[name] = file.read()
            while stream.read(2 ** 20):          # to the end, where gzip compares its checksum
                pass
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise SSSError(f'{path}: cannot be read ({error}); delete it and get it again') from error
    missing = [member for member, name in wanted.items() if name not in contents]
    if missing:
        raise SSSError(f'{path}: does not hold {", ".join(missing)}; get the binary version, '
                       f'{layout.archive.url}')
    return contents


class Limited(io.RawIOBase):
    """A stream of at most ``most`` bytes, because an archive of some kilobytes can unpack to terabytes.

    tarfile moves forwards only, and reads names as long as their header claims.
    """

    def __init__(self, stream: io.BufferedIOBase, most: int):
        self._stream, self._most = stream, most

    def read(self, size: int = -1) -> bytes:
        if size < 0 or self._stream.tell() + size > self._most + 2 ** 20:
            raise OSError(f'it unpacks to more than {self._most} bytes')
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 0 and offset > self._most:
            raise OSError(f'it unpacks to more than {self._most} bytes')
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True


def _check_size(where: str, expected: int, found: int) -> None:
    if found != expected:
        raise SSSError(f'{where}: expected {expected} bytes, found {found}; get the binary version again')


def _image_set(layout: Format, contents: Dict[str, bytes]) -> ImageSet:
    """The images of several files, in their order; the keys name the files in messages."""
    images, labels = [], []
    for where, content in contents.items():
        rows = np.frombuffer(content, np.uint8).reshape(-1, layout.label_bytes + _PIXELS)
        images.append(rows[:, layout.label_bytes:])
        labels.append(rows[:, layout.label_bytes - 1])
        check_labels(labels[-1], layout.classes, where)
    return ImageSet(np.concatenate(images).reshape((-1,) + _SHAPE), np.concatenate(labels).astype(np.int32))
