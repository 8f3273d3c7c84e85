"""The form for inference: the means that become pooling, and unchanged outputs."""
import numpy as np
import pytest
from mxnet.gluon import nn

from sss_gluon.graph.fold import fold
from sss_gluon.graph.inference import for_inference
from sss_gluon.graph.trace import trace


class Mean(nn.HybridBlock):
    def __init__(self, **attributes):
        super().__init__()
        self.attributes = attributes
        with self.name_scope():
            self.layer, self.norm = nn.Conv2D(4, 3, in_channels=3), nn.BatchNorm(in_channels=4)

    def hybrid_forward(self, F, x):
        return F.mean(self.norm(self.layer(x)), **self.attributes)


@pytest.mark.parametrize('attributes, operators', [
    (dict(axis=(2, 3), keepdims=True), ['Convolution', 'Pooling']),
    (dict(axis=(2, 3)), ['Convolution', 'Pooling', 'Flatten']),
    (dict(axis=(1, 2)), ['Convolution', 'mean']),
    (dict(axis=(2, 3), exclude=True), ['Convolution', 'mean']),
    (dict(axis=2), ['Convolution', 'mean']),
])
def test_means(attributes, operators, fill):
    before = fold(trace(fill(Mean(**attributes)), (2, 3, 7, 9)))
    after = for_inference(before)
    assert [node.op for node in after.nodes() if not node.is_variable] == operators
    x = np.random.RandomState(0).standard_normal((2, 3, 7, 9)).astype('float32')
    expected, found = before.run(x)[0], after.run(x)[0]
    assert expected.shape == found.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
