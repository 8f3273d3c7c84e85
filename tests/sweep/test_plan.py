"""Plans: runs from grids, what they need, what is set by the trial and the command line, and errors of one line."""
from pathlib import Path

import pytest

from sss_gluon.errors import SSSError
from sss_gluon.sweep import load_plan

LINKED = '''
title: Linked
entries:
  - {name: dense, config: configs/small.yaml, set: {factors: []}, grid: {seed: [0, 1]}}
  - {name: sss, config: configs/small.yaml, grid: {gamma: [0.1, 0.2], seed: [0, 1]}}
  - {name: l1, config: configs/small.yaml, grid: {gamma: [0.2]}, set: {method: l1, epochs: 3}, after: dense, match: sss}
  - {name: scratch, config: configs/small.yaml, set: {method: scratch}, after: sss}
smoke: {epochs: 1}
'''


def test_a_run_for_every_combination_with_folder_and_settings(desk):
    plan = load_plan(desk(), 'out')
    assert plan.title == 'A small plan' and plan.folder == Path('out/plan')
    assert [run.name for run in plan.runs] == ['block-gamma0.1-seed0', 'block-gamma0.1-seed1', 'block-gamma0.001-seed0',
                                               'block-gamma0.001-seed1', 'dense-seed0']
    run = plan.runs[3]
    assert (run.config.gamma, run.config.seed, run.config.epochs) == (0.001, 1, 2)
    assert run.config.run == str(run.path) == 'out/plan/block-gamma0.001-seed1' and run.steps == ('train',)
    assert plan.runs[4].config.factors == [] and plan.runs[4].steps == ('train', 'evaluate')
    assert all(Path(run.config_file).is_file() for run in plan.runs)


def test_the_trial_takes_one_combination_and_its_own_settings_and_folder(desk):
    plan = load_plan(desk(), smoke=True)
    assert [run.name for run in plan.runs] == ['block-gamma0.2-seed0', 'dense-seed0']
    config = plan.runs[0].config
    assert plan.runs[0].path == Path('runs/smoke/plan/block-gamma0.2-seed0')
    assert (config.gamma, config.epochs) == (0.2, 1)
    assert config.model_options == {'depths': [1, 1, 1], 'widths': [4, 4, 8]}       # merged key by key


def test_the_command_line_sets_settings_of_all_runs_and_values_of_grids(desk):
    plan = load_plan(desk(), overrides=['epochs=7', 'seed=[4,5]', 'gamma=0.3'], devices=['cpu0', 'cpu1'])
    assert [run.name for run in plan.runs] == ['block-gamma0.3-seed4', 'block-gamma0.3-seed5', 'dense-seed4',
                                               'dense-seed5']
    assert {(run.config.epochs, tuple(run.config.devices)) for run in plan.runs} == {(7, ('cpu0', 'cpu1'))}
    assert plan.runs[2].config.gamma == 0.3


def test_data_root_is_for_data_that_have_a_folder(desk, tmp_path):
    assert all(run.config.data_root is None for run in load_plan(desk(), data_root='images').runs)
    plan = load_plan(desk(), data_root='images', overrides=['data=cifar10', 'image_size=null'])
    assert {run.config.data_root for run in plan.runs} == {str(tmp_path / 'images')}
    assert f'data_root="{tmp_path}/images"' in plan.runs[0].arguments


def test_a_run_inherits_the_grids_of_those_it_needs(desk, tmp_path):
    plan = load_plan(desk(LINKED))
    runs = {run.name: run for run in plan.runs}
    assert [name for name in runs if name.startswith('l1')] == ['l1-gamma0.2-seed0', 'l1-gamma0.2-seed1']
    run = runs['l1-gamma0.2-seed1']
    assert run.needs == ('dense-seed1', 'sss-gamma0.2-seed1') and run.config.seed == 1
    assert run.config.source == str(tmp_path / 'runs/plan/dense-seed1') and run.config.target_macs is None
    assert run.config.match == str(tmp_path / 'runs/plan/sss-gamma0.2-seed1')
    scratch = [run for name, run in runs.items() if name.startswith('scratch')]
    assert [run.needs for run in scratch] == [(f'sss-gamma{g}-seed{s}',) for g in (0.1, 0.2) for s in (0, 1)]
    assert scratch[2].config.gamma == 0.1 and scratch[3].config.seed == 1       # of inherited values seed alone is set


@pytest.mark.parametrize('smoke, more, target', [(True, '', 0.5), (False, ', target_macs: 0.7', 0.7)])
def test_a_given_budget_is_not_matched(desk, smoke, more, target):
    plan = load_plan(desk(LINKED.replace('epochs: 3', f'epochs: 3{more}')), smoke=smoke)
    run = next(run for run in plan.runs if run.name.startswith('l1'))
    assert run.config.target_macs == target and run.config.match is None and run.needs == ('dense-seed0',)


def test_a_trial_may_say_another_budget(desk):
    text = LINKED.replace('match: sss}', 'match: sss, smoke: {target_macs: 0.9}}')
    assert {run.config.target_macs for run in load_plan(desk(text), smoke=True).runs} == {None, 0.9}


def test_shards_and_expressions_share_out_all_runs_and_keep_those_that_belong_together(desk):
    plan = load_plan(desk(LINKED))
    shards = [plan.select(shard=f'{i}/2') for i in (1, 2)]
    assert sorted(run.name for shard in shards for run in shard) == sorted(run.name for run in plan.runs)
    assert all(shards) and all(set(run.needs) <= {other.name for other in shard} for shard in shards for run in shard)
    assert [run.name for run in plan.select('l1.*seed1')] == ['l1-gamma0.2-seed1']
    assert plan.select(shard='5/5') == []      # four groups: nothing is left for a fifth
    for wrong in ('0/2', '3/2', 'a', '1/0'):
        with pytest.raises(SSSError, match='--shard'):
            plan.select(shard=wrong)
    with pytest.raises(SSSError, match="did you mean 'dense-seed0'"):
        plan.select('dense-seed00')
    with pytest.raises(SSSError, match='not a regular expression'):
        plan.select('(')


ENTRY = 'title: t\nentries:\n  - {name: a, config: configs/small.yaml'
ERRORS = [
    ('', 'title is missing'), ('title: t\n', 'entries is missing'), ('- a\n', 'is not a list of key: value'),
    ('title: t\nentrys: []\n', "there is no key 'entrys'; did you mean 'entries'?"),
    ('title: [1\n', 'plan.yaml: line '),
    ('title: 3\nentries: []\n', 'title: 3 is not text'), ('title: t\nentries: [a]\n', 'entry 1 is not of the form'),
    ('title: t\nentries:\n  - {name: a}\n', 'entry 1: config is missing'),
    ('title: t\nfolder: ../x\nentries: [{name: a, config: configs/small.yaml}]\n', "folder: '../x'"),
    (ENTRY + ', gird: {seed: [0]}}\n', "entry 1: there is no key 'gird'; did you mean 'grid'?"),
    (ENTRY.replace('name: a', 'name: ../a') + '}\n', 'cannot be the name of a folder'),
    (ENTRY.replace('small', 'smal') + '}\n', 'entry a: there is no configuration file '),
    (ENTRY + ', set: {gama: 1}}\n', "entry a: the command line: there is no setting 'gama'; did you mean 'gamma' ("),
    (ENTRY + ', set: {gamma: -1}}\n', 'gamma=-1'), (ENTRY + ', grid: {seed: []}}\n', 'one or more values'),
    (ENTRY + ', grid: {seed: [0, 0]}}\n', 'all different'), (ENTRY + ', steps: [prune, train]}\n', 'in this order'),
    (ENTRY + ', steps: [fly]}\n', 'steps'),
    (ENTRY + ', grid: {seed: [0]}, set: {seed: 1}}\n', 'seed is both in grid and in set'),
    (ENTRY + ', after: b}\n  - {name: b, config: configs/small.yaml}\n', "after: there is no entry 'b' above it"),
    (ENTRY + '}\n  - {name: a, config: configs/small.yaml}\n', 'two entries have this name'),
    (ENTRY + ', grid: {seed: [1]}}\n  - {name: a-seed1, config: configs/small.yaml}\n', 'two runs are called a-seed1'),
    ('title: !!python/object/apply:os.mkdir [made]\nentries: []\n', 'constructor'),
]


@pytest.mark.parametrize('text, words', ERRORS, ids=[words for _, words in ERRORS])
def test_plans_that_are_wrong(desk, tmp_path, text, words):
    with pytest.raises(SSSError) as error:
        load_plan(desk(text))
    assert words in str(error.value) and 'plan.yaml' in str(error.value) and '\n' not in str(error.value)
    assert not (tmp_path / 'made').exists() and not (tmp_path / 'runs').exists()


@pytest.mark.parametrize('override, words', [('seed', 'key=value'), ('run=x', 'run= is different'),
                                             ('match=x', 'match= is different'), ('gama=1', 'gamma'),
                                             ('seed=[0', 'the command line')])
def test_settings_of_the_command_line_that_are_wrong(desk, override, words):
    with pytest.raises(SSSError, match=words):
        load_plan(desk(), overrides=[override])


def test_a_missing_plan(tmp_path):
    with pytest.raises(SSSError, match='there is no plan'):
        load_plan(tmp_path / 'nothing.yaml')
