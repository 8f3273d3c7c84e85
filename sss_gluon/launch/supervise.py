"""Watches processes from outside: a worker that waits for a dead one notices nothing, not even a signal."""
from __future__ import annotations

import ctypes
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ..errors import SSSError
from ..signals import catch_signals
from .processes import Process

POLL = 0.2          # seconds
PATIENCE = 20.0     # seconds that servers have to end after the workers
HANGUP = 20.0       # seconds that workers have to save after SIGHUP: no second signal comes without terminal or ssh
ENDING = 1.0        # seconds that processes have after SIGTERM
ENDING_REMOTE = 5.0     # seconds for a launcher on another host, which has to end its own processes
SSH_ENDED = 255
STOPPED = tuple(code for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT) for code in (128 + number, -number))
AGAIN = 5.0         # seconds after which mpirun is stopped again: it loses a signal that comes before its processes run
# How horovodrun and mpirun report the first rank that ended, how horovodrun reports the exit status of each rank, and
# how mpirun reports a rank that a signal ended.
ENDED = re.compile(r'Process name: (?:\[.*[,@])?(\d+)\]?\s+Exit code: +(-?\d+)')
EACH = re.compile(r'^Process (\d+) exit with status code (-?\d+)\.$', re.MULTILINE)
ENDED_BY_SIGNAL = re.compile(r'process rank (\d+) with PID \d+ on node \S+ exited on signal (\d+)')
LAUNCHER = re.compile(r'sss-gluon launch: (.*); all other processes were ended\..*')     # of a launcher on another host
PR_SET_PDEATHSIG = 1


class JobExit(NamedTuple):
    """How a job ended: the process that died and how it did, and the signal that stopped the job; None for neither."""
    problem: Optional[str]
    signal_number: Optional[int] = None


def supervise(processes: Sequence[Process], logs: Path, log: Callable[[str], None], echo: str = '') -> JobExit:
    """Start processes and wait for the workers among them; when any process dies, end them all.

    Signals are passed on to the workers, which save together and end; a second signal ends everything.

    Parameters
    ----------
    processes : sequence of Process
        Those whose names begin with 'worker' decide when the job is done.
    logs : Path
        Folder with one log for each process.
    log : callable
        Called with lines of text.
    echo : str
        Name of the process whose output this process also prints.
    """
    running = _Running(logs, log)
    with catch_signals('SIGINT', 'SIGTERM', 'SIGHUP', keep_ignored=True) as arrived:
        try:
            for process in processes:
                running.start(process, process.name == echo)
            return running.watch(arrived)
        finally:
            running.end()


class _Running:
    def __init__(self, logs: Path, log):
        self.logs, self.log = logs, log
        self.children: Dict[str, subprocess.Popen] = {}
        self.processes: Dict[str, Process] = {}
        self.begins: Dict[str, int] = {}        # offset in its log, behind the output of earlier attempts
        self.echoes: Dict[str, threading.Thread] = {}

    def start(self, process: Process, echo: bool) -> None:
        path = self.path(process.name)
        words = ' '.join(f'{key}={shlex.quote(value)}' for key, value in process.environment.items())
        self.log(f'{process.name}: {words} {" ".join(map(shlex.quote, process.command))} > {path}')
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, 'ab') as file:
                self.begins[process.name] = file.tell()
                child = subprocess.Popen(process.command, env={**os.environ, **process.environment},
                                         stdin=subprocess.PIPE if process.key else subprocess.DEVNULL,
                                         stdout=subprocess.PIPE if echo else file, stderr=subprocess.STDOUT,
                                         start_new_session=True, preexec_fn=_die_with_parent)
        except OSError as error:
            raise SSSError(f'{process.name} cannot be started: {error}') from error
        self.children[process.name], self.processes[process.name] = child, process
        if echo:
            thread = threading.Thread(target=_copy, args=(child.stdout, path), daemon=True)
            thread.start()
            self.echoes[process.name] = thread

    def path(self, name: str) -> Path:
        return self.logs / f'{name.replace(" ", "-")}.log'

    def watch(self, arrived: List[int]) -> JobExit:
        """Wait until the workers are done, or a process dies."""
        passed_on, again_at, served_until, saved_until = 0, float('inf'), float('inf'), float('inf')
        while True:
            codes = {name: self._code(name, bool(arrived)) for name in self.children}
            workers = {name: code for name, code in codes.items() if name.startswith('worker')}
            stopped = bool(arrived) and all(code in STOPPED for code in workers.values())
            if stopped or all(code == 0 for code in workers.values()):
                return JobExit(None, arrived[0] if stopped else None)
            expected = (0, *STOPPED) if arrived else (0,)
            if any(code == 0 for name, code in codes.items() if name not in workers):
                served_until = min(served_until, time.monotonic() + PATIENCE)       # the workers should end as well
            for name, code in codes.items():
                overdue = code == 0 and name not in workers and time.monotonic() > served_until
                if code is not None and (code not in expected or overdue):
                    return JobExit(f'{name} {self._fate(name, code)}', arrived[0] if arrived else None)
            if len(arrived) > 1:
                return JobExit('ended without saving, after a second signal', arrived[0])
            if len(arrived) > passed_on:
                passed_on, again_at = len(arrived), time.monotonic() + AGAIN
                if arrived[0] == signal.SIGHUP:
                    saved_until = time.monotonic() + HANGUP
                for name in workers:
                    self._stop(name)
            if time.monotonic() > again_at:
                again_at = time.monotonic() + AGAIN
                for name in workers:
                    if self.processes[name].signal_number == signal.SIGUSR1:
                        self._stop(name)
            if time.monotonic() > saved_until:
                return JobExit(f'workers did not save within {HANGUP:g} s of SIGHUP', arrived[0])
            time.sleep(POLL)

    def _code(self, name: str, stopping: bool) -> Optional[int]:
        """Exit status, None while it runs. horovodrun ends with 1 when its workers or its ssh to them were stopped."""
        code = self.children[name].poll()
        if not code or not stopping:
            return code
        ends = _ends(self._said(name))
        return STOPPED[0] if ends and all(end in (*STOPPED, SSH_ENDED) for _, end in ends) else code

    def _stop(self, name: str) -> None:
        child, process = self.children[name], self.processes[name]
        if child.stdin is None:
            child.send_signal(process.signal_number)
            return
        with suppress(OSError):     # the process has ended
            child.stdin.write(process.key)
            child.stdin.flush()

    def _ask_to_end(self) -> None:
        """Ask all processes to end without saving; a launcher on another host does so at its second signal."""
        left = [name for name, child in self.children.items() if child.poll() is None]
        keyed = [name for name in left if self.processes[name].key]
        for name in left:
            if name in keyed:
                self._stop(name)
            else:
                self.children[name].terminate()
        if keyed:
            time.sleep(2 * POLL)        # two at once would arrive as one
        for name in keyed:
            self._stop(name)
        limit = time.monotonic() + (ENDING_REMOTE if keyed else ENDING)
        while time.monotonic() < limit and any(self.children[name].poll() is None for name in left):
            time.sleep(POLL)

    def _fate(self, name: str, code: int) -> str:
        text = self._said(name)
        said = LAUNCHER.sub(r'\1', text.rpartition('\n')[2])
        ends = _ends(text)
        if ends:
            blamed = [end for end in ends if end[1] not in STOPPED] or ends     # not those that the launcher stopped
            more = f' and {len(blamed) - 3} more' if len(blamed) > 3 else ''
            said = ', '.join(f'worker {rank} {_how(code)}' for rank, code in blamed[:3]) + more
        if self.processes[name].key and code == SSH_ENDED:
            said = f'ssh has no connection; its last line was: {said[:200]}'
        return _how(code) + (f' ({said})' if said and code >= 0 else '') + f'; its log is {self.path(name)}'

    def _said(self, name: str) -> str:
        """The log of an ended process, from this attempt only."""
        if name in self.echoes:
            self.echoes[name].join(ENDING)
        return self.path(name).read_bytes()[self.begins[name]:].decode('utf-8', 'replace').strip()

    def end(self) -> None:
        """Leave nothing running; servers may take their time to end by themselves if all workers ended well."""
        done = all(child.poll() in (0, *STOPPED) for name, child in self.children.items() if name.startswith('worker'))
        limit = time.monotonic() + (PATIENCE if done and self.children else 0)
        while time.monotonic() < limit and any(child.poll() is None for child in self.children.values()):
            time.sleep(POLL)
        self._ask_to_end()
        for child in self.children.values():
            if child.poll() is None:
                child.kill()
            child.wait()
            if child.stdin:
                with suppress(OSError):
                    child.stdin.close()
        for thread in self.echoes.values():
            thread.join(PATIENCE)


def _ends(text: str) -> List[Tuple[int, int]]:
    """Ranks that horovodrun or mpirun names, and their exit statuses, negative for a signal."""
    by_signal, first = list(ENDED_BY_SIGNAL.finditer(text)), list(ENDED.finditer(text))
    if by_signal:
        return [(int(by_signal[-1][1]), -int(by_signal[-1][2]))]
    found = EACH.findall(text) or [match.groups() for match in first[-1:]]
    return [(int(rank), _signed(int(code))) for rank, code in found]


def _signed(code: int) -> int:
    """Shells report a signal as 128 + its number, here it is negative; 255 is an error of ssh."""
    return 128 - code if code - 128 in set(signal.Signals) else code


def _how(code: int) -> str:
    return f'was ended by {signal.Signals(-code).name}' if code < 0 else f'ended with exit status {code}'


def _copy(pipe, path: Path) -> None:
    """Copy the output of a process to its log and to standard output."""
    with open(path, 'ab') as file:
        for line in pipe:
            file.write(line)
            file.flush()
            try:
                sys.stdout.write(line.decode('utf-8', 'replace'))
                sys.stdout.flush()
            except (OSError, ValueError):       # standard output is closed; the log continues
                pass


def _die_with_parent() -> None:
    """Called in a new process: the kernel kills it when its launcher dies (Linux)."""
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
