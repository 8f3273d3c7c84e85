"""A GluonCV detector loses half of its MACs while it learns to find handwritten digits in scenes.

    python scripts/examples/detect_digits.py            # with a budget and without: minutes
    python scripts/examples/detect_digits.py --quick    # the same in seconds, too short to learn much
"""
import argparse

import sss_gluon as sss                                 # before mxnet
import mxnet as mx
import numpy as np
from gluoncv.loss import SSDMultiBoxLoss
from gluoncv.model_zoo.resnet import BasicBlockV1, ResNetV1
from gluoncv.model_zoo.ssd import SSD
from gluoncv.model_zoo.ssd.target import SSDTargetGenerator
from gluoncv.utils.metrics import VOC07MApMetric
from mxnet import autograd, gluon
from scenes import CLASSES, SIZE, draw, scenes
from sss_gluon.deploy.latency import latencies

SHAPE = (1, 3, SIZE, SIZE)


class Backbone(gluon.HybridBlock):
    """The first three stages of a narrow ResNet-18: features at strides 8 and 16."""

    def __init__(self):
        super().__init__()
        layers = ResNetV1(BasicBlockV1, [2, 2, 2], [16, 32, 64, 128]).features
        with self.name_scope():
            self.fine, self.coarse = layers[:6], layers[6]

    def hybrid_forward(self, F, x):
        fine = self.fine(x)
        return fine, self.coarse(fine)


def detector():
    return SSD(None, SIZE, lambda **_: Backbone(), None, sizes=[16, 26, 44], ratios=[[1, 0.5, 0.75]] * 2,
               steps=[8, 16], classes=CLASSES, anchor_alloc_size=16)     # anchors of 16 to 44 pixels


class Predictions(gluon.HybridBlock):
    """(classes, offsets, anchors) for the losses, which GluonCV's SSD returns in training mode only."""

    def __init__(self, detector):
        super().__init__()
        self.detector = detector

    def hybrid_forward(self, F, x):
        with autograd.train_mode():
            return self.detector(x)


def train(net, data, epochs, batch_size, target=None):
    """Train a detector, to a budget of MACs if ``target`` says which share of them may be left."""
    predictions = Predictions(net)
    predictions.hybridize(static_alloc=True, static_shape=True)
    anchors = predictions(mx.nd.zeros(SHAPE))[2]
    generate = SSDTargetGenerator(negative_mining_ratio=-1)         # what each anchor should have predicted
    classes, offsets, _ = generate(anchors, None, mx.nd.array(data.boxes), mx.nd.array(data.labels))
    batches = gluon.data.DataLoader(gluon.data.ArrayDataset(data.images, classes, offsets), batch_size, shuffle=True,
                                    last_batch='discard')
    steps = epochs * len(batches)
    schedule = mx.lr_scheduler.CosineScheduler(steps, base_lr=0.1, warmup_steps=steps // 8)
    trainer = sss.make_trainer(predictions, gamma=0.0003 if target else 0, lr_scheduler=schedule, momentum=0.9, wd=5e-4)
    budget = target and sss.Budget(predictions, trainer, SHAPE, target, steps=2 * steps // 5, wait=steps // 5)
    shrunk = sss.shrink(predictions, trainer, SHAPE)                # the network itself, until something has gone
    loss = SSDMultiBoxLoss()
    for epoch in range(epochs):
        total = 0
        for images, *expected in batches:
            with autograd.record():
                [error], _, _ = loss(*shrunk.net(images)[:2], *expected)
            error.backward()
            trainer.step(1)                                         # SSDMultiBoxLoss is a mean already
            if budget:
                budget.step()
            total += error.sum().asscalar()
        shrunk = sss.shrink(predictions, trainer, SHAPE)            # what is held at zero is no longer computed
        print(f'epoch {epoch}: loss {total / len(batches):.2f}', f'{budget.share:.0%} of the MACs' if budget else '')
    shrunk.restore()
    if budget:
        print(budget.summary())


def mean_average_precision(net, data):
    metric = VOC07MApMetric(class_names=CLASSES)
    for first in range(0, len(data.images), 50):
        images, boxes, labels, _ = (part[first:first + 50] for part in data)
        found, scores, places = net(mx.nd.array(images))
        metric.update(places, found, scores, boxes, labels)
    return metric.get()[1][-1]


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--quick', action='store_true', help='few scenes and steps')
    parser.add_argument('--picture', help='save some test scenes, with what the compact detector finds, as this file')
    options = parser.parse_args()
    count, test_count, epochs, batch_size = (64, 20, 6, 8) if options.quick else (1000, 300, 15, 32)
    data, test, nets = scenes('train', count), scenes('test', test_count), {}
    for name, target in (('never cut', None), ('before removal', 0.5)):
        mx.random.seed(0)
        np.random.seed(0)               # DataLoader shuffles with it
        nets[name] = net = detector()
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
        print(f'{name:14}  mAP {mean_average_precision(net, test):.4f}  {size.macs:10,} MACs  {size.params:7,} '
              f'parameters  {1000 * seconds[name]:.2f} ms')
    if options.picture:
        ids, scores, places = (part.asnumpy() for part in small.net(mx.nd.array(test.images[:8])))
        draw(test.images[:8], places, np.where(scores > 0.5, ids, -1), options.picture)
