"""The bytes that are stored for an image file: formats, orientation, size, and what is rejected."""
import io
import os

import mxnet as mx
import numpy as np
import pytest
from PIL import Image

from sss_gluon.data.encode import Rejected, image_bytes


def decoded(content):
    return np.asarray(Image.open(io.BytesIO(content)))


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
