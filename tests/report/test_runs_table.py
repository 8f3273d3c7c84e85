"""runs.csv stands for the runs: a report made from it is the report that wrote it."""
import csv
import os
import shutil
from pathlib import Path

import pytest

from sss_gluon.report.build import report
from sss_gluon.report.runs_table import read_runs_table


@pytest.fixture(scope='session')
def first(write_run, once):
    """A folder with two runs without factors, two with, one that was cut from another, and the report of all."""
    def fill(folder):
        for seed in (0, 1):
            write_run(folder / f'runs/none-{seed}', (0.9079, 0.9034)[seed], seed=seed, factors=[])
            write_run(folder / f'runs/block-{seed}', 0.89, seed=seed, factors=['block'], gamma=1e-05,
                      kept={'stage1.0.conv2': 0, 'stage2.1.conv2': seed})
        write_run(folder / 'runs/l1', 0.88, 0.9, method='l1', source=str(folder / 'runs/none-0'), target_macs=0.6,
                  method_options={'kinds': ['block'], 'ignored_layers': ['it is', 'a, b']},
                  model_options={'depths': [3, 3, 3]})
        before = os.getcwd()
        os.chdir(folder)
        try:
            report(['runs'], 'first', 'A title', log=pytest.fail)
        finally:
            os.chdir(before)
    return once('a-report', fill)


@pytest.fixture
def table(first, tmp_path, monkeypatch):
    """runs.csv of a copy of it, as the current folder."""
    for name in ('runs', 'first'):
        shutil.copytree(first / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path / 'first/runs.csv'


def test_a_report_of_it_is_the_same(table, tmp_path):
    again = report([table], 'second', 'A title', log=pytest.fail)
    names = {path.name for path in (tmp_path / 'first').iterdir()}
    assert names == {path.name for path in again.files} >= {'kept.csv', 'results.csv', 'report.html'}
    for name in ('runs.csv', 'results.csv', 'kept.csv', 'report.md'):
        assert (tmp_path / 'second' / name).read_bytes() == (tmp_path / 'first' / name).read_bytes(), name
    both = report(['runs', table], 'third', 'A title', log=pytest.fail)     # every run once
    assert both.text == again.text


def test_its_commands_name_no_folder_of_the_machine(table, first):
    with open(table, newline='', encoding='utf-8') as file:
        rows = {row['run']: row for row in csv.DictReader(file)}
    assert str(first) not in table.read_text('utf-8')
    assert rows['runs/block-1']['command'] == ('sss-gluon train run=runs/block-1 seed=1 \'factors=["block"]\' epochs=2 '
                                               'gamma=1e-05')
    assert 'source=runs/none-0' in rows['runs/l1']['command']


DAMAGE = {      # what is replaced, by what, what is said, runs that are left
    'not there': (None, None, 'No such file', 0),
    'another table': ('command', 'orders', 'has no column command', 0),
    'another program': ('sss-gluon train run=runs/l1', 'rm -r runs/l1', 'is not a command that trains', 4),
    'a quote': ('sss-gluon train run=runs/l1', "sss-gluon train 'run=runs/l1", 'the command is', 4),
    'a setting': ('gamma=1e-05', 'gama=1e-05', "'gama'", 3),
    'a number': (',9.21,', ',nine,', 'top1_error', 4),
    'an error of more than all': (',9.21,', ',921,', 'top1_error', 4),
    'more kept than there are': ('""block"", 0, 1', '""block"", 2, 1', 'structures_kept is', 3),
    'no list': ('"[[""stage1.0.conv2""', '"[""stage1.0.conv2""', 'structures_kept is', 2),
}


@pytest.mark.parametrize('case', DAMAGE)
def test_damage_costs_a_line(case, table, notes):
    old, new, words, left = DAMAGE[case]
    if old is None:
        table.unlink()
    else:
        text = table.read_text('utf-8')
        assert old in text
        table.write_text(text.replace(old, new), 'utf-8')
    assert len(read_runs_table(table, notes.append)) == left
    assert notes and all(words in note and str(table) in note and '\n' not in note for note in notes)


def test_a_row_cut_short(table, notes):
    table.write_text(table.read_text('utf-8')[:-300], 'utf-8')
    assert len(read_runs_table(table, notes.append)) == 4 and len(notes) == 1


CONFIGS = Path(__file__).parents[2] / 'configs'
RESULTS = {'fashion-mnist/results/runs.csv': ('fashion-mnist', 50),       # {table: (data, number of runs)}
           'fashion-mnist/results/budgets.csv': ('fashion-mnist', 94),
           'cifar10-short/results/runs.csv': ('folder', 44)}


def test_all_committed_results_are_listed():
    assert {path.relative_to(CONFIGS).as_posix() for path in CONFIGS.glob('*/results/*.csv')} == set(RESULTS)


@pytest.mark.parametrize('table', RESULTS)
def test_committed_results_can_be_reported(table):
    data, runs = RESULTS[table]
    results = read_runs_table(CONFIGS / table, pytest.fail)
    assert len(results) == runs and all(result.machine and result.seconds for result in results)
    assert all(result.config.data == data and not result.path.is_absolute() for result in results)
