"""float16 weights against float64, the casts of AMP in networks, and precisions that are refused."""
import mxnet as mx
import numpy as np
import pytest
from comparison import assert_equal
from mxnet import autograd, nd
from mxnet.gluon import nn

from sss_gluon import ScaledBatchNorm, ScaledConv2D, compact, get_model, make_trainer, scaling_factors
from sss_gluon.errors import SSSError
from sss_gluon.graph import count
from sss_gluon.methods import train
from sss_gluon.train import precision
from sss_gluon.train.config import Config, check, load_config
from sss_gluon.train.parameters import named_parameters
from sss_gluon.train.precision import LOSS_SCALE, LossScaler, active, as_float32, mixed

# float16 weights

def reference(values, gradients, factors, lr, gamma, wd, momentum, batch):
    """NAG for weights, equations 10-12 for factors, in float64: (values, momenta)."""
    values = {name: value.astype('float64') for name, value in values.items()}
    states = {name: np.zeros_like(value) for name, value in values.items()}
    for step in gradients:
        for name, gradient in step.items():
            g, w, v = gradient.astype('float64') / batch, values[name], states[name]
            if name in factors:
                z = w - lr * g
                s = np.sign(z) * np.maximum(0, np.abs(z) - lr * gamma)
                states[name] = s - w + momentum * v
                values[name] = np.maximum(0, s + momentum * states[name])
            else:
                g = g + (0 if name.endswith(('bias', 'beta')) else wd) * w
                states[name] = momentum * v + g
                values[name] = w - lr * (g + momentum * states[name])
    return values, states


class Half(nn.HybridSequential):
    """Large and small float16 weights beside float32 factors and BatchNorm."""

    def __init__(self):
        super().__init__()
        self.add(ScaledConv2D(6, 3, in_channels=4, kind='neuron'), ScaledBatchNorm(6, kind='group', groups=3),
                 nn.Dense(5, in_units=6))


@pytest.mark.parametrize('aggregate', [True, False])
def test_float16_weights_follow_float64(aggregate):
    """150 steps of gradients that are given: float16 has no convolutions on a CPU."""
    random, batch, scale = np.random.RandomState(0), 8, 512.0
    net = Half()
    net.initialize(mx.init.Normal(0.5))
    net.cast('float16')
    trained = {name: p for name, p in named_parameters(net) if p.grad_req != 'null'}
    factors = [f'{factor.name}.factor' for factor in scaling_factors(net)]
    wide = [name for name, p in trained.items() if p.dtype == np.float32 or p.dtype == 'float32']
    assert sorted(wide) == ['0.factor', '1.beta', '1.factor', '1.gamma']
    settings = dict(gamma=0.05, learning_rate=0.1, wd=1e-2, momentum=0.9)
    trainer = make_trainer(net, multi_precision=True, aggregate=aggregate, loss_scaler=LossScaler(scale), **settings)
    begin = {name: p.data().asnumpy() for name, p in trained.items()}
    given = []
    for _ in range(150):
        given.append({name: (batch * 0.1 * random.standard_normal(p.shape)).astype('float16')
                      for name, p in trained.items()})
        for name, p in trained.items():
            p.grad()[:] = nd.array(given[-1][name].astype('float32') * scale).astype(p.dtype)
            p.data()._fresh_grad = True
        trainer.step(batch)
    values, states = reference(begin, given, factors, 0.1, 0.05, 1e-2, 0.9, batch)
    found = trainer.states()
    assert trainer.loss_scaler.skipped == 0
    for name, p in trained.items():
        master = p.data().asnumpy() if name in wide else found[f'{name}@float32']
        assert master.dtype == found[name].dtype == np.float32
        assert np.abs(master - values[name]).max() <= 1e-5 * max(1, np.abs(values[name]).max()), name
        assert np.abs(found[name] - states[name]).max() <= 1e-5 * max(1, np.abs(states[name]).max()), name
        if name not in wide:
            assert p.data().asnumpy().tobytes() == master.astype('float16').tobytes()
    zeros = np.concatenate([values[name] == 0 for name in factors])
    assert 0 < zeros.sum() and all(((trained[n].data().asnumpy() == 0) == (values[n] == 0)).all() for n in factors)

    again = make_trainer(net, multi_precision=True, aggregate=aggregate, loss_scaler=LossScaler(), **settings)
    again.set_states(found)
    assert_equal(again.states(), found)
    for one in (again, trainer):        # an overflow of float16: 65504 is its largest number
        net[2].weight.grad()[:] = 65504.0
        net[2].weight.grad()[:] *= 2
        for p in trained.values():
            p.data()._fresh_grad = True
        one.step(batch)
        assert one.overflowed and one.loss_scaler.scale == scale / 2
        assert_equal({n: a for n, a in one.states().items() if n != LOSS_SCALE},
                     {n: a for n, a in found.items() if n != LOSS_SCALE})


# What AMP puts into networks

class Cast(nn.HybridBlock):
    """With or without the casts of AMP, around a block that is gone and in front of the output."""

    def __init__(self, casts):
        super().__init__(prefix='net_')
        self.casts = casts
        with self.name_scope():
            self.first = nn.Conv2D(6, 3, padding=1, in_channels=3)
            self.inner = ScaledConv2D(6, 3, padding=1, in_channels=6, kind='neuron')
            self.last = nn.Conv2D(6, 3, padding=1, in_channels=6)
            self.output = nn.Dense(4, in_units=6 * 8 * 8)

    def hybrid_forward(self, F, x):
        def cast(x, dtype):
            return F.amp_cast(x, dtype=dtype) if self.casts else x
        x = cast(F.relu(cast(self.first(cast(x, precision.bfloat16)), 'float32')), 'float16')
        y = self.last(F.relu(self.inner(x)))
        if self.casts:
            x, y = F.amp_multicast(x, y, num_outputs=2)
        return cast(self.output(cast(F.flatten(x + y), 'float32')), 'float32')


def test_counts_and_compact_networks_know_no_casts(fill, set_factors, batch):
    kept = {'inner': [1, 0, 0.5, 0, 1, 0]}
    plain, casts = (set_factors(fill(Cast(casts)), kept) for casts in (False, True))
    x = batch(2, 3, 8, 8)
    assert count(casts, x.shape) == count(plain, x.shape)
    found, expected = compact(casts, x.shape), compact(plain, x.shape)
    assert [(n.op, n.name) for n in found.program.nodes()] == [(n.op, n.name) for n in expected.program.nodes()]
    assert found.after == expected.after and found.after.macs < found.before.macs and not found.unhandled
    np.testing.assert_array_equal(found.net(x).asnumpy(), expected.net(x).asnumpy())


def bfloat16_works():
    try:
        precision.check_bfloat16()
    except SSSError:
        return False
    return True


NEEDS_BFLOAT16 = pytest.mark.skipif(not bfloat16_works(), reason='bfloat16 needs oneDNN on a CPU with AVX-512')


@NEEDS_BFLOAT16
def test_a_compact_network_computes_in_bfloat16_with_the_same_parameters(fill, zero, batch):
    """AMP does not reach a SymbolBlock: its symbol gets the casts, and nothing that is counted or exported has them."""
    x = batch(4, 3, 16, 16)
    small = compact(zero(fill(get_model('cifar_resnet20', depths=(1, 1, 1), widths=(4, 6, 8),
                                        factors=('neuron', 'block')))), x.shape).net
    net, expected = mixed(small, 'bfloat16'), small(x).asnumpy()
    assert active() == 'float32' and mixed(small, 'float32') is small
    assert all(a is b for a, b in zip(net.collect_params().values(), small.collect_params().values()))
    found = as_float32(net(x)).asnumpy()
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert 1e-4 < error < 0.05
    assert count(net, x.shape) == count(small, x.shape)
    assert not any('amp' in node.op for node in compact(net, x.shape).program.nodes())
    with autograd.record():
        loss = net(x).square().sum()
    loss.backward()
    assert all(p.grad().dtype == np.float32 for p in net.collect_params().values() if p.grad_req != 'null')


# What is refused

@pytest.mark.parametrize('settings, words', [
    (['precision=float16'], 'precision=float16 cannot run on cpu: MXNet has no float16 convolutions for CPUs; use '
                            'precision=bfloat16 or float32 there'),
    (['precision=float16', 'devices=[gpu0,cpu1]', 'batch_size=64'], 'precision=float16 cannot run on cpu1'),
    (['precision=bfloat16', 'devices=[gpu0]'], 'precision=bfloat16 cannot run on gpu0: MXNet 1.9.1 has bfloat16 for '
                                               'CPUs only; use precision=float16 or float32 there'),
    (['precision=float64'], 'precision=float64 is unknown; did you mean float'),
])
def test_precisions_that_a_device_has_not(settings, words):
    with pytest.raises(SSSError) as error:
        load_config(None, settings)
    assert words in str(error.value) and len(str(error.value).splitlines()) == 1


def test_precisions_that_devices_have():
    assert Config().precision == 'float32'
    check(Config(precision='float16', devices=['gpu0', 'gpu1']))
    check(Config(precision='bfloat16', devices=['cpu0', 'cpu1']))


def test_a_run_does_not_change_its_precision(configure):
    train(configure(epochs=1), lambda line: None)
    with pytest.raises(SSSError, match='begun with other settings .*precision: float32 -> bfloat16'):
        train(configure(epochs=1, precision='bfloat16'), lambda line: None)
    assert active() == 'float32'
