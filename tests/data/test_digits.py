import hashlib

import numpy as np
import pytest
from PIL import Image

from sss_gluon.data import digits, load
from sss_gluon.data.idx import read_idx
from sss_gluon.errors import SSSError


@pytest.fixture(scope='module')
def shipped():
    return (read_idx(digits.FILES / 'digits-images-idx3-ubyte.gz', 3),
            read_idx(digits.FILES / 'digits-labels-idx1-ubyte.gz', 1))


def test_shipped_files_are_scikit_learns(shipped):
    """The hash is that of sklearn.datasets.load_digits(), images and target as bytes (version 1.9.1)."""
    images, labels = shipped
    assert hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest() == (
        '87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826')
    # Images per class, from the documentation of the data set.
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_licence_is_shipped():
    notice = (digits.FILES / 'NOTICE').read_text(encoding='utf-8')
    assert 'Alpaydin' in notice and 'Kaynak' in notice and 'CC BY 4.0' in notice


def test_enlarge_by_two_by_hand():
    """A row a, b becomes a, (3a + b)/4, (a + 3b)/4, b; then the same down the columns."""
    assert digits._enlarge(np.array([[[0, 16], [8, 8]]]), 4)[0].tolist() == [
        [0, 4, 12, 16], [2, 5, 11, 14], [6, 7, 9, 10], [8, 8, 8, 8]]


@pytest.mark.parametrize('size', [8, 16, 20, 32])
def test_enlarge_against_pillow(shipped, size):
    images = shipped[0][:20]
    ours = digits._enlarge(images, size)
    for image, enlarged in zip(images, ours):
        theirs = Image.fromarray(image.astype(np.float32)).resize((size, size), Image.BILINEAR)
        assert enlarged == pytest.approx(np.asarray(theirs), abs=1e-4)


def test_values_of_the_original_size(shipped):
    data = load('digits', size=8)
    parts = (data.train, data.validation, data.test)
    assert {image.tobytes() for part in parts for image in part.images} == {
        np.rint(image * 15.9375).astype(np.uint8).tobytes() for image in shipped[0]}
    assert data.train.images.max() == 255 and data.train.images.min() == 0


def test_split(shipped):
    data = load('digits')
    assert (data.name, data.classes, data.shape) == ('digits', 10, (1, 16, 16))
    parts = (data.train, data.validation, data.test)
    assert [len(part) for part in parts] == [1197, 300, 300]
    assert (np.bincount(np.concatenate([part.labels for part in parts])) == np.bincount(shipped[1])).all()
    assert min(np.bincount(part.labels, minlength=10).min() for part in parts) >= 20     # no class is rare
    assert data.mean == pytest.approx(data.train.images.mean(dtype=np.float64), rel=1e-6)


def test_split_never_changes():
    """Results are comparable on the same images only; the hash was taken when the split was made."""
    data = load('digits', size=8)
    assert [hashlib.sha256(part.images.tobytes() + part.labels.astype('<i4').tobytes()).hexdigest()[:16]
            for part in (data.train, data.validation, data.test)] == [
                'a367beff21e4811b', 'e808395a276ab2d2', '4ab381846d5b822a']


@pytest.mark.parametrize('validation, sizes', [(0, (1497, 0)), (300, (1197, 300)), (100, (1397, 100))])
def test_validation_leaves_the_test_images_alone(validation, sizes):
    standard, data = load('digits'), load('digits', validation=validation)
    assert (data.test.images == standard.test.images).all()
    assert (len(data.train), len(data.validation or ())) == sizes


@pytest.mark.parametrize('setting, message', [
    ({'root': 'here'}, 'ship with the package.*root=here'),
    ({'size': 7}, 'size=7.*must be at least.*8'),
    ({'validation': 1497}, 'cannot hold out 1497 of 1497'),
])
def test_refuses(setting, message):
    with pytest.raises(SSSError, match=message):
        load('digits', **setting)
