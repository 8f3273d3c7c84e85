"""``sss-gluon launch``: one command on every worker of a job, supervised, and restarted on request."""
from __future__ import annotations

import importlib.util
import os
import random
import re
import shlex
import shutil
import signal
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, List, Optional, Sequence, Tuple

from ..errors import SSSError
from ..signals import Interrupted
from .processes import HOROVODRUN, PROGRAM, Node, Process
from .supervise import JobExit, supervise

PORT = 9091         # of the scheduler, where hosts have to agree on one beforehand
VERBS = ('train', 'bench')
CONTROL_C = b'\x03'
# Prefixes of environment variables. Those of numerical libraries choose kernels, which must be alike on all hosts.
NUMERICAL_LIBRARIES = ('OMP_', 'GOMP_', 'KMP_', 'OPENBLAS_', 'MKL_', 'DNNL_', 'ONEDNN_')
FORWARDED = ('MXNET_', 'PS_', 'HOROVOD_', 'NCCL_', 'CUDA_', 'DMLC_INTERFACE', 'PYTHONPATH', *NUMERICAL_LIBRARIES)


@dataclass
class Job:
    """How many workers a job has, where they run, and what joins them.

    Attributes
    ----------
    workers, servers : int
        Workers, and servers of ps-lite, on each host.
    hosts : tuple of str
        Hosts that ssh reaches without a password, with this package and the same folders; default this host alone.
    node_rank, num_nodes : int, optional
        Number of this node, from 0, and number of nodes. The other nodes are started by whatever started this one
        (Slurm).
    scheduler : str, optional
        HOST:PORT of the scheduler, on node 0.
    backend : str
        ``ps-lite``, which comes with MXNet; or ``horovodrun`` or ``mpirun``, for kvstore=horovod.
    logs : path, optional
        Folder with one log for each process; default logs/DATE-TIME.
    restarts : int
        How many times a failed job is restarted from its last checkpoint.
    """
    workers: int = 1
    servers: int = 1
    hosts: Tuple[str, ...] = ()
    node_rank: Optional[int] = None
    num_nodes: Optional[int] = None
    scheduler: Optional[str] = None
    backend: str = 'ps-lite'
    logs: Optional[Path] = None
    restarts: int = 0


def launch(arguments: Sequence[str], job: Job, log: Callable[[str], None] = print) -> None:
    """Run ``sss-gluon ARGUMENTS`` as a job of several workers, and wait for its end.

    Raises
    ------
    SSSError
        A process died, and the others were ended. The same command continues from the last checkpoint.
    Interrupted
        A signal stopped the job, and everything was saved first.
    """
    _check(arguments, job)
    logs = Path(job.logs or Path('logs') / time.strftime('%Y%m%d-%H%M%S'))
    for attempt in range(job.restarts + 1):
        processes, echo = _processes(arguments, job, logs)
        ended = supervise(processes, logs, log, echo)
        if ended == JobExit(None):
            return
        if ended.signal_number is not None and ended.problem is None:
            # horovodrun does not wait for workers that it reached by ssh
            unheard = job.backend == 'horovodrun' and job.hosts
            remote = 'workers on other hosts save and end by themselves; then ' if unheard else ''
            raise Interrupted(f'stopped; {remote}the same command continues', ended.signal_number)
        if ended.signal_number is not None:
            break
        if attempt < job.restarts:
            log(f'{ended.problem}; all other processes were ended. Restarting from the last checkpoint, restart '
                f'{attempt + 1} of {job.restarts}')
    again = '. The same command continues from the last checkpoint' if arguments[0] == 'train' else ''
    raise SSSError(f'{ended.problem}; all other processes were ended{again}')


def _check(arguments: Sequence[str], job: Job) -> None:
    if not arguments or arguments[0] not in VERBS:
        raise SSSError(f'launch is for {" and ".join(VERBS)}, not for {" ".join(arguments[:1]) or "nothing"!r}: '
                       f'sss-gluon launch --workers 2 train CONFIG')
    if arguments[0] == 'bench' and not any(word.startswith('--model') for word in arguments):
        raise SSSError('launch measures how one network scales, so bench needs its name: sss-gluon launch --workers 2 '
                       'bench --model resnet50')
    for name, least in (('workers', 1), ('servers', 1), ('num_nodes', 1), ('restarts', 0)):
        value = getattr(job, name)
        if value is not None and value < least:
            raise SSSError(f'--{name.replace("_", "-")} {value} must be at least {least}')
    if (job.node_rank is None) != (job.num_nodes is None):
        raise SSSError('--node-rank and --num-nodes go together: the first of two nodes has --node-rank 0 '
                       '--num-nodes 2')
    if job.node_rank is not None and job.num_nodes is not None:
        if job.hosts:
            raise SSSError('--node-rank says which node this host is, and --hosts starts all of them; leave one out')
        if not 0 <= job.node_rank < job.num_nodes:
            raise SSSError(f'--node-rank {job.node_rank} must be from 0 to {job.num_nodes - 1}, below --num-nodes')
        if job.num_nodes > 1 and not job.scheduler:
            raise SSSError(f'--num-nodes {job.num_nodes} needs --scheduler HOST:PORT, where HOST is node 0')
    for name in ('node_rank', 'scheduler'):
        if job.backend != 'ps-lite' and getattr(job, name) is not None:
            raise SSSError(f'--{name.replace("_", "-")} is for the backend ps-lite; {job.backend} starts the workers '
                           f'of all hosts itself: leave it out, and name the hosts with --hosts FILE')
    if job.scheduler and not re.fullmatch(r'[^:\s]+:\d{1,5}', job.scheduler):
        raise SSSError(f'--scheduler {job.scheduler} is not of the form HOST:PORT')
    if job.backend == 'mpirun' and not shutil.which('mpirun'):
        raise SSSError('mpirun is not installed: on Debian or Ubuntu, `apt-get install openmpi-bin libopenmpi-dev`')
    if job.backend != 'ps-lite' and not importlib.util.find_spec('horovod'):
        with_mpi = 'SSS_GLUON_MPI=1 ' if job.backend == 'mpirun' else ''
        raise SSSError(f'Horovod is not installed; `{with_mpi}bash scripts/cluster/install_horovod.sh` builds it')


def _processes(arguments: Sequence[str], job: Job, logs: Path) -> Tuple[List[Process], str]:
    """The processes that this one starts and watches, and the name of the one whose output it shows."""
    if job.backend != 'ps-lite':
        stop = signal.SIGUSR1 if job.backend == 'mpirun' else signal.SIGTERM
        return [Process('workers', _horovod(arguments, job), {}, stop)], 'workers'
    if job.hosts:
        return [Process(f'workers of {host}', _over_ssh(host, i, arguments, job, logs), {}, key=CONTROL_C)
                for i, host in enumerate(job.hosts)], f'workers of {job.hosts[0]}'
    host, port = job.scheduler.split(':') if job.scheduler else ('127.0.0.1', free_port())
    node = Node(job.node_rank or 0, job.num_nodes or 1, job.workers, job.servers, host, int(port))
    return node.processes(arguments), 'worker 0'


def free_port() -> int:
    """A port of this host that nothing uses, below those that systems give to outgoing connections by themselves.

    Between this look and the scheduler's start, no connection can then take the port.
    """
    while True:
        port = random.SystemRandom().randrange(10000, 32768)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(('', port))
            return port


def _over_ssh(host: str, rank: int, arguments: Sequence[str], job: Job, logs: Path) -> List[str]:
    """The command that launches the part of one host there; ssh -tt ends it together with the connection."""
    scheduler = job.scheduler or f'{job.hosts[0].split("@")[-1]}:{PORT}'
    command = [*PROGRAM, 'launch', '--node-rank', str(rank), '--num-nodes', str(len(job.hosts)), '--scheduler',
               scheduler, '--workers', str(job.workers), '--servers', str(job.servers), '--logs', str(logs.resolve()),
               *arguments]
    forwarded = [f'{name}={os.environ[name]}' for name in _forwarded()]
    # ssh -tt makes a terminal there, but what is written to it goes to a log, whose lines are read: no line may wrap
    words = ['env', 'COLUMNS=10000', *forwarded, *command]
    there = f'cd {shlex.quote(os.getcwd())} && exec {" ".join(map(shlex.quote, words))}'
    alive = ['-o', 'ServerAliveInterval=10', '-o', 'ServerAliveCountMax=3']     # a lost host is detected within 30 s
    return ['ssh', '-tt', '-o', 'BatchMode=yes', *alive, host, there]


def _forwarded() -> List[str]:
    """Names of the environment variables that every host gets."""
    return [name for name in sorted(os.environ) if name.startswith(FORWARDED)]


def _horovod(arguments: Sequence[str], job: Job) -> List[str]:
    """The command of Horovod's launcher, or of Open MPI's, which forwards only the variables that it is told to."""
    total = job.workers * max(1, len(job.hosts))
    placed = ['-H', ','.join(f'{host}:{job.workers}' for host in job.hosts)] if job.hosts else []
    network = os.environ.get('DMLC_INTERFACE') if job.hosts else None
    if job.backend == 'mpirun':
        options = [word for name in _forwarded() for word in ('-x', name)]
        if network:
            options += ['--mca', 'btl_tcp_if_include', network]
        return ['mpirun', '-np', str(total), '--allow-run-as-root', *(placed or ['--oversubscribe']), '--bind-to',
                'none', *options, *PROGRAM, *arguments]
    if network:
        placed += ['--network-interfaces', network]
    return [*HOROVODRUN, '--gloo', '-np', str(total), *placed, *PROGRAM, *arguments]


def read_hosts(path: str) -> Tuple[str, ...]:
    """Host names, one on each line; # begins a comment."""
    try:
        lines = Path(path).read_text('utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SSSError(f'the list of hosts {path} cannot be read: {error}') from error
    hosts = tuple(filter(None, (line.split('#')[0].strip() for line in lines)))
    if not hosts:
        raise SSSError(f'{path} names no host')
    for host in hosts:
        if not re.fullmatch(r'[\w.@-]+', host) or host.startswith('-'):
            raise SSSError(f'{path}: {host!r} is not the name of a host')
    return hosts
