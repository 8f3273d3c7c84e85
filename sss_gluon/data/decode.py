"""An image file as pixels of 8 bits, whatever it stores; files whose pixels have no certain range are rejected."""
from __future__ import annotations

import numpy as np
from PIL import Image, ImageFile, ImageOps

# Only formats that Pillow decodes itself; for others (EPS) it would run external programs on the file.
FORMATS = ('PNG', 'JPEG', 'BMP', 'GIF', 'WEBP', 'TIFF', 'PPM')
GRAY_MODES = ('1', 'L', 'LA', 'I', 'I;16', 'I;16B', 'I;16L', 'I;16N', 'F')
MODES = (*GRAY_MODES, 'P', 'PA', 'RGB', 'RGBA', 'RGBa', 'RGBX', 'CMYK', 'YCbCr')
WHITE_IS_ZERO, LARGEST = 262, 281       # TIFF tags: PhotometricInterpretation, MaxSampleValue
ORIENTATION = 0x0112                    # EXIF tag
FULL = 65535
SUSPECT = FULL // 4     # pixels of 16 bits that do not reach this may hold 14 or fewer, which nothing tells


class Rejected(Exception):
    """Why an image file is not used."""


def open_image(source) -> ImageFile.ImageFile:
    """An image in one of ``FORMATS``, from a path or a file; its pixels are decoded on demand."""
    ImageFile.LOAD_TRUNCATED_IMAGES = False      # importing GluonCV sets it, and truncated images pass
    return Image.open(source, formats=FORMATS)


def is_deep(stored: ImageFile.ImageFile) -> bool:
    """Whether an opened image, not yet decoded, stores 16 bits per channel."""
    return any('16' in str(tile[3]) for tile in stored.tile) or stored.mode.startswith('I') and stored.format == 'PPM'


def frames(stored: ImageFile.ImageFile) -> int:
    """Number of images in a file: more than 1 for animations and for several pages."""
    return getattr(stored, 'n_frames', 1)


def upright(stored: ImageFile.ImageFile, mode: str = 'RGB') -> Image.Image:
    """An opened image, not yet decoded, in 8 bits per channel: upright by its EXIF orientation, without alpha.

    Of 16 bits, the upper 8 remain, or those that a TIFF file says it uses. Floating point must lie in 0..1.

    Raises
    ------
    Rejected
        The file holds several images (an animation), or pixels whose range or colour space is not certain.
    """
    if frames(stored) > 1 and stored.format != 'MPO':       # telephones' photographs: the first image is what counts
        raise Rejected(f'it holds {frames(stored)} images (an animation or several pages); save one of them')
    if stored.mode not in MODES:
        raise Rejected(f'its colour space {stored.mode} cannot be converted; save it as RGB')
    tags, deep, raw = getattr(stored, 'tag_v2', {}), is_deep(stored), ' '.join(str(tile[3]) for tile in stored.tile)
    image = ImageOps.exif_transpose(stored) or stored   # decodes; None only for in_place=True
    if image.mode == 'F' or image.mode.startswith('I'):
        if tags.get(WHITE_IS_ZERO) == 0:
            raise Rejected('it stores white as 0 in more than 8 bits; save it in 8 bits')
        if image.mode == 'F':
            pixels = _from_unit(np.asarray(image))
        elif deep and '16S' not in raw:
            pixels = _from_16_bits(np.asarray(image).astype(np.int64), tags.get(LARGEST))
        else:
            raise Rejected(f'it stores {"signed 16-bit" if "16S" in raw else "32-bit"} integers, whose range is not '
                           f'certain; save it in 8 bits')
        image = Image.fromarray(pixels)
    elif deep:      # Pillow has kept the upper 8 bits
        _check_bits(int(np.asarray(image.convert('RGB')).max()) << 8)
    return image.convert(mode)


def _from_unit(pixels: np.ndarray) -> np.ndarray:
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and high <= 1):
        raise Rejected(f'it stores floating-point pixels from {low:g} to {high:g}; only a range of 0 to 1 is certain')
    return np.rint(pixels * 255).astype(np.uint8)


def _from_16_bits(pixels: np.ndarray, declared) -> np.ndarray:
    if isinstance(declared, tuple):
        declared = max(declared)
    if declared and pixels.max() <= declared < FULL:
        return (pixels * 255 // declared).astype(np.uint8)
    _check_bits(int(pixels.max()))
    return (pixels >> 8).astype(np.uint8)


def _check_bits(largest: int) -> None:
    if 0 < largest < SUSPECT:
        raise Rejected(f'its 16-bit pixels reach only {largest} of {FULL}: it may hold {largest.bit_length()} bits, '
                       f'which would come out nearly black; save it in 8 bits')
