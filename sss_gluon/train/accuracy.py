"""Loss, top-1 and top-5 accuracy of a network on a set of images."""
from __future__ import annotations

from collections import deque
from typing import Deque, Iterator, List, NamedTuple, Sequence, Tuple, Union

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..data import Augmentation, ImageSet, RecordSet, evaluation_batches
from .precision import as_float32
from .workers import ALONE, Workers


class Accuracy(NamedTuple):
    """Mean cross-entropy, and the share of images whose label is the first guess or among the first five."""
    loss: float
    top1: float
    top5: float
    images: int


def evaluate_images(net: gluon.Block, images: Union[ImageSet, RecordSet], augmentation: Augmentation,
                    batch_size: int, devices: Sequence[mx.Context], workers: Workers = ALONE) -> Accuracy:
    """Run all images through the network in inference mode.

    Devices share the batches and workers share the images, with the running statistics that each of them has: see
    ``average_statistics``, which makes them equal.
    """
    if workers.size == 1:
        return _mean(_sums(net, images, augmentation, batch_size, devices))
    parts, sums = min(workers.size, len(images)), (0.0, 0, 0, 0)
    if workers.rank < parts:
        sums = _sums(net, images.part(workers.rank, parts), augmentation, batch_size, devices)
    return _mean(workers.total('accuracy', sums))


def _mean(sums) -> Accuracy:
    loss, correct, among_five, images = (float(value) for value in sums)
    return Accuracy(loss / images, correct / images, among_five / images, int(images))


def _sums(net, images, augmentation, batch_size, devices) -> Tuple[float, int, int, int]:
    loss, correct, among_five, total = 0.0, 0, 0, 0
    for output, y, valid in _outputs(net, images, augmentation, batch_size, devices):
        output = output.asnumpy()[:valid].astype('float64')
        label = y[:valid].astype(int)
        own = output[np.arange(valid), label]
        peak = output.max(axis=1)
        loss += float((np.log(np.exp(output - peak[:, None]).sum(axis=1)) + peak - own).sum())
        # Guesses ahead of the label: ties count in order, and NaN counts against the label.
        ahead = (~(output <= own[:, None])).sum(axis=1)
        ahead += ((output == own[:, None]) & (np.arange(output.shape[1]) < label[:, None])).sum(axis=1)
        correct += int((ahead == 0).sum())
        among_five += int((ahead < 5).sum())
        total += valid
    return loss, correct, among_five, total


def heads(output) -> List[mx.nd.NDArray]:
    """The outputs of a network as one list; the first is the prediction, others are auxiliary heads."""
    if isinstance(output, mx.nd.NDArray):
        return [output]
    return [head for part in (output.values() if isinstance(output, dict) else output) if part is not None
            for head in heads(part)]


def _outputs(net, images, augmentation, batch_size, devices) -> Iterator[Tuple[mx.nd.NDArray, np.ndarray, int]]:
    """Yield (output, labels, number of valid images) of every batch in order, one batch in flight per device."""
    working: Deque[Tuple[mx.nd.NDArray, np.ndarray, int]] = deque()
    for i, (x, y, valid) in enumerate(evaluation_batches(images, batch_size, augmentation)):
        output = as_float32(heads(net(mx.nd.array(x, ctx=devices[i % len(devices)])))[0])
        working.append((output, y, valid))
        if len(working) == len(devices):
            yield working.popleft()
    yield from working
