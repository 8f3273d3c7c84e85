"""How much is to be left, as a number or as in another run; and the structures that stay whatever their scores."""
import json

import numpy as np
import pytest

from sss_gluon import SSSError
from sss_gluon.deploy import prune
from sss_gluon.deploy.sizes import sizes
from sss_gluon.graph import load
from sss_gluon.methods import l1, train
from sss_gluon.methods.ranking import choose
from sss_gluon.methods.selection import budget
from sss_gluon.train import Config


def quiet(line):
    pass


@pytest.fixture
def other(tmp_path):
    """A function that writes a run with such an evaluation.csv, and gives its folder."""
    def write(evaluation):
        folder = tmp_path / 'other'
        folder.mkdir(exist_ok=True)
        (folder / 'config.yaml').write_text('', 'utf-8')
        (folder / 'evaluation.csv').write_text(evaluation, 'utf-8')
        return str(folder)
    return write


def test_a_number_or_what_another_run_has_left(other):
    assert budget(Config(method='ssl', source='x')) is None
    assert budget(Config(method='l1', source='x', target_macs=0.6)) == 0.6
    folder = other('network,top1,macs\ndense,0.9,3000\ncompact,0.9,1000\n')
    assert budget(Config(method='l1', source='x', match=folder)) == 1000 / 3000


@pytest.mark.parametrize('evaluation, words', [
    ('network,macs\ndense,3\ncompact,3\n', 'lost nothing, so there is no budget to match'),
    ('network,macs\ndense,3\n', 'does not say what its compact network has left: sss-gluon prune '),
    ('network,macs\ndense,0\ncompact,0\n', 'does not say'), ('network,macs\ndense,many\ncompact,1\n', 'does not say'),
    ('', 'does not say'),
])
def test_a_run_that_says_no_budget(other, evaluation, words):
    with pytest.raises(SSSError) as error:
        budget(Config(method='l1', source='x', match=other(evaluation)))
    assert words in str(error.value) and str(error.value).startswith('match=') and '\n' not in str(error.value)


def test_a_run_is_cut_to_what_another_has_left(other, configure, source):
    """The budget is taken when the structures are chosen; a run that began asks no more."""
    folder = other('network,macs\ndense,1000\ncompact,777\n')
    run = train(configure(method='l1', source=source(), match=folder), quiet)
    before, after = sizes(str(run.path))
    assert 0.65 < after.macs / before.macs <= 0.777
    facts = json.loads((run.selection.parent / 'selection.json').read_text('utf-8'))
    assert facts['asked']['target_macs'] == 0.777 and facts['macs'] == after.macs / before.macs
    other('')
    assert len(train(configure(method='l1', source=source(), match=folder, epochs=2),
                               quiet).metrics.rows()) == 2


def test_spared_structures_stay(make_case, configure, source):
    """Of three layers the second one stays whole, and the others give what is asked for."""
    case = make_case(ignored_layers=[r'stage2\.'])
    assert [unit.name for unit in case.units] == ['stage1.0.norm2', 'stage3.0.norm2']
    assert len(case.layer_graph.units) == 3
    scores = l1.score(case)
    chosen = choose(case.net, case.input_shape, scores, 0.8, 'layer')
    assert set(chosen.kept) == set(scores) and chosen.macs <= 0.8
    assert all(0 < kept.sum() < kept.size for kept in chosen.kept.values())
    run = train(configure(method='l1', source=source(), target_macs=0.8,
                                    method_options=dict(ignored_layers=[r'stage2\.'])), quiet)
    kept = {name: len(row['kept']) for name, row in prune(run.path, quiet).structure.factors.items()}
    assert kept['stage2.0.norm2'] == 8 and kept['stage1.0.norm2'] < 8 and kept['stage3.0.norm2'] < 16


@pytest.mark.parametrize('method', ['thinet', 'lasso'])
def test_spared_layers_are_not_adjusted(method, configure, source):
    """The layer that reads them keeps its weights; those of a layer that was cut are fitted anew."""
    run = train(configure(method=method, source=source(), target_macs=0.8, learning_rate=0.0,
                                    method_options=dict(ignored_layers=[r'stage2\.'], images=24, positions=4)), quiet)
    old, new = ({name: parameter.data().asnumpy() for name, parameter in load(prefix).collect_params().items()}
                for prefix in (run.source, run.selection))
    np.testing.assert_array_equal(new['stage2_0_conv2_weight'], old['stage2_0_conv2_weight'])
    kept = json.loads((run.selection.parent / 'model-structure.json').read_text('utf-8'))['factors']['stage1.0.norm2']
    assert (new['stage1_0_conv2_weight'] != old['stage1_0_conv2_weight'][:, kept['kept']]).any()


@pytest.mark.parametrize('ignored_layers, words', [
    (['stage('], r"ignored_layers: 'stage\(' is not a regular expression"),
    (['conv9'], "ignored_layers: 'conv9' matches no factor; factors: stage1.0.norm2, stage2.0.norm2"),
])
def test_spared_names_that_are_wrong(ignored_layers, words, make_case):
    with pytest.raises(SSSError, match=words):
        make_case(ignored_layers=ignored_layers)
