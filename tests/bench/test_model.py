"""One network: what is asked of its processes, the rows that come of the answers, and all of it for real."""
import csv

import numpy as np
import pytest

from sss_gluon import SSSError
from sss_gluon.bench import model, turn
from sss_gluon.bench.matrix import COMPACT, CUT, DENSE, INFERENCE, MXNET, ONNX, TRAINING, WITH, WITHOUT, Cell
from sss_gluon.bench.model import Plan, bench_model
from sss_gluon.bench.network import Subject
from sss_gluon.cli import main

QUICK = Subject('cifar_resnet20', quick=True)
SECONDS = {WITHOUT: 0.4, WITH: 0.5, CUT: 0.2, DENSE: 0.03, COMPACT: 0.01}


@pytest.fixture
def answers(monkeypatch):
    """Processes that answer at once; ``answers[form]`` replaces what one says, ``asked`` is what they were asked."""
    found = {'asked': []}

    class Process:
        def __init__(self, command, cores):
            self.form = model.json.loads(command[-1])['cell']['form']

        def ask(self, batch, calls):
            found['asked'].append((self.form, batch, calls))
            answer = found.get(self.form, dict(seconds=[SECONDS[self.form] * batch] * calls, bytes=3 * 2 ** 20))
            if isinstance(answer, str):
                raise SSSError(answer)
            return answer

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(model, 'Child', Process)
    return found


def test_rows_by_hand(answers):
    rows = sum(bench_model(Plan(QUICK, batches=(8, 2), rounds=3)), [])
    assert [(row['batch'], row['form']) for row in rows if row['use'] == TRAINING] == [
        (batch, form) for batch in ('2', '8') for form in (WITHOUT, WITH, CUT)]
    by_form = {row['form']: row for row in rows if row['batch'] == '8' and row['runtime'] == MXNET}
    assert float(by_form[WITH]['images_per_second']) == 2.0 and float(by_form[WITH]['speedup']) == 0.8
    assert float(by_form[CUT]['speedup']) == 2.0 and float(by_form[CUT]['ms_p95']) == 1600
    compact = by_form[COMPACT]
    fewer = int(by_form[DENSE]['macs']) / int(compact['macs'])
    assert fewer > 1.5 and float(compact['speedup']) == 3.0
    assert float(compact['gain']) == pytest.approx(3 / fewer, rel=1e-4)
    assert by_form[DENSE]['speedup'] == '' and compact['memory_mib'] == '3.0' and compact['image'] == '3x32x32'
    # one turn that is not counted, and three that are
    assert by_form[CUT]['calls'] == '3' and compact['calls'] == '30'
    assert answers['asked'].count((CUT, 8, 1)) == 4 and answers['asked'].count((COMPACT, 2, 10)) == 8


@pytest.mark.parametrize('answer', [dict(failed='out of memory'), 'killed'])
def test_what_fails_is_not_asked_again_and_stops_nothing(answer, answers):
    answers[WITH] = answer
    rows = sum(bench_model(Plan(QUICK, batches=(2, 8), rounds=2)), [])
    failed = [row for row in rows if row['failed']]
    assert [(row['form'], row['batch'], row['ms_p50']) for row in failed] == [(WITH, '2', ''), (WITH, '8', '')]
    assert [form for form, *_ in answers['asked']].count(WITH) == 1
    assert all(row['failed'] or float(row['ms_p50']) > 0 for row in rows)


def test_without_a_baseline_there_is_no_speed_up(answers):
    answers[WITHOUT] = 'killed'
    rows = sum(bench_model(Plan(QUICK, batches=(2,), rounds=1)), [])
    assert {row['speedup'] for row in rows if row['use'] == TRAINING} == {''}


def test_rows_come_batch_by_batch_and_what_is_left_becomes_less(answers):
    begun, seen = [], []
    for rows in bench_model(Plan(QUICK, batches=(2, 8), rounds=2), begin=lambda *what: begun.append(what)):
        assert {(row['use'], row['batch']) for row in rows} == {(rows[0]['use'], rows[0]['batch'])}
        seen.append(f'{rows[0]["use"]}, batch {rows[0]["batch"]}')
        assert len(begun) == 1 + len(seen)      # the next part begins after the rows of this one were taken
    assert seen == ['training, batch 2', 'training, batch 8', 'inference, batch 2', 'inference, batch 8']
    assert [what.replace(' in float32', '') for what, *_ in begun[1:]] == seen
    lefts = [left for *_, left in begun[1:]]
    assert lefts == pytest.approx([sum(seconds for _, seconds, _ in begun[i:]) for i in range(1, 5)])


@pytest.mark.parametrize('stop', [KeyboardInterrupt, SSSError('the disk is gone')])
def test_an_interruption_keeps_and_prints_what_was_measured(stop, answers, tmp_path, capsys, monkeypatch):
    """A process that dies of something else fails its own rows alone; here the second batch never begins."""
    measured = model._measure

    def once(processes, batch, *rest):
        if batch == 8:
            raise stop
        return measured(processes, batch, *rest)

    monkeypatch.setattr(model, '_measure', once)
    status = main(['bench', '--model', 'cifar_resnet20', '--quick', '--batch', '2,8', '--out', str(tmp_path)])
    assert status == (130 if stop is KeyboardInterrupt else 2)
    with open(tmp_path / 'cifar_resnet20.csv', newline='', encoding='utf-8') as file:
        assert [(row['form'], row['batch']) for row in csv.DictReader(file)] == [
            (form, '2') for form in (WITHOUT, WITH, CUT)]
    out, err = capsys.readouterr()
    assert 'with factors, cut' in out and 'training, with factors, MXNet, float32, batch 2: 1,000 ms' in err
    assert [file.name for file in tmp_path.iterdir()] == ['cifar_resnet20.csv']


@pytest.mark.parametrize('cell', [
    Cell(TRAINING, CUT, MXNET, '', 'float32', ('cpu0', 'cpu1')),
    Cell(TRAINING, WITHOUT, MXNET, '', 'float32', ('cpu',)),
    Cell(INFERENCE, DENSE, MXNET, '', 'float32', ('cpu',)), Cell(INFERENCE, COMPACT, ONNX, 'CPU', 'float32', ('cpu',))])
def test_a_cell_prepares_a_call_for_every_batch(cell, tmp_path):
    if cell.runtime == ONNX:
        pytest.importorskip('onnxruntime')
    sizes = model._export(Plan(QUICK), tmp_path, cell.runtime == ONNX, print)
    prepare = turn._open(cell, QUICK, tmp_path, sizes.shape, (0,))
    for batch in (2, 4, 2):
        output = prepare(batch)()
        output = output[0].numpy() if cell.runtime == ONNX else output.asnumpy()
        assert output.shape == ((batch,) if cell.use == TRAINING else (batch, 10)) and np.isfinite(output).all()
    if len(cell.devices) > 1:
        with pytest.raises(SSSError, match='3 images cannot be shared by 2 devices'):
            prepare(3)


def test_a_turn_ends_when_calls_take_long(monkeypatch):
    clock = iter(np.arange(0, 10, 0.2))
    monkeypatch.setattr(turn.time, 'perf_counter', lambda: next(clock))
    assert turn._seconds(lambda: None, 10) == pytest.approx([0.2, 0.2]) and turn._seconds(None, 3) == []


def test_float16_weights_give_about_the_same_outputs(tmp_path):
    """On the CPU, where ONNX Runtime computes in float32; on a card it was not run."""
    pytest.importorskip('onnxruntime')
    from sss_gluon.graph.onnx_runtime import open_onnx
    model._export(Plan(QUICK), tmp_path, True, print)
    images = np.random.RandomState(0).standard_normal((2, 3, 32, 32)).astype('float32')
    half = turn.float16(f'{tmp_path}/dense.onnx')
    expected, found = (open_onnx(given)(images)[0] for given in (tmp_path / 'dense.onnx', half))
    assert len(half) < 0.65 * (tmp_path / 'dense.onnx').stat().st_size and found.dtype == np.float32
    assert 0 < np.abs(expected - found).max() < 0.01 * np.abs(expected).max()


@pytest.mark.parametrize('settings, words', [
    (dict(batches=(0,)), 'batch 0 must be at least 1'), (dict(batches=()), 'batch 0'), (dict(rounds=0), 'rounds 0'),
    (dict(align=0), 'align 0')])
def test_plans_that_cannot_be(settings, words):
    with pytest.raises(SSSError, match=words):
        Plan(QUICK, **settings)


@pytest.mark.slow
def test_a_network_is_measured_in_processes_of_its_own(tmp_path, capsys):
    out = tmp_path / 'out'
    arguments = ['bench', '--model', 'cifar_resnet20', '--quick', '--batch', '4', '--devices', 'cpu0,cpu1', '--rounds',
                 '1', '--out', str(out)]
    assert main(arguments) == 0, capsys.readouterr()
    with open(out / 'cifar_resnet20.csv', newline='', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    assert {row['use'] for row in rows} == {TRAINING, INFERENCE, 'scaling'}
    assert not any(row['failed'] for row in rows) and all(float(row['ms_p50']) > 0 for row in rows)
    assert all(float(row['memory_mib']) > 1 for row in rows if row['use'] == TRAINING)
    assert {row['devices'] for row in rows if row['use'] == TRAINING} == {'cpu0', 'cpu0 cpu1'}
    said = capsys.readouterr().out
    assert 'compact' in said and 'the numbers mean nothing' in said and 'bench.html' in said
