"""GluonCV's networks for detection, segmentation and pose, with random channels at zero.

Outputs of detectors are compared by ``verify``, at what goes into the choice of boxes. Faster R-CNN takes one image at
a time, and PSPNet and DeepLab images of one size: they are compared at what they take.
"""
import mxnet as mx
import numpy as np
import pytest

from sss_gluon.structures import compact

model_zoo = pytest.importorskip('gluoncv.model_zoo')

# {name: (side of the image, arguments, are boxes chosen?)}
NETWORKS = {
    'yolo3_mobilenet0.25_voc': (64, {}, True),
    'center_net_resnet18_v1b_voc': (64, {}, True),
    'mobile_pose_mobilenet1.0': (64, {}, False),
    'ssd_512_mobilenet1.0_voc': (128, {}, True),
    'yolo3_darknet53_voc': (64, {}, True),
    'center_net_resnet18_v1b_dcnv2_voc': (64, {}, True),
    'center_net_mobilenetv3_small_duc_voc': (64, {}, True),
    'center_net_dla34_coco': (64, {}, True),
    'faster_rcnn_resnet50_v1b_voc': (96, {}, True),
    'faster_rcnn_fpn_resnet50_v1b_coco': (128, {}, True),
    'fcn_resnet50_ade': (64, dict(crop_size=64), False),
    'psp_resnet50_ade': (64, dict(crop_size=64), False),
    'deeplab_resnet50_ade': (64, dict(crop_size=64), False),
    'danet_resnet50_citys': (64, dict(crop_size=64), False),
    'icnet_resnet50_citys': (128, dict(crop_size=128), False),
    'fastscnn_citys': (256, dict(crop_size=256), False),
    'hrnet_w18_small_v1_s': (64, {}, False),
    'simple_pose_resnet18_v1b': (64, {}, False),
    'mobile_pose_resnet18_v1b': (64, {}, False),
}
EVERY_DAY = ('yolo3_mobilenet0.25_voc', 'center_net_resnet18_v1b_voc', 'mobile_pose_mobilenet1.0')


def draw_values(net):
    """Weights that keep the size of what passes, running statistics, and norms of which some channels are zero."""
    random, parameters = np.random.RandomState(1), net.collect_params()
    for key, parameter in parameters.items():
        if parameter.grad_req != 'null' and len(parameter.shape) > 1 and 'init_scale' not in key:
            scale = np.sqrt((0.1 if 'ssd' in key else 1.5) / np.prod(parameter.shape[1:]))
            parameter.set_data(mx.nd.array(random.standard_normal(parameter.shape) * scale))
        elif key.endswith('running_var'):
            parameter.set_data(mx.nd.array(random.uniform(0.5, 1.5, parameter.shape)))
        elif key.endswith('running_mean'):
            parameter.set_data(mx.nd.array(random.standard_normal(parameter.shape) * 0.2))
        elif key.replace('gamma', 'beta') in parameters.keys() - {key} and parameter.grad_req != 'null':
            live = random.rand(*parameter.shape) < 0.6
            parameter.set_data(mx.nd.array(random.uniform(0.2, 0.6, parameter.shape) * live))
            beta = parameters[key.replace('gamma', 'beta')]
            beta.set_data(mx.nd.array(random.standard_normal(parameter.shape) * 0.2 * live))


def flat(outputs):
    return sum(map(flat, outputs), []) if isinstance(outputs, (list, tuple)) else [outputs.asnumpy()]


@pytest.mark.parametrize('name', [pytest.param(name, marks=() if name in EVERY_DAY else pytest.mark.slow)
                                  for name in NETWORKS])
def test_network(name):
    side, arguments, boxes = NETWORKS[name]
    mx.random.seed(0)
    if not name.startswith(('hrnet', 'fastscnn')):
        arguments = dict(arguments, pretrained_base=False)
    net = model_zoo.get_model(name, pretrained=False, **arguments)
    net.initialize(mx.init.Normal(0.05))
    net(mx.nd.random.normal(shape=(1, 3, side, side)))
    draw_values(net)
    small = compact(net, (1, 3, side, side))
    assert small.max_difference < 1e-4 and small.after.macs < 0.9 * small.before.macs
    for size in (1,) if 'faster' in name else (1, 2):
        x = mx.nd.random.normal(shape=(size, 3, side, side))
        expected, found = flat(net(x)), flat(small.net(x))
        assert [a.shape for a in found] == [a.shape for a in expected]
        if not boxes:
            assert all(np.abs(a - b).max() < 1e-4 * np.abs(a).max() for a, b in zip(expected, found))
