"""A GluonCV segmentation network loses half of its MACs while it learns which pixels belong to which digit.

    python scripts/examples/segment_digits.py           # with a budget and without: minutes
    python scripts/examples/segment_digits.py --quick   # the same in seconds, too short to learn much
"""
import argparse

import sss_gluon as sss                                 # before mxnet
import mxnet as mx
import numpy as np
from detect_digits import Backbone
from gluoncv.loss import MixSoftmaxCrossEntropyLoss
from gluoncv.model_zoo.fcn import _FCNHead
from gluoncv.utils.metrics import SegmentationMetric
from mxnet import autograd, gluon
from scenes import CLASSES as DIGITS
from scenes import SIZE, scenes
from sss_gluon.deploy.latency import latencies

SHAPE = (1, 3, SIZE, SIZE)
CLASSES = 1 + len(DIGITS)       # paper, and the digits


class FCN(gluon.HybridBlock):
    """GluonCV's FCN head on the features of the detector's backbone. (GluonCV's own FCN begins with a ResNet-50.)"""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.backbone, self.head = Backbone(), _FCNHead(64 + 128, CLASSES)

    def hybrid_forward(self, F, x):
        fine, coarse = self.backbone(x)
        coarse = F.contrib.BilinearResize2D(coarse, height=SIZE // 8, width=SIZE // 8)
        return F.contrib.BilinearResize2D(self.head(F.concat(fine, coarse, dim=1)), height=SIZE, width=SIZE)


def train(net, data, epochs, batch_size, target=None):
    """Train a network, to a budget of MACs if ``target`` says which share of them may be left."""
    batches = gluon.data.DataLoader(gluon.data.ArrayDataset(data.images, data.masks), batch_size, shuffle=True,
                                    last_batch='discard')
    steps = epochs * len(batches)
    schedule = mx.lr_scheduler.CosineScheduler(steps, base_lr=0.1, warmup_steps=steps // 8)
    net(mx.nd.zeros(SHAPE))             # gives the parameters their shapes
    net.hybridize(static_alloc=True, static_shape=True)
    trainer = sss.make_trainer(net, gamma=0.0003 if target else 0, lr_scheduler=schedule, momentum=0.9, wd=1e-4)
    budget = target and sss.Budget(net, trainer, SHAPE, target, steps=2 * steps // 5, wait=steps // 5)
    shrunk = sss.shrink(net, trainer, SHAPE)            # the network itself, until something has gone
    loss = MixSoftmaxCrossEntropyLoss(aux=False)
    for epoch in range(epochs):
        total = 0
        for images, masks in batches:
            with autograd.record():
                error = loss(shrunk.net(images), masks)
            error.backward()
            trainer.step(0.1)           # gradients are a mean over pixels, and a tenth of them are digits
            if budget:
                budget.step()
            total += error.mean().asscalar()
        shrunk = sss.shrink(net, trainer, SHAPE)        # what is held at zero is no longer computed
        print(f'epoch {epoch}: loss {total / len(batches):.3f}', f'{budget.share:.0%} of the MACs' if budget else '')
    shrunk.restore()
    if budget:
        print(budget.summary())


def mean_iou(net, data):
    metric = SegmentationMetric(CLASSES)
    for first in range(0, len(data.images), 50):
        images, masks = (mx.nd.array(part[first:first + 50]) for part in (data.images, data.masks))
        metric.update(masks, net(images))
    return metric.get()[1]


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--quick', action='store_true', help='few scenes and steps')
    options = parser.parse_args()
    count, test_count, epochs, batch_size = (64, 20, 6, 8) if options.quick else (1000, 300, 15, 16)
    data, test, nets = scenes('train', count), scenes('test', test_count), {}
    for name, target in (('never cut', None), ('before removal', 0.5)):
        mx.random.seed(0)
        np.random.seed(0)               # DataLoader shuffles with it
        nets[name] = net = FCN()
        net.initialize(mx.init.MSRAPrelu())
        if target:
            sss.add_factors(net, kinds=('neuron', 'block'), input_shape=SHAPE)
        train(net, data, epochs, batch_size, target)
    small = sss.compact(net, SHAPE)
    nets['after removal'] = small.net
    print(f'removed: {small.structure.removed()}; outputs differ by at most {small.max_difference:.0e}')
    seconds = latencies(nets, SHAPE, mx.cpu())
    for name, net in nets.items():
        size = small.after if net is small.net else small.before
        print(f'{name:14}  mIoU {mean_iou(net, test):.4f}  {size.macs:10,} MACs  {size.params:7,} parameters  '
              f'{1000 * seconds[name]:.2f} ms')
