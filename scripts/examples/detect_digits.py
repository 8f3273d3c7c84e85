"""A GluonCV detector loses half of its MACs while it learns to find handwritten digits.

    python scripts/examples/detect_digits.py            # train, cut, compare with the same detector that is not cut
    python scripts/examples/detect_digits.py --quick    # the same in seconds, which is too short to learn much
"""
import argparse
import time

import sss_gluon as sss                                 # before mxnet
import mxnet as mx
from gluoncv.loss import SSDMultiBoxLoss
from gluoncv.model_zoo.resnet import BasicBlockV1, ResNetV1
from gluoncv.model_zoo.ssd import SSD
from gluoncv.model_zoo.ssd.target import SSDTargetGenerator
from gluoncv.utils.metrics import VOC07MApMetric
from mxnet import autograd, gluon
from scenes import CLASSES, SIZE, scenes

SHAPE, BATCH = (1, 3, SIZE, SIZE), 32


class Backbone(gluon.HybridBlock):
    """The first stages of a narrow ResNet-18: features at strides 8 and 16."""

    def __init__(self):
        super().__init__()
        features = ResNetV1(BasicBlockV1, [2, 2, 2], [16, 32, 64, 128]).features
        with self.name_scope():
            self.fine, self.coarse = features[:6], features[6]

    def hybrid_forward(self, F, x):
        fine = self.fine(x)
        return fine, self.coarse(fine)


def detector():
    return SSD(None, SIZE, lambda **_: Backbone(), None, sizes=[16, 26, 44], ratios=[[1, 0.5, 0.75]] * 2,
               steps=[8, 16], classes=CLASSES, anchor_alloc_size=16)


class Predictions(gluon.HybridBlock):
    """Classes and boxes before they are sorted into detections: an SSD gives them in training mode only."""

    def __init__(self, detector):
        super().__init__()
        self.detector = detector

    def hybrid_forward(self, F, x):
        with autograd.train_mode():
            return self.detector(x)


def train(net, trainer, data, epochs, after_step, after_epoch):
    _, _, anchors = net(mx.nd.zeros(SHAPE))
    boxes, labels = mx.nd.array(data.boxes), mx.nd.array(data.labels)
    target = SSDTargetGenerator(negative_mining_ratio=-1)
    nothing = mx.nd.zeros((len(boxes), 1, 1))
    classes, offsets, _ = target(anchors, nothing, boxes, labels)
    batches = gluon.data.DataLoader(gluon.data.ArrayDataset(data.images, classes, offsets), BATCH, shuffle=True,
                                    last_batch='discard')
    loss = SSDMultiBoxLoss()
    for epoch in range(epochs):
        t=time.time(); tot=0
        for images, c, o in batches:
            with autograd.record():
                cls, box, _ = net(images)
                total, _, _ = loss(cls, box, c, o)
            autograd.backward(total)
            trainer.step(1)
            tot+=total[0].mean().asscalar()
            after_step()
        net = after_epoch(epoch) or net
        print(epoch, f'{tot/len(batches):.3f} {time.time()-t:.1f}s', flush=True)


def mean_average_precision(net, data):
    metric = VOC07MApMetric(class_names=CLASSES)
    for i in range(0, len(data.images), 50):
        ids, scores, boxes = net(mx.nd.array(data.images[i:i + 50]))
        metric.update(boxes, ids, scores, data.boxes[i:i + 50], data.labels[i:i + 50])
    return metric.get()[1][-1]


if __name__ == '__main__':
    parser = argparse.ArgumentParser()
    parser.add_argument('--epochs', type=int, default=12)
    parser.add_argument('--count', type=int, default=1000)
    parser.add_argument('--lr', type=float, default=0.1)
    parser.add_argument('--plain', action='store_true')
    parser.add_argument('--shrink', action='store_true')
    parser.add_argument('--target', type=float, default=0.5)
    parser.add_argument('--search', type=float, default=0.15)
    o = parser.parse_args()
    data, test = scenes('train', o.count), scenes('test', 300)
    mx.random.seed(0)
    net = detector()
    net.initialize(mx.init.MSRAPrelu())
    net(mx.nd.zeros(SHAPE))
    if not o.plain:
        print(sss.add_factors(net, kinds=('neuron','block'), input_shape=SHAPE))
    print(sss.count(net, SHAPE).macs)
    pred = Predictions(net)
    pred.hybridize(static_alloc=True, static_shape=True)
    steps = o.epochs * (o.count // BATCH)
    trainer = sss.make_trainer(pred, lr_scheduler=mx.lr_scheduler.CosineScheduler(steps, base_lr=o.lr, warmup_steps=60, warmup_begin_lr=0.0), momentum=0.9, wd=5e-4)
    if o.plain:
        train(pred, trainer, data, o.epochs, lambda: None, lambda e: print(mean_average_precision(net, test)) if e%3==2 else None)
    else:
        budget = sss.Budget(pred, trainer, SHAPE, target=o.target, steps=int(o.search*steps), wait=60)
        sh = [None]
        def ae(e):
            print(f'gamma {trainer.gamma:.3g} share {budget.share:.3f}', mean_average_precision(net, test) if e%3==2 and not o.shrink else '')
            if o.shrink:
                sh[0] = sss.shrink(pred, trainer, SHAPE)
                return sh[0].net
        train(pred, trainer, data, o.epochs, budget.step, ae)
        print(budget.summary())
        if o.shrink: sh[0].restore()
    mx.nd.waitall()
    print('mAP', mean_average_precision(net, test), 'train', mean_average_precision(net, data._replace(images=data.images[:200])))
    small = sss.compact(net, SHAPE)
    print(small.before.macs, small.after.macs, small.before.params, small.after.params, small.max_difference, small.unhandled, small.structure.removed())
    print('mAP small', mean_average_precision(small.net, test))
