"""How numbers are written, and structures counted by stage."""
from dataclasses import replace

import pytest

from sss_gluon.report.runs import read_runs
from sss_gluon.report.summary import MeanStd, kept_in_stages, stage_of, summarize
from sss_gluon.report.tables import Table, plus_minus, ranges


@pytest.mark.parametrize('value, form, text', [
    (None, '.2f', '–'), (MeanStd(8.314, None, 1), '.2f', '8.31'), (MeanStd(8.314, 0.239, 3), '.2f', '8.31 ± 0.24'),
    (MeanStd(1.5, 0.7, 2), '+.2f', '+1.50 ± 0.70'), (MeanStd(-1.5, 0.7, 2), '+.2f', '-1.50 ± 0.70')])
def test_plus_minus(value, form, text):
    assert plus_minus(value, form) == text


TABLE = Table('t', 'T', ['name', 'a', 'b', 'words'], [['x' * 20, '1' * 30, '2' * 30, 'word ' * 30],
                                                      ['y', '3', '4', 'few']], [], 'note ' * 30, words=1)


def test_columns_that_do_not_fit_follow_below_with_the_labels():
    lines = TABLE.plain().splitlines()
    assert max(map(len, lines)) <= 80
    cells = [line.split() for line in lines]
    assert ['y', '3'] in cells and ['y', '4'] in cells and ['y', 'few'] in cells    # 20 + 2 + 30 + 2 + 30 > 80
    assert sum(cell[:1] == ['name'] for cell in cells) == 3 and sum(cell.count('word') for cell in cells) == 30
    assert sum(cell.count('note') for cell in cells) == 30


def test_columns_that_fit_stay_together():
    table = replace(TABLE, text=[['x' * 20, '1' * 20, '2' * 24, 'w' * 10]])     # 20 + 2 + 20 + 2 + 24 + 2 + 10 = 80
    assert len(table.plain().split('\n\n')) == 1
    assert len(replace(table, text=[['x' * 20, '1' * 20, '2' * 25, 'w' * 10]]).plain().split('\n\n')) == 2


@pytest.mark.parametrize('numbers, text', [([], ''), ([3], '3'), ([0, 1, 2], '0–2'), ([0, 2, 3, 9], '0, 2–3, 9')])
def test_ranges(numbers, text):
    assert ranges(numbers) == text


@pytest.mark.parametrize('name, stage', [('stage1.0.conv2', 'stage1'), ('norm2_3', 'stage2'), ('conv5_1', 'stage5'),
                                         ('stage3_4_conv1', 'stage3'), ('stem.first.norm', 'stem'), ('fc6', 'fc6'),
                                         ('body.3', 'body')])
def test_stage_of(name, stage):
    assert stage_of(name) == stage


def test_kinds_are_told_apart_in_stages(tmp_path, write_run):
    """Groups of norm2 and blocks of norm3: 3 of 8 groups in both runs; one block in one of two."""
    sizes = {'stage1.0.norm2': 4, 'stage1.1.norm2': 4}
    paths = [write_run(tmp_path / str(seed), seed=seed, sizes=sizes, kind='group',
                       kept={'stage1.0.norm2': 1, 'stage1.1.norm2': 2 + seed}, factors=['group']) for seed in (0, 1)]
    summary, = summarize(read_runs(paths, pytest.fail), [], pytest.fail)
    assert kept_in_stages(summary) == 'groups: stage1 3.5/8'
