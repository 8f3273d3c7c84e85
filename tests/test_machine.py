"""What a process says of the machine it runs on."""
from sss_gluon import machine


def test_threads(monkeypatch):
    monkeypatch.setattr(machine.os, 'sched_getaffinity', lambda number: {0, 1, 2})
    for asked, expected in (('2', 2), ('8', 3), ('0', 1), ('', 3), ('2,2', 3)):
        monkeypatch.setenv('OMP_NUM_THREADS', asked)
        assert machine.threads() == expected


def test_description(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, 'CPU_INFO', tmp_path / 'cpuinfo')
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    (tmp_path / 'cpuinfo').write_text('processor\t: 0\nmodel name\t: A CPU: large\n')
    assert machine.describe('cpu1') == 'A CPU: large, 1 thread' and machine.describe('gpu0') == 'gpu0'
