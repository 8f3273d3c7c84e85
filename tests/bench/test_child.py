"""Processes that answer when they are asked, and what is said of those that do not."""
import os
import sys

import pytest

from sss_gluon import SSSError
from sss_gluon.bench.child import PACKAGE, Child, environment

COUNT = '''
import os
cores = sorted(os.sched_getaffinity(0))     # before OpenMP is there and binds this thread to one of them
from sss_gluon.bench.child import serve
calls = []
serve(dict(cores=cores, threads=os.environ['OMP_NUM_THREADS']),
      lambda: print('a library says something') or os.system('echo so does a process') * 0 or calls.append(1) or
      dict(calls=len(calls)))
'''


def test_a_process_says_who_it_is_and_answers():
    before = os.sched_getaffinity(0)
    with Child([sys.executable, '-c', COUNT], (0,)) as child:
        assert child.hello == dict(cores=[0], threads='1')
        assert [child.ask()['calls'] for _ in range(3)] == [1, 2, 3]
        process = child._process
        assert process.poll() is None
    assert process.returncode == 0                      # it ends with its input
    assert os.sched_getaffinity(0) == before


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason='one core')
def test_a_process_has_its_cores_although_its_parent_is_bound_to_one():
    """As OpenMP binds the thread that imports MXNet, with OMP_PROC_BIND."""
    before = os.sched_getaffinity(0)
    two = sorted(before)[:2]
    os.sched_setaffinity(0, two[:1])
    try:
        with Child([sys.executable, '-c', COUNT], two) as child:
            assert child.hello == dict(cores=two, threads='2')
        assert os.sched_getaffinity(0) == set(two[:1])
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize('code, words', [
    ('raise ValueError("too hot")', 'the process ended with status 1: ValueError: too hot'),
    ('print("hello")', 'the process ended with status 0: hello'),
    ('raise SystemExit(3)', 'the process ended with status 3: it printed nothing'),
    ('import os, signal; os.kill(os.getpid(), signal.SIGKILL)', 'status -9'),
])
def test_a_process_that_ends_is_an_error_with_its_last_line(code, words):
    with pytest.raises(SSSError) as error:
        Child([sys.executable, '-c', code], (0,))
    assert words in str(error.value) and '\n' not in str(error.value)


def test_a_process_that_ends_between_answers():
    with Child([sys.executable, '-c', 'print("{}"); raise KeyError("gone")'], (0,)) as child:
        with pytest.raises(SSSError, match="status 1: KeyError: 'gone'"):
            child.ask()


def test_a_program_that_is_not_there():
    with pytest.raises(SSSError, match='^/nowhere/python cannot be run: No such file or directory$'):
        Child(['/nowhere/python'], (0,))


def test_environment_of_a_process(monkeypatch):
    monkeypatch.setenv('PYTHONPATH', 'mine')
    monkeypatch.setenv('OMP_NUM_THREADS', '7')
    found = environment((2, 3))
    assert (found['OMP_NUM_THREADS'], found['OMP_PROC_BIND']) == ('2', 'true')
    assert found['PYTHONPATH'] == f'{PACKAGE}{os.pathsep}mine' and (PACKAGE / 'sss_gluon' / 'bench').is_dir()
