"""Runs a plan, one run after the other: each is trained, pruned and evaluated in a process of its own.

A process per run, because MXNet keeps memory, seeds and modes of a process for good, and because whatever kills one run
(too little memory, a crash in native code) must not kill the others.
"""
from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple, cast

from ..errors import SSSError
from ..signals import Interrupted, catch_signals
from ..terminal import time_left
from .costs import seconds_left
from .plan import Plan, Run
from .progress import claim, in_use, progress


class SweepResult(NamedTuple):
    """Names of the requested runs, by what became of them."""
    finished: Tuple[str, ...]
    in_use: Tuple[str, ...]             # another sweep finishes them
    failed: Dict[str, str]              # name -> reason


def sweep(plan: Plan, runs: Optional[Sequence[Run]] = None, log: Callable[[str], None] = print,
          poll: float = 5.0) -> SweepResult:
    """Do the steps that are left of each run. Several processes may share the same folder at the same time.

    Parameters
    ----------
    plan : Plan
    runs : sequence of Run, optional
        Some of the runs of the plan (``Plan.select``); default all.
    log : callable
        Called with lines of text.
    poll : float
        Seconds between two looks at runs in use.

    A run that another process works on is skipped and looked at again at the end. A run that fails stops only the runs
    that need it. When all remaining runs need a run in use, they wait for it.

    Raises
    ------
    Interrupted
        After SIGINT, SIGTERM or SIGHUP, when the current run has saved: a rerun continues.
    """
    everything = {run.name: run for run in plan.runs}
    left = {run.name: run for run in (plan.runs if runs is None else runs)}
    total = len(left)
    failed: Dict[str, str] = {}
    finished: List[str] = []
    waited = False
    runner = _StepRunner()
    with catch_signals('SIGINT', 'SIGTERM', 'SIGHUP', on_signal=runner.pass_on, keep_ignored=True) as runner.arrived:
        while left:
            before, waiting = len(left), False
            for run in list(left.values()):
                runner.check()
                verdict, reason = _missing(run, everything, left, finished, failed) or _do(
                    run, runner, log, lambda: f'run {total - len(left) + 1} of {total}{_left(plan, left)}')
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
                log(f'waiting for other processes to finish: {", ".join(left)}')
            waited = True
            runner.wait(poll)
    return SweepResult(tuple(finished), tuple(left), failed)


def _missing(run: Run, everything: Dict[str, Run], left, finished, failed) -> Optional[Tuple[str, str]]:
    """The verdict on a run that needs an unfinished one; None when the run can begin."""
    for name in run.needs:
        if name in failed:
            return 'failed', f'it needs {name}, which failed'
        if name in left:
            return 'wait', ''
        if name not in finished and progress(everything[name]).left:
            return 'failed', f'it needs {name}, which is not finished and was not selected'
    return None


def _left(plan: Plan, left: Dict[str, Run]) -> str:
    """', 12 min left, plus 2 runs that are not timed yet'; nothing while no similar run is timed."""
    seconds, unknown = seconds_left(plan, list(left.values()))
    if not seconds:
        return ''
    return f', {time_left(seconds)}' + (f', plus {unknown} run{"s" * (unknown > 1)} not timed yet' if unknown else '')


def _do(run: Run, runner: _StepRunner, log, place: Callable[[], str]) -> Tuple[str, str]:
    """Do the steps that are left of one run: ('finished' | 'failed' | 'wait' | 'in use', reason)."""
    try:
        with claim(run) as mine:
            if not mine:
                return 'in use', ''
            if in_use(run):         # by a command such as train, which does not do the other steps
                return 'wait', ''
            todo = progress(run).left
            if not todo:
                log(f'{run.path}: finished')
                return 'finished', ''
            log(f'{place()}\n{run.path}: {", ".join(todo)}\n+ sss-gluon train {shlex.join(run.arguments)}')
            begin = time.time()
            # later steps need float32, which a process cannot return to after training in another type
            for steps in [','.join(todo)] if run.config.precision == 'float32' else todo:
                status, message = runner.run([steps, *run.arguments])
                if status:
                    return 'failed', message or f'exit status {status}'
            log(f'{run.path}: done in {time.time() - begin:.0f} s')
            return 'finished', ''
    except Interrupted:
        raise
    except SSSError as error:
        return 'failed', str(error)


class _StepRunner:
    """Runs one process at a time, and passes on to it the signals that this process receives.

    The child has a session of its own, so that Ctrl-C in a terminal reaches it once, through this process. (A second
    signal makes training stop without saving.)
    """

    def __init__(self) -> None:
        self.child: Optional[subprocess.Popen] = None
        self.arrived: List[int] = []

    def pass_on(self, number: int) -> None:
        if self.child is not None:
            self.child.send_signal(signal.SIGTERM if number == getattr(signal, 'SIGHUP', None) else number)

    def check(self) -> None:
        if self.arrived:
            number = self.arrived[-1]
            raise Interrupted(f'stopped by {signal.Signals(number).name}, everything is saved; the same command '
                              f'continues', number)

    def wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self.arrived and time.monotonic() < end:
            time.sleep(min(0.2, seconds))
        self.check()

    def run(self, arguments: List[str]) -> Tuple[int, str]:
        """Exit status of the steps, and their last line on stderr, which is also passed through."""
        self.check()
        sys.stdout.flush()
        path = [str(Path(__file__).resolve().parents[2]), os.environ.get('PYTHONPATH', '')]     # of this very package
        environment = dict(os.environ, PYTHONUNBUFFERED='1', PYTHONPATH=os.pathsep.join(filter(None, path)))
        last = ''
        with subprocess.Popen([sys.executable, '-m', 'sss_gluon.cli.steps', *arguments], stderr=subprocess.PIPE,
                              start_new_session=True, env=environment) as child:
            self.child = child
            try:
                if self.arrived:        # between the two lines above
                    self.pass_on(self.arrived[-1])
                for line in cast(IO[bytes], child.stderr):
                    text = line.decode('utf-8', 'replace')
                    sys.stderr.write(text)
                    last = text.strip() or last
                status = child.wait()
            except BaseException:       # an error here: the step saves and ends
                child.terminate()
                child.wait()
                raise
            finally:
                self.child = None
        self.check()
        return status, f'killed by {signal.Signals(-status).name}' if status < 0 else last
