"""What is read from a run folder, and the one line for every folder that cannot be reported."""
import re
import shutil

import pytest

from sss_gluon.errors import SSSError
from sss_gluon.report.runs import StructureCount, find_runs, read_run, read_runs


def test_a_run_is_read(tmp_path, write_run):
    run = write_run(tmp_path / 'run', top1=0.91, unpruned_top1=0.92, params=(1000, 600), macs=(20_000, 12_000),
                    kept={'stage1.0.conv2': 0}, seconds=11.0, epochs=5, seed=3, gamma=0.25)
    result = read_run(run, pytest.fail)
    assert (result.unpruned.top1, result.compact.top1) == (0.92, 0.91)
    assert (result.unpruned.images, result.unpruned.top5) == (1000, 0.99)
    assert (result.unpruned.params, result.compact.params, result.unpruned.macs, result.compact.macs) \
        == (1000, 600, 20_000, 12_000)
    assert result.unpruned.ms == {1: 2.0, 64: 20.0} and result.compact.ms == {1: 1.0, 64: 10.0}
    assert result.structure_counts[:2] == [StructureCount('stage1.0.conv2', 'block', 0, 1),
                                           StructureCount('stage1.1.conv2', 'block', 1, 1)]
    assert (result.epochs, result.config.seed, result.config.gamma) == (5, 3, 0.25)
    assert result.seconds == pytest.approx(11.0)        # 10 s of training and 1 s of evaluation
    assert result.final is result.compact


def test_without_factors_there_is_one_network(tmp_path, write_run):
    result = read_run(write_run(tmp_path / 'run', factors=[]), pytest.fail)
    assert result.compact is None and result.structure_counts == [] and result.final is result.unpruned


def test_a_run_of_a_penalty_may_leave_the_cut_to_another(tmp_path, write_run, notes):
    run = write_run(tmp_path / 'run', method='slimming')
    replace('evaluation.csv', 'compact', 'other')(run)
    assert read_run(run, pytest.fail).compact is None
    replace('config.yaml', 'source: null', 'source: runs/a')(run)
    assert read_runs([run], notes.append) == [] and 'not pruned' in notes[0]


def test_a_structure_without_factors_tells_the_widths(tmp_path, write_run):
    run = write_run(tmp_path / 'run', method='l1')
    path = run / 'compact' / 'model-structure.json'
    path.write_text('{"format": "sss_gluon structure 1", "model": null, "input_shape": [1, 3, 8, 8], "factors": {}, '
                    '"layers": {"conv1": {"before": [8, 3], "after": [5, 3]}, '
                    '"conv2": {"before": [8, 8], "after": null}}}', 'utf-8')
    assert read_run(run, pytest.fail).structure_counts == [StructureCount('conv1', 'output', 5, 8),
                                                           StructureCount('conv2', 'output', 0, 8)]


def test_runs_are_found_once_and_in_order(tmp_path, write_run, notes, monkeypatch):
    for name in ('a/run10', 'a/run9', 'b/deep/er/run', '.hidden/run'):
        write_run(tmp_path / name)
    write_run(tmp_path / 'a/run9/compact/inner')        # nothing below a run is a run
    (tmp_path / 'empty').mkdir()
    monkeypatch.chdir(tmp_path)
    found = find_runs([tmp_path / 'b', tmp_path, 'a/run9', tmp_path / 'empty', tmp_path / 'gone'],
                      notes.append)
    assert [str(path.relative_to(tmp_path)) for path in found] == ['b/deep/er/run', 'a/run9', 'a/run10']
    assert len(notes) == 2 and f'{tmp_path}/empty holds no run' in notes[0] and f'no folder {tmp_path}/gone' in notes[1]


def replace(name, old, new):
    def change(run):
        text = (run / name).read_text('utf-8')
        assert old in text
        (run / name).write_text(text.replace(old, new), 'utf-8')
    return change


def remove(name):
    return lambda run: (run / name).unlink()


UNUSABLE = {
    'no metrics': (remove('metrics.csv'), 'is at epoch 0 of 2.* sss-gluon train '),
    'interrupted': (replace('config.yaml', 'epochs: 2\n', 'epochs: 30\n'), 'is at epoch 2 of 30.* sss-gluon train '),
    'not evaluated': (remove('evaluation.csv'), 'not evaluated.*--evaluate'),
    'not cut': (replace('evaluation.csv', 'compact', 'quickstart'), 'not pruned.*--evaluate'),
    'no unpruned row': (replace('evaluation.csv', 'unpruned', 'other'), 'has no row unpruned.* sss-gluon evaluate '),
    'another version': (replace('config.yaml', 'gamma:', 'sparsity:'),
                        "cannot be read by this version: .*there is no setting 'sparsity'"),
    'config of another type': (replace('config.yaml', 'gamma: 0.01', 'gamma: much'), 'cannot be read by this version'),
    'no YAML': (lambda run: (run / 'config.yaml').write_text('a: [', 'utf-8'), 'cannot be read by this version'),
    'evaluation of another version': (replace('evaluation.csv', 'top1', 'accuracy'), 'has no column top1'),
    'a word in it': (replace('evaluation.csv', '12000', 'many'), "damaged: macs is 'many'"),
    'an accuracy in percent': (replace('evaluation.csv', '0.9,', '90,'), "damaged: top1 is '90'"),
    'not a number': (replace('evaluation.csv', '0.9,', 'nan,'), "damaged: top1 is 'nan'"),
    'negative': (replace('evaluation.csv', ',600,', ',-600,'), "damaged: params is '-600'"),
    'cut short': (replace('evaluation.csv', '0.5,600,12000,1.0,10.0\n', '0.5'), 'line 3 .*columns'),
    'binary': (lambda run: (run / 'evaluation.csv').write_bytes(b'\xff\x00'), 'evaluation.csv cannot be read'),
    'a NUL': (lambda run: (run / 'evaluation.csv').write_bytes(b'network\n\x00\n'), 'evaluation.csv'),
    'metrics of another version': (replace('metrics.csv', 'epoch,', 'round,'), 'has no column epoch'),
}


@pytest.mark.parametrize('case', UNUSABLE)
def test_a_run_that_cannot_be_used_is_one_line(tmp_path, write_run, notes, case):
    damage, message = UNUSABLE[case]
    good, bad = write_run(tmp_path / 'good'), write_run(tmp_path / 'bad')
    damage(bad)
    results = read_runs([bad, good], notes.append)
    assert [result.path for result in results] == [good]
    assert len(notes) == 1 and str(bad) in notes[0] and notes[0].endswith('; the run is left out')
    assert re.search(message, notes[0]) and '\n' not in notes[0]


@pytest.mark.parametrize('name, lost, message', [
    ('compact/model-structure.json', 'structure_counts', 'are not shown'),
    ('timing.csv', 'seconds', 'its wall time is not shown'),
])
def test_what_is_not_needed_is_left_empty(tmp_path, write_run, notes, name, lost, message):
    run = write_run(tmp_path / 'run')
    (run / name).write_text('epoch,x\n1,', 'utf-8')
    result = read_run(run, notes.append)
    assert not getattr(result, lost) and result.final.top1 == 0.9
    assert len(notes) == 1 and re.search(message, notes[0])


def test_without_timing_there_is_no_wall_time(tmp_path, write_run):
    run = write_run(tmp_path / 'run')
    (run / 'timing.csv').unlink()
    assert read_run(run, pytest.fail).seconds is None


def test_a_folder_that_goes_away_is_one_line(tmp_path, write_run, notes):
    run = write_run(tmp_path / 'run')
    shutil.rmtree(run)
    assert read_runs([run], notes.append) == [] and len(notes) == 1 and f'no folder {run}' in notes[0]
    with pytest.raises(SSSError):
        read_run(run)
