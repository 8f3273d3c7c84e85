"""A process that repeats one thing on request, so that it can be measured interleaved with others.

It greets, and then answers every line on its input; greeting and answers are lines of JSON. It ends with its input.
"""
from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, Callable, Sequence, cast

from ..errors import SSSError

PACKAGE = Path(__file__).resolve().parents[2]
BINDING = ('OMP_PROC_BIND', 'OMP_PLACES', 'GOMP_CPU_AFFINITY')


def environment(cores: Sequence[int]) -> dict:
    """One OpenMP thread bound to each core, which is about 10 % faster on two cores."""
    path = os.pathsep.join(filter(None, [str(PACKAGE), os.environ.get('PYTHONPATH', '')]))
    return dict(os.environ, PYTHONPATH=path, OMP_NUM_THREADS=str(len(cores)), OMP_PROC_BIND='true')


class Child:
    """A running process; ``hello`` is its greeting.

    Parameters
    ----------
    command : sequence of str
    cores : sequence of int
        Numbers of the cores that it may run on.

    Raises
    ------
    SSSError
        The process ended, or its output is no answer; the message has the last line of its error output.
    """

    def __init__(self, command: Sequence[str], cores: Sequence[int]):
        self._errors = tempfile.TemporaryFile('w+', encoding='utf-8', errors='replace')
        # OpenMP has bound this thread to one core, and a process inherits the cores of the thread that starts it.
        bound = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cores)
        try:
            self._process = subprocess.Popen(command, env=environment(cores), stdin=subprocess.PIPE,
                                             stdout=subprocess.PIPE, stderr=self._errors, text=True)
        except OSError as error:
            raise SSSError(f'{command[0]} cannot be run: {error.strerror}') from error
        finally:
            os.sched_setaffinity(0, bound)
        self._input, self._output = cast(IO[str], self._process.stdin), cast(IO[str], self._process.stdout)
        try:
            self.hello = self._read()
        except BaseException:
            self.close()
            raise

    def ask(self, *arguments: object) -> dict:
        """Let it work once, and return its answer."""
        with suppress(BrokenPipeError):     # _read tells why it ended
            self._input.write(f'{json.dumps(arguments)}\n')
            self._input.flush()
        return self._read()

    def _read(self) -> dict:
        line = self._output.readline()
        try:
            return json.loads(line)
        except ValueError:
            self.close()
            self._errors.seek(0)
            said = (self._errors.read().strip().splitlines() or [line.strip() or 'it printed nothing'])[-1]
            raise SSSError(f'the process ended with status {self._process.returncode}: {said}') from None

    def close(self) -> None:
        with suppress(BrokenPipeError):
            self._input.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()
        self._errors.close()


def python(module: str, *arguments: str) -> Sequence[str]:
    """The command that runs a module of this folder."""
    return [sys.executable, '-m', f'sss_gluon.bench.{module}', *arguments]


def serve(hello: dict, work: Callable[..., dict]) -> None:
    """Greet, and work once for every line of input, which holds the arguments: the side of the child.

    Only answers are written to the standard output. What libraries print from now on goes to the error output.
    """
    with os.fdopen(os.dup(1), 'w', encoding='utf-8') as answers:
        os.dup2(2, 1)
        print(json.dumps(hello), file=answers, flush=True)
        for line in sys.stdin:
            print(json.dumps(work(*json.loads(line))), file=answers, flush=True)
