"""Pixels of every type: scaled by their real range, or the file is rejected by name, in folders and when packed."""
import io

import cv2
import numpy as np
import pytest
from PIL import Image

from sss_gluon.data import load
from sss_gluon.data.decode import Rejected, open_image, upright
from sss_gluon.data.encode import image_bytes
from sss_gluon.errors import SSSError

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLOUR = np.stack([RAMP, RAMP.T, 255 - RAMP], axis=-1)


def pil(image, **options):
    return lambda path: image.save(path, **options)


def cv(pixels):
    return lambda path: cv2.imwrite(str(path), pixels)


def alpha(colour, mode):
    image = Image.fromarray(colour).convert(mode)
    image.putalpha(Image.fromarray(255 - RAMP))
    return image


WIDE = RAMP.astype(np.uint16) << 8
MEANT = {      # file: (how it is made, grey or RGB pixels that it means, largest error)
    'float.tif': (pil(Image.fromarray((RAMP / 255).astype('float32'))), RAMP, 0),
    'wide.tif': (cv(WIDE | 255), RAMP, 0),
    'wide.png': (cv(WIDE), RAMP, 0),
    'wide.pgm': (cv(WIDE), RAMP, 0),
    'wide colour.png': (cv(np.dstack([WIDE] * 3)), RAMP, 0),
    'wide colour.tif': (cv(np.dstack([WIDE] * 3)), RAMP, 0),
    '12 bits declared.tif': (pil(Image.fromarray(RAMP.astype(np.uint16) * 16), tiffinfo={281: 4095}), RAMP, 1),
    'gray alpha.png': (pil(alpha(RAMP, 'L')), RAMP, 0),
    'alpha.png': (pil(alpha(COLOUR, 'RGB')), COLOUR, 0),
    'alpha.tif': (pil(alpha(COLOUR, 'RGB')), COLOUR, 0),
    'palette.png': (pil(Image.fromarray(RAMP).convert('P')), RAMP, 0),
    'palette with alpha.png': (pil(Image.fromarray(RAMP).convert('P'), transparency=7), RAMP, 0),
    'still.gif': (pil(Image.fromarray(RAMP)), RAMP, 0),
    'cmyk.tif': (pil(Image.fromarray(COLOUR).convert('CMYK')), COLOUR, 0),
    'cmyk.jpg': (pil(Image.fromarray(COLOUR).convert('CMYK'), quality=100, subsampling=0), COLOUR, 8),
    'bits.png': (pil(Image.fromarray(RAMP > 127)), np.uint8(255) * (RAMP > 127), 0),
    'bits.tif': (pil(Image.fromarray(RAMP > 127)), np.uint8(255) * (RAMP > 127), 0),
    'black.tif': (cv(WIDE * 0), RAMP * 0, 0),
}
REJECTED = {
    'float to 255.tif': (pil(Image.fromarray(RAMP.astype('float32'))), 'floating-point pixels from 0 to 255'),
    'float with NaN.tif': (pil(Image.fromarray(np.full((4, 4), np.nan, 'float32'))), 'floating-point pixels'),
    'int32.tif': (pil(Image.fromarray(RAMP.astype(np.int32))), '32-bit integers'),
    'int16.tif': (cv(RAMP.astype(np.int16)), 'signed 16-bit integers'),
    '12 bits.tif': (cv(RAMP.astype(np.uint16) * 16), 'reach only 4080 of 65535: it may hold 12 bits'),
    '12 bits.png': (cv(RAMP.astype(np.uint16) * 16), 'reach only 4080'),
    '12 bits in colour.png': (cv(np.dstack([RAMP.astype(np.uint16) * 16] * 3)), 'reach only 38'),
    '12 bits in colour.tif': (cv(np.dstack([RAMP.astype(np.uint16) * 16] * 3)), 'reach only 38'),
    'white is zero.tif': (pil(Image.fromarray(WIDE), tiffinfo={262: 0}), 'white as 0'),
    'lab.tif': (pil(Image.new('LAB', (4, 4))), 'colour space LAB'),
    'animated.gif': (pil(Image.fromarray(RAMP), save_all=True, append_images=[Image.fromarray(255 - RAMP)]),
                     'holds 2 images'),
    'animated.png': (pil(Image.fromarray(COLOUR), save_all=True, append_images=[Image.fromarray(255 - COLOUR)]),
                     'holds 2 images'),
    'animated.webp': (pil(Image.fromarray(COLOUR), save_all=True, append_images=[Image.fromarray(255 - COLOUR)]),
                      'holds 2 images'),
    'pages.tif': (pil(Image.fromarray(RAMP), save_all=True, append_images=[Image.fromarray(RAMP)] * 2),
                  'holds 3 images'),
}


@pytest.mark.parametrize('name', MEANT)
def test_what_a_file_means(name, tmp_path):
    make, meant, error = MEANT[name]
    make(tmp_path / name)
    meant = meant if meant.ndim == 3 else np.stack([meant] * 3, axis=-1)
    with open_image(tmp_path / name) as stored:
        found = np.asarray(upright(stored), int)
    assert abs(found - meant).max() <= error
    packed = np.asarray(Image.open(io.BytesIO(image_bytes(tmp_path / name))).convert('RGB'), int)
    assert abs(packed - meant).mean() < 12      # colours of a ramp in a JPEG file


@pytest.mark.parametrize('name', REJECTED)
def test_what_is_rejected(name, tmp_path):
    make, reason = REJECTED[name]
    for part in ('train', 'test'):
        for label in 'ab':
            (tmp_path / part / label).mkdir(parents=True)
            Image.fromarray(RAMP).save(tmp_path / part / label / 'fine.png')
    path = tmp_path / 'train' / 'b' / name
    make(path)
    with open_image(path) as stored, pytest.raises(Rejected, match=reason):
        upright(stored)
    with pytest.raises(Rejected, match=reason):
        image_bytes(path)
    with pytest.raises(SSSError, match=rf'b/{name}: it.* {reason}'):
        load('folder', root=tmp_path, size=16)


def test_a_photograph_with_a_second_picture_is_the_first(tmp_path):
    """Telephones store a preview or a depth map behind the photograph (MPO)."""
    first, second = Image.fromarray(COLOUR), Image.fromarray(255 - COLOUR)
    first.save(tmp_path / 'a.jpg', 'MPO', save_all=True, append_images=[second], quality=100, subsampling=0)
    with open_image(tmp_path / 'a.jpg') as stored:
        assert stored.n_frames == 2
        assert abs(np.asarray(upright(stored), int) - COLOUR).max() < 8
