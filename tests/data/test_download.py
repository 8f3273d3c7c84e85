import hashlib
import socket
from pathlib import Path

import pytest

from sss_gluon.data import cifar, fashion_mnist
from sss_gluon.data.download import RemoteFile, data_folder, provide
from sss_gluon.errors import SSSError

CONTENT = bytes(range(256)) * 400
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def test_good_file_is_fetched_once(serve, tmp_path):
    url, requests = serve({'a.bin': CONTENT})
    folder = tmp_path / 'new' / 'folder'
    for _ in range(2):
        provide('set', [RemoteFile('a.bin', url + 'a.bin', SHA256)], folder, True)
    assert [path.name for path in folder.iterdir()] == ['a.bin']
    assert (folder / 'a.bin').read_bytes() == CONTENT
    assert requests == ['/a.bin']


def test_only_missing_files_are_fetched(serve, tmp_path):
    url, requests = serve({'a.bin': CONTENT, 'b.bin': CONTENT})
    (tmp_path / 'a.bin').write_bytes(b'put there by hand')
    provide('set', [RemoteFile(name, url + name, SHA256) for name in ('a.bin', 'b.bin')], tmp_path, True)
    assert requests == ['/b.bin']
    assert (tmp_path / 'a.bin').read_bytes() == b'put there by hand'


@pytest.mark.parametrize('content, reason', [
    (CONTENT[:-1] + b'x', 'hash'),
    (CONTENT[:1000], 'hash'),
    ((CONTENT[:1000], len(CONTENT)), ''),         # the connection ends before the announced length
    (None, '404'),
], ids=['wrong', 'short', 'truncated', '404'])
def test_failure_leaves_nothing_behind_and_says_what_to_do(serve, tmp_path, content, reason):
    url, _ = serve({'a.bin': content})
    with pytest.raises(SSSError, match=f'download of {url}a.bin failed: .*{reason}') as caught:
        provide('set', [RemoteFile('a.bin', url + 'a.bin', SHA256)], tmp_path, True)
    assert list(tmp_path.iterdir()) == []
    message = str(caught.value)
    assert message.startswith(f'set: files are missing in {tmp_path} (')
    assert f'put there by hand: {url}a.bin, or name the folder' in message
    assert '\n' not in message


def test_no_connection(tmp_path, monkeypatch):
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    with socket.socket() as unused:               # bound, but nobody listens
        unused.bind(('127.0.0.1', 0))
        url = f'http://127.0.0.1:{unused.getsockname()[1]}/'
        files = [RemoteFile(name, url + name, SHA256) for name in ('a.bin', 'b.bin')]
        with pytest.raises(SSSError, match=f'put there by hand: {url}a.bin, {url}b.bin, or name the folder'):
            provide('set', files, tmp_path, True)
    assert list(tmp_path.iterdir()) == []


def test_downloads_switched_off(serve, tmp_path):
    url, requests = serve({'a.bin': CONTENT})
    with pytest.raises(SSSError, match='downloads are switched off.*put there by hand'):
        provide('set', [RemoteFile('a.bin', url + 'a.bin', SHA256)], tmp_path, False)
    assert requests == []


def test_folder_that_cannot_be_made(serve, tmp_path):
    url, _ = serve({'a.bin': CONTENT})
    (tmp_path / 'file').write_bytes(b'')
    with pytest.raises(SSSError, match='files are missing in'):
        provide('set', [RemoteFile('a.bin', url + 'a.bin', SHA256)], tmp_path / 'file' / 'folder', True)


def test_data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.delenv('SSS_GLUON_DATA', raising=False)
    cached = data_folder('cifar10')
    assert cached.name == 'cifar10' and tmp_path in cached.parents and 'sss_gluon' in cached.parts
    monkeypatch.setenv('SSS_GLUON_DATA', '~/sets')
    assert data_folder('cifar10') == tmp_path / 'sets' / 'cifar10'
    assert data_folder('cifar10', '~/here') == tmp_path / 'here'
    assert data_folder('cifar10', Path('relative')) == Path('relative')


@pytest.mark.parametrize('file', [*fashion_mnist.FILES, *(entry.archive for entry in cifar.FORMATS.values())],
                         ids=lambda file: file.name)
def test_published_addresses(file):
    assert file.url.startswith('https://') and file.url.endswith('/' + file.name)
    assert len(file.sha256) == 64 and int(file.sha256, 16)
