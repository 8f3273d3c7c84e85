"""The nine networks with drawn structures at zero: outputs, sizes, kept lists and gradients.

Sizes are worked out from the widths in structure.json and the layers of the whole network, and gradients are compared
channel by channel, where a channel of the compact network is found in the whole one by the values of its weights.
"""
import re
from contextlib import contextmanager
from functools import partial
from itertools import groupby

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mxnet import autograd
from mxnet.gluon import nn

from sss_gluon.factors import Scaled, scaling_factors
from sss_gluon.graph import count
from sss_gluon.models import ARCHITECTURES, get_model, vgg
from sss_gluon.structures import compact, rebuild, set_structure

# Where the channels of a BatchNorm are counted: (its name, layers, 0: outputs or 1: inputs). The first layer that is
# left tells; without any, the norm was removed too.
NORMS = {
    'vgg': [(r'norm(\d_\d)', [r'conv\1'], 0)],
    'peleenet': [(r'(.*)_norm', [r'\1_conv'], 0)],
    'resnext': [(r'stem_1', ['stem_0'], 0), (r'(.*)_norm([123])', [r'\1_conv\2'], 0),
                (r'(.*_shortcut)_norm', [r'\1'], 0)],
    'resnet': [(r'stem_1', ['stem_0'], 0), (r'norm', ['output'], 1), (r'(.*)_norm1', [r'\1_conv1', r'\1_shortcut'], 1),
               (r'(.*)_norm([23])', [r'\1_conv\2'], 1)],
}


def family(name):
    return next(key for key in ('vgg', 'peleenet', 'resnext', 'resnet') if key in name)


def layers(block, path=()):
    """{name with underscores: layer with parameters}."""
    found = {} if block._children else {'_'.join(path): block}
    for name, child in block._children.items():
        found.update(layers(child, path + (name,)))
    return {name: layer for name, layer in found.items() if layer._reg_params}


def stage(name):
    return re.match(r'[a-z]+\d?', name).group()


def regions(factors):
    """Lists of factors to zero together: one, a stage, the first blocks of all stages, a kind, everything."""
    found = [[factor] for factor in factors] + [factors]
    for kind in {factor.kind for factor in factors}:
        mine = [factor for factor in factors if factor.kind == kind]
        found += [mine, [factor for factor in mine if re.match(r'stage\d\.0\.', factor.name)]]
        found += [list(group) for _, group in groupby(mine, lambda factor: stage(factor.name))]
    return [region for region in found if region]


def zero_sets(net):
    """{factor: sorted indices at zero}: up to four regions, single entries and random halves, laid over each other."""
    factors = scaling_factors(net)
    sizes = {factor.name: factor.parameter.shape[0] for factor in factors}

    def anywhere(chance, seed):
        random = np.random.RandomState(seed)
        return {name: set(np.flatnonzero(random.rand(size) < chance).tolist()) for name, size in sizes.items()}

    whole = st.sampled_from(regions(factors)).map(lambda region: {f.name: set(range(sizes[f.name])) for f in region})
    part = st.sampled_from(sorted(sizes)).flatmap(
        lambda name: st.sets(st.integers(0, sizes[name] - 1)).map(lambda indices: {name: indices}))
    everywhere = st.builds(anywhere, st.sampled_from([0.1, 0.4, 0.8]), st.integers(0, 2 ** 31))

    def together(parts):
        return {name: sorted(set().union(*(part.get(name, ()) for part in parts))) for name in sizes
                if any(part.get(name) for part in parts)}

    return st.lists(st.one_of(whole, part, everywhere), max_size=4).map(together)


def build(name, fill, zeros, seed, options):
    """A network with random values and running statistics, and factors at zero; dropout never drops."""
    net = fill(get_model(name, factors=ARCHITECTURES[name].offered, **options), seed)
    random = np.random.RandomState(seed)
    for factor in scaling_factors(net):
        values = random.uniform(0.3, 1.5, factor.parameter.shape) * random.choice([1, 1, 1, -1], factor.parameter.shape)
        values[zeros.get(factor.name, [])] = 0
        factor.parameter.set_data(mx.nd.array(values))
    net.apply(lambda layer: setattr(layer, '_rate', 0) if isinstance(layer, nn.Dropout) else None)
    return net


def sizes_by_arithmetic(name, net, structure, x):
    """Parameters and MACs computed from the widths of a structure, without the constants that replace branches."""
    found, positions, hooks = layers(net), {}, []
    for path, layer in found.items():
        hooks.append(layer.register_forward_hook(
            lambda _, __, y, path=path: positions.__setitem__(path, int(np.prod(y.shape[2:])))))
    net(x)
    for hook in hooks:
        hook.detach()
    params = macs = 0
    for path, layer in found.items():
        if isinstance(layer, nn.BatchNorm):
            source, side = next(([re.sub(pattern, left, path) for left in options], side)
                                for pattern, options, side in NORMS[family(name)] if re.fullmatch(pattern, path))
            widths = [structure.layers[option]['after'] for option in source if option in structure.layers]
            params += 2 * next((width[side] for width in widths if width), 0)
        elif structure.layers[path]['after']:
            weight = int(np.prod(structure.layers[path]['after'])) * int(np.prod(layer.weight.shape[2:]))
            params += weight + (structure.layers[path]['after'][0] if layer.bias is not None else 0)
            macs += weight * positions[path]
    return params, macs


def blocks_at_zero(net):
    """Names of the blocks whose factor is zero."""
    return {factor.name.rpartition('.')[0] for factor in scaling_factors(net)
            if factor.kind == 'block' and not factor.values().any()}


def whole_layers_at_zero(net):
    """Names of factors of neurons or groups that are all zero, in blocks that are not."""
    removed = blocks_at_zero(net)
    return [factor.name for factor in scaling_factors(net)
            if factor.kind != 'block' and not factor.values().any() and factor.name.rpartition('.')[0] not in removed]


def check_kept(net, structure):
    """Kept entries are not zero; all else was removed with its block, or next to a layer of zeros."""
    values = {factor.name: factor.values() for factor in scaling_factors(net)}
    kinds = {factor.name: factor.kind for factor in scaling_factors(net)}
    removed = blocks_at_zero(net)
    cascades = bool(whole_layers_at_zero(net))
    for name, value in values.items():
        row, alive = structure.factors[name], np.flatnonzero(value).tolist()
        assert (row['kind'], row['size']) == (kinds[name], value.size)
        if name.rpartition('.')[0] in removed:
            assert row['kept'] == []
        elif cascades:
            assert set(row['kept']) <= set(alive)
        else:
            assert row['kept'] == alive
    return cascades


def folded_values(net):
    """{parameter: (value with its factor, factor per channel)} by the definition of a factor."""
    found = {}
    for path, layer in layers(net).items():
        factor = layer.factor.data().asnumpy() if isinstance(layer, Scaled) else np.ones(1, 'float32')
        for key, parameter in layer._collect_params_with_prefix().items():
            value = parameter.data().asnumpy()
            scale = np.repeat(factor, value.shape[0] // factor.size) if 'running' not in key else np.ones(len(value))
            scale = scale.astype('float32').reshape((-1,) + (1,) * (value.ndim - 1))
            found[f'{path}_{key}'] = value * scale, scale
    return found


def match(part, whole):
    """Indices along the first two axes of ``whole`` that ``part`` was cut from, found by its values."""
    if part.shape == whole.shape:
        return np.ix_(*(np.arange(size) for size in part.shape[:2]))
    if part.ndim == 1:
        part, whole = part[:, None], whole[:, None]
        columns = np.arange(1)
    else:
        row = part[np.abs(part).reshape(len(part), -1).any(axis=1).argmax()]
        hits = np.isin(whole, row).reshape(whole.shape[:2] + (-1,)).all(axis=2)
        columns = np.flatnonzero(hits[hits.sum(axis=1).argmax()])
        assert len(columns) == part.shape[1]
    rows = {key.tobytes(): i for i, key in reversed(list(enumerate(np.ascontiguousarray(whole[:, columns]))))}
    rows = np.array([rows[key.tobytes()] for key in np.ascontiguousarray(part)])
    return (rows,) if whole.shape[1:] == (1,) and columns.size == 1 and whole.ndim == 2 else np.ix_(rows, columns)


def took_up(key, values, folded):
    """Is it a bias that constants were added to?"""
    return key.endswith('bias') and not np.isin(values[key], folded[key][0]).all()


def gradients(net, x, head):
    net.collect_params().zero_grad()
    with autograd.record():
        y = net(x)
    y.backward(head)
    return {key.replace('.', '_'): (p.grad() if p.grad_req != 'null' else p.data()).asnumpy()
            for key, p in net._collect_params_with_prefix().items()}


def wrong_gradients(net, small, folded, indices, x, head):
    """Parameters for which gradient = factor times gradient of the compact network does not hold."""
    expected, found = gradients(net, x, head), gradients(small.net, x, head)
    wrong = []
    for key, index in indices.items():
        scale = folded[key][1]
        scale = scale[index[0].ravel()] if scale.size > 1 else scale
        mine, theirs = found[key] * (scale if 'running' not in key else 1), expected[key][index]
        largest = max(np.abs(mine).max(), np.abs(expected[key]).max())
        if mine.shape != theirs.shape or np.abs(mine - theirs).max() > 5e-4 * largest:
            wrong.append(f'{key}: {np.abs(mine - theirs).max():.1e} of {largest:.1e}')
    return wrong


def check_gradients(net, small, batch_statistics, x, batch):
    """In training mode, in which max pooling has its right gradient; BatchNorm uses running statistics or the batch's.

    What rounding differs by may move a value across the kink of a ReLU or a maximum: one of three batches must agree.
    """
    folded = folded_values(net)
    values = {key: value for key, value in small.program.values.items() if key in folded}
    indices = {key: match(value, folded[key][0]) for key, value in values.items() if not took_up(key, values, folded)}
    for key in values.keys() - indices.keys():      # the rows of such a bias are those of its weight
        rows = indices[key.replace('bias', 'weight')][0].ravel()
        indices[key] = (rows,)
    head = batch(*net(x).shape, seed=3)
    for seed in range(3):
        wrong = wrong_gradients(net, small, folded, indices, batch(*x.shape, seed=seed), head)
        if not wrong:
            return
    raise AssertionError(f'gradients differ, {"batch" if batch_statistics else "running"} statistics: {wrong}')


def check_network(name, net, shape, batch, check_compact, worst, batch_statistics=None):
    """Check all claims about pruning; gradients unless ``batch_statistics`` is None."""
    x = batch(*shape)
    expected = net(x)
    small = compact(net, shape)
    assert small.unhandled == []
    check_compact(net, small, shape)
    cascades = check_kept(net, small.structure)

    constants = [p for p in small.net.collect_params().values() if p.name.endswith('_constant')]
    params, macs = sizes_by_arithmetic(name, net, small.structure, x)
    assert (small.after.params, small.after.macs) == (params + sum(int(np.prod(p.shape)) for p in constants), macs)
    assert cascades or not constants
    if not (cascades and name == 'vgg16'):      # its hidden units, without factors, may go as negative constants
        rebuilt = rebuild(small.structure)
        assert count(rebuilt, shape).layers == small.after.layers
        assert {p.name: p.shape for p in rebuilt.collect_params().values()} \
            == {p.name: p.shape for p in small.net.collect_params().values()}

    varies = np.ptp(expected.asnumpy(), axis=0).any()
    if batch_statistics is not None and varies:     # constants that went into a bias train as a part of it
        check_gradients(net, small, batch_statistics, x, batch)
    set_structure(net, small.structure)         # all else that was removed did not matter
    if not batch_statistics:
        assert worst(expected, net(x)) < 1e-5
    return small


@contextmanager
def small_hidden_layers():
    """vgg16 with hidden layers of 12 and 10 units, for images of 64: as published they are 4096 wide in any variant."""
    build = partial(vgg.VGG, hidden=(12, 10), final_size=2, conv_bias=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, 'vgg16', ARCHITECTURES['vgg16']._replace(build=build))
        yield


def use_running_statistics(layer):
    if isinstance(layer, nn.BatchNorm):
        layer._kwargs.update(use_global_stats=True)


@pytest.mark.slow
@pytest.mark.parametrize('name', ARCHITECTURES)
@given(data=st.data())
def test_drawn_structures_at_zero(name, narrow_sizes, fill, batch, check_compact, worst, data):
    options, size = narrow_sizes(name)
    with small_hidden_layers():
        zeros = data.draw(zero_sets(get_model(name, factors=ARCHITECTURES[name].offered, **options)), label='zeros')
        net = build(name, fill, zeros, data.draw(st.integers(0, 2 ** 31), label='seed'), options)
        # Behind a layer of zeros comes a constant of the batch, which the compact network does not have.
        batch_statistics = not whole_layers_at_zero(net) and data.draw(st.booleans(), label='batch statistics')
        if not batch_statistics:
            net.apply(use_running_statistics)
        check_network(name, net, (4, 3, size, size), batch, check_compact, worst, batch_statistics)


@pytest.fixture(scope='module')
def narrow_sizes(narrow):
    """A function, because hypothesis prints the arguments of a test."""
    return lambda name: (narrow[name][0], 64 if name == 'vgg16' else narrow[name][1])


def test_groups_of_a_removed_block_are_not_kept(fill, narrow, batch, check_compact, worst):
    """They were, when the input of a branch that became a constant had come from removed blocks only."""
    options, size = narrow['cifar_resnext20']
    zeros = {'stage1.0.norm3': [0], 'stage1.1.norm3': [0], 'stage2.0.norm2': [0, 1, 2, 3]}
    net = build('cifar_resnext20', fill, zeros, 0, options)
    small = check_network('cifar_resnext20', net, (2, 3, size, size), batch, check_compact, worst)
    kept = {name: row['kept'] for name, row in small.structure.factors.items()}
    assert kept['stage1.0.norm2'] == kept['stage1.1.norm2'] == kept['stage2.0.norm2'] == []
    assert kept['stage2.0.norm3'] == [0]        # its constant is still added


# One set of zeros for each network as published: every third entry of all factors, and the blocks, stages and layers
# named here.
PUBLISHED = {
    'cifar_vgg16': ['norm4_2'], 'cifar_resnet20': [r'stage2.*conv2', r'stage\d\.0\.conv2'],
    'cifar_resnet164': [r'stage1\..*conv3', r'stage\d\.0\.conv3'], 'cifar_resnext20': [r'stage2\.1\.norm2'],
    'cifar_resnext164': [r'stage3\.\d\.norm3', r'stage1\.2\.norm2'], 'vgg16': ['norm3_1'],
    'resnet50': [r'stage4\.1\.conv3', r'stage1\..*conv3', r'stage3\.3\.norm2'],
    'resnext50_32x4d': [r'stage2\..*norm3', r'stage3\.0\.norm2'],
    'peleenet': [r'stem\.branch2\.norm', r'stage2\.1\.branch1b\.norm'],
}


@pytest.mark.slow
@pytest.mark.parametrize('name', PUBLISHED)
def test_published_size(name, fill, batch, check_compact, worst):
    size = ARCHITECTURES[name].size
    factors = scaling_factors(get_model(name, factors=ARCHITECTURES[name].offered))
    zeros = {factor.name: list(range(0, factor.parameter.shape[0], 3)) for factor in factors if factor.kind != 'block'}
    for pattern in PUBLISHED[name]:
        named = [factor for factor in factors if re.fullmatch(pattern, factor.name)]
        zeros.update({factor.name: list(range(factor.parameter.shape[0])) for factor in named})
        assert named
    net = build(name, fill, zeros, 0, {})
    small = check_network(name, net, (1, 3, size, size), batch, check_compact, worst)
    assert small.after.params < small.before.params and small.after.macs < small.before.macs
