"""``sss-gluon launch``: the same command on every worker of a job, supervised, and begun again if asked."""
from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, List, Optional, Sequence, Tuple

from ..errors import SSSError
from ..train import Interrupted
from .processes import HOROVODRUN, PROGRAM, Machine, Process
from .supervise import Outcome, supervise

PORT = 9091         # of the scheduler, where machines have to agree on one beforehand
CONTROL_C = b'\x03'
HANDED_ON = ('MXNET_', 'OMP_', 'PS_', 'NCCL_', 'CUDA_', 'DMLC_INTERFACE', 'PYTHONPATH')   # settings, for every host


@dataclass
class Job:
    """How many workers, where, and what joins them.

    Attributes
    ----------
    workers, servers : int
        On each machine; servers of ps-lite, default one.
    hosts : tuple of str
        Machines reached by ssh without a password, with this package and the same folders; none: this one.
    machine : (int, int), optional
        This is the first of two machines: (0, 2). The others are started by whoever started this one (Slurm).
    root : str, optional
        HOST:PORT of the scheduler, on the first machine.
    through : str
        ``ps-lite``, which comes with MXNet; or ``horovodrun`` or ``mpirun``, for kvstore=horovod.
    logs : path, optional
        Folder of one log for each process; default logs/DATE-TIME.
    restarts : int
        How often a job that failed is begun again from its last checkpoint.
    """
    workers: int = 1
    servers: int = 1
    hosts: Tuple[str, ...] = ()
    machine: Optional[Tuple[int, int]] = None
    root: Optional[str] = None
    through: str = 'ps-lite'
    logs: Optional[Path] = None
    restarts: int = 0


def launch(arguments: Sequence[str], job: Job, log: Callable[[str], None] = print) -> None:
    """Run ``sss-gluon ARGUMENTS`` as a job of several workers, and wait for its end.

    Raises
    ------
    SSSError
        A process died; the others were ended. The same command continues from the last checkpoint.
    Interrupted
        After a signal, with everything saved.
    """
    _check(arguments, job)
    logs = Path(job.logs or Path('logs') / time.strftime('%Y%m%d-%H%M%S'))
    for attempt in range(job.restarts + 1):
        processes, echo = _processes(arguments, job, logs)
        outcome = supervise(processes, logs, log, echo)
        if outcome == Outcome(None):
            return
        if outcome.signal_number is not None and outcome.problem is None:
            there = 'workers on other machines save and end by themselves; then ' if _unheard(job) else ''
            raise Interrupted(f'stopped; {there}the same command continues', outcome.signal_number)
        if outcome.signal_number is not None:
            break
        if attempt < job.restarts:
            log(f'{outcome.problem}; all other processes were ended. Beginning again from the last checkpoint, '
                f'{attempt + 1} of {job.restarts}')
    raise SSSError(f'{outcome.problem}; all other processes were ended. The same command continues from the last '
                   f'checkpoint')


def _check(arguments: Sequence[str], job: Job) -> None:
    if not arguments or arguments[0] != 'train':
        raise SSSError(f'launch is for train, not for {" ".join(arguments[:1]) or "nothing"!r}: '
                       f'sss-gluon launch --workers 2 train CONFIG')
    for name, least in (('workers', 1), ('servers', 1), ('restarts', 0)):
        if getattr(job, name) < least:
            raise SSSError(f'--{name} {getattr(job, name)} must be at least {least}')
    if job.machine is not None and (not 0 <= job.machine[0] < job.machine[1] or job.hosts):
        raise SSSError(f'--machine {job.machine[0]}/{job.machine[1]} must be a number from 0 and how many there are, '
                       f'without --hosts')
    if job.machine is not None and job.machine[1] > 1 and not job.root:
        raise SSSError('--machine needs --root HOST:PORT, of the first machine')
    if job.root and not re.fullmatch(r'[^:\s]+:\d{1,5}', job.root):
        raise SSSError(f'--root {job.root} is not of the form HOST:PORT')
    if job.through == 'mpirun' and not shutil.which('mpirun'):
        raise SSSError('mpirun is not installed: on Debian or Ubuntu, `apt-get install openmpi-bin libopenmpi-dev`')
    if job.through != 'ps-lite' and not importlib.util.find_spec('horovod'):
        with_mpi = 'SSS_GLUON_MPI=1 ' if job.through == 'mpirun' else ''
        raise SSSError(f'Horovod is not installed; `{with_mpi}bash scripts/cluster/install_horovod.sh` builds it')


def _processes(arguments: Sequence[str], job: Job, logs: Path) -> Tuple[List[Process], str]:
    """What this process starts and watches, and the one whose output it shows."""
    if job.through != 'ps-lite':
        stop = signal.SIGUSR1 if job.through == 'mpirun' else signal.SIGTERM
        return [Process('workers', _horovod(arguments, job), {}, stop)], 'workers'
    if job.hosts:
        return [Process(f'workers of {host}', _over_ssh(host, i, arguments, job, logs), {}, key=CONTROL_C)
                for i, host in enumerate(job.hosts)], f'workers of {job.hosts[0]}'
    index, count = job.machine or (0, 1)
    host, port = job.root.split(':') if job.root else ('127.0.0.1', free_port())
    return Machine(index, count, job.workers, job.servers, host, int(port)).processes(arguments), 'worker 0'


def free_port() -> int:
    """A port of this machine that nothing uses at the moment."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def _over_ssh(host: str, index: int, arguments: Sequence[str], job: Job, logs: Path) -> List[str]:
    """The part of one machine, run there by this very command, with the settings of this shell; ssh -tt ends it when
    the connection does."""
    root = job.root or f'{job.hosts[0].split("@")[-1]}:{PORT}'
    own = [*PROGRAM, 'launch', '--machine', f'{index}/{len(job.hosts)}', '--root', root, '--workers', str(job.workers),
           '--servers', str(job.servers), '--logs', str(logs.resolve()), *arguments]
    handed = [f'{name}={value}' for name, value in sorted(os.environ.items()) if name.startswith(HANDED_ON)]
    words = ['env', *handed, *own] if handed else own
    there = f'cd {shlex.quote(os.getcwd())} && exec {" ".join(map(shlex.quote, words))}'
    alive = ['-o', 'ServerAliveInterval=10', '-o', 'ServerAliveCountMax=3']        # a machine that is gone says nothing
    return ['ssh', '-tt', '-o', 'BatchMode=yes', *alive, host, there]


def _unheard(job: Job) -> bool:
    """horovodrun does not wait for workers that it reached by ssh."""
    return job.through == 'horovodrun' and bool(job.hosts)


def _horovod(arguments: Sequence[str], job: Job) -> List[str]:
    """Horovod's own launcher, or Open MPI's, which takes along only the settings that it is told of."""
    total = job.workers * max(1, len(job.hosts))
    where = [f'{host}:{job.workers}' for host in job.hosts]
    network = os.environ.get('DMLC_INTERFACE') if where else None
    if job.through == 'mpirun':
        placed = ['-H', ','.join(where)] if where else ['--oversubscribe']
        handed = [word for name in sorted(os.environ) if name.startswith(HANDED_ON) for word in ('-x', name)]
        if network:
            handed += ['--mca', 'btl_tcp_if_include', network]
        return ['mpirun', '-np', str(total), '--allow-run-as-root', *placed, '--bind-to', 'none', *handed, *PROGRAM,
                *arguments]
    placed = ['-H', ','.join(where)] if where else []
    if network:
        placed += ['--network-interfaces', network]
    return [*HOROVODRUN, '--gloo', '-np', str(total), *placed, *PROGRAM, *arguments]


def read_hosts(path: str) -> Tuple[str, ...]:
    """Host names, one in a line; # begins a comment."""
    try:
        lines = Path(path).read_text('utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SSSError(f'the list of hosts {path} cannot be read: {error}') from error
    hosts = tuple(line.split('#')[0].strip() for line in lines if line.split('#')[0].strip())
    wrong = [host for host in hosts if not re.fullmatch(r'[\w.@-]+', host) or host.startswith('-')]
    if wrong or not hosts:
        raise SSSError(f'{path} names no host' if not hosts else f'{path}: {wrong[0]!r} is not the name of a host')
    return hosts
