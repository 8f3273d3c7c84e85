"""The step that follows training, pruning and evaluation, read off the run folder."""
from pathlib import Path

import pytest

from sss_gluon.cli import main, steps
from sss_gluon.cli.next_step import next_step, removable
from sss_gluon.files import write_text
from sss_gluon.train import RunFolder

ZEROS = 'epoch,neurons_alive,neurons,blocks_alive,blocks\n1,30,32,3,3\n2,30,32,1,3\n'
NO_ZEROS = 'epoch,blocks_alive,blocks\n1,2,3\n2,3,3\n'
NO_FACTORS = 'epoch,macs\n1,5\n'
PRUNED, SELECTED, EVALUATED = 'compact/model-symbol.json', 'selection/model-structure.json', 'evaluation.csv'
EXPORTED = 'deploy/model-symbol.json'


@pytest.mark.parametrize('metrics, files, verb', [
    (ZEROS, (), 'prune'), (ZEROS, (PRUNED,), 'evaluate'), (ZEROS, (PRUNED, EVALUATED), 'export'),
    (ZEROS, (EVALUATED,), 'prune'),
    (NO_ZEROS, (), 'evaluate'), (NO_ZEROS, (EVALUATED,), 'export'),     # there is nothing to remove
    (ZEROS, (PRUNED, EVALUATED, EXPORTED), None), (ZEROS, (EXPORTED,), 'prune'),
    (NO_FACTORS, (), 'evaluate'), (NO_FACTORS, (EVALUATED,), 'export'),
    (NO_FACTORS, (SELECTED,), 'prune'), (NO_FACTORS, (SELECTED, PRUNED), 'evaluate'), (None, (), 'evaluate'),
])
def test_next_step(tmp_path, metrics, files, verb):
    run = RunFolder(tmp_path / 'run')
    if metrics:
        write_text(run.path / 'metrics.csv', metrics)
    for file in files:
        write_text(run.path / file, '')
    for settings, options in (('', ''), ('target_latency: 0.5\nlatency_batch: 64\n', ' --batch 64')):
        write_text(run.path / 'config.yaml', settings)
        assert next_step(run) == (verb and f'sss-gluon {verb} {run}{options * (verb == "export")}')


def test_removable_counts_what_is_zero_after_the_last_epoch(tmp_path):
    run = RunFolder(tmp_path)
    assert removable(run) == []
    for text, counts in ((ZEROS, ['2 of 32 neurons', '2 of 3 blocks']), (NO_ZEROS, []), (NO_FACTORS, [])):
        write_text(tmp_path / 'metrics.csv', text)
        assert removable(run) == counts


@pytest.mark.slow
def test_steps_print_what_follows_the_last_of_them(configure, finished, tmp_path, monkeypatch, capsys):
    """And evaluate says that a run is not pruned yet."""
    import shutil
    shutil.copytree(finished, tmp_path / 'run')
    monkeypatch.chdir(tmp_path)
    assert main(['evaluate', 'run']) == 0
    out = ' '.join(capsys.readouterr().out.split())
    assert out.endswith(f'not pruned yet: {", ".join(removable(RunFolder("run")))} are zero next: sss-gluon prune run')
    (Path('run') / EVALUATED).unlink()
    for given, last in (('train', 'next: sss-gluon prune run'), ('prune', 'next: sss-gluon evaluate run'),
                        ('prune,evaluate', 'next: sss-gluon export run')):
        assert steps.main(given, 'run/config.yaml', 'run=run') == 0
        out = capsys.readouterr().out
        assert out.count('next: ') == 1 and out.splitlines()[-1] == last
    assert 'not pruned yet' not in out
