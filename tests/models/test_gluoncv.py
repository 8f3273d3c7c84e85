"""The ImageNet networks against GluonCV's of the same kind: size, and the same outputs from the same weights.

- resnet50 is ``resnet50_v2``: pre-activation, stride in the 3x3, projection from relu(bn1) in the first block of
  every stage. GluonCV also normalises the input, without gamma and beta, which is made the identity here.
- vgg16 is ``vgg16_bn``, the same layers.
- resnext50_32x4d is GluonCV's ``resnext50_32x4d``, the same layers.
"""
import mxnet as mx
import numpy as np
import pytest

from sss_gluon.graph import count
from sss_gluon.models import get_model

CASES = {       # ours: (GluonCV's name, the first parameters of GluonCV's network that ours has not)
    'resnet50': ('resnet50_v2', 4),
    'vgg16': ('vgg16_bn', 0),
    'resnext50_32x4d': ('resnext50_32x4d', 0),
}


@pytest.mark.slow
@pytest.mark.parametrize('name', CASES)
def test_equals_gluoncv(name, fill, difference, batch):
    model_zoo = pytest.importorskip('gluoncv.model_zoo')
    theirs_name, extra = CASES[name]
    theirs, ours = model_zoo.get_model(theirs_name), fill(get_model(name))
    shape = (2, 3, 224, 224)
    theirs.infer_shape(mx.nd.zeros(shape))
    for parameter in theirs.collect_params().values():
        parameter.initialize(mx.init.Zero())
    counted, expected = count(ours, shape), count(theirs, shape)
    assert (counted.params, counted.params_without_bn, counted.macs) \
        == (expected.params, expected.params_without_bn, expected.macs)

    mine = [p for key, p in ours._collect_params_with_prefix().items() if not key.endswith('factor')]
    other = list(theirs.collect_params().values())
    for parameter in other[:extra]:             # (x − 0)/√(var + eps) with var + eps = 1
        parameter.set_data(mx.nd.full(parameter.shape, 1 - 1e-5 if 'var' in parameter.name else 0))
    assert [p.shape for p in mine] == [p.shape for p in other[extra:]]
    for source, target in zip(mine, other[extra:]):
        assert source.name.rpartition('_')[2] == target.name.rpartition('_')[2]
        target.set_data(source.data())
    x = batch(*shape)
    assert difference(theirs(x), ours(x)) < 1e-4
    assert np.unique(ours(x).asnumpy()).size == 2000
