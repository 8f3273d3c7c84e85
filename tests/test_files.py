import os
import stat
from pathlib import Path

import pytest

from sss_gluon.errors import SSSError
from sss_gluon.files import atomic_write, write_text


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_new_file_appears_whole(tmp_path):
    path = tmp_path / 'a' / 'b' / 'x.params'
    with atomic_write(path) as temporary:
        assert Path(temporary).parent == path.parent and temporary.endswith('.params')
        Path(temporary).write_bytes(b'half')
        assert not path.exists()
        Path(temporary).write_bytes(b'whole')
    assert path.read_bytes() == b'whole' and listing(path.parent) == ['x.params']


def test_the_old_file_is_there_until_the_end(tmp_path):
    path = tmp_path / 'x.json'
    path.write_text('old')
    with atomic_write(str(path)) as temporary:
        Path(temporary).write_text('new')
        assert path.read_text() == 'old'
    assert path.read_text() == 'new' and listing(tmp_path) == ['x.json']


@pytest.mark.parametrize('error, raised', [
    (ValueError('x'), ValueError), (KeyboardInterrupt(), KeyboardInterrupt), (SSSError('x'), SSSError),
    (OSError(28, 'No space left on device'), SSSError),
])
@pytest.mark.parametrize('existing', [True, False])
def test_nothing_is_left_behind_by_an_error(tmp_path, error, raised, existing):
    path = tmp_path / 'x.json'
    if existing:
        path.write_text('old')
    with pytest.raises(raised) as caught, atomic_write(path) as temporary:
        Path(temporary).write_text('half')
        raise error
    if isinstance(error, OSError):
        assert str(caught.value) == f'cannot write {path}: No space left on device'
    assert listing(tmp_path) == (['x.json'] if existing else [])
    assert not existing or path.read_text() == 'old'


def test_a_body_that_removes_its_file_is_an_error(tmp_path):
    path = tmp_path / 'x.json'
    with pytest.raises(SSSError, match='x.json'), atomic_write(path) as temporary:
        os.unlink(temporary)
    assert listing(tmp_path) == []


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / 'file').write_text('old')
    with pytest.raises(SSSError, match='x.json'):
        write_text(tmp_path / 'file' / 'x.json', 'text')
    assert listing(tmp_path) == ['file'] and (tmp_path / 'file').read_text() == 'old'


def test_a_path_that_is_a_folder(tmp_path):
    (tmp_path / 'x.json').mkdir()
    with pytest.raises(SSSError, match='x.json: Is a directory'):
        write_text(tmp_path / 'x.json', 'text')
    assert listing(tmp_path) == ['x.json'] and listing(tmp_path / 'x.json') == []


def test_permissions_are_those_of_any_new_file(tmp_path):
    """A temporary file is private, but not the final one."""
    mask = os.umask(0o022)
    try:
        write_text(tmp_path / 'x', 'text')
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / 'x').stat().st_mode) == 0o644
    assert os.umask(mask) == mask       # the umask of the process is unchanged


def test_write_text_is_utf_8(tmp_path):
    write_text(tmp_path / 'x', 'λ·γ\n')
    assert (tmp_path / 'x').read_bytes() == 'λ·γ\n'.encode()
