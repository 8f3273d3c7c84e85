"""Images in a RecordIO file: reading them piece by piece, and the data set made of them."""
import io

import mxnet as mx
import numpy as np
import pytest
from PIL import Image

from sss_gluon.data import Augmentation, RecordSet, evaluation_batches, load
from sss_gluon.data.pack import pack_images
from sss_gluon.errors import SSSError

SIZE = 28       # of 32 pixels on the short side
PLAIN = Augmentation([0] * 3, [1] * 3)


def encoded(image, kind='JPEG'):
    file = io.BytesIO()
    image.save(file, kind, **({'quality': 95} if kind == 'JPEG' else {}))
    return file.getvalue()


@pytest.fixture(scope='module')
def records(tmp_path_factory, photograph, write_records):
    """24 images: wide and tall, smaller and larger than needed, JPEG and PNG, colour and grey."""
    files = []
    for i in range(24):
        image = photograph(i, *[(48, 40), (32, 32), (33, 71), (90, 31), (20, 29), (64, 48)][i % 6])
        image = image.convert('L') if i % 8 == 3 else image
        files.append(encoded(image, 'PNG' if i % 5 == 0 else 'JPEG'))
    return RecordSet.open(write_records(tmp_path_factory.mktemp('records') / 'set', files), SIZE)


def test_the_place_of_an_image_set(records):
    assert len(records) == 24 and records.shape == (3, SIZE, SIZE)
    assert records.labels.tolist() == list(range(24)) and records.labels.dtype == np.int32
    images = records.images
    assert len(images) == 24 and images.shape == (24, 3, SIZE, SIZE) and images.dtype == np.uint8 and images.ndim == 4


def test_images_are_those_of_the_evaluation(records):
    """Two ways through MXNet, image by image and by its reader of batches, are bit-equal."""
    read = np.concatenate([x for x, _, _ in evaluation_batches(records, 24, PLAIN)])
    assert read.shape == (24, 3, SIZE, SIZE) and np.array_equal(read, records.images[:])
    assert len({image.tobytes() for image in records.images[:]}) == 24


def test_the_centre_is_cut_out(tmp_path, photograph, write_records):
    """If the short side has the right length, every pixel is one of the file."""
    wide, tall = photograph(1, 48, 32), photograph(2, 32, 41)
    images = RecordSet.open(write_records(tmp_path / 'set', [encoded(wide, 'PNG'), encoded(tall, 'PNG')]), SIZE).images
    assert np.array_equal(images[0], np.asarray(wide)[2:30, 10:38].transpose(2, 0, 1))
    assert np.array_equal(images[1], np.asarray(tall)[6:34, 2:30].transpose(2, 0, 1))


def test_the_short_side_is_resized_as_pillow_does_it(tmp_path, photograph, write_records):
    """Enlarged only: Pillow smooths an image that shrinks, MXNet does not."""
    image = photograph(1, 20, 16)
    found = RecordSet.open(write_records(tmp_path / 'set', [encoded(image, 'PNG')]), SIZE).images[0].astype(int)
    expected = np.asarray(image.resize((40, 32), Image.BICUBIC))[2:30, 6:34].transpose(2, 0, 1)
    assert abs(found - expected).mean() < 2 and abs(found - expected).mean() < 0.1 * expected.std()
    assert RecordSet.open(tmp_path / 'set', 224).short_side == 256


@pytest.mark.parametrize('key', [slice(None, 5), slice(20, None, 2), slice(-3, None), slice(5, 2), [3, 1, 1],
                                 np.array([23, 0]), np.arange(24) % 5 == 0, [-1]], ids=str)
def test_some_images(key, records):
    everything = records.images[:]
    assert np.array_equal(records.images[key], everything[key]) and records.images[key].dtype == np.uint8


@pytest.mark.parametrize('number', [0, 23, -24, np.int64(7)])
def test_one_image(number, records):
    assert records.images[number].shape == (3, SIZE, SIZE)
    assert np.array_equal(records.images[number], records.images[:][number])


@pytest.mark.parametrize('key', [24, -25, [0, 24], np.zeros((2, 2), int), 'x'], ids=str)
def test_no_such_image(key, records):
    with pytest.raises(IndexError):
        records.images[key]


def test_all_images_are_never_decoded_by_mistake(records):
    for function in (np.asarray, lambda images: np.resize(images, (2, 3, SIZE, SIZE)), np.sum):
        with pytest.raises(TypeError, match='24 images'):
            function(records.images)


def test_take_puts_images_into_memory(records):
    taken = records.take(np.array([5, 2]))
    assert taken.labels.tolist() == [5, 2] and np.array_equal(taken.images, records.images[[5, 2]])


def test_parts(records):
    part = records.between(10, 20)
    assert len(part) == 10 and part.labels.tolist() == list(range(10, 20))
    assert np.array_equal(part.images[:3], records.images[10:13])
    assert part.between(3).labels.tolist() == list(range(13, 20))
    assert part.between(2, 99).at_end is False and records.between(5).at_end is True
    labels = [records.part(i, 5).labels.tolist() for i in range(5)]
    assert sum(labels, []) == list(range(24)) and {len(part) for part in labels} == {4, 5}


def test_an_index_from_an_image_on(records):
    assert records.index_file == str(records.rec.with_suffix('.idx'))
    own = records.between(7)
    lines = open(own.index_file).read().splitlines()
    assert [line.split('\t')[1] for line in lines] == [line.split('\t')[1] for line in open(records.index_file)
                                                       .read().splitlines()[7:]]
    assert own.index_file == own.index_file


def test_images_are_not_padded(records):
    assert records.pad_to(SIZE) is records
    with pytest.raises(SSSError, match='28 x 28 pixels .*image_size=32'):
        records.pad_to(32)


def test_files_of_im2rec(tmp_path, photograph):
    """Numbers in any order, a list in another order than the file, labels with a decimal point."""
    writer = mx.recordio.MXIndexedRecordIO(str(tmp_path / 'a.idx'), str(tmp_path / 'a.rec'), 'w')
    for number in (7, 3, 11):
        writer.write_idx(number, mx.recordio.pack((0, 2.0 * number, number, 0), encoded(photograph(number), 'PNG')))
    writer.close()
    (tmp_path / 'a.lst').write_text('11\t22.000000\tc.png\n3\t6.000000\ta.png\n7\t14.000000\tb.png\n')
    records = RecordSet.open(tmp_path / 'a', SIZE)
    assert records.labels.tolist() == [14, 6, 22]
    (_, labels, _), = evaluation_batches(records, 3, PLAIN)
    assert labels.tolist() == [14, 6, 22]


# Files that do not fit

def cut(size):
    return lambda path: path.write_bytes(path.read_bytes()[:size])


def lines(count):
    return lambda path: path.write_text(''.join(path.read_text().splitlines(True)[:count]))


@pytest.mark.parametrize('kind, change, message', [
    ('rec', lambda path: path.unlink(), 'set.rec: cannot be read: No such file'),
    ('idx', lambda path: path.unlink(), 'set.idx: cannot be read: No such file'),
    ('lst', lambda path: path.unlink(), 'set.lst: cannot be read: No such file'),
    ('rec', cut(-1), 'set.rec: is truncated'), ('rec', cut(-5000), 'set.rec: is truncated'),
    ('rec', cut(3), 'set.rec: is truncated'), ('rec', cut(0), 'set.rec: is truncated'),
    ('rec', lambda path: path.write_bytes(path.read_bytes() + bytes(8)), 'set.rec: is truncated'),
    ('idx', lines(3), 'set.lst lists 24 images .*set.idx 3'), ('idx', cut(0), 'set.idx: is empty'),
    ('idx', cut(20), 'set.idx: is not an index'), ('lst', lines(23), 'set.lst lists 23 images .*set.idx 24'),
    ('lst', lambda path: path.write_text(path.read_text().replace('23\t23', '24\t23')), 'different ones'),
    ('lst', lambda path: path.write_text('a'), 'set.lst, line 1')])
def test_refuses(kind, change, message, records, tmp_path):
    for suffix in ('rec', 'idx', 'lst'):
        (tmp_path / f'set.{suffix}').write_bytes(records.rec.with_suffix(f'.{suffix}').read_bytes())
    change(tmp_path / f'set.{kind}')
    with pytest.raises(SSSError, match=message) as caught:
        RecordSet.open(tmp_path / 'set', SIZE)
    assert '\n' not in str(caught.value)


def test_a_record_that_is_no_image(tmp_path, photograph, write_records):
    records = RecordSet.open(write_records(tmp_path / 'set', [encoded(photograph(0)), b'no image']), SIZE)
    assert records.images[0].shape == (3, SIZE, SIZE)
    with pytest.raises(SSSError, match='set.rec: record 1 cannot be decoded'):
        records.images[1]


def test_a_record_that_changed_afterwards(tmp_path, photograph, write_records):
    stem = write_records(tmp_path / 'set', [encoded(photograph(i)) for i in range(3)])
    records = RecordSet.open(stem, SIZE)
    content = bytearray(stem.with_suffix('.rec').read_bytes())
    content[records._offsets[1]] ^= 1
    stem.with_suffix('.rec').write_bytes(content)
    with pytest.raises(SSSError, match='record 1 is damaged'):
        records.images[:]


# The data set

@pytest.fixture(scope='module')
def folder(tmp_path_factory, photograph):
    """A packed folder: 6 + 5 training images and 4 test images."""
    src, dst = tmp_path_factory.mktemp('src'), tmp_path_factory.mktemp('dst')
    for part, counts in (('train', (6, 5)), ('val', (2, 2))):
        for name, count in zip('ab', counts):
            (src / part / name).mkdir(parents=True)
            for i in range(count):
                photograph(i + count).save(src / part / name / f'{i}.jpg')
    pack_images(src, dst)
    return dst


def test_data_set(folder):
    data = load('imagenet', folder)
    assert (data.name, data.classes, data.shape, data.validation) == ('imagenet', 2, (3, 224, 224), None)
    assert len(data.train) == 11 and len(data.test) == 4 and sorted(data.test.labels) == [0, 0, 1, 1]
    assert data.mean.tolist() == pytest.approx([123.68, 116.28, 103.53])
    assert data.std.tolist() == pytest.approx([58.395, 57.12, 57.375])
    assert data.pad_to(224) is data and load('imagenet', folder, size=SIZE).shape == (3, SIZE, SIZE)


def test_validation_images_are_the_first_of_the_file(folder):
    whole, data = load('imagenet', folder, size=SIZE), load('imagenet', folder, validation=3, size=SIZE)
    assert (len(data.train), len(data.validation)) == (8, 3) and data.train.at_end
    assert [*data.validation.labels, *data.train.labels] == whole.train.labels.tolist()
    assert np.array_equal(data.validation.images[:], whole.train.images[:3])


@pytest.mark.parametrize('settings, message', [
    (dict(root='nothing'), 'there is no nothing/train.rec; make it with: sss-gluon data imagenet-rec'),
    (dict(validation=11), 'cannot hold out 11 of 11 images'), (dict(validation=-1), 'cannot hold out -1'),
    (dict(size=0), 'size=0 .*must be from 1'), (dict(size=5000), 'size=5000 .*must be from 1')])
def test_data_set_refuses(settings, message, folder):
    with pytest.raises(SSSError, match=message):
        load('imagenet', **dict(dict(root=folder), **settings))


@pytest.mark.parametrize('name, content, message', [
    ('classes.txt', 'a\n', 'train.lst: label 1 of image .* is outside 0..0'), ('classes.txt', None, 'classes.txt'),
    ('val.rec', None, 'there is no .*val.rec')])
def test_files_of_a_data_set_that_do_not_fit(name, content, message, folder, tmp_path):
    for path in folder.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(SSSError, match=message):
        load('imagenet', tmp_path)
