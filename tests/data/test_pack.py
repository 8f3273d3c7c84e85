"""Packing: stored and rejected images; an interrupted packing ends like an uninterrupted one."""
import csv
import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from sss_gluon.data import pack
from sss_gluon.data.encode import Rejected, image_bytes
from sss_gluon.data.pack import pack_images
from sss_gluon.data.recordio import read_image, read_index, read_list
from sss_gluon.errors import SSSError

FILES = [f'{part}.{kind}' for part in ('train', 'val') for kind in ('rec', 'idx', 'lst', 'json')]
FILES += ['classes.txt', 'rejected.csv']
SEED = 5


@pytest.fixture(scope='module')
def source(tmp_path_factory, photograph):
    """train/ with 12 + 5 images of 2 classes and 4 files that are not images, val/ with 2 + 2 images."""
    src = tmp_path_factory.mktemp('source')
    for part, counts in (('train', dict(ant=12, bee=5)), ('val', dict(ant=2, bee=2))):
        for name, count in counts.items():
            (src / part / name).mkdir(parents=True)
            for i in range(count):
                photograph(i + len(name) * 10, 40 + i, 50 - i).save(src / part / name / f'{i:02}.jpg')
    damaged = src / 'train/bee'
    damaged.joinpath('half.jpg').write_bytes((damaged / '03.jpg').read_bytes()[:-200])
    damaged.joinpath('empty.jpg').write_bytes(b'')
    damaged.joinpath('notes.txt').write_text('no image')
    damaged.joinpath('folder').mkdir()
    damaged.joinpath('.hidden').write_text('passed over')
    return src


@pytest.fixture(scope='module')
def packed(source, tmp_path_factory):
    """The result of an uninterrupted packing."""
    dst = tmp_path_factory.mktemp('packed') / 'dst'
    pack_images(source, dst, seed=SEED)
    return dst


def contents(dst):
    return {name: (dst / name).read_bytes() for name in FILES if (dst / name).exists()}


def records(dst, part):
    """[(name, label, content)], one per record."""
    names = [line.split('\t')[2] for line in (dst / f'{part}.lst').read_text().splitlines()]
    labels = read_list(dst / f'{part}.lst')[1]
    with open(dst / f'{part}.rec', 'rb') as file:
        return [(name, label, read_image(file, offset))
                for name, label, offset in zip(names, labels, read_index(dst / f'{part}.idx')[1])]


def decoded(content):
    return np.asarray(Image.open(io.BytesIO(content)))


# Stored images

def test_files_in_a_shuffled_order_byte_by_byte(source, packed):
    names = sorted(f'{path.parent.name}/{path.name}' for path in (source / 'train').glob('*/*')
                   if path.name[0] != '.')
    expected = [names[i] for i in np.random.RandomState(SEED).permutation(len(names))]
    expected = [name for name in expected if name[4:] not in ('half.jpg', 'empty.jpg', 'notes.txt', 'folder')]
    found = records(packed, 'train')
    assert [name for name, _, _ in found] == expected and len(found) == 17
    for name, label, content in found:
        assert label == ['ant', 'bee'].index(name[:3]) and content == (source / 'train' / name).read_bytes()
    assert (packed / 'classes.txt').read_text() == 'ant\nbee\n'
    assert sorted(label for _, label, _ in records(packed, 'val')) == [0, 0, 1, 1]
    assert not list(packed.glob('*.partial'))


def test_rejected_files_are_listed_with_the_reason(packed):
    with open(packed / 'rejected.csv', newline='') as file:
        rows = {row['file']: (row['part'], row['reason']) for row in csv.DictReader(file)}
    assert set(rows) == {f'bee/{name}' for name in ('half.jpg', 'empty.jpg', 'notes.txt', 'folder')}
    assert all(part == 'train' for part, _ in rows.values()) and rows['bee/folder'][1] == 'is not a file'
    assert 'truncated' in rows['bee/half.jpg'][1] and ' at 0x' not in str(rows)


def test_what_it_says(source, tmp_path):
    train, val = pack_images(source, tmp_path / 'dst')
    size = (tmp_path / 'dst/train.rec').stat().st_size
    assert train == ('train', 17, 2, 4, size, False) and val.images == 4 and val.rejected == 0
    assert str(train) == f'train: 17 images of 2 classes, {size / 1e9:.3f} GB, 4 files rejected (see rejected.csv)'


def test_mxnet_reads_them(packed):
    reader = mx.io.ImageRecordIter(path_imgrec=str(packed / 'train.rec'), path_imgidx=str(packed / 'train.idx'),
                                   data_shape=(3, 32, 32), resize=32, batch_size=17, verbose=False)
    assert next(reader).label[0].asnumpy().tolist() == read_list(packed / 'train.lst')[1].tolist()
    reader = mx.recordio.MXIndexedRecordIO(str(packed / 'train.idx'), str(packed / 'train.rec'), 'r')
    header, content = mx.recordio.unpack(reader.read_idx(16))
    assert header.id == 16 and content == records(packed, 'train')[16][2]


@pytest.mark.parametrize('threads', [1, 5])
def test_the_number_of_threads_changes_nothing(threads, source, packed, tmp_path):
    pack_images(source, tmp_path, threads=threads, seed=SEED)
    assert contents(tmp_path) == contents(packed)


def test_the_seed_changes_the_order_only(source, packed, tmp_path):
    pack_images(source, tmp_path, seed=SEED + 1)
    ours, theirs = records(tmp_path, 'train'), records(packed, 'train')
    assert ours != theirs and sorted(ours) == sorted(theirs)


STORED = {      # mode, format -> is the file stored as it is?
    'rgb.jpg': ('RGB', True), 'gray.jpg': ('L', True), 'cmyk.jpg': ('CMYK', False), 'rgb.png': ('RGB', True),
    'gray.png': ('L', True), 'alpha.png': ('RGBA', False), 'palette.png': ('P', False), 'bits.png': ('1', False),
    'rgb.bmp': ('RGB', False), 'palette.gif': ('P', False), 'rgb.webp': ('RGB', False), 'rgb.tif': ('RGB', False),
}


@pytest.mark.parametrize('name', STORED)
def test_formats(name, photograph, tmp_path):
    mode, as_it_is = STORED[name]
    image = photograph(3)
    image.convert(mode).save(tmp_path / name)
    content = image_bytes(tmp_path / name)
    assert (content == (tmp_path / name).read_bytes()) is as_it_is
    made = Image.open(io.BytesIO(content))
    assert made.format in ('JPEG', 'PNG') and made.mode in ('RGB', 'L') and made.size == image.size
    shown = np.asarray(Image.open(tmp_path / name).convert('RGB'), float)
    largest = 12 if mode == 'P' else 3      # as a JPEG file; few colours are many edges
    assert abs(np.asarray(made.convert('RGB')) - shown).mean() < largest < shown.std() / 4
    assert mx.image.imdecode(content).shape == (40, 48, 3)


def test_sixteen_bits(photograph, tmp_path):
    pixels = np.asarray(photograph(3).convert('L'))
    Image.fromarray(pixels.astype(np.uint16) * 257).save(tmp_path / 'a.png')
    assert abs(decoded(image_bytes(tmp_path / 'a.png'))[..., 0].astype(int) - pixels).mean() < 3


@pytest.mark.parametrize('orientation, turn', [(1, lambda a: a), (3, lambda a: a[::-1, ::-1]), (6, np.rot90),
                                               (8, lambda a: np.rot90(a, 3))])
def test_a_photograph_is_turned_upright(orientation, turn, photograph, tmp_path):
    """The EXIF rotation is applied once, because one decoder of MXNet applies it and another does not."""
    image, exif = photograph(3), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(turn(np.asarray(image)))).save(tmp_path / 'a.jpg', exif=exif, quality=95)
    content = image_bytes(tmp_path / 'a.jpg')
    assert (content == (tmp_path / 'a.jpg').read_bytes()) is (orientation == 1)
    assert Image.open(io.BytesIO(content)).getexif().get(0x0112, 1) == 1
    assert abs(decoded(content).astype(int) - np.asarray(image)).mean() < 5


def test_damaged_exif_is_no_reason_to_reject(photograph, tmp_path):
    photograph(3).save(tmp_path / 'a.jpg', exif=b'Exif\0\0' + b'\xff' * 40)
    assert image_bytes(tmp_path / 'a.jpg') == (tmp_path / 'a.jpg').read_bytes()


@pytest.mark.parametrize('size, short_side, expected', [((90, 60), 30, (45, 30)), ((60, 91), 30, (30, 46)),
                                                        ((90, 30), 30, None), ((20, 90), 30, None)])
def test_only_larger_images_are_shrunk(size, short_side, expected, photograph, tmp_path):
    photograph(3, *size).save(tmp_path / 'a.jpg')
    content = image_bytes(tmp_path / 'a.jpg', short_side)
    assert Image.open(io.BytesIO(content)).size == (expected or size)
    assert (content == (tmp_path / 'a.jpg').read_bytes()) is (expected is None)


def test_quality(photograph, tmp_path):
    photograph(3).save(tmp_path / 'a.bmp')
    assert len(image_bytes(tmp_path / 'a.bmp', quality=20)) < len(image_bytes(tmp_path / 'a.bmp', quality=95))


@pytest.mark.parametrize('make, reason', [
    (lambda path: os.mkfifo(path), 'is not a file'), (lambda path: path.symlink_to('nowhere'), 'is not a file'),
    (lambda path: path.write_bytes(b'%!PS-Adobe-3.0 EPSF-3.0\n'), 'cannot identify image file'),
    (lambda path: Image.new('L', (700, 10)).save(path, 'PNG'), '700 x 10 pixels are too thin'),
    (lambda path: path.write_bytes(bytes(100)), 'cannot identify image file')])
def test_rejects(make, reason, tmp_path):
    make(tmp_path / 'x')
    with pytest.raises(Rejected, match=reason):
        image_bytes(tmp_path / 'x')


def test_a_huge_header_is_rejected(photograph, tmp_path):
    photograph(3).save(tmp_path / 'a.png')
    content = (tmp_path / 'a.png').read_bytes()
    (tmp_path / 'a.png').write_bytes(content[:16] + b'\x7f' * 8 + content[24:])
    with pytest.raises(Rejected, match='DecompressionBomb|too many|SyntaxError|UnidentifiedImage|exceeds'):
        image_bytes(tmp_path / 'a.png')


# Interrupted and continued

def test_killed_and_continued(source, packed, tmp_path):
    """SIGKILL at the 10th image: images that are not on disk yet are lost, and packed again."""
    code = ('import os, signal, sys\nfrom pathlib import Path\nimport sss_gluon\nfrom sss_gluon.data import pack\n'
            'real, calls = pack.image_record, []\n'
            'def record(*arguments):\n'
            '    calls.append(0)\n'
            '    if len(calls) == 10:\n'
            '        os.kill(os.getpid(), signal.SIGKILL)\n'
            '    return real(*arguments)\n'
            'pack.image_record = record\n'
            f'pack.pack_images(sys.argv[1], sys.argv[2], seed={SEED})\n')
    root = str(Path(pack.__file__).parents[2])
    result = subprocess.run([sys.executable, '-c', code, str(source), str(tmp_path / 'dst')],
                            env=dict(os.environ, PYTHONPATH=root))
    assert result.returncode == -signal.SIGKILL
    assert (tmp_path / 'dst/train.rec.partial').exists() and not (tmp_path / 'dst/train.rec').exists()
    pack_images(source, tmp_path / 'dst', seed=SEED)
    assert contents(tmp_path / 'dst') == contents(packed)


def unfinished(packed, dst, **sizes):
    """An interrupted packing: its files truncated to the given share or number of bytes."""
    shutil.copytree(packed, dst)
    for name in ('val.rec', 'val.idx', 'val.lst', 'val.json', 'rejected.csv'):
        (dst / name).unlink()
    for kind in ('rec', 'idx', 'lst'):
        content = (dst / f'train.{kind}').read_bytes()
        (dst / f'train.{kind}').unlink()
        size = sizes.get(kind, 1.0)
        (dst / f'train.{kind}.partial').write_bytes(content[:int(size * len(content)) if size <= 1 else size])
    return dst


@pytest.mark.parametrize('sizes', [
    dict(rec=0.0, idx=0.0, lst=0.0), dict(rec=0.5), dict(rec=0.5, idx=0.3), dict(idx=0.7, lst=0.2), dict(idx=0.55),
    dict(lst=0.999), dict(rec=0.999), dict(rec=0.01, idx=0.9, lst=0.9), dict(idx=0.0), dict()])
def test_continued_after_what_is_whole_in_all_files(sizes, source, packed, tmp_path, monkeypatch):
    dst, said, made = unfinished(packed, tmp_path / 'dst', **sizes), [], []
    monkeypatch.setattr(pack, 'image_record', lambda *arguments: made.append(0) or RECORD(*arguments))
    pack_images(source, dst, seed=SEED, log=said.append)
    assert contents(dst) == contents(packed)
    kept = 17 + 4 - len(made)
    least = min(sizes.get(kind, 1.0) for kind in ('rec', 'idx', 'lst'))
    assert abs(kept - 17 * least) < 3 and said == ([f'train: continuing after {kept} images'] if kept else [])


RECORD = pack.image_record


@pytest.mark.parametrize('kind, at', [('rec', 0), ('rec', 2000), ('idx', 20), ('lst', 40), ('rec', 8 + 8)])
def test_bytes_that_changed_are_written_again(kind, at, source, packed, tmp_path):
    """The head of a record is checked: magic number, length, label and number."""
    dst = unfinished(packed, tmp_path / 'dst')
    path = dst / f'train.{kind}.partial'
    content = bytearray(path.read_bytes())
    if kind == 'rec' and at == 2000:
        at = int(read_index(packed / 'train.idx')[1][3])
    content[at] ^= 0x10
    path.write_bytes(content)
    pack_images(source, dst, seed=SEED)
    assert contents(dst) == contents(packed)


@pytest.mark.parametrize('renamed', [['lst'], ['lst', 'idx']])
def test_stopped_between_the_last_renamings(renamed, source, packed, tmp_path):
    dst = unfinished(packed, tmp_path / 'dst')
    for kind in renamed:
        (dst / f'train.{kind}.partial').rename(dst / f'train.{kind}')
    said = []
    pack_images(source, dst, seed=SEED, log=said.append)
    assert said == ['train: continuing after 17 images']
    assert contents(dst) == contents(packed) and not list(dst.glob('*.partial'))


def test_a_file_that_was_repaired_meanwhile_stays_out(source, tmp_path):
    """Its number is taken by the image that follows."""
    other = shutil.copytree(source, tmp_path / 'other')
    pack_images(other, tmp_path / 'packed', seed=SEED)
    dst = unfinished(tmp_path / 'packed', tmp_path / 'dst')
    shutil.copy(other / 'train/bee/03.jpg', other / 'train/bee/half.jpg')
    pack_images(other, dst, seed=SEED)
    assert (dst / 'train.rec').read_bytes() == (tmp_path / 'packed/train.rec').read_bytes()
    assert 'train,bee/half.jpg,could not be read before\n' in (dst / 'rejected.csv').read_text()


@pytest.mark.parametrize('failing', [1, 2, 3, 4])
def test_disk_full(failing, source, packed, tmp_path, monkeypatch):
    really, calls = os.fsync, []

    def full(number):
        calls.append(number)
        if len(calls) == failing:
            raise OSError(errno.ENOSPC, 'No space left on device')
        really(number)

    with monkeypatch.context() as patch:
        patch.setattr(os, 'fsync', full)
        with pytest.raises(SSSError, match='cannot write .*: No space left on device') as caught:
            pack_images(source, tmp_path / 'dst', seed=SEED)
    assert '\n' not in str(caught.value)
    pack_images(source, tmp_path / 'dst', seed=SEED)
    assert contents(tmp_path / 'dst') == contents(packed)


# Finished, or begun with something else

def test_what_is_finished_is_verified_and_skipped(source, packed, tmp_path, monkeypatch):
    shutil.copytree(packed, tmp_path / 'dst')
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / 'dst').iterdir() if path.name != '.lock'}
    monkeypatch.setattr(pack, 'image_bytes', None)
    train, val = pack_images(source, tmp_path / 'dst', seed=SEED)
    assert train.skipped and val.skipped and (train.images, train.rejected, val.images) == (17, 4, 4)
    assert 'verified' in str(val)
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize('name, change', [
    ('train.rec', lambda content: content[:-4]), ('train.rec', lambda content: content + bytes(4)),
    ('train.rec', lambda content: content[:12] + bytes([content[12] ^ 1]) + content[13:]),
    ('train.idx', lambda content: content.replace(b'\n3\t', b'\n4\t')),
    ('train.idx', lambda content: content + b'1\t1\n'),
    ('train.lst', lambda content: content.replace(b'\t1\t', b'\t0\t', 1)), ('train.lst', lambda content: b''),
    ('train.lst', None)])
def test_what_is_finished_and_damaged(name, change, source, packed, tmp_path):
    shutil.copytree(packed, tmp_path / 'dst')
    path = tmp_path / 'dst' / name
    if change is None:
        path.unlink()
    else:
        old = path.read_bytes()
        path.write_bytes(change(old))
        assert path.read_bytes() != old
    with pytest.raises(SSSError, match='train.rec.* (is damaged|cannot be read back)'):
        pack_images(source, tmp_path / 'dst', seed=SEED)


@pytest.mark.parametrize('settings, message', [
    (dict(quality=90), 'quality: 95 -> 90'), (dict(short_side=30), 'short_side: None -> 30'),
    (dict(seed=1), 'seed: 5 -> 1'), (dict(src='other'), 'source: .* -> .*other')])
@pytest.mark.parametrize('stopped', [True, False])
def test_begun_with_other_settings(settings, message, stopped, source, packed, tmp_path):
    if stopped:
        dst = unfinished(packed, tmp_path / 'dst', rec=0.5)
    else:
        dst = shutil.copytree(packed, tmp_path / 'dst')
    if 'src' in settings:
        shutil.copytree(source, tmp_path / 'other')
        settings = dict(src=tmp_path / 'other')
    before = contents(dst)
    with pytest.raises(SSSError, match=message):
        pack_images(**dict(dict(src=source, seed=SEED), **settings), dst=dst)
    assert contents(dst) == before


def test_an_image_more_or_less(source, packed, tmp_path):
    other = shutil.copytree(source, tmp_path / 'other')
    pack_images(other, tmp_path / 'dst', 'val')
    (other / 'val/ant/00.jpg').rename(other / 'val/ant/99.jpg')
    with pytest.raises(SSSError, match=r'begun with other val images or settings \(listed'):
        pack_images(other, tmp_path / 'dst', 'val')


@pytest.mark.parametrize('content', ['', '[]', '{}', '{"format": 1}', '[' * 10000, '\0'])
def test_a_damaged_note_of_what_it_was_begun_with(content, source, packed, tmp_path):
    dst = unfinished(packed, tmp_path / 'dst')
    (dst / 'train.json').write_text(content)
    with pytest.raises(SSSError, match=r'train.json is damaged; delete train\.\*'):
        pack_images(source, dst, seed=SEED)


def test_files_of_unknown_origin_are_not_overwritten(source, tmp_path):
    (tmp_path / 'train.rec').write_bytes(b'mine')
    with pytest.raises(SSSError, match='train.rec .* not .*train.json'):
        pack_images(source, tmp_path)
    assert (tmp_path / 'train.rec').read_bytes() == b'mine'


def test_in_use(source, tmp_path):
    with FileLock(str(tmp_path / '.lock')):
        with pytest.raises(SSSError, match='is being written by another process'):
            pack_images(source, tmp_path)


# Folders

def test_one_folder_of_classes_and_validation_images_later(source, packed, tmp_path):
    first, = pack_images(source / 'train', tmp_path, seed=SEED)
    assert first.part == 'train' and not (tmp_path / 'val.rec').exists()
    second, = pack_images(source / 'val', tmp_path, 'val', seed=SEED)
    assert second.part == 'val' and contents(tmp_path) == contents(packed)


def test_only_one_part(source, packed, tmp_path):
    pack_images(source, tmp_path, 'train', seed=SEED)
    assert not (tmp_path / 'val.rec').exists()
    pack_images(source, tmp_path, seed=SEED)
    assert contents(tmp_path) == contents(packed)


@pytest.mark.parametrize('prepare, message', [
    (lambda src: shutil.rmtree(src), 'there is no folder'),
    (lambda src: [shutil.rmtree(path) for path in src.glob('*/*')], 'train: .*no folder of images per class'),
    (lambda src: (src / 'val/cow').mkdir(), "val has 1 classes .*'cow'"),
    (lambda src: (src / 'train/c\td').mkdir(), "'c\\\\td' has a tab or a line break"),
    (lambda src: [path.write_bytes(b'x') for path in src.glob('train/*/*.*') if path.is_file()],
     'none of the 21 files .*such as ...')])
def test_folders_that_cannot_be_packed(prepare, message, source, tmp_path):
    src = shutil.copytree(source, tmp_path / 'src')
    prepare(src)
    with pytest.raises(SSSError, match=message):
        pack_images(src, tmp_path / 'dst')


@pytest.mark.parametrize('settings, message', [
    (dict(threads=0), 'threads 0 must be a number from 1'), (dict(short_side=1), 'short side 1 must be a number'),
    (dict(quality=101), 'quality 101 must be a number from 1 to 100'), (dict(seed=-1), 'seed -1'),
    (dict(split='test'), "split 'test' must be train or val"), (dict(dst='/proc/x'), 'cannot write to /proc/x')])
def test_settings_that_cannot_be(settings, message, source, tmp_path):
    with pytest.raises(SSSError, match=message):
        pack_images(**dict(dict(src=source, dst=tmp_path / 'dst'), **settings))
    assert not (tmp_path / 'dst').exists()


def test_names_are_bytes(source, photograph, tmp_path):
    """A file whose name is not valid UTF-8 is packed; one with a tab in its name is rejected."""
    folder = tmp_path / 'src/train/ant'
    folder.mkdir(parents=True)
    for name in (b'a\xff.jpg', b'b\tc.jpg', b'd.jpg'):
        photograph(2).save(folder / os.fsdecode(name))
    for _ in range(2):
        packed, = pack_images(tmp_path / 'src', tmp_path / 'dst')
        assert (packed.images, packed.rejected) == (2, 1)
    assert b'ant/a\xff.jpg\n' in (tmp_path / 'dst/train.lst').read_bytes()
    assert 'its name has a tab or a line break' in (tmp_path / 'dst/rejected.csv').read_text()


def test_what_it_was_begun_with_can_be_read(source, packed):
    note = json.loads((packed / 'train.json').read_text())
    assert note['source'] == str(source / 'train') and (note['files'], note['seed'], note['quality']) == (21, SEED, 95)
