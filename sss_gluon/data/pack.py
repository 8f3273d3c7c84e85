"""Pack folders of images into RecordIO files, from which ImageNet is trained.

    SRC/train/<class>/*   SRC/val/<class>/*      or SRC/<class>/*, packed as one split

    DST/train.rec .idx .lst   val.rec .idx .lst      see ``recordio``
        classes.txt             one class name per line; label 0 is the first
        rejected.csv            files without an image that can be decoded, with the reason
        train.json  val.json    the settings and the source of the split

A split is written as ``train.rec.partial`` and so on, image by image in a fixed order. If packing is interrupted, the
same command continues after the last complete record, and the final files are the same, byte by byte.
"""
from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Callable, Deque, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
from tqdm import tqdm

from ..csv_files import csv_text, read_csv
from ..errors import SSSError
from ..files import write_text
from .encode import Rejected, image_bytes
from .output_folder import locked, writing
from .recordio import image_record, read_classes, walk

PARTS = ('train', 'val')
FORMAT = 'sss_gluon images 1'
KINDS = ('lst', 'idx', 'rec')       # in the order in which they are renamed
REJECTED = ('part', 'file', 'reason')


class Packed(NamedTuple):
    """The result of packing one split."""
    part: str
    images: int
    classes: int
    rejected: int
    bytes: int
    skipped: bool       # it was packed before

    def __str__(self):
        rejected = f', {self.rejected:,} files rejected (see rejected.csv)' if self.rejected else ''
        before = ' (packed before, verified)' if self.skipped else ''
        return (f'{self.part}: {self.images:,} images of {self.classes} classes, {self.bytes / 1e9:.3f} GB{rejected}'
                f'{before}')


class Source(NamedTuple):
    """One image to be packed."""
    name: str           # class/file
    label: int


class Settings(NamedTuple):
    """The source of a split and the settings that it is packed with, as its JSON file stores them."""
    source: str
    short_side: Optional[int]
    quality: int
    seed: int


def pack_images(src: Union[str, Path], dst: Union[str, Path], split: Optional[str] = None,
                threads: Optional[int] = None, short_side: Optional[int] = None, quality: int = 95, seed: int = 0,
                log: Callable[[str], None] = print) -> List[Packed]:
    """Pack images into RecordIO files; continue an interrupted packing, and verify and skip a finished one.

    Every image is decoded once, as a check. JPEG and PNG files in RGB or grey, not rotated by EXIF, are stored byte by
    byte; all others (CMYK, palettes, alpha, 16 bits, GIF, WebP, ...) are converted to JPEG in RGB.

    Parameters
    ----------
    src : path
        Holds ``train`` and ``val`` (or one of them) with one folder per class, or holds the class folders itself.
    dst : path
    split : 'train' or 'val', optional
        Pack only this split; if ``src`` itself holds the class folders, the split that it is (default train).
    threads : int, optional
        Decoding threads, in C code that runs beside Python; default one per core. One more thread writes.
    short_side : int, optional
        Shrink larger images to this length of the short side in pixels. Default: keep the originals. 480, which is
        common for ImageNet, needs less space and is decoded faster.
    quality : int
        Quality of converted JPEG files, 1 to 100.
    seed : int
        Seed of the order: images are sorted by name, then shuffled, because several workers read contiguous parts.

    Returns
    -------
    list of Packed

    Raises
    ------
    SSSError
        Settings or folders are wrong, or DST was begun with other ones, is damaged or cannot be written.
    """
    src, dst = Path(src).expanduser(), Path(dst).expanduser()
    for name, value, least, most in (('threads', threads, 1, 1024), ('short side', short_side, 16, 65535),
                                     ('quality', quality, 1, 100), ('seed', seed, 0, 2 ** 32 - 1)):
        if value is not None and not least <= value <= most:
            raise SSSError(f'{name} {value} must be a number from {least} to {most}')
    folders = _folders(src, split)
    listed = {name: _classes(folder) for name, folder in folders.items()}
    with locked(dst), warnings.catch_warnings():
        warnings.simplefilter('ignore')         # Pillow's, about metadata
        classes = _common_classes(dst, listed)
        packed = []
        for name, folder in folders.items():
            label = {text: i for i, text in enumerate(classes)}
            images = [Source(f'{text}/{file}', label[text]) for text, files in listed[name].items() for file in files]
            # RandomState: NumPy promises that its stream never changes
            images = [images[i] for i in np.random.RandomState(seed).permutation(len(images))]
            settings = Settings(str(folder.resolve()), short_side, quality, seed)
            task = _Part(name, folder, images, settings, dst, log)
            packed.append(task.pack(threads or _cores(), len(classes)))
    return packed


# Sources

def _folders(src: Path, split: Optional[str]) -> Dict[str, Path]:
    """{split: its folder of classes}."""
    if split not in (None, *PARTS):
        raise SSSError(f'split {split!r} must be train or val')
    if not src.is_dir():
        raise SSSError(f'there is no folder {src}')
    found = {name: src / name for name in PARTS if (src / name).is_dir()}
    if not found:
        return {split or 'train': src}
    if split is not None and split not in found:
        raise SSSError(f'{src} has no folder {split}')
    return {split: found[split]} if split else found


def _classes(folder: Path) -> Dict[str, List[str]]:
    """{class: names of its files}, both sorted; names that start with a dot are skipped."""
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != '.')
        found = {name: sorted(entry.name for entry in os.scandir(folder / name) if entry.name[0] != '.')
                 for name in names}
    except OSError as error:
        raise SSSError(f'{error.filename}: cannot be read: {error.strerror}') from error
    if not any(found.values()):
        raise SSSError(f'{folder}: has no folder of images per class')
    for name in names:
        if len(name.splitlines()) != 1 or '\t' in name:
            raise SSSError(f'{folder}: the class name {name!r} has a tab or a line break; rename the folder')
    return found


def _common_classes(dst: Path, listed: Dict[str, Dict[str, List[str]]]) -> List[str]:
    """Names of the classes: those in DST if it has any, else those of the training images."""
    file, names = dst / 'classes.txt', list(next(iter(listed.values())))
    if file.exists():
        begun = read_classes(file)
        if 'train' in listed and begun != names:
            raise SSSError(f'{dst} was begun with other classes: {file} and {len(names)} folders of training images '
                           f'differ; use another folder, or delete it')
        names = begun
    for part, classes in listed.items():
        strange = sorted(set(classes) - set(names))
        if strange:
            raise SSSError(f'{part} has {len(strange)} classes that the training images lack, such as '
                           f'{strange[0]!r}')
    if not file.exists():
        with writing(file):
            write_text(file, ''.join(f'{name}\n' for name in names))
    return names


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def _open_text(path: Path, mode: str = 'r') -> IO[str]:
    return open(path, mode, encoding='utf-8', errors='surrogateescape', newline='\n')     # file names are bytes


# One split

class _Part:
    """train or val: the images in their order, and the files."""

    def __init__(self, part: str, folder: Path, images: Sequence[Source], settings: Settings, dst: Path,
                 log: Callable[[str], None]):
        self.part, self.folder, self.images, self.settings, self.dst = part, folder, images, settings, dst
        self.log = log

    def file(self, kind: str, ending: str = '') -> Path:
        return self.dst / f'{self.part}.{kind}{ending}'

    def pack(self, workers: int, classes: int) -> Packed:
        self._check_begun()
        skipped = self.file('rec').exists()
        if skipped:
            images, size = self._verified('')
        else:
            with writing(self.file('rec')):
                for kind in KINDS:      # it was interrupted between two of the renamings below
                    if self.file(kind).exists():
                        os.replace(self.file(kind), self.file(kind, '.partial'))
                    self.file(kind, '.partial').touch()
                self._write(workers)
                images, size = self._verified('.partial')
                for kind in KINDS:
                    os.replace(self.file(kind, '.partial'), self.file(kind))
        rejected = sum(row['part'] == self.part for row in self._rejected())
        return Packed(self.part, images, classes, rejected, size, skipped)

    def _check_begun(self) -> None:
        """Compare the settings with those that DST was begun with; in a new folder, write them."""
        listed = '\n'.join(f'{image.label} {image.name}' for image in self.images)
        listed = hashlib.sha256(listed.encode('utf-8', 'surrogateescape')).hexdigest()
        wanted = dict(format=FORMAT, **self.settings._asdict(), files=len(self.images), listed=listed)
        file = self.file('json')
        if not file.exists():
            found = [path for kind in KINDS for path in (self.file(kind), self.file(kind, '.partial')) if path.exists()]
            if found:
                raise SSSError(f'{found[0]} exists, but not {file}, which says what it was made from; use another '
                               f'folder, or delete {self.part}.*')
            with writing(file):
                write_text(file, json.dumps(wanted, indent=2) + '\n')
            return
        try:
            begun = json.loads(file.read_text('utf-8'))
            differences = [f'{key}: {begun[key]} -> {value}' for key, value in wanted.items() if begun[key] != value]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise SSSError(f'{file} is damaged; delete {self.part}.* in {self.dst} and pack them again') from error
        if differences:
            raise SSSError(f'{self.dst} was begun with other {self.part} images or settings ({"; ".join(differences)});'
                           f' use another folder, or delete {self.part}.* there')

    def _write(self, workers: int) -> None:
        """Append the images that are missing, and list the rejected files."""
        names, end = self._complete('.partial')
        self._truncate(len(names), end)
        stored, position = set(names), 0
        if names:
            position = 1 + next(i for i, image in enumerate(self.images) if image.name == names[-1])
            self.log(f'{self.part}: continuing after {len(names):,} images')
        with ExitStack() as stack:
            lst, idx = (stack.enter_context(_open_text(self.file(kind, '.partial'), 'a')) for kind in ('lst', 'idx'))
            rec = stack.enter_context(open(self.file('rec', '.partial'), 'ab'))
            pool = stack.enter_context(ThreadPoolExecutor(workers))
            bar = stack.enter_context(tqdm(total=len(self.images), initial=position, disable=None, leave=False,
                                           unit=' images', desc=self.part))
            passed = [image for image in self.images[:position] if image.name not in stored]
            rejected = [(image, content if isinstance(content, Rejected) else Rejected('could not be read before'))
                        for image, content in self._contents(pool, workers, passed)]
            number = len(names)
            for image, content in self._contents(pool, workers, self.images[position:]):
                bar.update()
                if isinstance(content, Rejected):
                    rejected.append((image, content))
                    continue
                rec.write(image_record(number, image.label, content))
                idx.write(f'{number}\t{end}\n')
                lst.write(f'{number}\t{image.label}\t{image.name}\n')
                end, number = rec.tell(), number + 1
            if not number:
                image, reason = rejected[0]
                raise SSSError(f'{self.folder}: none of the {len(self.images)} files can be read as an image, such as '
                               f'{image.name}: {reason}')
            for file in (rec, idx, lst):
                file.flush()
                os.fsync(file.fileno())
        self._write_rejected(rejected)

    def _contents(self, pool: ThreadPoolExecutor, workers: int, images: Sequence[Source]
                  ) -> Iterator[Tuple[Source, Union[bytes, Rejected]]]:
        """The images in their order, each with its bytes or the reason for its rejection; some are prepared ahead."""
        waiting: Deque[Tuple[Source, Future[Union[bytes, Rejected]]]] = deque()
        for image in images:
            waiting.append((image, pool.submit(self._content, image)))
            if len(waiting) > 4 * workers:
                first, content = waiting.popleft()
                yield first, content.result()
        for image, content in waiting:
            yield image, content.result()

    def _content(self, image: Source) -> Union[bytes, Rejected]:
        try:
            if '\t' in image.name or len(image.name.splitlines()) != 1:
                raise Rejected('its name has a tab or a line break')
            return image_bytes(self.folder / image.name, self.settings.short_side, self.settings.quality)
        except Rejected as reason:
            return reason

    def _complete(self, ending: str) -> Tuple[List[str], int]:
        """Names of the first images with a complete record and matching lines, and the end of the last record."""
        label_of = {image.name: image.label for image in self.images}
        names: List[str] = []
        end = 0
        with open(self.file('rec', ending), 'rb') as rec, _open_text(self.file('idx', ending)) as idx, \
                _open_text(self.file('lst', ending)) as lst:
            for head, index_line, list_line in zip(walk(rec), idx, lst):
                number, name = len(names), list_line.rpartition('\t')[2][:-1]
                lines = f'{number}\t{end}\n', f'{number}\t{label_of.get(name)}\t{name}\n'
                if (head.number, head.label, index_line, list_line) != (number, label_of.get(name), *lines):
                    break
                names.append(name)
                end = head.end
        return names, end

    def _verified(self, ending: str) -> Tuple[int, int]:
        """Number of images and size of the RecordIO file, after reading all of it back."""
        try:
            names, end = self._complete(ending)
            lines = [sum(1 for _ in open(self.file(kind, ending), 'rb')) for kind in ('idx', 'lst')]
            size = self.file('rec', ending).stat().st_size
        except (OSError, UnicodeDecodeError) as error:
            raise SSSError(f'{self.file("rec", ending)} and its .idx and .lst cannot be read back: {error}; delete '
                           f'{self.part}.* and pack them again') from error
        if (size, *lines) != (end, len(names), len(names)):
            raise SSSError(f'{self.file("rec", ending)} is damaged: {len(names)} records are complete, to byte {end} '
                           f'of {size}, and .idx and .lst have {lines[0]} and {lines[1]} lines; delete {self.part}.* '
                           f'and pack them again')
        return len(names), size

    def _truncate(self, count: int, end: int) -> None:
        """Drop everything behind the last complete record and its lines."""
        os.truncate(self.file('rec', '.partial'), end)
        for kind in ('idx', 'lst'):
            with open(self.file(kind, '.partial'), 'rb+') as file:
                for _ in range(count):
                    file.readline()
                file.truncate(file.tell())

    def _rejected(self) -> List[Dict[str, str]]:
        """Rows of rejected.csv, of all parts."""
        path = self.dst / 'rejected.csv'
        rows = read_csv(path, damaged=lambda problem: None) if path.exists() else []
        return [row for _, row in rows if tuple(row) == REJECTED]

    def _write_rejected(self, rejected: Sequence[Tuple[Source, Rejected]]) -> None:
        rows = [row for row in self._rejected() if row['part'] != self.part]
        rows += [dict(part=self.part, file=image.name, reason=str(reason)) for image, reason in rejected]
        text = csv_text(rows, REJECTED)
        readable = text.encode('utf-8', 'surrogateescape').decode('utf-8', 'backslashreplace')
        write_text(self.dst / 'rejected.csv', readable)
