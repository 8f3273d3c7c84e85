"""An image file as the bytes that a record stores: unchanged where possible, else as JPEG."""
from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Optional

from PIL import Image

from .decode import ORIENTATION, Rejected, frames, is_deep, open_image, upright
from .recordio import LONGEST

THINNEST = 64               # long over short side; resizing the short side to 256 pixels scales the long side as well


def image_bytes(path: Path, short_side: Optional[int] = None, quality: int = 95) -> bytes:
    """The content of an image file, or of the JPEG file that it is converted to.

    JPEG and PNG files in RGB or grey with 8 bits, not rotated by EXIF, keep their bytes.

    Raises
    ------
    Rejected
        The file is not an image, cannot be decoded to its end, or has pixels whose range is not certain.
    """
    if not path.is_file():      # opening a pipe would block
        raise Rejected('is not a file')
    try:
        content = path.read_bytes()
        with open_image(io.BytesIO(content)) as stored:
            if max(stored.size) > THINNEST * min(stored.size):
                raise Rejected(f'{stored.size[0]} x {stored.size[1]} pixels are too thin')
            side = min(stored.size)
            wanted = side if short_side is None else min(side, short_side)
            plain = stored.format in ('JPEG', 'PNG') and stored.mode in ('RGB', 'L') and not is_deep(stored)
            if wanted == side and plain and frames(stored) == 1 and _orientation(stored) == 1:
                stored.load()
                return _checked_length(content)
            image = upright(stored)
        if wanted < side:
            width, height = (max(1, round(wanted / side * length)) for length in image.size)
            image = image.resize((width, height), Image.Resampling.LANCZOS)
        made = io.BytesIO()
        image.save(made, 'JPEG', quality=quality)
        return _checked_length(made.getvalue())
    except Rejected:
        raise
    except Exception as error:      # a decoder may raise anything on a damaged file
        text = re.sub(r' ?<[^>]*>', '', ' '.join(str(error).split()))       # objects, with their addresses
        raise Rejected(f'{type(error).__name__}: {text}') from error


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:       # damaged EXIF says nothing about the pixels
        return 1


def _checked_length(content: bytes) -> bytes:
    if len(content) > LONGEST:
        raise Rejected(f'{len(content)} bytes are more than a record can hold')
    return content
