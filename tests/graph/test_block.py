"""The compact network as files: exported, loaded by plain MXNet and by ``load``, and trained further."""
import dataclasses
import json
import os
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon

from sss_gluon.errors import SSSError
from sss_gluon.factors import scaling_factors
from sss_gluon.graph import count, load
from sss_gluon.models import ARCHITECTURES, get_model
from sss_gluon.structures import Structure, compact

# Run by a fresh interpreter, without this package: only the names that NumPy 1.24 removed and MXNet reads.
PLAIN_MXNET = '''
import sys, warnings
import numpy as np
warnings.simplefilter('ignore')
for name, builtin in dict(bool=bool, int=int, float=float).items():
    if name not in np.__dict__:
        setattr(np, name, builtin)
if sys.version_info >= (3, 12):
    import setuptools
import mxnet as mx
for prefix in sys.argv[1:]:
    net = mx.gluon.SymbolBlock.imports(prefix + '-symbol.json', ['data'], prefix + '-0000.params')
    np.save(prefix + '-found.npy', net(mx.nd.array(np.load(prefix + '-data.npy'))).asnumpy())
assert 'sss_gluon' not in sys.modules
'''


@pytest.fixture(scope='module')
def exported(tmp_path_factory, narrow, fill, zero, batch):
    """{network: (prefix, compact network, batch)} of all networks, pruned at random and exported."""
    folder, found = tmp_path_factory.mktemp('exported'), {}
    for name, (options, size) in narrow.items():
        net = zero(fill(get_model(name, factors=ARCHITECTURES[name].offered, **options)), chance=0.3)
        if name == 'cifar_resnext20':       # a block that is a constant
            factors = {factor.name: factor.parameter for factor in scaling_factors(net)}
            factors['stage1.1.norm2'].set_data(mx.nd.zeros(4))
            factors['stage1.1.norm3'].set_data(mx.nd.ones(1))
        x = batch(2, 3, size, size)
        small = compact(net, x.shape)
        prefix = str(folder / name)
        assert small.export(prefix) == [f'{prefix}-symbol.json', f'{prefix}-0000.params', f'{prefix}-structure.json']
        found[name] = (prefix, small, x)
    return found


def test_reload_in_a_fresh_process_by_plain_mxnet(exported):
    for prefix, _, x in exported.values():
        np.save(f'{prefix}-data.npy', x.asnumpy())
    prefixes = [prefix for prefix, _, _ in exported.values()]
    subprocess.run([sys.executable, '-I', '-c', PLAIN_MXNET] + prefixes, check=True, timeout=300)
    for prefix, small, x in exported.values():
        expected = small.net(x).asnumpy()
        np.testing.assert_allclose(np.load(f'{prefix}-found.npy'), expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize('name', ARCHITECTURES)
def test_load(name, exported):
    prefix, small, x = exported[name]
    for source in (prefix, f'{prefix}-symbol.json'):
        net = load(source)
        np.testing.assert_array_equal(net(x).asnumpy(), small.net(x).asnumpy())
    assert count(net, x.shape) == small.after
    again = compact(net, x.shape)
    assert again.after == small.after and again.max_difference < 1e-6


def test_exported_files_hold_nothing_but_the_network(exported):
    """No factor, no variable without a value, and auxiliary states marked as such."""
    for prefix, small, _ in exported.values():
        arrays = mx.nd.load(f'{prefix}-0000.params')
        symbol = mx.sym.load(f'{prefix}-symbol.json')
        assert set(arrays) == {f'arg:{name}' for name in symbol.list_arguments() if name != 'data'} \
            | {f'aux:{name}' for name in symbol.list_auxiliary_states()}
        assert not [name for name in arrays if 'factor' in name]
        structure = dataclasses.asdict(Structure.load(f'{prefix}-structure.json'))
        assert json.dumps(structure) == json.dumps(dataclasses.asdict(small.structure))


def multipliers(net):
    return {name: (p.wd_mult, p.lr_mult, p.grad_req) for name, p in net.collect_params().items()}


def test_multipliers_are_restored(fill, zero, tmp_path):
    net = zero(fill(get_model('cifar_vgg16', stages=((4, 4), (6, 6), (8, 8, 8), (8, 8, 8), (8, 8, 8)))))
    net.collect_params('.*(bias|beta)').setattr('wd_mult', 0)
    net.conv1_1.weight.lr_mult, net.conv1_2.weight.grad_req, net.norm2_1.gamma.wd_mult = 0.1, 'null', 3
    small = compact(net, (1, 3, 32, 32))
    small.export(tmp_path / 'x')
    found = multipliers(small.net)
    assert multipliers(load(tmp_path / 'x')) == found
    assert found['norm1_1_beta'] == found['output_bias'] == (0, 1, 'write')
    assert found['conv1_1_weight'] == (1, 0.1, 'write') and found['norm2_1_gamma'] == (3, 1, 'write')
    assert found['conv1_2_weight'] == (1, 1, 'null') and found['norm2_1_running_mean'][2] == 'null'
    assert found['conv5_3_weight'] == (1, 1, 'write')


@pytest.mark.parametrize('name', ['cifar_resnet20', 'cifar_vgg16', 'peleenet', 'cifar_resnext20'])
def test_fine_tuning(name, exported, tmp_path):
    """A loaded network learns a batch, its statistics move, and it can be exported again."""
    prefix, small, x = exported[name]
    net = load(prefix)
    labels, loss_function = mx.nd.array([3, 7]), gluon.loss.SoftmaxCrossEntropyLoss()
    net.hybridize(static_alloc=True, static_shape=True)
    trainer = gluon.Trainer(net.collect_params(), 'nag', dict(learning_rate=0.01, momentum=0.9, wd=1e-4), kvstore=None)
    before = {key: p.data().asnumpy() for key, p in net.collect_params().items()}
    losses = []
    for _ in range(4):
        with autograd.record():
            loss = loss_function(net(x), labels).mean()
        loss.backward()
        trainer.step(1)
        losses.append(loss.asscalar())
    mx.nd.waitall()
    assert losses[-1] < losses[0]
    after = {key: p.data().asnumpy() for key, p in net.collect_params().items()}
    assert all((before[key] != after[key]).any() for key in before)

    for key, p in small.net.collect_params().items():
        p.set_data(mx.nd.array(after[key]))
    small.export(tmp_path / 'tuned')
    np.testing.assert_array_equal(load(tmp_path / 'tuned')(x).asnumpy(), small.net(x).asnumpy())
    assert count(load(tmp_path / 'tuned'), x.shape) == small.after
    for key, value in before.items():       # the fixture's network is used by other tests
        small.net.collect_params()[key].set_data(mx.nd.array(value))


def test_constant_of_a_lost_block_is_not_decayed(exported):
    net = load(exported['cifar_resnext20'][0])
    constant, = (p for key, p in net.collect_params().items() if key.endswith('_constant'))
    assert constant.wd_mult == 0 and constant.grad_req == 'write' and constant.shape == (1, 8, 1, 1)


def test_export_replaces_and_leaves_nothing_else(exported, tmp_path):
    _, small, _ = exported['cifar_resnet20']
    for _ in range(2):
        small.export(tmp_path / 'new' / 'x')
    assert sorted(path.name for path in (tmp_path / 'new').iterdir()) \
        == ['x-0000.params', 'x-structure.json', 'x-symbol.json']


def test_load_reads_what_gluon_exports(fill, batch, tmp_path):
    net, x = fill(get_model('cifar_resnet20', factors=(), depths=(1,), widths=(4,))), batch(1, 3, 8, 8)
    net.hybridize()
    expected = net(x).asnumpy()
    net.export(str(tmp_path / 'plain'))
    np.testing.assert_array_equal(load(tmp_path / 'plain')(x).asnumpy(), expected)


def damage(name, change):
    """A function that changes the bytes of one exported file (None: deletes it)."""
    def apply(prefix):
        path = f'{prefix}-{name}'
        with open(path, 'rb') as file:
            data = change(file.read())
        if data is None:
            os.unlink(path)
        else:
            with open(path, 'wb') as file:
                file.write(data)
    return apply


def arrays(change):
    def apply(prefix):
        values = mx.nd.load(f'{prefix}-0000.params')
        mx.nd.save(f'{prefix}-0000.params', change(values))
    return apply


@pytest.mark.parametrize('change, message', [
    (damage('symbol.json', lambda data: None), 'there is no .*x-symbol.json'),
    (damage('symbol.json', lambda data: data[:200]), 'x-symbol.json is not a symbol that MXNet can read'),
    (damage('symbol.json', lambda data: b'\xff' + data), 'x-symbol.json is not a symbol that MXNet can read'),
    (damage('symbol.json', lambda data: b'[]'), 'x-symbol.json is not a symbol that MXNet can read'),
    (damage('symbol.json', lambda data: b''), 'x-symbol.json is not a symbol that MXNet can read'),
    (damage('symbol.json', lambda data: data.replace(b'Convolution', b'Convulsion')),
     'x-symbol.json is not a symbol that MXNet can read'),
    (damage('0000.params', lambda data: None), 'x-0000.params does not exist'),
    (damage('0000.params', lambda data: data[:100]), 'x-0000.params is not a readable params file'),
    (damage('0000.params', lambda data: b'PK\3\4' + data), 'x-0000.params is not a readable params file'),
    (arrays(lambda values: list(values.values())), 'x-0000.params holds arrays without names'),
    (arrays(lambda values: {k: v for k, v in values.items() if k != 'arg:stem_weight'}),
     'x-0000.params does not belong to .*x-symbol.json: stem_weight is in only one of them'),
    (arrays(lambda values: dict(values, extra=mx.nd.zeros(1))),
     'x-0000.params does not belong to .*x-symbol.json: extra is in only one of them'),
    (arrays(lambda values: dict(values, **{'arg:stem_weight': mx.nd.zeros((15, 3, 3, 3))})),
     r'x-0000.params does not belong to .*: stem_weight has the shape \(15, 3, 3, 3\), not \(16, 3, 3, 3\)'),
])
def test_errors(change, message, exported, tmp_path):
    exported['cifar_resnet20'][1].export(tmp_path / 'x')
    change(str(tmp_path / 'x'))
    with pytest.raises(SSSError, match=message) as error:
        load(tmp_path / 'x')
    assert '\n' not in str(error.value)


def test_symbol_is_readable_json(exported):
    with open(f"{exported['cifar_resnet20'][0]}-symbol.json", encoding='utf-8') as file:
        graph = json.load(file)
    assert {node['op'] for node in graph['nodes']} \
        == {'null', 'Convolution', 'BatchNorm', 'Activation', 'elemwise_add', 'mean', 'Flatten', 'FullyConnected'}
