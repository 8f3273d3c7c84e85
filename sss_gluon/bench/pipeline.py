"""Images per second of the input pipeline against those of training."""
from __future__ import annotations

import json
import sys
import time
from itertools import chain, count, islice
from typing import Dict

import numpy as np

from ..data import Augmentation, TrainBatches
from ..data.images import ImageSet
from .settings import Settings
from .timing import Measurement, interleaved, ratio, timed
from .training import Step
from .worker import Worker, python, serve

IMAGES = 20_000     # about 60 MB: more than caches hold, as with CIFAR
BATCHES = 50


def input_pipeline(settings: Settings, name: str) -> Dict[str, Measurement]:
    """Augmented images a second on one core over images a second of training on all."""
    step = Step(settings.net(name), (settings.batch,) + settings.image_shape(name))
    request = json.dumps(dict(batch=settings.batch, shape=settings.image_shape(name)))
    with Worker(python('pipeline', request), settings.cores[:1]) as worker:
        seconds = interleaved({'training': timed(step), 'pipeline': lambda: worker.ask()['seconds']}, settings.rounds)
    rate = settings.batch / np.median(seconds['pipeline'])
    return {'pipeline': ratio(seconds, 'training', 'pipeline', note=f'{rate:,.0f} augmented images/s')}


def main(batch: int, shape) -> None:
    """A process that answers with the seconds that a batch takes."""
    random = np.random.RandomState(0)
    images = ImageSet(random.randint(0, 256, (IMAGES, *shape)).astype('uint8'), np.zeros(IMAGES, 'int32'))
    batches = TrainBatches(images, batch, Augmentation([128.0] * shape[0], [64.0] * shape[0]), seed=0)
    endless = chain.from_iterable(batches.epoch(i) for i in count())

    def work() -> dict:
        for _ in islice(endless, 4):        # those that were prepared ahead, in time that was not measured
            pass
        begin = time.perf_counter()
        for _ in islice(endless, BATCHES):
            pass
        return dict(seconds=(time.perf_counter() - begin) / BATCHES)

    serve({}, work)


if __name__ == '__main__':
    main(**json.loads(sys.argv[1]))
