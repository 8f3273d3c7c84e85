"""A folder in which something was before: other settings, results of an earlier state, somebody else's files."""
import numpy as np
import pytest

from sss_gluon import SSSError, load, scaling_factors
from sss_gluon.deploy import evaluate, load_run, prune
from sss_gluon.methods import train
from sss_gluon.report.figures import draw
from sss_gluon.train import Config
from sss_gluon.train.checkpoint import checkpoints

SMALL = dict(data='digits', model='cifar_resnet20', model_options={'depths': [1, 1], 'widths': [4, 8]}, batch_size=256,
             lr_mode='constant', augment_pad=0, augment_flip=False, learning_rate=0.1)


def quiet(line):
    pass


def test_tables_of_other_settings_go_with_them(tmp_path):
    """Killed before its first checkpoint, a run leaves rows; settings are still free then, and columns with them."""
    run = train(Config(run=str(tmp_path / 'run'), epochs=1, factors=['block'], **SMALL), quiet)
    for path in checkpoints(run.checkpoints):
        path.unlink()
    run = train(Config(run=str(tmp_path / 'run'), epochs=1, factors=['neuron', 'block'], **SMALL), quiet)
    row, = run.metrics.rows()
    assert row['neurons'] == '12' and None not in row
    assert len(draw(run)) == 3


def test_results_of_an_earlier_state_go(tmp_path):
    run = train(Config(run=str(tmp_path / 'run'), epochs=1, gamma=3.0, **SMALL), quiet)
    prune(run.path, quiet)
    evaluate(run.path)
    train(Config(run=str(tmp_path / 'run'), epochs=2, gamma=3.0, **SMALL), quiet)
    assert not run.compact.parent.exists() and not (run.path / 'evaluation.csv').exists()
    assert [row.name for row in evaluate(run.path)] == ['unpruned']


@pytest.mark.parametrize('text', ['services: [web]\n', 'version: 3\n', '- a\n'])
def test_a_config_of_something_else_is_not_touched(tmp_path, text):
    folder = tmp_path / 'other'
    folder.mkdir()
    (folder / 'config.yaml').write_text(text)
    (folder / 'metrics.csv').write_text('mine\n')
    with pytest.raises(SSSError, match='holds a config.yaml .*name another run='):
        train(Config(run=str(folder), epochs=1, **SMALL), quiet)
    assert (folder / 'config.yaml').read_text() == text and (folder / 'metrics.csv').read_text() == 'mine\n'


def test_init_and_structure_are_not_needed_again(tmp_path, monkeypatch):
    """Paths are kept as absolute ones, and what a checkpoint holds is not read twice."""
    first = train(Config(run=str(tmp_path / 'first'), epochs=1, **SMALL), quiet)
    monkeypatch.chdir(tmp_path)
    given = checkpoints(first.checkpoints)[-1].rename(tmp_path / 'given.npz')
    train(Config(run='run', epochs=1, init='given.npz', **SMALL), quiet)
    given.unlink()
    again = train(Config(run='run', epochs=2, init=str(given), **SMALL), quiet)
    assert [row['epoch'] for row in again.metrics.rows()] == ['1', '2']


def test_an_exported_network_keeps_its_multipliers(tmp_path):
    run = train(Config(run=str(tmp_path / 'run'), epochs=1, **SMALL), quiet)
    prune(run.path, quiet)
    for name, parameter in load(run.compact).collect_params().items():
        assert parameter.wd_mult == (0 if name.endswith(('bias', 'beta')) else 1), name


def test_what_is_kept_is_in_the_order_of_the_run(tmp_path):
    run = train(Config(run=str(tmp_path / 'run'), epochs=3, keep_checkpoints=1, **SMALL), quiet)
    assert [path.stem for path in checkpoints(run.checkpoints)] == ['epoch-0003']
    for name in ('epoch-10000.npz', 'epoch-9999-step-000007.npz', 'epoch-9999.npz'):
        (run.checkpoints / name).write_bytes(b'')
    order = ['epoch-0003', 'epoch-9999', 'epoch-9999-step-000007', 'epoch-10000']
    assert [path.stem for path in checkpoints(run.checkpoints)] == order
    said = []
    net = load_run(run.path, log=said.append).net
    assert len(said) == 3 and all(np.isfinite(f.values()).all() for f in scaling_factors(net))
    train(Config(run=str(tmp_path / 'run'), epochs=4, keep_checkpoints=1, **SMALL), quiet)
    assert [path.stem for path in checkpoints(run.checkpoints)] == ['epoch-0004']       # not what was damaged
