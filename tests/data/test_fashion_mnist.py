import gzip
import hashlib

import numpy as np
import pytest

from sss_gluon.data import fashion_mnist, load
from sss_gluon.data.download import RemoteFile
from sss_gluon.errors import SSSError

TRAIN_IMAGES, TRAIN_LABELS = 'train-images-idx3-ubyte', 'train-labels-idx1-ubyte'


def write(folder, files):
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def test_uncompressed(tmp_path, fashion_files, digit_images):
    data = load('fashion-mnist', root=write(tmp_path, fashion_files), download=False)
    assert (data.name, data.classes, data.shape) == ('fashion-mnist', 10, (1, 28, 28))
    assert (len(data.train), data.validation, len(data.test)) == (60000, None, 10000)
    images, labels = digit_images
    assert (data.train.images[:40, 0] == images).all() and (data.test.images[-40:, 0] == images).all()
    assert (data.train.labels == np.tile(labels, 1500)).all()
    assert (data.test.labels == np.tile(labels, 250)).all()
    assert data.mean == pytest.approx(images.mean()) and data.std == pytest.approx(images.std())


def test_compressed_again_and_mixed(tmp_path, fashion_files, fashion_gz):
    """Like Debian's files: other bytes than the published .gz, but the same content."""
    name = TRAIN_LABELS + '.gz'
    files = {**fashion_gz, name: gzip.compress(fashion_files[TRAIN_LABELS], compresslevel=9)}
    assert files[name] != fashion_gz[name]
    files['t10k-labels-idx1-ubyte'] = fashion_files['t10k-labels-idx1-ubyte']
    del files['t10k-labels-idx1-ubyte.gz']
    data = load('fashion-mnist', root=write(tmp_path, files), validation=5000, download=False)
    assert (len(data.train), len(data.validation), len(data.test)) == (55000, 5000, 10000)


def test_download(tmp_path, fashion_gz, serve, monkeypatch):
    url, requests = serve(fashion_gz)
    monkeypatch.setattr(fashion_mnist, 'FILES', tuple(
        RemoteFile(name, url + name, hashlib.sha256(content).hexdigest())
        for name, content in fashion_gz.items()))
    there = 't10k-labels-idx1-ubyte'
    (tmp_path / there).write_bytes(gzip.decompress(fashion_gz[there + '.gz']))
    for _ in range(2):
        assert len(load('fashion-mnist', root=tmp_path).train) == 60000
    assert sorted(requests) == sorted('/' + name for name in fashion_gz if name != there + '.gz')


def test_order_of_the_folders(tmp_path, fashion_files, monkeypatch):
    """Without root: Debian's folder, if it is complete, before $SSS_GLUON_DATA."""
    reversed_labels = fashion_files[TRAIN_LABELS][:8] + fashion_files[TRAIN_LABELS][:7:-1]
    debian = write(tmp_path / 'debian', fashion_files)
    write(tmp_path / 'fashion-mnist', {**fashion_files, TRAIN_LABELS: reversed_labels})
    monkeypatch.setattr(fashion_mnist, 'DEBIAN_FOLDER', debian)
    monkeypatch.setenv('SSS_GLUON_DATA', str(tmp_path))
    labels = np.frombuffer(fashion_files[TRAIN_LABELS], np.uint8, offset=8)
    assert (labels != labels[::-1]).any()
    assert (load('fashion-mnist', download=False).train.labels == labels).all()
    (debian / TRAIN_IMAGES).unlink()
    assert (load('fashion-mnist', download=False).train.labels == labels[::-1]).all()


def test_missing_files(tmp_path, fashion_files):
    files = {name: content for name, content in fashion_files.items() if name != TRAIN_LABELS}
    with pytest.raises(SSSError, match=rf'missing in {tmp_path} .*by hand: \S*{TRAIN_LABELS}.gz, or name'):
        load('fashion-mnist', root=write(tmp_path, files), download=False)


def test_wrong_files(tmp_path, fashion_files):
    write(tmp_path, fashion_files)
    images, labels = tmp_path / TRAIN_IMAGES, tmp_path / TRAIN_LABELS

    def refused(path, content, message):
        good = path.read_bytes()
        path.write_bytes(content)
        with pytest.raises(SSSError, match=message) as caught:
            load('fashion-mnist', root=tmp_path, download=False)
        assert str(path) in str(caught.value)
        path.write_bytes(good)

    test_images = (tmp_path / 't10k-images-idx3-ubyte').read_bytes()
    refused(images, test_images, r'shape \(10000, 28, 28\), expected \(60000, 28, 28\)')
    refused(images, images.read_bytes()[:-5], 'found 47039995')
    refused(images, labels.read_bytes(), 'must start with 00000803')
    refused(labels, labels.read_bytes()[:-1] + b'\x0a', r'label 10 of image 59999 is outside 0\.\.9')


def test_size():
    with pytest.raises(SSSError, match=r'28 x 28: leave out image_size=32'):
        load('fashion-mnist', size=32)


@pytest.mark.skipif(not fashion_mnist.DEBIAN_FOLDER.is_dir(),
                    reason="Debian's package dataset-fashion-mnist is not installed")
def test_debian_folder():
    data = load('fashion-mnist', root=fashion_mnist.DEBIAN_FOLDER, download=False)
    assert np.bincount(data.train.labels).tolist() == [6000] * 10
    assert np.bincount(data.test.labels).tolist() == [1000] * 10
    assert data.mean / 255 == pytest.approx(0.2860, abs=1e-4)      # the usual values for normalisation
    assert data.std / 255 == pytest.approx(0.3530, abs=1e-4)
    assert data.pad_to(32).shape == (1, 32, 32)
