"""How a network scales: by hand, over two devices of one process, and over two workers of a job."""
import csv

import numpy as np
import pytest

from sss_gluon import SSSError
from sss_gluon.bench.job import STRONG, WEAK, _scaled, scaling
from sss_gluon.bench.model import Plan
from sss_gluon.bench.network import Subject
from sss_gluon.bench.workers import LARGE
from sss_gluon.train.workers import Workers

QUICK = Subject('cifar_resnet20', quick=True)


def test_four_devices_of_two_workers_by_hand():
    """One device: 8 images in 0.1 s. All: 32 in 0.125 s, or 8 in 0.05 s; sums at 100 MB/s after 1 ms."""
    large = 0.001 + 4 * LARGE / 1e8
    seconds = {key: np.array([value] * 3) for key, value in {
        'single': 0.1, 'alone': 0.1, WEAK: 0.125, 'alone strong': 0.03, STRONG: 0.05, 'tiny': 0.001,
        'large': large}.items()}
    weak = _scaled(seconds, WEAK, 8, 32, 4, 2, size=2_000_000)
    assert float(weak['images_per_second']) == 256 and float(weak['speedup']) == 3.2
    assert [float(weak[f'efficiency{end}']) for end in ('', '_low', '_high')] == [0.8] * 3
    assert float(weak['share']) == pytest.approx(0.2) and float(weak['gigabytes_per_second']) == pytest.approx(0.1)
    # 2 MB at 0.1 GB/s take 20 ms, and the message 1 ms: 32 images in 121 ms on four devices
    assert float(weak['predicted']) == pytest.approx((32 / 0.121) / 80 / 4, rel=1e-3)
    strong = _scaled(seconds, STRONG, 8, 8, 4, 2, size=2_000_000)
    assert float(strong['speedup']) == 2.0 and float(strong['efficiency']) == 0.5
    assert float(strong['share']) == pytest.approx(0.4)
    assert float(strong['predicted']) == pytest.approx((8 / 0.051) / 80 / 4, rel=1e-3)


def test_one_process_has_no_sums_to_predict():
    seconds = {key: np.array([0.1, 0.1]) for key in ('single', 'alone', WEAK)}
    found = _scaled(seconds, WEAK, 8, 16, 2, 1, size=100)
    assert float(found['efficiency']) == 1.0 and found['predicted'] == found['share'] == ''


def test_a_job_has_one_precision():
    with pytest.raises(SSSError, match='one precision, not float32,bfloat16'):
        next(scaling(Plan(QUICK, precisions=('float32', 'bfloat16')), Workers()))


def test_two_devices_of_one_process():
    """A batch of 3 cannot be shared by two devices."""
    rows = sum(scaling(Plan(QUICK, ('cpu0', 'cpu1'), batches=(4, 3), rounds=1), Workers()), [])
    assert [(row['form'], row['batch'], row['workers'], row['devices']) for row in rows] == [
        (WEAK, '3', '1', 'cpu0 cpu1'), (WEAK, '4', '1', 'cpu0 cpu1'), (STRONG, '4', '1', 'cpu0 cpu1')]
    assert all(float(row['efficiency']) > 0 and row['mxnet'] for row in rows)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_workers_of_a_job_and_the_first_one_writes(tmp_path, monkeypatch, capfd):
    from sss_gluon.cli import main
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    out = tmp_path / 'out'
    assert main(['launch', '--workers', '2', '--logs', str(tmp_path / 'logs'), 'bench', '--model', 'cifar_resnet20',
                 '--quick', '--batch', '4', '--rounds', '1', '--out', str(out)]) == 0, capfd.readouterr()
    with open(out / 'cifar_resnet20-2x1.csv', newline='', encoding='utf-8') as file:
        weak, strong = csv.DictReader(file)
    assert (weak['form'], strong['form'], weak['workers']) == (WEAK, STRONG, '2')
    # the gradients of the narrow network, in float32
    assert float(weak['megabytes']) == pytest.approx(4 * float(weak['params']) / 1e6, rel=0.02)
    assert float(weak['predicted']) > 0 and (out / 'bench.html').is_file()
    said = capfd.readouterr().out
    assert said.count('quartiles') == 1 and (tmp_path / 'logs/worker-1.log').read_text('utf-8').count('weak') == 0
