"""The processes of a job on one machine: workers, and the servers and the scheduler of ps-lite that join them."""
from __future__ import annotations

import sys
from typing import Dict, List, NamedTuple, Sequence

from ..train.workers import RANK

PROGRAM = (sys.executable, '-m', 'sss_gluon.cli')
IDLE = (sys.executable, '-c', 'import sss_gluon')       # with another DMLC_ROLE than worker it serves, see _platform


class Process(NamedTuple):
    """One process: its name in messages and logs, what it runs, and the variables that tell it its part."""
    name: str
    command: Sequence[str]
    environment: Dict[str, str]


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
        if self.count == 1:
            common['DMLC_NODE_HOST'] = self.root        # else ps-lite looks for a network interface
        found = []
        if self.index == 0:
            found.append(Process('scheduler', IDLE, {**common, 'DMLC_ROLE': 'scheduler'}))
        for number in self._here(self.servers):
            found.append(Process(f'server {number}', IDLE, {**common, 'DMLC_ROLE': 'server'}))
        for number in self._here(self.workers):
            role = {'DMLC_ROLE': 'worker', RANK: str(number)}
            found.append(Process(f'worker {number}', (*PROGRAM, *arguments), {**common, **role}))
        return found

    def _here(self, each: int) -> range:
        return range(self.index * each, (self.index + 1) * each)
