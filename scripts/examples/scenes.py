"""Scenes of real handwritten digits: coloured ink on noisy paper, with boxes for detectors and masks for segmentation.

Training scenes show training digits, test scenes show test digits. The same seed gives the same scenes.
"""
from typing import NamedTuple

import numpy as np
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
    masks: np.ndarray           # (N, SIZE, SIZE) float32: 0 is paper, 1 + digit is its ink


def scenes(part: str, count: int, seed: int = 0) -> Scenes:
    """``count`` scenes with the digits of one ``part`` of the data set: train, validation or test."""
    random = np.random.RandomState(seed)
    digits = {side: getattr(load('digits', size=side), part) for side in SIDES}
    found = Scenes(np.empty((count, 3, SIZE, SIZE), 'float32'), np.full((count, MOST, 4), -1, 'float32'),
                   np.full((count, MOST, 1), -1, 'float32'), np.zeros((count, SIZE, SIZE), 'float32'))
    for image, boxes, labels, mask in zip(*found):
        image[:] = _paper(random)
        free = np.ones((SIZE, SIZE), bool)
        for slot in range(random.randint(1, MOST + 1)):
            side = random.choice(SIDES)
            left, top = random.randint(0, SIZE - side + 1, 2)
            where = slice(top, top + side), slice(left, left + side)
            if not free[where].all():
                continue
            free[where] = False
            number = random.randint(len(digits[side].labels))
            ink, digit = digits[side].images[number, 0] / 255, digits[side].labels[number]
            inside = ink >= INK / 255
            image[(slice(None), *where)] += ink * random.choice((-1, 1)) * random.uniform(0.6, 2.4, (3, 1, 1))
            mask[where][inside] = 1 + digit
            rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
            boxes[slot] = left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1
            labels[slot] = digit
        image += random.normal(0, 0.3, image.shape)
    return found


def _paper(random):
    """A shade of grey, brighter on one side than on the other."""
    y, x = np.mgrid[-1:1:SIZE * 1j, -1:1:SIZE * 1j]
    return random.uniform(-0.5, 0.5) + random.uniform(-0.5, 0.5) * x + random.uniform(-0.5, 0.5) * y
