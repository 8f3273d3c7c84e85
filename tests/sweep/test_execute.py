"""Sweeps as processes of their own: stopped, killed, failing, and two at once, no epoch is ever trained twice."""
import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sss_gluon.cli import main
from sss_gluon.files import write_text
from sss_gluon.sweep import load_plan, progress, sweep
from sss_gluon.sweep.progress import claim, claimed, in_use
from sss_gluon.train import RunFolder

ROOT = Path(__file__).resolve().parents[2]
LONG = '''
title: Two runs, the second of many epochs
entries:
  - {name: a, config: configs/small.yaml, set: {epochs: 1}, steps: [train]}
  - {name: b, config: configs/small.yaml, set: {epochs: 40}, steps: [train, prune]}
'''


def start(*arguments):
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH', '')]))
    return subprocess.Popen([sys.executable, '-m', 'sss_gluon.cli', 'sweep', 'plan.yaml', *arguments],
                            env=dict(os.environ, PYTHONPATH=path, PYTHONUNBUFFERED='1'), stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def until(condition, seconds=120):
    end = time.time() + seconds
    while not condition():
        assert time.time() < end, 'it did not happen'
        time.sleep(0.02)


def epochs(path):
    """Epochs in metrics.csv, in the order in which they were written."""
    file = Path(path) / 'metrics.csv'
    if not file.exists():
        return []
    with open(file, newline='', encoding='utf-8') as table:
        return [int(row['epoch']) for row in csv.DictReader(table)]


@pytest.fixture
def small(desk, capfd):
    """A plan whose runs take no time: their process is replaced by a line in a file."""
    return desk('title: t\nentries:\n  - {name: a, config: configs/small.yaml, grid: {seed: [0, 1]}, steps: [train]}\n')


# In one process

def fake(monkeypatch, script):
    """Let the steps of a run be a Python script; it is given the arguments of the steps."""
    real = subprocess.Popen

    def popen(command, **options):
        return real([sys.executable, '-c', script, *command[3:]], **options)

    monkeypatch.setattr('sss_gluon.sweep.execute.subprocess.Popen', popen)


def test_a_run_that_fails_does_not_stop_those_that_do_not_need_it(desk, monkeypatch, capsys):
    write_text('configs/other.yaml', 'base: small.yaml\n')
    desk('title: t\nentries:\n  - {name: bad, config: configs/small.yaml, steps: [train]}\n'
         '  - {name: needs, config: configs/small.yaml, set: {method: l1, target_macs: 0.5}, after: bad}\n'
         '  - {name: good, config: configs/other.yaml, steps: [train]}\n')
    fake(monkeypatch, 'import sys; bad = "/bad" in sys.argv[-1]; print("it\\nbroke" if bad else "fine", '
                      'file=sys.stderr); sys.exit(3 if bad else 0)')
    assert main(['sweep', 'plan.yaml']) == 1
    out, err = capsys.readouterr()
    assert 'runs/plan: 1 of 3 runs finished, 2 failed' in out and 'runs/plan/good: done in' in out
    assert err.splitlines()[-2:] == ['sss-gluon sweep: runs/plan/bad: broke',
                                     'sss-gluon sweep: runs/plan/needs: it needs bad, which failed']


def test_every_run_has_its_number_and_the_time_that_is_left(desk, monkeypatch):
    """The second and third are like the first, whose epochs took 60 and 80 s; the fourth is like none."""
    write_text('configs/other.yaml', 'base: small.yaml\nimage_size: 12\n')
    plan = load_plan(desk('title: t\nentries:\n  - {name: a, config: configs/small.yaml, grid: {seed: [0, 1, 2]}, '
                          'steps: [train]}\n  - {name: b, config: configs/other.yaml, steps: [train]}\n'))
    fake(monkeypatch, 'import os, sys; run = sys.argv[-1][4:]; os.makedirs(run); open(run + "/timing.csv", "w").write('
                      '"epoch,train_seconds,images_per_second,evaluation_seconds\\n1,50,1,10\\n2,75,1,5\\n")')
    lines = []
    sweep(plan, log=lines.append)
    begun = [line.split('\n')[:2] for line in lines if line.startswith('run ')]
    assert begun == [['run 1 of 4', 'runs/plan/a-seed0: train'],
                     ['run 2 of 4, 5 min left, plus 1 run not timed yet', 'runs/plan/a-seed1: train'],    # 4 · 70 s
                     ['run 3 of 4, 2 min left, plus 1 run not timed yet', 'runs/plan/a-seed2: train'],
                     ['run 4 of 4', 'runs/plan/b: train']]


def test_a_process_that_is_killed_is_told_by_its_signal(small, monkeypatch):
    fake(monkeypatch, 'import os, signal; os.kill(os.getpid(), signal.SIGKILL)')
    result = sweep(load_plan(small), log=lambda line: None)
    assert result.failed == dict.fromkeys(('a-seed0', 'a-seed1'), 'killed by SIGKILL') and not result.finished


def test_a_run_that_is_needed_and_was_not_asked_for(desk):
    plan = load_plan(desk('title: t\nentries:\n  - {name: a, config: configs/small.yaml}\n'
                          '  - {name: b, config: configs/small.yaml, set: {method: l1, target_macs: 0.5}, after: a}\n'))
    result = sweep(plan, plan.select('^b'), log=lambda line: None)
    assert result.failed == {'b': 'it needs a, which is not finished and was not selected'}


@pytest.mark.parametrize('precision, processes', [('float32', ['train,prune']), ('bfloat16', ['train', 'prune'])])
def test_what_follows_training_in_bfloat16_has_a_process_of_its_own(precision, processes, desk, monkeypatch):
    plan = load_plan(desk('title: t\nentries:\n  - {name: a, config: configs/small.yaml, '
                          f'set: {{precision: {precision}}}, steps: [train, prune]}}\n'))
    fake(monkeypatch, 'import sys; print(sys.argv[1], file=open("steps", "a"))')
    assert sweep(plan, log=lambda line: None).finished == ('a',)
    assert Path('steps').read_text().split() == processes


def test_runs_that_another_sweep_holds_are_left_to_it(small, monkeypatch):
    plan, lines = load_plan(small), []
    fake(monkeypatch, '')
    with claim(plan.runs[0]) as mine:
        assert mine and claimed(plan.runs[0]) and not claimed(plan.runs[1])
        with claim(plan.runs[0]) as second:
            assert not second
        result = sweep(plan, log=lines.append)
    assert result.in_use == ('a-seed0',) and result.finished == ('a-seed1',) and not result.failed
    assert not claimed(plan.runs[0])


def test_a_run_that_a_single_command_works_on_is_waited_for(small, monkeypatch):
    plan, lines = load_plan(small), []
    fake(monkeypatch, '')
    folder = RunFolder(plan.runs[0].path).locked()
    folder.__enter__()

    def log(line):
        lines.append(line)
        if line.startswith('waiting'):
            folder.__exit__(None, None, None)

    result = sweep(plan, log=log, poll=0.01)
    assert result.finished == ('a-seed1', 'a-seed0')
    waiting, = [line for line in lines if line.startswith('waiting')]
    assert waiting.endswith(': a-seed0')


def test_a_run_that_needs_one_in_use_waits_for_it(desk, monkeypatch):
    plan = load_plan(desk('title: t\nentries:\n  - {name: a, config: configs/small.yaml, steps: [train]}\n'
                          '  - {name: b, config: configs/small.yaml, set: {method: l1, target_macs: 0.5}, after: a}\n'))
    fake(monkeypatch, '')
    held = claim(plan.runs[0])
    held.__enter__()
    lines = []

    def log(line):
        lines.append(line)
        if line.startswith('waiting'):
            held.__exit__(None, None, None)

    result = sweep(plan, log=log, poll=0.01)
    assert result.finished == ('a', 'b') and lines[0].startswith('waiting')


@pytest.mark.slow
def test_a_folder_of_other_settings_is_not_skipped(desk, capfd):
    desk()
    assert main(['sweep', 'plan.yaml', '--only', 'block-gamma0.1-seed0', 'epochs=1']) == 0
    assert main(['sweep', 'plan.yaml', '--only', 'block-gamma0.1-seed0', 'epochs=1', 'learning_rate=0.1']) == 1
    assert 'was begun with other settings (learning_rate: 0.05 -> 0.1)' in capfd.readouterr().err
    run = load_plan('plan.yaml', overrides=['learning_rate=0.1']).runs[0]
    assert 'learning_rate: 0.05 -> 0.1' in progress(run).text


def test_dry_run_shows_states_and_costs_and_does_nothing(desk, tmp_path, capsys):
    desk()
    before = sorted(tmp_path.rglob('*'))
    assert main(['sweep', 'plan.yaml', '--dry-run']) == 0
    out = capsys.readouterr().out
    row = next(line.split() for line in out.splitlines() if line.startswith('dense-seed0'))
    # 1,197 images in batches of 64 are 18 steps; 8x8: stem 9·16·64; stage 1 (9·16·8 + 9·8·8 + 16·8)·64, stage 2
    # (9·8·8·2 + 8·8)·16, stage 3 (9·8·16 + 9·16·16 + 8·16)·4, dense 16·10
    macs = 9 * 16 * 64 + (9 * 16 * 8 + 9 * 8 * 8 + 16 * 8) * 64 + (9 * 8 * 8 * 2 + 8 * 8) * 16 \
        + (9 * 8 * 16 + 9 * 16 * 16 + 8 * 16) * 4 + 160
    assert row == ['dense-seed0', 'new', '2', '36', f'{macs:,}', f'{3 * macs * 64 * 36:.2e}', '-']
    assert '5 runs' in out and 'hours unknown' in out and sorted(tmp_path.rglob('*')) == before
    run = load_plan('plan.yaml').runs[4]
    write_text(run.path / 'timing.csv', 'epoch,train_seconds,images_per_second,evaluation_seconds\n1,3500,1,100\n')
    assert main(['sweep', 'plan.yaml', '--dry-run', '--only', 'dense']) == 0
    assert 'left to train: 2.00 hours' in capsys.readouterr().out
    assert main(['sweep', 'plan.yaml', '--where', '--smoke']) == 0
    assert capsys.readouterr().out.strip() == 'runs/smoke/plan'


# Processes

@pytest.mark.slow
def test_two_sweeps_at_once_share_the_runs_and_a_third_finds_nothing_to_do(desk, capfd):
    desk()
    processes = [start(), start()]
    outputs = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    begun = [re.findall(r'^\+ .* run=(\S+)', out, re.MULTILINE) for out, _ in outputs]
    runs = load_plan('plan.yaml').runs
    assert sorted(begun[0] + begun[1]) == sorted(str(run.path) for run in runs) and all(begun)
    assert all(epochs(run.path) == [1, 2] and progress(run).text == 'finished' for run in runs)
    assert main(['sweep', 'plan.yaml']) == 0
    out = capfd.readouterr().out
    assert '5 of 5 runs finished, 0 failed' in out and '+ ' not in out


@pytest.mark.slow
@pytest.mark.parametrize('number, status', [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_sweep_after_saving_and_a_rerun_continues(desk, number, status):
    desk(LONG)
    process = start()
    until(lambda: len(epochs('runs/plan/b')) >= 2)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == status and 'Traceback' not in err
    assert f'stopped by {number.name}, everything is saved; the same command continues' in err.splitlines()[-1]
    done = len(epochs('runs/plan/b'))
    run = load_plan('plan.yaml').runs[1]
    assert 2 <= done < 40 and progress(run).text == f'epoch {done} of 40' and not in_use(run)
    process = start()
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0 and f'continuing after epoch {done}' in out and 'runs/plan/a: finished' in out
    assert epochs('runs/plan/b') == list(range(1, 41)) and progress(run).text == 'finished'


@pytest.mark.slow
def test_a_sweep_that_is_killed_leaves_its_run_to_finish_and_a_rerun_does_the_rest(desk):
    desk(LONG)
    killed = start()
    until(lambda: len(epochs('runs/plan/b')) >= 2)
    killed.kill()          # its output stays open, as that of a terminal does
    killed.wait()
    run = load_plan('plan.yaml').runs[1]
    assert not claimed(run) and in_use(run)         # the training goes on by itself, and nothing trains beside it
    process = start()
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert 'waiting for other processes to finish: b' in out and 'runs/plan/b: train' not in out
    assert epochs('runs/plan/b') == list(range(1, 41)) and progress(run).text == 'finished'
