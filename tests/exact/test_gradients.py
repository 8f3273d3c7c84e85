"""Gradients of the layers of factors.py against the definition, λ·conv(x) and λ·BN(x), written out in NumPy float64.

The reference sums over the taps of the kernel, and goes backwards by the textbook formulas; it is itself checked by
central differences.
"""
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from sss_gluon.factors import ScaledBatchNorm, ScaledConv2D

TOLERANCE = 1e-5        # relative to the largest value of a gradient


class Convolution:
    """λ·(conv(x; W) + b), then perhaps a ReLU."""

    def __init__(self, kernel, stride=(1, 1), pad=(0, 0), dilation=(1, 1), groups=1, relu=False):
        self.kernel, self.stride, self.pad, self.dilation = kernel, stride, pad, dilation
        self.groups, self.relu = groups, relu

    def _windows(self, x):
        """(tap, view of the padded input that meets it), the view with the shape of the output."""
        sizes = [(x.shape[2 + i] - self.dilation[i] * (self.kernel[i] - 1) - 1) // self.stride[i] + 1 for i in (0, 1)]
        for tap in np.ndindex(*self.kernel):
            start = [tap[i] * self.dilation[i] for i in (0, 1)]
            yield tap, x[:, :, start[0]:start[0] + self.stride[0] * sizes[0]:self.stride[0],
                         start[1]:start[1] + self.stride[1] * sizes[1]:self.stride[1]]

    def _by_group(self, array, axis):
        return np.split(array, self.groups, axis)

    def _padded(self, x):
        return np.pad(x, ((0, 0), (0, 0), (self.pad[0],) * 2, (self.pad[1],) * 2))

    def forward(self, x, weight, bias, factor):
        outputs = []
        for part, w in zip(self._by_group(self._padded(x), 1), self._by_group(weight, 0)):
            outputs.append(sum(np.einsum('nchw,oc->nohw', view, w[:, :, i, j])
                               for (i, j), view in self._windows(part)))
        plain = np.concatenate(outputs, 1) + bias.reshape(1, -1, 1, 1)
        scale = np.repeat(factor, weight.shape[0] // factor.size).reshape(1, -1, 1, 1)
        return np.maximum(plain * scale, 0) if self.relu else plain * scale, plain, scale

    def backward(self, head, x, weight, bias, factor):
        y, plain, scale = self.forward(x, weight, bias, factor)
        head = head * (y > 0) if self.relu else head
        of_plain = head * scale
        padded = self._padded(x)
        of_padded, of_weight = np.zeros_like(padded), np.zeros_like(weight)
        parts = zip(self._by_group(padded, 1), self._by_group(weight, 0), self._by_group(of_plain, 1),
                    self._by_group(of_padded, 1), self._by_group(of_weight, 0))
        for part, w, g, of_part, of_w in parts:
            for ((i, j), view), (_, of_view) in zip(self._windows(part), self._windows(of_part)):
                of_w[:, :, i, j] = np.einsum('nohw,nchw->oc', g, view)
                of_view += np.einsum('nohw,oc->nchw', g, w[:, :, i, j])
        inside = (slice(None), slice(None), *(slice(p, p + n) for p, n in zip(self.pad, x.shape[2:])))
        of_factor = (head * plain).sum((0, 2, 3)).reshape(factor.size, -1).sum(1)
        return dict(x=of_padded[inside], weight=of_weight, bias=of_plain.sum((0, 2, 3)), factor=of_factor)


class Norm:
    """λ·(γ·x̂ + β), x̂ by the statistics of the batch or by running ones."""

    def __init__(self, mean=None, var=None, eps=1e-5):
        self.mean, self.var, self.eps = mean, var, eps

    def _normalised(self, x):
        mean = x.mean((0, 2, 3)) if self.mean is None else self.mean
        var = x.var((0, 2, 3)) if self.var is None else self.var
        scale = 1 / np.sqrt(var + self.eps).reshape(1, -1, 1, 1)
        return (x - mean.reshape(1, -1, 1, 1)) * scale, scale

    def forward(self, x, gamma, beta, factor):
        plain = gamma.reshape(1, -1, 1, 1) * self._normalised(x)[0] + beta.reshape(1, -1, 1, 1)
        scale = np.repeat(factor, gamma.size // factor.size).reshape(1, -1, 1, 1)
        return plain * scale, plain, scale

    def backward(self, head, x, gamma, beta, factor):
        _, plain, scale = self.forward(x, gamma, beta, factor)
        normalised, inverse = self._normalised(x)
        of_plain = head * scale
        of_normalised = of_plain * gamma.reshape(1, -1, 1, 1)
        of_x = of_normalised * inverse
        if self.mean is None:
            of_x -= inverse * of_normalised.mean((0, 2, 3), keepdims=True)
            of_x -= inverse * normalised * (of_normalised * normalised).mean((0, 2, 3), keepdims=True)
        return dict(x=of_x, gamma=(of_plain * normalised).sum((0, 2, 3)), beta=of_plain.sum((0, 2, 3)),
                    factor=(head * plain).sum((0, 2, 3)).reshape(factor.size, -1).sum(1))


# {case: (kind, number of factors, bias, kernel, stride, pad, dilation, groups, ReLU)}, from 6 to 12 channels
CONVOLUTIONS = {
    'block': ('block', 1, False, (3, 3), (1, 1), (1, 1), (1, 1), 1, False),
    'block, bias, stride': ('block', 1, True, (3, 3), (2, 2), (1, 1), (1, 1), 1, False),
    'block, rectangular': ('block', 1, True, (1, 3), (2, 1), (0, 1), (1, 1), 1, False),
    'block, groups, dilation': ('block', 1, True, (3, 3), (1, 1), (0, 0), (2, 2), 3, False),
    'block, ReLU': ('block', 1, True, (3, 3), (1, 1), (1, 1), (1, 1), 1, True),
    'neuron': ('neuron', 12, False, (1, 1), (1, 1), (0, 0), (1, 1), 1, False),
    'neuron, bias, dilation': ('neuron', 12, True, (3, 3), (1, 1), (2, 2), (2, 2), 1, False),
    'neuron, groups, stride': ('neuron', 12, True, (3, 3), (2, 2), (1, 1), (1, 1), 3, False),
    'neuron, ReLU': ('neuron', 12, True, (3, 3), (1, 1), (1, 1), (1, 1), 1, True),
    'group': ('group', 3, False, (3, 3), (1, 1), (1, 1), (1, 1), 3, False),
    'group, bias, stride, dilation': ('group', 2, True, (3, 3), (2, 2), (2, 2), (2, 2), 2, False),
    'group, depthwise': ('group', 6, True, (3, 3), (1, 1), (1, 1), (1, 1), 6, False),
    'group, ReLU': ('group', 3, True, (3, 3), (1, 1), (0, 0), (1, 1), 3, True),
}
NORMS = {       # (kind, number of factors, arguments, does it use running statistics?)
    'neuron': ('neuron', 6, {}, False),
    'neuron, epsilon': ('neuron', 6, dict(epsilon=1e-2), False),
    'neuron, running statistics': ('neuron', 6, dict(use_global_stats=True), True),
    'neuron, no beta': ('neuron', 6, dict(center=False), False),
    'group': ('group', 3, dict(groups=3), False),
    'group, running statistics': ('group', 3, dict(groups=3, use_global_stats=True), True),
    'block': ('block', 1, {}, False),
    'block, running statistics': ('block', 1, dict(use_global_stats=True), True),
}


def random_values(layer, random):
    """Float64 values that float32 holds exactly, put into the layer; factors of both signs, some of them zero."""
    values = {}
    for name, parameter in layer._collect_params_with_prefix().items():
        value = random.standard_normal(parameter.shape)
        if name == 'running_var':
            value = np.abs(value) + 0.5
        if name == 'factor' and value.size > 1:
            value[::3] = 0
        if name == 'beta' and parameter.grad_req == 'null':
            value[:] = 0
        values[name] = value.astype('float32').astype('float64')
        parameter.initialize(mx.init.Zero())
        parameter.set_data(mx.nd.array(values[name]))
    return values


def compare(layer, reference, values, x, head):
    """Output and gradients of the layer against the float64 reference."""
    data = mx.nd.array(x)
    data.attach_grad()
    with autograd.record():
        y = layer(data)
    y.backward(mx.nd.array(head))
    expected = dict(reference.backward(head, x, **values), output=reference.forward(x, **values)[0])
    found = {name: getattr(layer, name).grad().asnumpy() for name in values
             if getattr(layer, name, None) is not None and getattr(layer, name).grad_req != 'null'}
    found.update(x=data.grad.asnumpy(), output=y.asnumpy())
    assert {'x', 'output', 'factor'} < set(found)
    for name, value in found.items():
        assert value.shape == expected[name].shape
        assert np.abs(value - expected[name]).max() <= TOLERANCE * np.abs(expected[name]).max(), name


@pytest.mark.parametrize('case', CONVOLUTIONS)
def test_convolution(case):
    kind, size, bias, kernel, stride, pad, dilation, groups, relu = CONVOLUTIONS[case]
    random = np.random.RandomState(len(case))
    layer = ScaledConv2D(12, kernel, stride, pad, dilation, groups=groups, use_bias=bias, in_channels=6, kind=kind,
                         activation='relu' if relu else None)
    values = dict(bias=np.zeros(12), **{k: v for k, v in random_values(layer, random).items() if k != 'bias'}) \
        if not bias else random_values(layer, random)
    assert values['factor'].shape == (size,)
    x = random.standard_normal((2, 6, 8, 7)).astype('float32').astype('float64')
    reference = Convolution(kernel, stride, pad, dilation, groups, relu)
    head = random.standard_normal(reference.forward(x, **values)[0].shape).astype('float32').astype('float64')
    compare(layer, reference, values, x, head)


@pytest.mark.parametrize('case', NORMS)
def test_batch_norm(case):
    kind, size, arguments, running = NORMS[case]
    random = np.random.RandomState(len(case))
    layer = ScaledBatchNorm(6, kind, **arguments)
    values = random_values(layer, random)
    assert values['factor'].shape == (size,)
    mean, var = values.pop('running_mean'), values.pop('running_var')
    reference = Norm(mean if running else None, var if running else None, arguments.get('epsilon', 1e-5))
    x, head = (random.standard_normal((4, 6, 5, 3)).astype('float32').astype('float64') for _ in range(2))
    compare(layer, reference, values, x * 2 + 1, head)


@pytest.mark.parametrize('reference, values', [
    (Convolution((3, 2), (2, 1), (1, 0), (1, 2), 2), dict(weight=(4, 2, 3, 2), bias=(4,), factor=(2,))),
    (Convolution((3, 3), pad=(1, 1), relu=True), dict(weight=(4, 4, 3, 3), bias=(4,), factor=(4,))),
    (Norm(), dict(gamma=(4,), beta=(4,), factor=(2,))),
    (Norm(np.full(4, 0.3), np.full(4, 2.0)), dict(gamma=(4,), beta=(4,), factor=(1,))),
], ids=['convolution', 'with ReLU', 'norm', 'norm, running statistics'])
def test_reference_by_central_differences(reference, values):
    random = np.random.RandomState(0)
    values = {name: random.standard_normal(shape) for name, shape in dict(values, x=(2, 4, 5, 5)).items()}
    head = random.standard_normal(reference.forward(**values)[0].shape)
    for name, gradient in reference.backward(head, **values).items():
        direction, step = random.standard_normal(gradient.shape), 1e-6
        moved = [(reference.forward(**dict(values, **{name: values[name] + sign * step * direction}))[0] * head).sum()
                 for sign in (1, -1)]
        np.testing.assert_allclose((moved[0] - moved[1]) / (2 * step), (gradient * direction).sum(), rtol=1e-6)
