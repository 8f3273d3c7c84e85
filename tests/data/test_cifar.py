import hashlib
import io
import tarfile
from dataclasses import replace

import numpy as np
import pytest

from sss_gluon.data import cifar, load
from sss_gluon.data.download import RemoteFile
from sss_gluon.errors import SSSError

NAMES = list(cifar.FORMATS)


def records(layout, images, labels):
    """The images in the binary version's format: label byte or bytes, then the channels."""
    coarse = bytes([7]) if layout.label_bytes == 2 else b''
    return b''.join(coarse + bytes([label]) + image.tobytes() for image, label in zip(images, labels))


def archive(files):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode='w:gz', compresslevel=1) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return content.getvalue()


@pytest.fixture(params=NAMES)
def small(request, monkeypatch):
    """The format with ten images per file, so that tests are fast; otherwise as published."""
    layout = cifar.FORMATS[request.param]
    train, test = (tuple((name, 10) for name, _ in group) for group in (layout.train, layout.test))
    layout = replace(layout, train=train, test=test)
    monkeypatch.setitem(cifar.FORMATS, layout.name, layout)
    return layout


@pytest.fixture
def files(small, colour_images):
    """{file name: content}: images 0..9 in the first file, 10..19 in the next, … (40 images, repeated)."""
    images, labels = colour_images
    labels = labels if small.classes == 10 else 99 - labels
    rows = [(np.arange(10) + 10 * i) % 40 for i in range(len(small.files))]
    return {name: records(small, images[row], labels[row]) for name, row in zip(small.files, rows)}


def check(data, layout, colour_images):
    images, labels = colour_images
    labels = labels if layout.classes == 10 else 99 - labels
    train = 10 * len(layout.train)
    assert (data.name, data.classes, data.shape) == (layout.name, layout.classes, (3, 32, 32))
    assert (data.train.images == images[np.arange(train) % 40]).all()
    assert (data.train.labels == labels[np.arange(train) % 40]).all()
    assert (data.test.images == images[np.arange(train, train + 10) % 40]).all()
    assert (data.test.labels == labels[np.arange(train, train + 10) % 40]).all()


def test_formats_are_the_published_ones():
    ten, hundred = cifar.FORMATS['cifar10'], cifar.FORMATS['cifar100']
    assert ten.files == {**{f'data_batch_{i}.bin': 30730000 for i in range(1, 6)}, 'test_batch.bin': 30730000}
    assert hundred.files == {'train.bin': 153700000, 'test.bin': 30740000}


@pytest.mark.parametrize('name', NAMES)
def test_full_size_archive(name, tmp_path, colour_images):
    layout = cifar.FORMATS[name]
    one = records(layout, *(part[:10] for part in colour_images))   # ten repeated images compress well
    content = {f'{layout.folder}/{file}': one * (size // len(one)) for file, size in layout.files.items()}
    (tmp_path / layout.archive.name).write_bytes(archive(content))
    data = load(name, root=tmp_path, validation=5000, download=False)
    assert (len(data.train), len(data.validation), len(data.test)) == (45000, 5000, 10000)
    assert (data.test.images[-10:] == colour_images[0][:10]).all()
    assert (data.test.labels[-10:] == colour_images[1][:10]).all()


@pytest.mark.parametrize('place', ['', 'extracted'])
def test_files(small, files, colour_images, tmp_path, place):
    folder = tmp_path / small.folder if place else tmp_path
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    check(load(small.name, root=tmp_path, download=False), small, colour_images)


@pytest.mark.parametrize('prefix', ['', './'])
def test_archive_is_read_without_extracting(small, files, colour_images, tmp_path, prefix):
    members = {f'{prefix}{small.folder}/{name}': files[name] for name in reversed(list(files))}
    members = {'../outside.bin': b'x', f'{small.folder}/readme.html': b'x', **members}
    (tmp_path / small.archive.name).write_bytes(archive(members))
    check(load(small.name, root=tmp_path, download=False), small, colour_images)
    assert [path.name for path in tmp_path.iterdir()] == [small.archive.name]
    assert not (tmp_path.parent / 'outside.bin').exists()


def test_download(small, files, colour_images, tmp_path, serve, monkeypatch):
    content = archive({f'{small.folder}/{name}': data for name, data in files.items()})
    url, requests = serve({small.archive.name: content})
    remote = RemoteFile(small.archive.name, url + small.archive.name, hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(cifar.FORMATS, small.name, replace(small, archive=remote))
    monkeypatch.setenv('SSS_GLUON_DATA', str(tmp_path))
    for _ in range(2):
        check(load(small.name), small, colour_images)
    assert requests == ['/' + small.archive.name]
    assert (tmp_path / small.name / small.archive.name).is_file()


@pytest.mark.parametrize('packed', [False, True])
@pytest.mark.parametrize('damage, message', [
    (lambda content: content[:-100], 'expected {size} bytes, found {short}'),
    (lambda content: content + content, 'expected {size} bytes, found {double}'),
    (lambda content: content[:-3073] + b'\xff' + content[-3072:], 'label 255 of image 9 is outside 0..{top}'),
], ids=['short', 'long', 'label'])
def test_wrong_content(small, files, tmp_path, packed, damage, message):
    name = small.test[0][0]
    size = len(files[name])
    files[name] = damage(files[name])
    if packed:
        members = {f'{small.folder}/{file}': content for file, content in files.items()}
        (tmp_path / small.archive.name).write_bytes(archive(members))
    else:
        for file, content in files.items():
            (tmp_path / file).write_bytes(content)
    with pytest.raises(SSSError) as caught:
        load(small.name, root=tmp_path, download=False)
    message = message.format(size=size, short=size - 100, double=2 * size, top=small.classes - 1)
    assert message in str(caught.value)
    assert name in str(caught.value) and str(tmp_path) in str(caught.value)


def test_file_missing(small, files, tmp_path):
    first, *_, last = files
    (tmp_path / first).write_bytes(files[first])
    with pytest.raises(SSSError, match=rf'\.bin: cannot be read \(No such file.*needs {first}, .*{last}'):
        load(small.name, root=tmp_path, download=False)


@pytest.mark.parametrize('damage, message', [
    (lambda content: content[:len(content) // 2], 'cannot be read'),
    (lambda content: content[:600] + bytes(200) + content[800:], 'cannot be read'),
    (lambda content: content[:-8] + bytes(4) + content[-4:], 'cannot be read .*CRC'),
    (lambda content: b'<html>not found</html>' * 100, 'cannot be read'),
    (lambda content: archive({'cifar-10-batches-py/data_batch_1': b'x'}), 'does not hold .*binary version'),
], ids=['truncated', 'damaged', 'check sum', 'html', 'python version'])
def test_wrong_archive(small, files, tmp_path, damage, message):
    content = archive({f'{small.folder}/{name}': data for name, data in files.items()})
    (tmp_path / small.archive.name).write_bytes(damage(content))
    with pytest.raises(SSSError, match=message) as caught:
        load(small.name, root=tmp_path, download=False)
    assert str(tmp_path / small.archive.name) in str(caught.value)


def test_link_in_the_archive_is_not_followed(small, files, tmp_path):
    *others, last = files
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode='w:gz') as tar:
        for name in others:
            member = tarfile.TarInfo(f'{small.folder}/{name}')
            member.size = len(files[name])
            tar.addfile(member, io.BytesIO(files[name]))
        link = tarfile.TarInfo(f'{small.folder}/{last}')
        link.type, link.linkname = tarfile.SYMTYPE, '/etc/passwd'
        tar.addfile(link)
    (tmp_path / small.archive.name).write_bytes(content.getvalue())
    with pytest.raises(SSSError, match=f'does not hold {small.folder}/{last}'):
        load(small.name, root=tmp_path, download=False)


def test_nothing_there(small, tmp_path):
    with pytest.raises(SSSError, match=f'missing in {tmp_path} .*by hand: {small.archive.url}'):
        load(small.name, root=tmp_path, download=False)


@pytest.mark.parametrize('name', NAMES)
def test_size(name):
    with pytest.raises(SSSError, match='32 x 32: leave out image_size=64'):
        load(name, size=64)
