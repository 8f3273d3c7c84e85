"""Files in the public formats, made from the digits that ship with the package: real images, no network."""
import gzip
import struct

import numpy as np
import pytest
from packing import SEED
from PIL import Image

from sss_gluon.data import ImageSet, digits
from sss_gluon.data.pack import pack_images
from sss_gluon.data.recordio import image_record


def idx_bytes(array):
    """The array as an IDX file of unsigned bytes: magic number, sizes, data."""
    header = struct.pack('>HBB', 0, 8, array.ndim) + struct.pack(f'>{array.ndim}I', *array.shape)
    return header + array.tobytes()


@pytest.fixture(scope='session')
def digit_images():
    """uint8 (40, 28, 28) and labels uint8 (40,): 40 real digits at Fashion-MNIST's size."""
    data = digits.load(size=28)
    return data.test.images[:40, 0], data.test.labels[:40].astype(np.uint8)


@pytest.fixture(scope='session')
def colour_images():
    """uint8 (40, 3, 32, 32) and labels uint8 (40,): digits with three channels that differ."""
    data = digits.load(size=32)
    gray = data.test.images[:40]
    return np.concatenate([gray, 255 - gray, gray // 2], axis=1), data.test.labels[:40].astype(np.uint8)


@pytest.fixture(scope='session')
def numbered():
    """A function that makes images of ``shape``, each filled with its number, which is also its label."""
    def make(count, shape=(1, 4, 4)):
        numbers = np.arange(count)
        images = np.broadcast_to(numbers.astype(np.uint8)[:, None, None, None], (count,) + shape).copy()
        return ImageSet(images, numbers.astype(np.int32))
    return make


@pytest.fixture(scope='session')
def fashion_files(digit_images):
    """{file name: content} of a complete Fashion-MNIST, uncompressed: 40 digits, repeated."""
    images, labels = digit_images
    return {f'{part}-{kind}-idx{array.ndim}-ubyte': idx_bytes(np.resize(array, (count,) + array.shape[1:]))
            for part, count in (('train', 60000), ('t10k', 10000))
            for kind, array in (('images', images), ('labels', labels))}


@pytest.fixture(scope='session')
def fashion_gz(fashion_files):
    """The same, compressed, under the published names."""
    return {name + '.gz': gzip.compress(content, compresslevel=1) for name, content in fashion_files.items()}


@pytest.fixture(scope='session')
def photograph():
    """A function that makes a colour image of the given size, with another enlarged digit in every channel."""
    found = digits.load().train.images[:, 0]

    def make(number, width=48, height=40):
        channels = [Image.fromarray(found[(7 * number + i) % len(found)]) for i in range(3)]
        return Image.merge('RGB', [channel.resize((width, height), Image.BICUBIC) for channel in channels])
    return make


@pytest.fixture(scope='session')
def write_records():
    """A function that writes stem.rec, .idx and .lst of image files, each labelled with its number."""
    def write(stem, files):
        records = [image_record(i, i, content) for i, content in enumerate(files)]
        offsets = np.cumsum([0] + [len(record) for record in records])
        stem.parent.mkdir(parents=True, exist_ok=True)
        stem.with_suffix('.rec').write_bytes(b''.join(records))
        stem.with_suffix('.idx').write_text(''.join(f'{i}\t{offsets[i]}\n' for i in range(len(records))))
        stem.with_suffix('.lst').write_text(''.join(f'{i}\t{i}\t{i}.jpg\n' for i in range(len(records))))
        return stem
    return write


@pytest.fixture(scope='session')
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


@pytest.fixture(scope='session')
def packed(source, tmp_path_factory):
    """The result of an uninterrupted packing."""
    dst = tmp_path_factory.mktemp('packed') / 'dst'
    pack_images(source, dst, seed=SEED)
    return dst
