"""The verb: what it checks before it measures, what it prints and writes, and when it fails."""
import csv
import re
from pathlib import Path

import pytest

from sss_gluon.bench import isolated, run
from sss_gluon.bench.expected import START
from sss_gluon.bench.isolated import Result, own_cores
from sss_gluon.bench.settings import Settings
from sss_gluon.bench.table import AT_LEAST, AT_MOST, REPORT, TABLE, select
from sss_gluon.cli import main
from sss_gluon.factors import scaling_factors
from sss_gluon.timing import Measurement

STEP, ACTIVATION = 'step-cifar_resnet20', 'activation-cifar_resnet20'


@pytest.fixture(autouse=True)
def unbound(monkeypatch):
    for name in isolated.BINDING:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def values(monkeypatch):
    """What the processes answer, by row; and the rows they were started for, in ``values['started']``."""
    found = {'started': []}

    class Process:
        def __init__(self, command, cores):
            self.name = command[-2]

        def ask(self):
            found['started'].append(self.name)
            answer = found.get(self.name, 1.0)
            if not isinstance(answer, float):
                return answer
            row = next(row for row in TABLE if row.name == self.name)
            keys = [other.key for other in TABLE if other.group == row.group]
            return dict(measured={key: [answer, answer - 0.01, answer + 0.01, 'a, b'] for key in keys})

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(isolated, 'Child', Process)
    return found


# The table

def test_the_table_is_complete():
    names = [row.name for row in TABLE]
    assert len(set(names)) == len(names)
    bounds = {(row.kind, row.bound) for row in TABLE}
    assert bounds >= {(AT_MOST, 1.02), (REPORT, None), (AT_MOST, 0.5),
                      (AT_LEAST, 1.0), (AT_LEAST, 20.0), (AT_MOST, 10.0), (AT_LEAST, 0.9), (AT_LEAST, 1.5),
                      (AT_MOST, 0.75), (AT_MOST, 2.0)}
    assert len({(row.group, row.key) for row in TABLE}) == len(TABLE)


@pytest.mark.parametrize('kind, bound, value, met', [
    (AT_MOST, 1.03, 1.03, True), (AT_MOST, 1.03, 1.031, False), (AT_LEAST, 20, 20, True), (AT_LEAST, 20, 19.9, False),
    (REPORT, None, 7, None)])
def test_met(kind, bound, value, met):
    row = TABLE[0]._replace(kind=kind, bound=bound)
    assert row.met(value) is met
    assert Result(row, Measurement(value, 0, 0)).mark == {True: 'met', False: 'not met', None: 'report only'}[met]


@pytest.mark.parametrize('pattern, names', [
    ('^step', ['step-cifar_resnet20', 'step-cifar_resnext20', 'step-cifar_vgg16']), ('pytorch', ['pytorch']),
    ('gain.*vgg.*8', ['gain-onnx-cifar_vgg16-batch8', 'gain-mxnet-cifar_vgg16-batch8'])])
def test_select(pattern, names):
    assert [row.name for row in select(pattern)] == names


def test_rows_for_maintainers_are_measured_if_they_are_asked_for():
    kept = {'pytorch', ACTIVATION}
    assert {row.name for row in TABLE} - {row.name for row in select()} == kept
    assert select(everything=True) == TABLE and [row.name for row in select('pytorch')] == ['pytorch']


# What it measures

def test_rows_of_one_measurement_are_measured_once(values):
    results = run.bench('cifar_resnet20$', quick=True).results
    names = [result.row.name for result in results]
    assert {STEP, ACTIVATION} < set(names) and values['started'].count(STEP) == 1
    assert ACTIVATION not in values['started'] and all(result.measured.value == 1.0 for result in results)


@pytest.mark.parametrize('kwargs, rounds', [({}, 20), (dict(quick=True), 3), (dict(quick=True, rounds=7), 7)])
def test_rounds(kwargs, rounds, values, monkeypatch):
    asked = []
    monkeypatch.setattr(run, 'measure', lambda rows, settings, begin: asked.append(settings) or [])
    run.bench(**kwargs)
    assert asked[0].rounds == rounds and len(asked[0].cores) == (1 if kwargs else len(own_cores()))


# The command line

def test_list_measures_nothing(values, capsys):
    assert main(['bench', '--list', '--only', 'update']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[::2] == ['update-default: ≤ 0.50', 'update-own: ≤ 0.50', 'update-each: report']
    assert lines[1] == '    trainer.step of cifar_resnet164: apgnag ÷ nag' and not values['started']


def test_all_that_is_printed_of_all_rows_fits_a_terminal(values, capsys):
    assert main(['bench', '--list']) == main(['bench', '--quick', '--all']) == 0
    out, err = capsys.readouterr()
    assert max(map(len, out.splitlines())) <= 80 and len(err.splitlines()) == len(TABLE)


def test_what_begins_and_the_time_that_is_left(values):
    values['step-cifar_vgg16'] = dict(failed='out of memory')
    begun = []
    run.bench('^(step|activation)', rounds=40, begin=lambda *what: begun.append(what))
    rows = [row for row in TABLE if row.name.startswith('step')]
    seconds = [START + 2 * row.seconds for row in rows]         # 40 rounds instead of 20
    assert [what for what, *_ in begun] == [row.name for row in rows]
    assert [found for _, found, _ in begun] == seconds
    assert [left for *_, left in begun] == pytest.approx([sum(seconds[i:]) for i in range(3)])


def test_the_help_and_the_readme_say_how_long_the_default_set_takes(capsys):
    expected = {row.group: row.expected(Settings()) for row in select()}
    with pytest.raises(SystemExit):
        main(['bench', '--help'])
    for text in (capsys.readouterr().out, (Path(run.__file__).parent / 'README.md').read_text('utf-8')):
        said, = re.findall(r'(\d+) minutes on (?:two )?quiet cores', ' '.join(text.split()))
        assert abs(int(said) - sum(expected.values()) / 60) < 5


def test_an_interruption_leaves_the_rows_that_were_finished(values, tmp_path, capsys, monkeypatch):
    def interrupted(row, settings):
        if row.name == 'step-cifar_vgg16':
            raise KeyboardInterrupt
        return dict(measured={'folded': [1.0, 0.9, 1.1, 'a, b']})

    monkeypatch.setattr(isolated, '_measure', interrupted)
    path = tmp_path / 'bench.csv'
    assert main(['bench', '--quick', '--only', '^step', '--csv', str(path)]) == 130
    with open(path, newline='', encoding='utf-8') as file:
        assert [line['name'] for line in csv.DictReader(file)] == ['step-cifar_resnet20', 'step-cifar_resnext20']
    said = capsys.readouterr().err.splitlines()
    assert [line.split(':')[0] for line in said] == ['step-cifar_resnet20', 'step-cifar_resnext20', 'sss-gluon bench']
    assert [file.name for file in tmp_path.iterdir()] == ['bench.csv']


def test_table_and_csv(values, tmp_path, capsys):
    values[STEP] = 1.05
    values['pytorch'] = dict(skipped='needs --torch-python')
    path = tmp_path / 'bench.csv'
    assert main(['bench', '--quick', '--only', '^(step|activation)-cifar_resnet20|pytorch', '--csv', str(path)]) == 0
    out, err = capsys.readouterr()
    assert [line.split(':')[0] for line in err.splitlines()] == [STEP, ACTIVATION, 'pytorch']     # one by one
    table = [re.split(r' {2,}', line) for line in out.splitlines()]
    assert table[0][:4] == ['what', 'measured', 'quartiles', 'bound']
    assert [row[1:] for row in table[2:] if len(row) > 3] == [
        ['1.050', '1.040 to 1.060', '≤ 1.02', 'not met'], ['1.050', '1.040 to 1.060', 'report', 'report only'],
        ['-', '-', '≥ 1.00', 'skipped']]
    assert 'cores: 1 of ' in out and 'pytorch: skipped (needs --torch-python)' in out
    assert table[-1][0].startswith('--quick: ')
    with open(path, newline='', encoding='utf-8') as file:
        lines = list(csv.DictReader(file))
    assert [(line['name'], line['mark'], line['quick']) for line in lines] == [
        (STEP, 'not met', 'yes'), (ACTIVATION, 'report only', 'yes'), ('pytorch', 'skipped', 'yes')]


def test_a_regression_fails_after_the_table_is_printed(values, tmp_path, capsys):
    path = str(tmp_path / 'bench.csv')
    arguments = ['bench', '--quick', '--only', '^step']
    assert main(arguments + ['--csv', path]) == 0
    assert main(arguments + ['--baseline', path]) == 0
    capsys.readouterr()
    values['step-cifar_vgg16'] = 1.2
    assert main(arguments + ['--baseline', path, '--tolerance', '0.25']) == 0
    assert main(arguments + ['--baseline', path]) == 2
    out, err = capsys.readouterr()
    assert 'of cifar_vgg16' in out and '1.200' in out
    assert err.splitlines()[-1] == (f'sss-gluon bench: worse than in {path} by more than 10 %: step-cifar_vgg16: 1 -> '
                                    f'1.2 (at most 1.02)')


def test_a_row_that_fails_does_not_stop_the_others(values, capsys):
    values['step-cifar_resnext20'] = dict(failed='out of memory')
    assert main(['bench', '--quick', '--only', '^step']) == 2
    out, err = capsys.readouterr()
    assert values['started'][-1] == 'step-cifar_vgg16' and 'failed (out of memory)' in out
    assert err.splitlines()[-1] == 'sss-gluon bench: could not be measured: step-cifar_resnext20 (out of memory)'


ERRORS = [
    (['--only', 'stepp'], "--only 'stepp' matches no benchmark; did you mean 'step-"),
    (['--only', '('], "--only '(' is not a regular expression"),
    (['--rounds', '0'], '--rounds 0 must be at least 1'),
    (['--tolerance', '-1'], '--tolerance -1.0 must be a share'),
    (['--tolerance', 'nan'], '--tolerance nan must be a share'),
    (['--csv', 'file/bench.csv'], 'cannot write file/bench.csv: '),
    (['--csv', '.'], 'cannot write .: it is a folder'),
    (['--baseline', 'nothing.csv'], 'baseline nothing.csv cannot be read: No such file or directory'),
    (['--baseline', 'file'], 'baseline file has no column name, '),
    (['--torch-python', '/nowhere/python'], '--torch-python /nowhere/python cannot be run: No such file or directory'),
    (['--torch-python', 'false'], '--torch-python false cannot import torch: status 1'),
]


@pytest.mark.parametrize('arguments, words', ERRORS, ids=[' '.join(arguments) for arguments, _ in ERRORS])
def test_errors_are_one_line_before_anything_is_measured(arguments, words, values, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'file').write_text('mine')
    assert main(['bench', *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == '' and err.count('\n') == 1 and err.startswith('sss-gluon bench: ') and words in err
    assert not values['started'] and [path.name for path in tmp_path.iterdir()] == ['file']


def test_threads_that_are_bound_already_are_an_error(monkeypatch, capsys):
    monkeypatch.setenv('OMP_PROC_BIND', 'true')
    assert main(['bench', '--only', 'compact']) == 2
    assert 'OMP_PROC_BIND is set, which hides the other cores' in capsys.readouterr().err
    monkeypatch.delenv('OMP_PROC_BIND')
    assert len(own_cores()) in (1, 2) and len(own_cores(1)) == 1


BLOCKS = sorted({(row.arguments['name'], row.arguments['neuron_block']) for row in TABLE
                 if row.arguments.get('neuron_block', 1) > 1})


@pytest.mark.parametrize('name, channels', BLOCKS)
def test_layers_of_quick_networks_have_several_neurons(name, channels):
    settings = Settings(quick=True)
    net = settings.net(name, factors=['neuron'], neuron_block=settings.neuron_block(channels))
    assert min(factor.parameter.shape[0] for factor in scaling_factors(net)) > 1


@pytest.mark.slow
def test_everything_runs_in_processes_of_its_own(tmp_path, capsys):
    """All rows, small: each is measured, or skipped for want of a package."""
    path = tmp_path / 'bench.csv'
    assert main(['bench', '--quick', '--all', '--rounds', '1', '--csv', str(path)]) == 0, capsys.readouterr().err
    with open(path, newline='', encoding='utf-8') as file:
        lines = {line['name']: line for line in csv.DictReader(file)}
    assert list(lines) == [row.name for row in TABLE]
    share = float(lines['workers-share-cifar_resnet20']['value'])
    for name, line in lines.items():
        if line['mark'] == 'skipped':
            assert name.startswith(('pytorch', 'onnx', 'gain-onnx', 'bfloat16')) and line['note']
        else:
            # The time of an allreduce is a difference of two times, which noise can make negative: its share of the
            # step, and what it is of the prediction, have one sign.
            least = -1.0 if name.startswith('workers-share') else 0.0
            sign = -1.0 if name.startswith('workers-model') and share < 0 else 1.0
            assert sign * float(line['value']) > least and line['mark'] in ('met', 'not met', 'report only')
