"""The shipped configurations and plans: commands that name their file, the published recipes, networks that build."""
import re
from functools import lru_cache
from pathlib import Path

import pytest

from sss_gluon.graph import count
from sss_gluon.models import ARCHITECTURES, get_model
from sss_gluon.report.published import load_published
from sss_gluon.sweep import load_plan
from sss_gluon.sweep.costs import DATA
from sss_gluon.train import load_config

ROOT = Path(__file__).parents[1]
FILES = sorted(path.relative_to(ROOT) for path in (ROOT / 'configs').rglob('*.yaml'))
CONFIGS = [path for path in FILES if path.parent.name != 'plans']
PLANS = [path for path in FILES if path.parent.name == 'plans']

# The paper's recipes: epochs, rate, schedule, epochs of its steps, batch, images
CIFAR = dict(epochs=240, learning_rate=0.1, lr_mode='step', lr_decay_epochs=[120, 160, 200], lr_decay=0.1,
             batch_size=64, momentum=0.9, weight_decay=1e-4, augment_pad=4, augment_flip=True)
RESNET50 = dict(epochs=100, learning_rate=0.1, lr_mode='step', lr_decay_epochs=[30, 60, 90], lr_decay=0.1,
                batch_size=128, momentum=0.9, weight_decay=1e-4, image_size=224, augmentation=None)
RECIPES = {('cifar10', ''): CIFAR, ('cifar100', ''): CIFAR, ('imagenet', ''): RESNET50,
           ('imagenet', 'resnext50'): dict(RESNET50, batch_size=256),
           ('imagenet', 'peleenet'): dict(epochs=120, learning_rate=0.18, lr_mode='cosine', batch_size=512,
                                          momentum=0.9, weight_decay=1e-4, augmentation='resized-crop')}
SETS = {'cifar10': 'cifar10', 'cifar100': 'cifar100', 'fashion-mnist': 'fashion-mnist', 'imagenet': 'imagenet',
        'digits': 'digits'}
CIFAR_SET = {'cifar_vgg16_neuron', 'cifar_resnet20_block', 'cifar_resnet164_block', 'cifar_resnext20_group',
             'cifar_resnext164_group', 'cifar_resnext164_block', 'cifar_resnext164_group_block', 'cifar_vgg16_dense',
             'cifar_resnet20_dense', 'cifar_resnet164_dense', 'cifar_resnext20_dense', 'cifar_resnext164_dense', 'base'}
EXPERIMENTS = {'cifar10': CIFAR_SET, 'cifar100': CIFAR_SET, 'fashion-mnist': CIFAR_SET,
               'imagenet': {'vgg16_neuron', 'resnet50_block', 'resnext50_32x4d_group_block', 'peleenet_neuron',
                            'vgg16_dense', 'resnet50_dense', 'resnext50_32x4d_dense', 'peleenet_dense', 'base'}}


@lru_cache(None)
def plan_of(path, smoke=False):
    return load_plan(ROOT / path, smoke=smoke, data_root='x' if smoke else None)


def command(path):
    first = (ROOT / path).read_text('utf-8').splitlines()[0]
    assert first.startswith('# sss-gluon ')
    return first.split()[2:]


@pytest.mark.parametrize('path', CONFIGS, ids=str)
def test_a_configuration_begins_with_its_command(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    verb, file, *overrides = command(path)
    assert (verb, file) == ('train', path.as_posix())
    config = load_config(file, [text for text in overrides if 'DIR' not in text])
    kinds = path.stem[len(config.model) + 1:].split('_')
    if path.stem != 'base':         # the name says what it is
        assert path.stem.startswith(config.model) and config.data == SETS[path.parent.name]
        assert config.factors == {'dense': [], 'paper': ['block']}.get(kinds[0], kinds)


@pytest.mark.parametrize('folder', EXPERIMENTS)
def test_every_experiment_of_the_paper_has_a_file(folder):
    assert {path.stem for path in CONFIGS if path.parent.name == folder} == EXPERIMENTS[folder]


@pytest.mark.parametrize('path', [path for path in CONFIGS if path.parent.name in ('cifar10', 'cifar100', 'imagenet')],
                         ids=str)
def test_recipes_are_those_of_the_paper(path):
    config = load_config(ROOT / path)
    recipe = next(values for (folder, model), values in reversed(list(RECIPES.items()))
                  if folder == path.parent.name and path.stem.startswith(model))
    assert {key: getattr(config, key) for key in recipe} == recipe


def test_published_numbers_are_those_of_the_table():
    rows = {(row.dataset, row.network, row.method): row for row in load_published() if row.source.startswith('Li et')}
    stated = {}
    for path in CONFIGS:
        text = (ROOT / path).read_text('utf-8')
        config, folder = load_config(ROOT / path), path.parent.name
        found = re.search(r'error (\S+) %, without factors (\S+) %, with (\S+) % of the MACs and (\S+) %', text)
        if found:
            stated[folder, config.model, 'sss'] = tuple(map(float, found.groups()))
        found = re.search(r'ublished error: ([\d.]+) %', text)
        if found:
            stated[folder, config.model, 'none'] = float(found[1])
    assert stated == {key: row.top1_error if key[2] == 'none' else (
        row.top1_error, rows[(*key[:2], 'none')].top1_error, row.macs_left, row.params_left)
        for key, row in rows.items()}


def test_the_share_of_a_plan_is_the_published_one():
    plan = plan_of('configs/plans/table_cifar.yaml')
    rows = {(row.dataset, row.network): row for row in load_published() if row.method == 'sss'}
    asked = {(run.config.data, run.config.model): run.config.target_macs for run in plan.runs
             if run.config.target_macs is not None}
    assert len(asked) == 8 and all(100 * share == pytest.approx(rows[key].macs_left) for key, share in asked.items())


def test_cifar100_and_cifar10_differ_in_the_data_only():
    for path in CONFIGS:
        if path.parent.name == 'cifar100':
            ours, theirs = load_config(ROOT / path), load_config(ROOT / 'configs/cifar10' / path.name)
            assert {key for key, value in vars(ours).items() if value != getattr(theirs, key)} == {'data', 'run'}


def test_the_published_gamma_and_the_penalty_of_conv1_to_conv4():
    assert load_config(ROOT / 'configs/imagenet/resnet50_block.yaml').gamma == 0.01
    config = load_config(ROOT / 'configs/imagenet/vgg16_neuron.yaml')
    assert config.gamma_mult == {'norm5_.*': 0.0}
    from sss_gluon.factors import scaling_factors
    from sss_gluon.train.parameters import gamma_multipliers
    net = get_model('vgg16', factors=config.factors)
    found = gamma_multipliers(net, config.gamma_mult)
    spared = {f.name for f in scaling_factors(net) if found.get(f.name, 1) == 0}
    assert spared == {'norm5_1', 'norm5_2', 'norm5_3'}


# Networks that several files share are built once
NETWORKS = sorted({(c.model, tuple(c.factors), c.data, str(c.model_options)): path
                   for path in CONFIGS for c in [load_config(ROOT / path)]}.values())


@pytest.mark.parametrize('path', NETWORKS, ids=str)
def test_networks_build_and_have_the_size_that_is_stated(path):
    config = load_config(ROOT / path)
    channels, side, classes, _ = DATA.get(config.data, (3, 224, 1000, 0))
    size = max(side, ARCHITECTURES[config.model].minimum_size)
    net = get_model(config.model, classes, config.factors, channels, **config.model_options)
    found = count(net, (1, channels, size, size))
    stated = re.search(r'([\d,]+) parameters, ([\d,]+) MACs', (ROOT / path).read_text('utf-8'))
    if stated:
        assert [int(text.replace(',', '')) for text in stated.groups()] == [found.params, found.macs]
    assert stated or path.parent.name != 'cifar10' or path.stem == 'base'


@pytest.mark.parametrize('path', PLANS, ids=str)
@pytest.mark.parametrize('smoke', [False, True])
def test_plans_are_valid_and_begin_with_their_command(path, smoke):
    assert command(path) == ['sweep', path.as_posix()]
    plan = plan_of(path.as_posix(), smoke)
    names = [run.name for run in plan.runs]
    assert plan.runs and all(set(run.needs) <= set(names[:i]) for i, run in enumerate(plan.runs))
    if smoke:
        assert all(run.config.data == 'digits' and run.config.epochs == 1 and run.config.match is None
                   for run in plan.runs)
        assert all('data_root' not in ' '.join(run.settings) for run in plan.runs)


def test_plans_that_share_a_folder_share_runs():
    for one, other, shared in (('table_comparison', 'table_imagenet', 4), ('comparison_cifar', 'figure_cifar_vgg', 2),
                               ('table_cifar', 'figure_cifar_resnet', 24), ('table_cifar', 'figure_cifar_resnext', 24)):
        first, second = (plan_of(f'configs/plans/{name}.yaml') for name in (one, other))
        both = {run.name: run for run in first.runs}.keys() & {run.name for run in second.runs}
        assert first.folder == second.folder and len(both) == shared
        for name in both:
            a, b = (next(run for run in plan.runs if run.name == name) for plan in (first, second))
            assert a.config == b.config
