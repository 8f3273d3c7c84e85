"""Packing: which images are stored in which order, which are rejected, and which folders cannot be packed."""
import csv
import json
import os
import shutil

import mxnet as mx
import numpy as np
import pytest
from packing import SEED, contents, records

from sss_gluon.data.pack import pack_images
from sss_gluon.data.recordio import read_list
from sss_gluon.errors import SSSError


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
