"""Training the compact network from scratch, with the same epochs or the same compute."""
import shutil

import numpy as np
import pytest

from sss_gluon import SSSError
from sss_gluon.deploy import evaluate, prune
from sss_gluon.graph import load
from sss_gluon.methods import train
from sss_gluon.methods.scratch import stretched
from sss_gluon.train import Config, RunFolder


def quiet(line):
    pass


@pytest.mark.parametrize('before, after, epochs, steps, warmup', [
    (100, 80, 300, [150, 200, 250], 6.25), (100, 60, 400, [200, 267, 333], 25 / 3), (100, 20, 480, [240, 320, 400], 10),
    (100, 100, 240, [120, 160, 200], 5)])
def test_stretched_to_the_same_compute(before, after, epochs, steps, warmup):
    config = stretched(Config(epochs=240, lr_decay_epochs=[120, 160, 200], warmup_epochs=5), before, after)
    assert (config.epochs, config.lr_decay_epochs) == (epochs, steps)
    assert stretched(Config(), before, after).lr_decay_epochs == Config().lr_decay_epochs      # shares stretch anyway
    assert config.warmup_epochs == pytest.approx(warmup)


@pytest.fixture(scope='module')
def pruned(tmp_path_factory, source):
    """A fine-tuned and pruned run with about half of the MACs."""
    config = RunFolder(source()).config()
    config.run, config.epochs = str(tmp_path_factory.mktemp('pruned') / 'run'), 1
    config.method, config.source, config.target_macs = 'l1', source(), 0.55
    run = train(config, quiet)
    prune(run.path, quiet)
    return run


def test_the_structure_with_new_weights(pruned, configure):
    run = train(configure(method='scratch', source=str(pruned.path), seed=3), quiet)
    mine, theirs = (dict(load(r.selection).collect_params().items()) for r in (run, pruned))
    assert {name: p.shape for name, p in mine.items()} == {name: p.shape for name, p in theirs.items()}
    for name, parameter in mine.items():
        value = parameter.data().asnumpy()
        if name.endswith('weight'):
            assert (value != theirs[name].data().asnumpy()).all()
            if value.size > 400:        # N(0, 2/fan_in) of the narrower layer
                assert value.std() == pytest.approx(np.sqrt(2 / np.prod(value.shape[1:])), rel=0.15)
    small = prune(run.path, quiet)
    assert small.structure == prune(pruned.path, quiet).structure
    assert [row.name for row in evaluate(run.path)] == ['unpruned', 'compact']
    assert evaluate(run.path)[0].accuracy == evaluate(pruned.path)[0].accuracy     # the same whole network


def test_equal_compute_trains_more_epochs_and_a_finished_run_none(pruned, configure):
    settings = dict(method='scratch', source=str(pruned.path), method_options=dict(budget='compute'), epochs=2)
    said = []
    run = train(configure(**settings), said.append)
    row = run.metrics.rows()[-1]
    epochs = round(2 * int(row['macs']) / int(row['macs_left']))
    assert 3 <= epochs <= 4 and len(run.metrics.rows()) == epochs
    assert run.config().epochs == 2
    train(configure(**settings), said.append)
    assert said[-1].endswith(f'is finished ({epochs} epochs); nothing to do')
    assert len(run.metrics.rows()) == epochs


def test_from_a_run_with_factors(configure, emptied, tmp_path):
    first = shutil.copytree(emptied, str(tmp_path / 'first'))
    with pytest.raises(SSSError, match='is not pruned yet.* sss-gluon prune'):
        train(configure(method='scratch', source=first), quiet)
    small = prune(first, quiet)
    run = train(configure(method='scratch', source=first), quiet)
    found = prune(run.path, quiet)
    assert (found.after.macs, found.before.macs) == (small.after.macs, small.before.macs)
    assert found.structure.removed() == {'block': 3}


def test_warns_when_nothing_was_removed(configure, source, tmp_path):
    first = shutil.copytree(source(), str(tmp_path / 'first'))
    prune(first, quiet)
    said = []
    train(configure(method='scratch', source=first), said.append)
    assert [line for line in said if line.startswith('warning: scratch: ')]
