"""Budgets, given as a number or by another run, and layers that are never pruned."""
import json

import numpy as np
import pytest

from sss_gluon import SSSError
from sss_gluon.deploy import prune
from sss_gluon.deploy.sizes import sizes
from sss_gluon.graph import load
from sss_gluon.methods import l1, train
from sss_gluon.methods.ranking import MaskedCounter, meet_budget
from sss_gluon.methods.selection import budget
from sss_gluon.train import Config


def quiet(line):
    pass


@pytest.fixture
def other(tmp_path):
    """A function that writes a run with a given evaluation.csv and returns its folder."""
    def write(evaluation):
        folder = tmp_path / 'other'
        folder.mkdir(exist_ok=True)
        (folder / 'config.yaml').write_text('', 'utf-8')
        (folder / 'evaluation.csv').write_text(evaluation, 'utf-8')
        return str(folder)
    return write


def test_a_number_or_the_share_of_another_run(other):
    assert budget(Config(method='ssl', source='x')) is None
    assert budget(Config(method='l1', source='x', target_macs=0.6)) == 0.6
    folder = other('network,top1,macs\nunpruned,0.9,3000\ncompact,0.9,1000\n')
    assert budget(Config(method='l1', source='x', match=folder)) == 1000 / 3000


@pytest.mark.parametrize('evaluation, words', [
    ('network,macs\nunpruned,3\ncompact,3\n', 'removed nothing'),
    ('network,macs\nunpruned,3\n', 'sss-gluon prune '), ('network,macs\nunpruned,0\ncompact,0\n', 'evaluation.csv'),
    ('network,macs\nunpruned,many\ncompact,1\n', 'evaluation.csv'), ('', 'evaluation.csv'),
    ('network,top1\nunpruned,1\n', 'sss-gluon evaluate '),
])
def test_a_run_without_a_budget(other, evaluation, words):
    with pytest.raises(SSSError) as error:
        budget(Config(method='l1', source='x', match=other(evaluation)))
    assert words in str(error.value) and str(error.value).startswith('match=') and '\n' not in str(error.value)


def test_a_run_is_pruned_to_the_share_of_another(other, configure, source):
    """The budget is read when structures are selected; a run that has begun does not read it again."""
    folder = other('network,macs\nunpruned,1000\ncompact,777\n')
    run = train(configure(method='l1', source=source(), match=folder), quiet)
    before, after = sizes(str(run.path))
    assert 0.65 < after.macs / before.macs <= 0.777
    selection = json.loads((run.selection.parent / 'selection.json').read_text('utf-8'))
    assert selection['asked']['target_macs'] == 0.777 and selection['macs'] == after.macs / before.macs
    other('')
    assert len(train(configure(method='l1', source=source(), match=folder, epochs=2), quiet).metrics.rows()) == 2


def test_ignored_layers_keep_their_structures(make_case, configure, source):
    """The second of three layers stays whole, and the others meet the budget."""
    case = make_case(ignored_layers=[r'stage2\.'])
    assert [unit.name for unit in case.units] == ['stage1.0.norm2', 'stage3.0.norm2']
    assert len(case.layer_graph.units) == 3
    scores = l1.score(case)
    masks = meet_budget(case.net, case.input_shape, scores, 0.8, 'layer')
    assert set(masks) == set(scores) and MaskedCounter(case.net, case.input_shape).share(masks).macs <= 0.8
    assert all(0 < mask.sum() < mask.size for mask in masks.values())
    run = train(configure(method='l1', source=source(), target_macs=0.8,
                          method_options=dict(ignored_layers=[r'stage2\.'])), quiet)
    kept = {name: len(row['kept']) for name, row in prune(run.path, quiet).structure.factors.items()}
    assert kept['stage2.0.norm2'] == 8 and kept['stage1.0.norm2'] < 8 and kept['stage3.0.norm2'] < 16


@pytest.mark.parametrize('method', ['thinet', 'lasso'])
def test_ignored_layers_are_not_adjusted(method, configure, source):
    """The consumer of an ignored layer keeps its weights; that of a pruned layer is refitted."""
    run = train(configure(method=method, source=source(), target_macs=0.8, learning_rate=0.0,
                          method_options=dict(ignored_layers=[r'stage2\.'], images=24, positions=4)), quiet)
    old, new = ({name: parameter.data().asnumpy() for name, parameter in load(prefix).collect_params().items()}
                for prefix in (run.source, run.selection))
    np.testing.assert_array_equal(new['stage2_0_conv2_weight'], old['stage2_0_conv2_weight'])
    kept = json.loads((run.selection.parent / 'model-structure.json').read_text('utf-8'))['factors']['stage1.0.norm2']
    assert (new['stage1_0_conv2_weight'] != old['stage1_0_conv2_weight'][:, kept['kept']]).any()


@pytest.mark.parametrize('ignored_layers, words', [
    (['stage('], r"ignored_layers: 'stage\(' is not a regular expression"),
    (['conv9'], "ignored_layers: 'conv9' matches no factor.* stage1.0.norm2, stage2.0.norm2"),
])
def test_wrong_ignored_layers(ignored_layers, words, make_case):
    with pytest.raises(SSSError, match=words):
        make_case(ignored_layers=ignored_layers)
