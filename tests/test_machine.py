"""What a process says of the machine it runs on."""
import os

import pytest

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


@pytest.mark.parametrize('text, expected', [('', 1), ('flags\t\t: sse avx2\n', 8), ('Features\t: fp asimd\n', 1),
                                            ('flags\t: avx2 avx512f avx512bw\n', 16)])
def test_channels_that_are_computed_together(text, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(machine, 'CPU_INFO', tmp_path / 'cpuinfo')
    assert machine.channel_block() == 1
    (tmp_path / 'cpuinfo').write_text(f'processor\t: 0\n{text}')
    assert machine.channel_block() == expected


SMI = """#!/bin/sh
case "$*" in
    *memory.used*--id=1) echo '512 MiB' ;;
    *memory.used*--id=GPU-5) echo '700 MiB' ;;
    *--id=3) echo 'NVIDIA T4, 525.1, 15360 MiB, 300 MHz, 1590 MHz, 5000 MHz, 70.00 W' ;;
    *memory.used*) echo '[N/A]' ;;
    *) echo 'NVIDIA A100, 525.1, 40960 MiB, 1410 MHz, 1410 MHz, 1215 MHz, 400.00 W'
       echo 'NVIDIA T4, 525.1, 15360 MiB, 300 MHz, 1590 MHz, 5000 MHz, 70.00 W' ;;
esac
"""


def test_cards_as_nvidia_smi_names_them(tmp_path, monkeypatch):
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    monkeypatch.setenv('PATH', str(tmp_path))
    assert machine.cards() == {} and machine.card_memory(0) is None
    program = tmp_path / 'nvidia-smi'
    program.write_text(SMI)
    program.chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}:/bin:/usr/bin')
    found = machine.cards()
    assert found['card'] == 'NVIDIA A100 | NVIDIA T4' and found['driver'] == '525.1 | 525.1'
    assert found['card_clock_max'] == '1410 MHz | 1590 MHz' and list(found) == list(machine.CARD_QUERIES)
    assert machine.card_memory(1) == 512 * 2 ** 20 and machine.card_memory(0) is None
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '3')
    assert machine.cards()['card'] == 'NVIDIA T4'
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '1,GPU-5')       # as a scheduler sets it
    assert [machine.card_memory(number) for number in (0, 1)] == [512 * 2 ** 20, 700 * 2 ** 20]
    program.write_text('#!/bin/sh\nexit 9\n')
    assert machine.cards() == {}


@pytest.mark.parametrize('load, said', [(0.0, False), (3.0, False), (3.2, True)])
def test_a_busy_machine(load, said, monkeypatch):
    """From 1.5 for each core."""
    monkeypatch.setattr(os, 'getloadavg', lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(os, 'sched_getaffinity', lambda process: {0, 1})
    assert (f'{load:.1f} on 2 cores' in machine.busy()) == said and bool(machine.busy()) == said
