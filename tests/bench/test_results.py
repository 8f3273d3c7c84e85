"""The CSV, and the comparison with an earlier one, on results made by hand."""
import csv

import pytest

from sss_gluon import SSSError
from sss_gluon.bench.host import host
from sss_gluon.bench.isolated import Result
from sss_gluon.bench.results import cpu_model, machine, read_baseline, regressions, save
from sss_gluon.bench.settings import Settings
from sss_gluon.bench.table import TABLE
from sss_gluon.files import check_writable
from sss_gluon.timing import Measurement

ROWS = {row.name: row for row in TABLE}
COLUMNS = ['name', 'what', 'kind', 'bound', 'value', 'low', 'high', 'mark', 'note', *host((0, 1)), 'rounds', 'quick']
STEP, ACTIVATION, PIPELINE, COMPACT = 'step-cifar_resnet20', 'activation-cifar_resnet20', 'pipeline', 'compact'


def result(name, value):
    return Result(ROWS[name], Measurement(value, 0.9 * value, 1.1 * value, 'a 1 ms, b 2 ms'))


def written(path, values):
    save(path, [result(name, value) for name, value in values.items()], machine(Settings()))
    return path


def test_a_csv_holds_rows_and_machine(tmp_path):
    results = [result(STEP, 1.02), result(ACTIVATION, 1.5), Result(ROWS['pytorch'], skipped='needs --torch-python'),
               Result(ROWS[PIPELINE], failed='no images, at all')]
    save(tmp_path / 'new' / 'bench.csv', results, machine(Settings(rounds=20, cores=(0, 1))))
    with open(tmp_path / 'new' / 'bench.csv', newline='', encoding='utf-8') as file:
        reader = csv.DictReader(file)
        lines = list(reader)
    assert reader.fieldnames == COLUMNS and [line['name'] for line in lines] \
        == [STEP, ACTIVATION, 'pytorch', PIPELINE]
    assert [[line[key] for key in ('kind', 'bound', 'value', 'low', 'high', 'mark', 'note')] for line in lines] == [
        ['at most', '1.02', '1.02', '0.918', '1.122', 'met', 'a 1 ms, b 2 ms'],
        ['report', '', '1.5', '1.35', '1.65', 'report only', 'a 1 ms, b 2 ms'],
        ['at least', '1.0', '', '', '', 'skipped', 'needs --torch-python'],
        ['at least', '20.0', '', '', '', 'failed', 'no images, at all']]
    for line in lines:
        assert (line['cores'], line['rounds'], line['quick'], line['mxnet']) == ('2', '20', 'no', '1.9.1')
        assert line['cpu'] == cpu_model() != '' and line['command'].startswith('sss-gluon')


@pytest.mark.parametrize('before, after, tolerance, worse', [
    ({STEP: 1.00}, {STEP: 1.09}, 0.1, []),
    ({STEP: 1.00}, {STEP: 1.11}, 0.1, ['step-cifar_resnet20: 1 -> 1.11 (at most 1.02)']),
    ({STEP: 1.00}, {STEP: 1.11}, 0.2, []),
    ({STEP: 1.00}, {STEP: 1.01}, 0.0, ['step-cifar_resnet20: 1 -> 1.01 (at most 1.02)']),
    ({STEP: 1.50}, {STEP: 1.01}, 0.0, []),                                  # less is better here
    ({PIPELINE: 100.0}, {PIPELINE: 92.0}, 0.1, []),
    ({PIPELINE: 100.0}, {PIPELINE: 90.0}, 0.1, ['pipeline: 100 -> 90 (at least 20)']),      # 100/90 is 1.11
    ({PIPELINE: 100.0}, {PIPELINE: 500.0}, 0.0, []),                        # and more there
    ({ACTIVATION: 1.4}, {ACTIVATION: 3.0}, 0.1, []),                        # reported only
    ({COMPACT: 2.0}, {COMPACT: 3.0}, 0.1, ['compact: 2 -> 3 (at most 10)']),
    ({STEP: 1.0}, {PIPELINE: 1.0}, 0.1, []),                                # not measured before
    ({STEP: 1.0, PIPELINE: 100.0}, {STEP: 1.2, PIPELINE: 50.0}, 0.1,
     ['step-cifar_resnet20: 1 -> 1.2 (at most 1.02)', 'pipeline: 100 -> 50 (at least 20)']),
])
def test_rows_that_are_worse_than_the_baseline(before, after, tolerance, worse, tmp_path):
    baseline = read_baseline(written(tmp_path / 'before.csv', before), Settings())
    assert regressions([result(name, value) for name, value in after.items()], baseline, tolerance) == worse


def test_seconds_of_another_cpu_are_not_compared_but_ratios_are(tmp_path, monkeypatch):
    baseline = read_baseline(written(tmp_path / 'before.csv', {COMPACT: 2.0, STEP: 1.0}), Settings())
    monkeypatch.setattr('sss_gluon.bench.results.cpu_model', lambda: 'another')
    found = regressions([result(COMPACT, 9.0), result(STEP, 1.5)], baseline, 0.1)
    assert found == ['step-cifar_resnet20: 1 -> 1.5 (at most 1.02)']


def test_what_was_skipped_or_failed_is_not_compared(tmp_path):
    save(tmp_path / 'before.csv', [Result(ROWS['pytorch'], skipped='no torch'), result(STEP, 1.0)], machine(Settings()))
    baseline = read_baseline(tmp_path / 'before.csv', Settings())
    assert list(baseline) == [STEP]
    assert regressions([result('pytorch', 0.1), Result(ROWS[STEP], failed='?')], baseline, 0.1) == []


DAMAGED = [
    ('', 'no column name'),
    ('epoch,loss\n1,2\n', 'no column name'),
    ('name,value,cpu,quick\n', 'no result'),
    ('name,value,quick\npipeline,3,no\n', 'no column cpu'),
    ('name,value,cpu,quick\npipeline,30,x,no\npipe\n', 'line 3'),
    ('name,value,cpu,quick\npipeline,30,x,no,more\n', 'line 2'),
    ('name,value,cpu,quick\npipelines,30,x,no\n', "line 2: there is no benchmark 'pipelines'"),
    ('name,value,cpu,quick\npipeline,fast,x,no\n', "line 2: the value 'fast' is not a positive number"),
    ('name,value,cpu,quick\npipeline,nan,x,no\n', "the value 'nan' is not a positive number"),
    ('name,value,cpu,quick\npipeline,0,x,no\n', "the value '0' is not a positive number"),
    ('name,value,cpu,quick\npipeline,30,x,yes\n', 'was measured with --quick; only equal measurements'),
    ('name,value,cpu,quick\n"pipeline,30,x,no\n', 'line 2'),
    (b'\x89PNG\r\n\x1a\n\xff\xfe', 'cannot be read: '),
]


@pytest.mark.parametrize('content, words', DAMAGED)
def test_a_damaged_or_foreign_baseline(content, words, tmp_path):
    path = tmp_path / 'before.csv'
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SSSError) as error:
        read_baseline(path, Settings())
    text = str(error.value)
    assert text.startswith(f'baseline {path}') and words in text and '\n' not in text


def test_a_baseline_that_is_missing_or_of_full_runs(tmp_path):
    with pytest.raises(SSSError, match='nothing.csv cannot be read: No such file or directory'):
        read_baseline(tmp_path / 'nothing.csv', Settings())
    with pytest.raises(SSSError, match='cannot be read: Is a directory'):
        read_baseline(tmp_path, Settings())
    with pytest.raises(SSSError, match='was measured without --quick'):
        read_baseline(written(tmp_path / 'before.csv', {STEP: 1.0}), Settings(quick=True))


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / 'file').write_text('mine')
    for path in (tmp_path, tmp_path / 'file' / 'bench.csv'):
        with pytest.raises(SSSError, match=f'^cannot write {path}: '):
            check_writable(path)
    check_writable(tmp_path / 'file')
    assert (tmp_path / 'file').read_text() == 'mine' and len(list(tmp_path.iterdir())) == 1
