"""Scenes of real handwritten digits: coloured ink on noisy paper, with boxes for detectors and masks for segmentation.

Training scenes show training digits, test scenes show test digits. The same seed gives the same scenes.
"""
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from sss_gluon.data import load

SIZE = 96                       # height and width of a scene
SIDES = (20, 26, 32, 40)        # of the digits, in pixels
MOST = 5                        # digits in a scene; at least one
INK = 64                        # a pixel with at least that much of 255 belongs to the digit
CLASSES = [str(digit) for digit in range(10)]


class Scenes(NamedTuple):
    """Some scenes and what is in them. Boxes and labels of scenes with fewer digits are filled up with -1."""
    images: np.ndarray          # (N, 3, SIZE, SIZE) float32, mean near 0
    boxes: np.ndarray           # (N, MOST, 4) float32: left, top, right, bottom
    labels: np.ndarray          # (N, MOST, 1) float32: the digit
    masks: np.ndarray           # (N, SIZE, SIZE) float32: 1 + digit between its outlines, else 0


def scenes(part: str, count: int, seed: int = 0) -> Scenes:
    """``count`` scenes with the digits of one ``part`` of the data set: train, validation or test."""
    random = np.random.RandomState(seed)
    digits = {side: getattr(load('digits', size=side), part) for side in SIDES}
    found = Scenes(np.empty((count, 3, SIZE, SIZE), 'float32'), np.full((count, MOST, 4), -1, 'float32'),
                   np.full((count, MOST, 1), -1, 'float32'), np.zeros((count, SIZE, SIZE), 'float32'))
    for image, boxes, labels, mask in zip(*found):
        image[:] = _paper(random)
        for slot in range(random.randint(1, MOST + 1)):
            side = random.choice(SIDES)
            left, top = random.randint(0, SIZE - side + 1, 2)
            rows, columns = slice(top, top + side), slice(left, left + side)
            number = random.randint(len(digits[side].labels))
            ink, digit = digits[side].images[number, 0], digits[side].labels[number]
            inside = ink >= INK
            y, x = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
            box = left + x[0], top + y[0], left + x[-1] + 1, top + y[-1] + 1
            if mask[rows, columns].any():       # no digit covers another
                continue
            image[:, rows, columns] -= random.uniform(0.6, 2.4, (3, 1, 1)) * ink / 255
            inner = np.maximum.accumulate(inside, 1) & np.maximum.accumulate(inside[:, ::-1], 1)[:, ::-1]
            mask[rows, columns][inner] = 1 + digit
            boxes[slot], labels[slot] = box, digit
        image += random.normal(0, 0.3, image.shape)
    return found


def _paper(random: np.random.RandomState) -> np.ndarray:
    """A shade of grey that is brighter on one side."""
    y, x = np.mgrid[-1:1:SIZE * 1j, -1:1:SIZE * 1j]
    level, across, down = random.uniform(-0.5, 0.5, 3)
    return level + across * x + down * y


def draw(images: np.ndarray, boxes: np.ndarray, labels: np.ndarray, path: str, columns: int = 4, zoom: int = 2) -> None:
    """Save some scenes as one picture, with the boxes whose label is not negative."""
    side = SIZE * zoom
    picture = Image.new('RGB', (columns * side, -(-len(images) // columns) * side))
    for i, (image, here, names) in enumerate(zip(images, boxes, labels.ravel().reshape(len(images), -1))):
        pixels = np.uint8(np.clip(128 + 50 * image, 0, 255)).transpose(1, 2, 0)
        scene = Image.fromarray(pixels).resize((side, side), Image.NEAREST)
        pen = ImageDraw.Draw(scene)
        for box, name in zip(zoom * here[names >= 0], names[names >= 0]):
            pen.rectangle(box.tolist(), outline='yellow')
            pen.text((box[0] + 2, max(0, box[1] - 11)), CLASSES[int(name)], 'yellow')
        picture.paste(scene, (i % columns * side, i // columns * side))
    picture.quantize(48).save(path, optimize=True)          # a palette, because noise does not compress
