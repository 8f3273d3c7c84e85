"""The processes of a job on one machine: workers, and the servers and the scheduler of ps-lite that join them."""
from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence

from ..train.buckets import SMALL
from ..train.workers import RANK

PROGRAM = (sys.executable, '-m', 'sss_gluon.cli')
IDLE = (sys.executable, '-c', 'import sss_gluon')       # with another DMLC_ROLE than worker it serves, see _platform
HOROVODRUN = (sys.executable, str(Path(__file__).with_name('horovodrun.py')))
BOUND = 'MXNET_KVSTORE_BIGARRAY_BOUND'
CHOSEN = {'DMLC_NODE_HOST', 'DMLC_INTERFACE'}       # an address, or a network interface, by hand


class Process(NamedTuple):
    """One process: its name in messages and logs, what it runs, and the variables that tell it its part.

    ``signal_number`` stops it: mpirun hands SIGUSR1 on, and takes SIGTERM for itself. Or ``key`` does: ssh hands no
    signal on, but what is typed.
    """
    name: str
    command: Sequence[str]
    environment: Dict[str, str]
    signal_number: int = signal.SIGTERM
    key: bytes = b''


class Machine(NamedTuple):
    """One of the machines of a job.

    Attributes
    ----------
    index, count : int
        Which of them it is.
    workers, servers : int
        Processes on each machine.
    root : str
        Host of the scheduler, which runs on the first machine.
    port : int
        Of the scheduler.
    """
    index: int
    count: int
    workers: int
    servers: int
    root: str
    port: int

    def processes(self, arguments: Sequence[str]) -> List[Process]:
        """What runs here; ``arguments`` are those of sss-gluon for the workers."""
        common = {'DMLC_PS_ROOT_URI': self.root, 'DMLC_PS_ROOT_PORT': str(self.port),
                  'DMLC_NUM_WORKER': str(self.count * self.workers),
                  'DMLC_NUM_SERVER': str(self.count * self.servers)}
        # Longer arrays are shared by all servers. MXNet's million would leave a small network to one of them.
        common[BOUND] = os.environ.get(BOUND) or str(min(10 ** 6, SMALL * self.count * self.servers))
        own = self._own_address()
        if own:
            common['DMLC_NODE_HOST'] = own
        found = []
        if self.index == 0:
            # ps-lite listens on an address, not on a name, unless it is told of Kubernetes: then on all of them. The
            # name has to stay: every process knows the scheduler by it, also where it means something else (127.0.1.1).
            found.append(Process('scheduler', IDLE, {**common, 'DMLC_ROLE': 'scheduler', 'DMLC_USE_KUBERNETES': '1'}))
        for number in self._here(self.servers):
            found.append(Process(f'server {number}', IDLE, {**common, 'DMLC_ROLE': 'server'}))
        for number in self._here(self.workers):
            role = {'DMLC_ROLE': 'worker', RANK: str(number)}
            found.append(Process(f'worker {number}', (*PROGRAM, *arguments), {**common, **role}))
        return found

    def _own_address(self) -> Optional[str]:
        """The one by which the scheduler, and so the others, can reach this machine; None: ps-lite looks for one."""
        if self.count == 1:
            return self.root
        if CHOSEN & os.environ.keys():
            return None
        with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((self.root, self.port))       # sends nothing
            address = probe.getsockname()[0]
            return None if address.startswith('127.') else address
        return None

    def _here(self, each: int) -> range:
        return range(self.index * each, (self.index + 1) * each)
