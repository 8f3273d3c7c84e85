"""The measurement of memory sees what is known to have been allocated."""
import json
import sys

import pytest

from sss_gluon.bench import memory
from sss_gluon.bench.child import Child
from sss_gluon.bench.memory import peak, training_memory
from sss_gluon.bench.settings import Settings, Skipped

ALLOCATE = '''
import json, sys
from sss_gluon.bench.memory import peak
before = peak()
print(json.dumps({}), flush=True)
for _ in sys.stdin:
    text = bytearray(200 * 2 ** 20)         # zeros that are not touched are not resident: write one byte a page
    text[::4096] = b'x' * len(text[::4096])
    del text
    print(json.dumps(dict(bytes=peak() - before)), flush=True)
'''


def test_200_mib_that_were_freed_again_are_seen():
    large = bytearray(b'x') * (400 * 2 ** 20)       # of the process that starts the other one: must not count
    with Child([sys.executable, '-c', ALLOCATE], (0,)) as child:
        found = child.ask()['bytes']
        assert len(large) > found
        assert 199 * 2 ** 20 < found < 215 * 2 ** 20
        assert child.ask()['bytes'] < 1.08 * found     # the same memory again


def test_peak_without_the_kernels_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, 'STATUS', tmp_path / 'status')
    with pytest.raises(Skipped, match='no VmHWM'):
        peak()
    (tmp_path / 'status').write_text('Name:\tpython\nVmPeak:\t  900 kB\nVmHWM:\t  123 kB\nVmRSS:\t  99 kB\n')
    assert peak() == 123 * 1024


def test_both_trainings_are_measured_in_processes_of_their_own(monkeypatch):
    """Of three pairs of processes the medians count."""
    asked = []
    sizes = iter([110, 100, 150, 100, 120, 110])        # with, without, with, ... in MiB

    class Process:
        def __init__(self, command, cores):
            asked.append(json.loads(command[-1]))

        def ask(self):
            return dict(bytes=next(sizes) * 2 ** 20)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(memory, 'Child', Process)
    monkeypatch.setattr(memory, 'PROCESSES', 3)
    found = training_memory(Settings(), 'cifar_vgg16')['memory']
    assert [request['factors'] for request in asked] == [None, []] * 3
    assert found.value == pytest.approx(1.2) and found.note == 'with 120.0 MiB, without 100.0 MiB'
    # Ratios of the pairs: 1.1, 1.5, 1.0909; quartiles between neighbours.
    assert (found.low, found.high) == pytest.approx(((1.1 + 120 / 110) / 2, 1.3))


@pytest.mark.slow
def test_a_training_takes_memory():
    found = training_memory(Settings(quick=True, cores=(0,)), 'cifar_vgg16')['memory']
    assert 0.5 < found.value < 2 and 'MiB' in found.note
