"""An interrupted packing ends like an uninterrupted one; a finished one is verified, and never mixed with another."""
import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from packing import SEED, contents, unfinished

from sss_gluon.data import pack
from sss_gluon.data.pack import pack_images
from sss_gluon.data.recordio import read_index
from sss_gluon.errors import SSSError

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
