"""The runs of a plan one after the other: each trained, pruned and evaluated in a process of its own.

A process per run, because MXNet keeps memory, seeds and modes of a process for good, and what kills one run (too little
memory, a crash in native code) must not kill the rest.
"""
from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ..errors import SSSError
from ..train import Interrupted
from .plan import Plan, Run
from .progress import claim, in_use, progress

SIGNALS = tuple(getattr(signal, name) for name in ('SIGINT', 'SIGTERM', 'SIGHUP') if hasattr(signal, name))


class Outcome(NamedTuple):
    """What became of the runs that were asked for: names, and why those failed that did."""
    finished: Tuple[str, ...]
    in_use: Tuple[str, ...]             # another sweep finishes them
    failed: Dict[str, str]


def sweep(plan: Plan, runs: Optional[Sequence[Run]] = None, log: Callable[[str], None] = print,
          poll: float = 5.0) -> Outcome:
    """Do what is left of each run. Several processes may do this with the same folder at the same time.

    Parameters
    ----------
    plan : Plan
    runs : sequence of Run, optional
        Some of its runs (``Plan.select``); default all.
    log : callable
    poll : float
        Seconds between two looks at runs in use.

    A run that another process works on is passed over and looked at again at the end. A run that fails does not stop
    the others, except those that need it. Where all that is left needs a run in use, it is waited for.

    Raises
    ------
    Interrupted
        After SIGINT, SIGTERM or SIGHUP, when the run in work has saved: a rerun continues.
    """
    everything = {run.name: run for run in plan.runs}
    left = {run.name: run for run in (plan.runs if runs is None else runs)}
    failed: Dict[str, str] = {}
    finished: List[str] = []
    waited = False
    with _Worker() as worker:
        while left:
            before, waiting = len(left), False
            for run in list(left.values()):
                worker.check()
                verdict, reason = _missing(run, everything, left, finished, failed) or _turn(run, worker, log)
                if verdict == 'finished':
                    finished.append(run.name)
                elif verdict == 'failed':
                    failed[run.name] = reason
                    log(f'{run.path}: FAILED, {reason}')
                else:
                    waiting |= verdict == 'wait'
                    continue
                del left[run.name]
            if len(left) < before:
                waited = False
                continue
            if not waiting:
                break
            if not waited:
                log(f'waiting for runs that other processes work on; left: {", ".join(left)}')
            waited = True
            worker.wait(poll)
    return Outcome(tuple(finished), tuple(left), failed)


def _missing(run: Run, everything: Dict[str, Run], left, finished, failed) -> Optional[Tuple[str, str]]:
    """What to do about a run that needs another one which is not finished; None when it can begin."""
    for name in run.needs:
        if name in failed:
            return 'failed', f'it needs {name}, which failed'
        if name in left:
            return 'wait', ''
        if name not in finished and progress(everything[name]).left:
            return 'failed', f'it needs {name}, which is not finished and was not asked for'
    return None


def _turn(run: Run, worker: _Worker, log) -> Tuple[str, str]:
    """Do what is left of one run: ('finished' | 'failed' | 'wait' | 'in use', reason)."""
    try:
        with claim(run) as mine:
            if not mine:
                return 'in use', ''
            if in_use(run):         # a single command, which does not do the other steps
                return 'wait', ''
            todo = progress(run).left
            if not todo:
                log(f'{run.path}: finished')
                return 'finished', ''
            log(f'{run.path}: {", ".join(todo)}\n+ sss-gluon train {shlex.join(run.arguments)}')
            begin = time.time()
            # what comes after training is done in float32, which a process that has trained in another one is not
            for steps in [','.join(todo)] if run.config.precision == 'float32' else todo:
                status, message = worker.run([steps, *run.arguments])
                if status:
                    return 'failed', message or f'exit status {status}'
            log(f'{run.path}: done in {time.time() - begin:.0f} s')
            return 'finished', ''
    except Interrupted:
        raise
    except SSSError as error:
        return 'failed', str(error)


def _environment() -> Dict[str, str]:
    """Of a child: its output comes line by line, and it imports the package that this process runs from."""
    path = [str(Path(__file__).resolve().parents[2]), os.environ.get('PYTHONPATH', '')]
    return dict(os.environ, PYTHONUNBUFFERED='1', PYTHONPATH=os.pathsep.join(filter(None, path)))


class _Worker:
    """Runs one child process at a time, and hands on to it the signals that this process gets.

    The child has a session of its own: Ctrl-C in a terminal reaches it once, through here. (A second signal makes
    training stop without saving.)
    """

    def __enter__(self) -> _Worker:
        self.child: Optional[subprocess.Popen] = None
        self.signal = 0
        self.previous = {}
        try:
            for number in SIGNALS:
                if signal.getsignal(number) != signal.SIG_IGN:      # nohup: stays ignored
                    self.previous[number] = signal.signal(number, self._note)
        except ValueError:      # not the main thread: signals are its caller's business
            pass
        return self

    def __exit__(self, *error) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        if self.child is not None:      # an error in here; it saves and ends
            self.child.terminate()
            self.child.wait()

    def _note(self, number, frame) -> None:
        self.signal = number
        if self.child is not None:
            self.child.send_signal(signal.SIGTERM if number == getattr(signal, 'SIGHUP', None) else number)

    def check(self) -> None:
        if self.signal:
            raise Interrupted(f'stopped by {signal.Signals(self.signal).name}, everything is saved; the same command '
                              f'continues', self.signal)

    def wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self.signal and time.monotonic() < end:
            time.sleep(min(0.2, seconds))
        self.check()

    def run(self, arguments: List[str]) -> Tuple[int, str]:
        """Exit status, and the last line on stderr, which is passed through."""
        self.check()
        sys.stdout.flush()
        last = ''
        child = subprocess.Popen([sys.executable, '-m', 'sss_gluon.cli.steps', *arguments], stderr=subprocess.PIPE,
                                 start_new_session=True, env=_environment())
        self.child = child
        try:
            if self.signal:         # it came between the two lines above
                child.send_signal(self.signal)
            for line in child.stderr:
                text = line.decode('utf-8', 'replace')
                sys.stderr.write(text)
                last = text.strip() or last
            status = child.wait()
        finally:
            self.child = None
            child.stderr.close()
        self.check()
        return status, f'killed by {signal.Signals(-status).name}' if status < 0 else last
