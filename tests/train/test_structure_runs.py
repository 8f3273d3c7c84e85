"""Runs that train a compact network: from scratch, or on from its weights."""
import mxnet as mx
import numpy as np
import pytest

from sss_gluon import SSSError, compact, get_model, scaling_factors
from sss_gluon.deploy import evaluate, load_run
from sss_gluon.methods import train
from sss_gluon.train import Config

SMALL = dict(data='digits', model='cifar_resnet20', model_options={'depths': [1, 1], 'widths': [4, 8]}, epochs=1,
             batch_size=256, lr_mode='constant', augment_pad=0, augment_flip=False)


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    """A compact network without its second block: prefix of its files, and the network."""
    net = get_model('cifar_resnet20', classes=10, in_channels=1, depths=[1, 1], widths=[4, 8])
    net.initialize()
    scaling_factors(net)[1].parameter.set_data(mx.nd.zeros((1,)))
    small = compact(net, (1, 1, 16, 16))
    prefix = tmp_path_factory.mktemp('compact') / 'model'
    small.export(prefix)
    return prefix, small


def test_from_scratch_then_moved_without_its_source(exported, tmp_path):
    prefix, small = exported
    source = tmp_path / 'given.json'
    source.write_bytes(prefix.with_name('model-structure.json').read_bytes())
    train(Config(run=str(tmp_path / 'run'), structure=str(source), **SMALL), log=lambda line: None)
    source.unlink()
    (tmp_path / 'run').rename(tmp_path / 'moved')
    net = load_run(tmp_path / 'moved').net
    assert {name: p.shape for name, p in net.collect_params().items()} == \
        {name: p.shape for name, p in small.net.collect_params().items()}
    row, = evaluate(tmp_path / 'moved')
    assert (row.params, row.macs) == (small.after.params, small.after.macs)


def test_init_goes_on_from_the_compact_weights(exported, tmp_path):
    prefix, small = exported
    run = train(Config(run=str(tmp_path / 'run'), structure=f'{prefix}-structure.json', init=f'{prefix}-0000.params',
                       learning_rate=0.0, **SMALL), log=lambda line: None)
    trained = load_run(run.path).net.collect_params()
    for name, parameter in small.net.collect_params().items():
        if parameter.grad_req != 'null':        # running statistics move, weights do not at learning rate 0
            np.testing.assert_array_equal(trained[name].data().asnumpy(), parameter.data().asnumpy())


@pytest.mark.parametrize('settings, message', [
    (dict(structure='resnet26'), 'resnet50.*cifar_resnet20'),
    (dict(structure='resnet27'), 'resnet27.*resnet26'),
    (dict(structure='resnet26', model='resnet50', model_options={}), 'classes=1000.*digits.*10'),
])
def test_errors_leave_nothing(settings, message, tmp_path):
    with pytest.raises(SSSError, match=message):
        train(Config(run=str(tmp_path / 'run'), **{**SMALL, **settings}))
    assert not (tmp_path / 'run').exists()
