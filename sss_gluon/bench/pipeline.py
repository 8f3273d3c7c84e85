"""Images/s of the input pipeline: from memory, against images/s of training; and of ImageNet from RecordIO files."""
from __future__ import annotations

import json
import sys
import tempfile
import time
from itertools import chain, count, islice
from pathlib import Path
from typing import Dict, Union

import numpy as np
from PIL import Image

from ..data import Augmentation, ImageSet, RecordSet, digits, train_batches
from ..data.imagenet import MEAN, SIZE, STD
from ..data.pack import pack_images
from ..timing import Measurement, interleaved, median, ratio, timed
from .child import Child, python, serve
from .settings import Settings
from .training import Step

IMAGES = 20_000     # about 60 MB, which is more than caches hold, as CIFAR is
BATCHES = 50
PHOTOS = 256
# ResNet-50 with MXNet. Source: NVIDIA/DeepLearningExamples, MxNet/Classification/RN50v1.5, training performance
NEEDED = ('ResNet-50 trains 384 (float32) or 1,376 (mixed precision) images/s on a V100, 1,022 (TF32) or 2,180 on an '
          'A100, says NVIDIA')


def input_pipeline(settings: Settings, name: str) -> Dict[str, Measurement]:
    """Augmented images/s on one core over training images/s on all cores."""
    step = Step(settings.net(name), (settings.batch,) + settings.image_shape(name))
    request = json.dumps(dict(batch=settings.batch, shape=settings.image_shape(name)))
    with Child(python('pipeline', request), settings.cores[:1]) as child:
        seconds = interleaved({'training': timed(step), 'pipeline': lambda: child.ask()['seconds']}, settings.rounds)
    rate = settings.batch / np.median(seconds['pipeline'])
    return {'pipeline': ratio(seconds, 'training', 'pipeline', note=f'{rate:,.0f} augmented images/s')}


def imagenet_input(settings: Settings) -> Dict[str, Measurement]:
    """Images/s on one core: JPEG files of ImageNet's size, decoded and augmented as in training."""
    batch = settings.batch
    with Child(python('pipeline', json.dumps(dict(batch=batch))), settings.cores[:1]) as child:
        rates = [batch / child.ask()['seconds'] for _ in range(1 + settings.rounds)][1:]
        size = child.hello['bytes']
    return {'images': median(rates, f'JPEG files of {size / 1000:.0f} kB; {NEEDED}')}


def main(batch: int, shape=None) -> None:
    """A child that answers with the seconds for a batch; without a shape, a batch of photographs from a file."""
    with tempfile.TemporaryDirectory() as folder:
        images: Union[ImageSet, RecordSet]
        if shape:
            images, steps, hello = _noise(shape), BATCHES, {}
            augmentation = Augmentation(np.full(shape[0], 128.0), np.full(shape[0], 64.0))
        else:
            images, steps = _photographs(Path(folder)), max(1, PHOTOS // batch)
            augmentation = Augmentation(np.array(MEAN), np.array(STD))
            hello = dict(bytes=images.rec.stat().st_size / len(images))
        batches = train_batches(images, batch, augmentation, seed=0)
        endless = chain.from_iterable(batches.epoch(i) for i in count())

        def work() -> dict:
            for _ in islice(endless, 4):        # prepared ahead, in time that was not measured
                pass
            begin = time.perf_counter()
            for _ in islice(endless, steps):
                pass
            return dict(seconds=(time.perf_counter() - begin) / steps)

        serve(hello, work)


def _noise(shape) -> ImageSet:
    random = np.random.RandomState(0)
    return ImageSet(random.randint(0, 256, (IMAGES, *shape)).astype('uint8'), np.zeros(IMAGES, 'int32'))


def _photographs(folder: Path) -> RecordSet:
    """Photographs of 500 x 375 pixels, as most of ImageNet: digits in a grid, in files as large as ImageNet's."""
    random, found = np.random.RandomState(0), digits.load().train.images[:, 0]
    side, rows, columns = found.shape[1], 12, 16
    (folder / 'images/digits').mkdir(parents=True)
    for number in range(PHOTOS):
        tiles = found[random.randint(0, len(found), (rows, columns, 3))]        # a digit for every colour
        pixels = tiles.transpose(0, 3, 1, 4, 2).reshape(rows * side, columns * side, 3)
        photo = Image.fromarray(pixels).resize((512, 384)).crop((0, 0, 500, 375))
        photo.save(folder / f'images/digits/{number}.jpg', quality=95)
    pack_images(folder / 'images', folder / 'records')
    return RecordSet.open(folder / 'records/train', SIZE)


if __name__ == '__main__':
    main(**json.loads(sys.argv[1]))
