"""Folders of images into RecordIO files, from which ImageNet is trained.

    SRC/train/<class>/*   SRC/val/<class>/*      or SRC/<class>/*, packed as the part that is asked for

    DST/train.rec .idx .lst   val.rec .idx .lst      see ``recordio``
        classes.txt             a name in every line; label 0 is the first
        rejected.csv            files that hold no image that can be decoded, and why
        train.json  val.json    what the part is made from

A part is written as ``train.rec.partial`` and so on, image by image in a fixed order; when the packing is stopped,
whatever by, the same command goes on after the last whole record, and the files come out the same, byte by byte.
"""
from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import warnings
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
from filelock import FileLock, Timeout
from PIL import Image
from tqdm import tqdm

from ..errors import SSSError
from ..files import write_text
from .folder import open_image, upright
from .recordio import LONGEST, image_record, read_classes, walk

PARTS = ('train', 'val')
FORMAT = 'sss_gluon images 1'
KINDS = ('lst', 'idx', 'rec')       # in the order in which they get their final names
REJECTED = ('part', 'file', 'reason')
ORIENTATION = 0x0112                # of EXIF
THINNEST = 64                       # long over short side: the short one becomes 256 pixels, the long one grows with it
_TEXT = dict(encoding='utf-8', errors='surrogateescape', newline='\n')      # names of files are bytes


class Packed(NamedTuple):
    """What became of one part."""
    part: str
    images: int
    classes: int
    rejected: int
    bytes: int
    skipped: bool       # it was there already

    def __str__(self):
        rejected = f', {self.rejected:,} files rejected (see rejected.csv)' if self.rejected else ''
        there = ' (it was there already, and is whole)' if self.skipped else ''
        return (f'{self.part}: {self.images:,} images of {self.classes} classes, {self.bytes / 1e9:.3f} GB{rejected}'
                f'{there}')


class Source(NamedTuple):
    """One image to be packed."""
    name: str           # class/file
    label: int


class Rejected(Exception):
    """Why a file is not packed."""


def pack_images(src: Union[str, Path], dst: Union[str, Path], split: Optional[str] = None,
                threads: Optional[int] = None, short_side: Optional[int] = None, quality: int = 95, seed: int = 0,
                log: Callable[[str], None] = print) -> List[Packed]:
    """Pack images into RecordIO files, go on where an earlier call was stopped, verify and skip what is finished.

    Every image is decoded once, to see that it can be. JPEG and PNG files in RGB or grey, not turned by EXIF, are
    stored byte by byte; all others (CMYK, palettes, alpha, 16 bits, GIF, WebP, ...) become JPEG files in RGB.

    Parameters
    ----------
    src : path
        Holds ``train`` and ``val`` (or one of them) with a folder for every class; or is itself such a folder.
    dst : path
    split : 'train' or 'val', optional
        Pack only this split; if ``src`` itself holds the class folders, the split that it is (default train).
    threads : int, optional
        Decoding threads, in C code that runs beside Python; default one per core. One more thread writes.
    short_side : int, optional
        Shrink larger images so that their short side has so many pixels. Default: as they are, so that training
        sees the originals; 480 needs less room and time to decode (as is common for ImageNet).
    quality : int
        Of the JPEG files that are made, 1 to 100.
    seed : int
        Of the order of the images: sorted by name, then shuffled, because several workers read contiguous parts.

    Returns
    -------
    list of Packed

    Raises
    ------
    SSSError
        Wrong settings or folders; DST was begun with others, is damaged or cannot be written.
    """
    src, dst = Path(src).expanduser(), Path(dst).expanduser()
    for name, value, least, most in (('threads', threads, 1, 1024), ('short side', short_side, 16, 65535),
                                     ('quality', quality, 1, 100), ('seed', seed, 0, 2 ** 32 - 1)):
        if value is not None and not least <= value <= most:
            raise SSSError(f'{name} {value} must be a number from {least} to {most}')
    folders = _folders(src, split)
    listed = {name: _classes(folder) for name, folder in folders.items()}
    with _locked(dst), warnings.catch_warnings():
        warnings.simplefilter('ignore')         # of Pillow, about metadata
        classes = _common_classes(dst, listed)
        packed = []
        for name, folder in folders.items():
            label = {text: i for i, text in enumerate(classes)}
            images = [Source(f'{text}/{file}', label[text]) for text, files in listed[name].items() for file in files]
            # RandomState: NumPy promises that its stream never changes
            images = [images[i] for i in np.random.RandomState(seed).permutation(len(images))]
            settings = dict(source=str(folder.resolve()), short_side=short_side, quality=quality, seed=seed)
            task = _Part(name, folder, images, settings, dst, log)
            packed.append(task.pack(threads or _cores(), len(classes)))
    return packed


def image_bytes(path: Path, short_side: Optional[int] = None, quality: int = 95) -> bytes:
    """The content of an image file, or of the JPEG file that it becomes (see ``pack_images``).

    Raises
    ------
    Rejected
        It is no image, or cannot be decoded to its end.
    """
    if not path.is_file():      # to open a pipe would wait for ever
        raise Rejected('is no file')
    try:
        content = path.read_bytes()
        with open_image(io.BytesIO(content)) as stored:
            stored.load()
            if max(stored.size) > THINNEST * min(stored.size):
                raise Rejected(f'{stored.size[0]} x {stored.size[1]} pixels are too thin')
            large = short_side is not None and min(stored.size) > short_side
            plain = stored.format in ('JPEG', 'PNG') and stored.mode in ('RGB', 'L')
            if not large and plain and _orientation(stored) == 1:
                return _not_too_long(content)
            image = upright(stored)
        if large:
            scale = short_side / min(image.size)
            image = image.resize([max(1, round(scale * side)) for side in image.size], Image.LANCZOS)
        made = io.BytesIO()
        image.save(made, 'JPEG', quality=quality)
        return _not_too_long(made.getvalue())
    except Rejected:
        raise
    except Exception as error:      # a decoder may raise anything on a damaged file
        text = re.sub(r' ?<[^>]*>', '', ' '.join(str(error).split()))       # objects, with their place in memory
        raise Rejected(f'{type(error).__name__}: {text}') from error


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:       # damaged EXIF says nothing about the pixels
        return 1


def _not_too_long(content: bytes) -> bytes:
    if len(content) > LONGEST:
        raise Rejected(f'{len(content)} bytes are more than a record can hold')
    return content


# What there is to pack

def _folders(src: Path, split: Optional[str]) -> Dict[str, Path]:
    """Part -> its folder of classes."""
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
    """Class -> names of its files, both sorted; what begins with a dot is passed over."""
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != '.')
        found = {name: sorted(entry.name for entry in os.scandir(folder / name) if entry.name[0] != '.')
                 for name in names}
    except OSError as error:
        raise SSSError(f'{error.filename}: cannot be read: {error.strerror}') from error
    if not any(found.values()):
        raise SSSError(f'{folder}: holds no folder of images per class')
    for name in names:
        if len(name.splitlines()) != 1 or '\t' in name:
            raise SSSError(f'{folder}: the name of the class {name!r} has a tab or a line break; rename it')
    return found


def _common_classes(dst: Path, listed: Dict[str, Dict[str, List[str]]]) -> List[str]:
    """Names of the classes, those in DST if there are any; the training images define them."""
    file, names = dst / 'classes.txt', list(next(iter(listed.values())))
    if file.exists():
        there = read_classes(file)
        if 'train' in listed and there != names:
            raise SSSError(f'{dst} was begun with other classes: {file} and {len(names)} folders of training images '
                           f'differ; name another folder, or delete it')
        names = there
    for part, classes in listed.items():
        strange = sorted(set(classes) - set(names))
        if strange:
            raise SSSError(f'{part} has {len(strange)} classes that the training images have not, such as '
                           f'{strange[0]!r}')
    if not file.exists():
        with _writing(file):
            write_text(file, ''.join(f'{name}\n' for name in names))
    return names


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


@contextmanager
def _locked(dst: Path) -> Iterator[None]:
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
def _writing(path: Path) -> Iterator[None]:
    """Errors of a full disk and the like as one line."""
    try:
        yield
    except UnicodeEncodeError as error:
        raise SSSError(f'cannot write {path}: a name of a class is no text in UTF-8; rename it') from error
    except OSError as error:
        raise SSSError(f'cannot write {path}: {error.strerror or error}; what is written so far stays, the same '
                       f'command goes on') from error


# One part

class _Part:
    """train or val: its images in their order, and its files."""

    def __init__(self, part: str, folder: Path, images: Sequence[Source], settings: Dict[str, object], dst: Path,
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
            with _writing(self.file('rec')):
                for kind in KINDS:      # it was stopped between two of the renamings below
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
        """Hold what is wanted against what DST was begun with; in a new one, say it there."""
        listed = '\n'.join(f'{image.label} {image.name}' for image in self.images)
        listed = hashlib.sha256(listed.encode('utf-8', 'surrogateescape')).hexdigest()
        wanted = dict(format=FORMAT, **self.settings, files=len(self.images), listed=listed)
        file = self.file('json')
        if not file.exists():
            there = [path for kind in KINDS for path in (self.file(kind), self.file(kind, '.partial')) if path.exists()]
            if there:
                raise SSSError(f'{there[0]} is there, but not {file}, which says what it was made from; name another '
                               f'folder, or delete {self.part}.*')
            with _writing(file):
                write_text(file, json.dumps(wanted, indent=2) + '\n')
            return
        try:
            begun = json.loads(file.read_text('utf-8'))
            differences = [f'{key}: {begun[key]} -> {value}' for key, value in wanted.items() if begun[key] != value]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise SSSError(f'{file} is damaged; delete {self.part}.* in {self.dst} and begin again') from error
        if differences:
            raise SSSError(f'{self.dst} was begun with other {self.part} images or settings ({"; ".join(differences)});'
                           f' name another folder, or delete {self.part}.* there')

    def _write(self, workers: int) -> None:
        """Append what is not there yet, and list what was rejected."""
        names, end = self._whole('.partial')
        self._cut_off(len(names), end)
        there, position = set(names), 0
        if names:
            position = 1 + next(i for i, image in enumerate(self.images) if image.name == names[-1])
            self.log(f'{self.part}: continuing after {len(names):,} images')
        with ExitStack() as stack:
            lst, idx = (stack.enter_context(open(self.file(kind, '.partial'), 'a', **_TEXT)) for kind in ('lst', 'idx'))
            rec = stack.enter_context(open(self.file('rec', '.partial'), 'ab'))
            pool = stack.enter_context(ThreadPoolExecutor(workers))
            bar = stack.enter_context(tqdm(total=len(self.images), initial=position, disable=None, leave=False,
                                           unit=' images', desc=self.part))
            passed = [image for image in self.images[:position] if image.name not in there]
            rejected = [(image, content if isinstance(content, Rejected) else Rejected('was not readable before'))
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
                raise SSSError(f'{self.folder}: none of {len(self.images)} files is an image that can be read, such as '
                               f'{image.name}: {reason}')
            for file in (rec, idx, lst):
                file.flush()
                os.fsync(file.fileno())
        self._write_rejected(rejected)

    def _contents(self, pool: ThreadPoolExecutor, workers: int, images: Sequence[Source]
                  ) -> Iterator[Tuple[Source, Union[bytes, Rejected]]]:
        """The images in their order with what is to be stored, or why not; a few are prepared ahead."""
        waiting = deque()
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
            return image_bytes(self.folder / image.name, self.settings['short_side'], self.settings['quality'])
        except Rejected as reason:
            return reason

    def _whole(self, ending: str) -> Tuple[List[str], int]:
        """Names of the first images whose record and lines are there and agree, and where the last record ends."""
        label_of = {image.name: image.label for image in self.images}
        names: List[str] = []
        end = 0
        with open(self.file('rec', ending), 'rb') as rec, open(self.file('idx', ending), **_TEXT) as idx, \
                open(self.file('lst', ending), **_TEXT) as lst:
            for head, index_line, list_line in zip(walk(rec), idx, lst):
                number, name = len(names), list_line.rpartition('\t')[2][:-1]
                lines = f'{number}\t{end}\n', f'{number}\t{label_of.get(name)}\t{name}\n'
                if (head.number, head.label, index_line, list_line) != (number, label_of.get(name), *lines):
                    break
                names.append(name)
                end = head.end
        return names, end

    def _verified(self, ending: str) -> Tuple[int, int]:
        """Number of images and size of the record file, which were read back from the beginning to the end."""
        try:
            names, end = self._whole(ending)
            lines = [sum(1 for _ in open(self.file(kind, ending), 'rb')) for kind in ('idx', 'lst')]
            size = self.file('rec', ending).stat().st_size
        except (OSError, UnicodeDecodeError) as error:
            raise SSSError(f'{self.file("rec", ending)} and its .idx and .lst cannot be read back: {error}; delete '
                           f'{self.part}.* and pack them again') from error
        if (size, *lines) != (end, len(names), len(names)):
            raise SSSError(f'{self.file("rec", ending)} is damaged: {len(names)} records are whole, to byte {end} of '
                           f'{size}, and .idx and .lst have {lines[0]} and {lines[1]} lines; delete {self.part}.* and '
                           f'pack them again')
        return len(names), size

    def _cut_off(self, count: int, end: int) -> None:
        """Drop what stands behind the last whole record and its lines."""
        os.truncate(self.file('rec', '.partial'), end)
        for kind in ('idx', 'lst'):
            with open(self.file(kind, '.partial'), 'rb+') as file:
                for _ in range(count):
                    file.readline()
                file.truncate(file.tell())

    def _rejected(self) -> List[Dict[str, str]]:
        """Rows of rejected.csv, of all parts."""
        try:
            with open(self.dst / 'rejected.csv', encoding='utf-8', errors='surrogateescape', newline='') as file:
                return [row for row in csv.DictReader(file) if tuple(row) == REJECTED and None not in row.values()]
        except FileNotFoundError:
            return []

    def _write_rejected(self, rejected: Sequence[Tuple[Source, Rejected]]) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, REJECTED, lineterminator='\n')
        writer.writeheader()
        writer.writerows(row for row in self._rejected() if row['part'] != self.part)
        writer.writerows(dict(part=self.part, file=image.name, reason=reason) for image, reason in rejected)
        readable = text.getvalue().encode('utf-8', 'surrogateescape').decode('utf-8', 'backslashreplace')
        write_text(self.dst / 'rejected.csv', readable)
