"""Loss, top-1 and top-5 of a network on a set of images."""
from __future__ import annotations

from typing import NamedTuple

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..data import Augmentation, ImageSet, evaluation_batches


class Accuracy(NamedTuple):
    """Mean cross-entropy, and the shares of images whose label is the first, or among the first five, guesses."""
    loss: float
    top1: float
    top5: float
    images: int


def evaluate_images(net: gluon.Block, images: ImageSet, augmentation: Augmentation, batch_size: int,
                    context) -> Accuracy:
    """Run all images through the network in inference mode."""
    loss, correct, among_five, total = 0.0, 0, 0, 0
    for x, y, valid in evaluation_batches(images, batch_size, augmentation):
        output = net(mx.nd.array(x, ctx=context)).asnumpy()[:valid].astype('float64')
        label = y[:valid].astype(int)
        own = output[np.arange(valid), label]
        peak = output.max(axis=1)
        loss += float((np.log(np.exp(output - peak[:, None]).sum(axis=1)) + peak - own).sum())
        # Guesses ahead of the label: equal ones in their order, and any comparison with NaN counts against it.
        ahead = (~(output <= own[:, None])).sum(axis=1)
        ahead += ((output == own[:, None]) & (np.arange(output.shape[1]) < label[:, None])).sum(axis=1)
        correct += int((ahead == 0).sum())
        among_five += int((ahead < 5).sum())
        total += valid
    return Accuracy(loss / total, correct / total, among_five / total, total)
