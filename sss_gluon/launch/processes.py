"""The processes of a ps-lite job on one node: its workers, and the servers and the scheduler that join them."""
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
SERVE = (sys.executable, '-c', 'import sss_gluon')      # a server or the scheduler by its DMLC_ROLE, see _platform
HOROVODRUN = (sys.executable, str(Path(__file__).with_name('horovodrun.py')))
BOUND = 'MXNET_KVSTORE_BIGARRAY_BOUND'
ADDRESS_VARIABLES = {'DMLC_NODE_HOST', 'DMLC_INTERFACE'}        # an address or a network interface that the user chose


class Process(NamedTuple):
    """One process: its name in messages and logs, its command, and its environment variables.

    ``signal_number`` stops it: mpirun passes SIGUSR1 on, but keeps SIGTERM for itself. ``key`` stops it instead where
    given: ssh passes no signal on, but it passes input on.
    """
    name: str
    command: Sequence[str]
    environment: Dict[str, str]
    signal_number: int = signal.SIGTERM
    key: bytes = b''


class Node(NamedTuple):
    """One node of a job.

    Attributes
    ----------
    rank, nodes : int
        Number of this node, from 0, and number of nodes.
    workers, servers : int
        Processes on each node.
    scheduler : str
        Host of the scheduler, which runs on node 0.
    port : int
        Port of the scheduler.
    """
    rank: int
    nodes: int
    workers: int
    servers: int
    scheduler: str
    port: int

    def processes(self, arguments: Sequence[str]) -> List[Process]:
        """The processes of this node; the workers run sss-gluon with ``arguments``."""
        common = {'DMLC_PS_ROOT_URI': self.scheduler, 'DMLC_PS_ROOT_PORT': str(self.port),
                  'DMLC_NUM_WORKER': str(self.nodes * self.workers),
                  'DMLC_NUM_SERVER': str(self.nodes * self.servers)}
        # Longer arrays are split over all servers. MXNet's default of a million leaves a small network on one server.
        common[BOUND] = os.environ.get(BOUND) or str(min(10 ** 6, SMALL * self.nodes * self.servers))
        address = self._address()
        if address:
            common['DMLC_NODE_HOST'] = address
        found = []
        if self.rank == 0:
            # ps-lite can listen on an address only, not on a name, unless it is told of Kubernetes: then it listens on
            # all addresses. The name has to stay: all processes know the scheduler by it, although on its own host it
            # may resolve to another address (127.0.1.1).
            found.append(Process('scheduler', SERVE, {**common, 'DMLC_ROLE': 'scheduler', 'DMLC_USE_KUBERNETES': '1'}))
        for number in self._numbers(self.servers):
            found.append(Process(f'server {number}', SERVE, {**common, 'DMLC_ROLE': 'server'}))
        for number in self._numbers(self.workers):
            role = {'DMLC_ROLE': 'worker', RANK: str(number)}
            found.append(Process(f'worker {number}', (*PROGRAM, *arguments), {**common, **role}))
        return found

    def _address(self) -> Optional[str]:
        """The address at which the scheduler, and so all others, can reach this node; None: ps-lite finds one."""
        if self.nodes == 1:
            return self.scheduler
        if ADDRESS_VARIABLES & os.environ.keys():
            return None
        with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((self.scheduler, self.port))      # sends nothing
            address = probe.getsockname()[0]
            return None if address.startswith('127.') else address
        return None

    def _numbers(self, each: int) -> range:
        return range(self.rank * each, (self.rank + 1) * each)
