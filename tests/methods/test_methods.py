"""Tests of all methods, driven by one table: they meet the budget, fine-tune, compact, resume and warn."""
import importlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

from sss_gluon import SSSError, load
from sss_gluon.deploy import evaluate, load_run, prune
from sss_gluon.deploy.sizes import sizes
from sss_gluon.files import read_npz
from sss_gluon.graph import count
from sss_gluon.methods import METHODS, ranking, selection, train
from sss_gluon.structures import Structure
from sss_gluon.train import RunFolder
from sss_gluon.train.checkpoint import checkpoints

FEW = dict(images=24)
SAMPLED = dict(images=24, positions=4)
# method, model, options: each method that ranks a trained network, on every kind of structure it can remove
CASES = {
    'l1 neuron': ('l1', 'cifar_resnet20', {}),
    'l1 block': ('l1', 'cifar_resnet20', dict(kinds=['block'])),
    'l1 group': ('l1', 'cifar_resnext20', {}),
    'taylor neuron': ('taylor', 'cifar_resnet20', FEW),
    'taylor block': ('taylor', 'cifar_resnet20', dict(FEW, kinds=['block'])),
    'taylor group': ('taylor', 'cifar_resnext20', FEW),
    'apoz neuron': ('apoz', 'cifar_resnet20', FEW),
    'apoz group': ('apoz', 'cifar_resnext20', FEW),
    'random neuron': ('random', 'cifar_resnet20', {}),
    'random layer': ('random', 'cifar_resnet20', dict(scope='layer')),
    'uniform neuron': ('uniform', 'cifar_resnet20', {}),
    'uniform l1': ('uniform', 'cifar_resnet20', dict(order='l1')),
    'uniform block': ('uniform', 'cifar_resnet20', dict(kinds='block')),
    'thinet neuron': ('thinet', 'cifar_resnet20', SAMPLED),
    'thinet group': ('thinet', 'cifar_resnext20', SAMPLED),
    'lasso neuron': ('lasso', 'cifar_resnet20', SAMPLED),
    'lasso group': ('lasso', 'cifar_resnext20', SAMPLED),
    'slimming neuron': ('slimming', 'cifar_resnet20', {}),
    'slimming group': ('slimming', 'cifar_resnext20', dict(constants='exact')),
    'ista neuron': ('ista', 'cifar_resnet20', {}),
    'ssl block': ('ssl', 'cifar_resnet20', {}),
    'ssl neuron': ('ssl', 'cifar_resnet20', dict(kinds=['neuron'])),
    'ssl group': ('ssl', 'cifar_resnext20', {}),
}
QUICK = {method: case for case, (method, _, _) in reversed(list(CASES.items()))}.values()      # one case of each method
EACH = [case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
RANKING = {'l1', 'taylor', 'apoz', 'random', 'uniform', 'thinet', 'lasso', 'slimming', 'ista', 'ssl'}
TARGET = 0.8


def arrays(run):
    return read_npz(checkpoints(RunFolder(run).checkpoints)[-1])


def test_the_table_holds_every_method():
    assert {method for method, _, _ in CASES.values()} == RANKING
    assert set(METHODS) == RANKING | {'sss', 'scratch'}


@pytest.mark.parametrize('name', METHODS)
def test_every_file_opens_with_a_card(name):
    module = importlib.import_module(f'sss_gluon.methods.{"random_pruning" if name == "random" else name}')
    lines = module.__doc__.splitlines()
    assert [line.split()[0] for line in lines if line[:1].isalpha()][1:] == ['Equation', 'Source', 'Differs']


def quiet(line):
    pass


@pytest.fixture
def one_fewer(monkeypatch):
    """Share of the MACs that would remain if the search had removed one structure fewer."""
    shares, meet_budget = [], selection.meet_budget

    def noted(net, shape, scores, target, scope):
        masks = meet_budget(net, shape, scores, target, scope)
        rows = ranking.removal_order(scores, {f.name: f.kind for f in ranking.scaling_factors(net)}, scope)
        removed = sum(int((~mask).sum()) for mask in masks.values())
        shares.append(ranking.MaskedCounter(net, shape).share(ranking._masks(scores, rows[:removed - 1])).macs)
        return masks

    monkeypatch.setattr(selection, 'meet_budget', noted)
    return shares


@pytest.mark.parametrize('case', EACH)
def test_prunes_fine_tunes_compacts(case, configure, source, one_fewer):
    """Removes as few structures as the budget allows."""
    method, model, options = CASES[case]
    said = []
    run = train(configure(model=model, method=method, method_options=dict(options), source=source(model),
                          target_macs=TARGET), said.append)
    assert not any('warning' in line for line in said)
    whole = count(load_run(source(model)).net, (1, 1, 8, 8))
    before, after = sizes(str(run.path))
    assert before.macs == whole.macs and before.params == whole.params
    assert 0 < after.macs / before.macs <= TARGET < one_fewer[0] and after.params < before.params
    saved = json.loads((run.path / 'selection' / 'selection.json').read_text())
    assert saved['macs'] == after.macs / before.macs and saved['removed'] > 0
    row, = run.metrics.rows()       # one epoch of fine-tuning the compact network
    assert (int(row['macs']), int(row['macs_left'])) == (before.macs, after.macs)
    start = dict(load(run.selection).collect_params().items())
    moved = [n for n, p in load_run(run.path).net.collect_params().items()
             if (p.data().asnumpy() != start[n].data().asnumpy()).any()]
    assert len(moved) > 0.9 * len(start)

    small = prune(run.path, log=said.append)
    assert (small.before.macs, small.after.macs) == (before.macs, after.macs)
    kept = {name: len(row['kept']) for name, row in small.structure.factors.items()}
    assert sum(row['size'] for row in small.structure.factors.values()) - sum(kept.values()) == saved['removed']
    assert all(row['kind'] == ('group' if model == 'cifar_resnext20' else case.split()[1])
               for row in small.structure.factors.values()) or case.split()[1] in ('layer', 'l1')
    assert Structure.load(f'{run.compact}-structure.json') == small.structure


@pytest.mark.slow
@pytest.mark.parametrize('model', ['cifar_resnet20', 'cifar_resnext20'])
def test_evaluation_has_the_source_and_the_compact_network(model, configure, source):
    run = train(configure(model=model, method='l1', source=source(model), target_macs=TARGET), quiet)
    before, after = sizes(str(run.path))
    theirs = evaluate(source(model))[0]
    for pruned in (False, True):
        if pruned:
            prune(run.path, quiet)
        dense, compact = evaluate(run.path)
        assert (dense.name, dense.macs, compact.name, compact.macs) == ('unpruned', before.macs, 'compact', after.macs)
        assert dense.accuracy == theirs.accuracy


def test_nothing_is_left_of_a_selection_that_failed(configure, source, monkeypatch):
    def fail(*arguments):
        raise SSSError('enough')

    monkeypatch.setattr(selection, 'meet_budget', fail)
    config = configure(method='l1', source=source(), target_macs=TARGET)
    with pytest.raises(SSSError, match='enough'):
        train(config, quiet)
    assert not Path(config.run).exists()


@pytest.mark.parametrize('case', ['l1 neuron', *(pytest.param(case, marks=pytest.mark.slow) for case in
                                                 ('lasso neuron', 'slimming group', 'ssl block'))])
def test_resumes_identically(case, configure, source):
    method, model, options = CASES[case]
    settings = dict(model=model, method=method, method_options=dict(options), source=source(model), target_macs=TARGET)
    whole = train(configure('whole', epochs=2, **settings), quiet)
    train(configure('parts', epochs=1, **settings), quiet)
    parts = train(configure('parts', epochs=2, **settings), quiet)
    assert whole.metrics.rows() == parts.metrics.rows()
    one, other = arrays(whole.path), arrays(parts.path)
    for name in one.keys() - {'position'}:
        np.testing.assert_array_equal(one[name], other[name], name)


@pytest.mark.parametrize('method, options', [
    ('ssl', dict(strength=0.5)), pytest.param('slimming', dict(strength=0.01), marks=pytest.mark.slow),
    pytest.param('ista', dict(strength=0.2), marks=pytest.mark.slow)])
def test_penalties_resume_identically(method, options, configure):
    settings = dict(method=method, method_options=options)
    whole = train(configure('whole', epochs=2, **settings), quiet)
    train(configure('parts', epochs=1, **settings), quiet)
    parts = train(configure('parts', epochs=2, **settings), quiet)
    assert whole.metrics.rows() == parts.metrics.rows() and whole.factors.rows() == parts.factors.rows()
    one, other = arrays(whole.path), arrays(parts.path)
    for name in one.keys() - {'position'}:
        np.testing.assert_array_equal(one[name], other[name], name)


def test_a_selection_is_made_once(configure, source, monkeypatch):
    """A run interrupted before its first checkpoint reuses its selection; other settings make a new one."""
    config = configure(method='l1', source=source(), target_macs=TARGET)
    run = train(config, quiet)

    def forget():
        for path in checkpoints(run.checkpoints):
            path.unlink()

    before = (run.selection.parent / 'selection.json').stat().st_mtime_ns
    forget()
    meet_budget = selection.meet_budget
    monkeypatch.setattr(selection, 'meet_budget', None)
    train(config, quiet)
    assert (run.selection.parent / 'selection.json').stat().st_mtime_ns == before
    forget()
    monkeypatch.setattr(selection, 'meet_budget', meet_budget)
    train(configure(method='l1', source=source(), target_macs=0.6), quiet)
    assert json.loads((run.selection.parent / 'selection.json').read_text())['macs'] <= 0.6
    forget()
    train(configure(factors=['block']), quiet)        # SSS makes no selection
    assert not run.selection.parent.exists()


def test_a_run_continues_without_its_source(configure, tmp_path):
    first = train(configure('first', epochs=1), quiet)
    run = train(configure(method='l1', source=str(first.path), target_macs=TARGET), quiet)
    source = run.config().source
    (tmp_path / 'first').rename(tmp_path / 'gone')
    (tmp_path / 'run').rename(tmp_path / 'moved')
    run = train(configure('moved', method='l1', source=source, target_macs=TARGET, epochs=2), quiet)
    assert [row['epoch'] for row in run.metrics.rows()] == ['1', '2']
    prune(run.path)
    assert [row.name for row in evaluate(run.path)] == ['unpruned', 'compact']


@pytest.mark.parametrize('method', ['l1', 'lasso', *(pytest.param(method, marks=pytest.mark.slow) for method in
                                                     ('taylor', 'random', 'uniform', 'apoz', 'thinet', 'slimming'))])
def test_warns_when_nothing_changed(method, configure, emptied):
    """All blocks of the source are already zero."""
    said = []
    train(configure(method=method, source=emptied, target_macs=0.9), said.append)
    assert any(line.startswith(f'warning: {method} changed nothing') and '0.9' in line for line in said)


@pytest.mark.parametrize('method', ['ssl', 'ista'])
def test_warns_when_nothing_is_zero(method, configure, source):
    said = []
    run = train(configure(method=method, source=source()), said.append)
    assert [line for line in said if line.startswith(f'warning: {method} changed nothing: no structure of')]
    assert prune(run.path).structure.removed() == {'block' if method == 'ssl' else 'neuron': 0}


@pytest.mark.parametrize('method, text', [('ssl', 'ssl: no structure reached zero'),
                                          ('ista', 'ista: no structure reached zero'),
                                          ('slimming', 'slimming: strength is 0')])
def test_a_penalty_that_did_nothing_says_so(method, text, configure):
    said = []
    run = train(configure(method=method, method_options=dict(strength=0.0)), said.append)
    assert re.match(text, said[-1]) and re.match(text, (run.path / 'diagnosis.txt').read_text('utf-8'))
