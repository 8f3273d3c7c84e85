"""The workers of a job: processes on one host or many that train one network together.

The Trainer sums gradients over MXNet's KVStore (ps-lite) or Horovod. This file has the stores, and the other messages
between workers. ``sss-gluon launch`` starts the workers.
"""
from __future__ import annotations

import atexit
import os
import select
import signal
import sys
import threading
from typing import Dict, List, Optional, Tuple

import mxnet as mx
import numpy as np
from mxnet import nd
from mxnet.base import _LIB

from ..errors import SSSError

DISTRIBUTED = {'local': 'dist_sync', 'device': 'dist_device_sync'}
SIZES = ('HOROVOD_SIZE', 'OMPI_COMM_WORLD_SIZE')   # number of workers, set by horovodrun and by mpirun
RANK = 'SSS_GLUON_RANK'     # ps-lite numbers workers in the order of their arrival
FAREWELL = 10.0     # seconds that the processes of ps-lite have to end together
FIRST_KEY = 10 ** 6     # the keys below it belong to parameters and their buffers


class Workers:
    """All workers of a job, seen from one of them; a single process sends nothing.

    Parameters
    ----------
    store : mxnet.kvstore.KVStoreBase, optional
        Joins the workers; None: this process is the only one.

    Attributes
    ----------
    rank, size : int
        Rank of this worker, and number of workers.
    status : int
        Exit status of this process in case it has to end itself (see ``shutdown_at_exit``).
    """

    def __init__(self, store: Optional[mx.kvstore.KVStoreBase] = None):
        self.store = store
        self.rank = int(os.environ.get(RANK, store.rank)) if store else 0
        self.size = store.num_workers if store else 1
        self.status = 0
        self._buffers: Dict[object, Tuple[int, nd.NDArray]] = {}

    @property
    def chief(self) -> bool:
        """Whether this worker writes the run folder."""
        return self.rank == 0

    def allreduce(self, name: str, array: nd.NDArray) -> nd.NDArray:
        """The sum of the arrays of all workers under a name; returns before it is computed.

        All workers must call it in the same order, with the same shapes and types.
        """
        if not self.store:
            return array
        kind = name, array.shape, array.dtype
        if kind not in self._buffers:
            key = FIRST_KEY + len(self._buffers)
            self._buffers[kind] = key, nd.zeros_like(array)
            self.store.broadcast(key, nd.zeros_like(array), nd.zeros_like(array))
        key, buffer = self._buffers[kind]
        array.copyto(buffer)        # always the same array: sums into different arrays may overtake each other
        self.store.pushpull(key, buffer)
        return buffer.copy()

    def total(self, name: str, values) -> np.ndarray:
        """The sum of the numbers of all workers, computed in float64 and by rank; waits for it."""
        return self.allgather(name, np.asarray(values, 'float64')).sum(axis=0)

    def allgather(self, name: str, values: np.ndarray) -> np.ndarray:
        """The arrays of all workers, bit for bit, stacked by rank: shape (size, *values.shape)."""
        if not self.store:
            return values[np.newaxis]
        # MXNet's server stores other types as float32, in some jobs and not in others: single bytes stay exact there.
        sent = values if values.dtype == np.float32 else np.frombuffer(values.tobytes(), 'uint8').astype('float32')
        table = np.zeros((self.size, *sent.shape), 'float32')
        table[self.rank] = sent
        table = self.allreduce(name, nd.array(table)).asnumpy()
        if sent is values:
            return table
        return np.frombuffer(table.astype('uint8').tobytes(), values.dtype).reshape(self.size, *values.shape)

    def barrier(self) -> None:
        """Wait until every worker has called it."""
        self.total('barrier', [0])

    def devices(self, contexts: List[mx.Context]) -> List[mx.Context]:
        """The devices of this worker: one of its host's with Horovod, else all."""
        if not isinstance(self.store, HorovodStore):
            return contexts
        place, count = self.store.place()
        if len(contexts) == 1 and contexts[0].device_type == 'cpu':
            return contexts
        if len(contexts) < count:
            raise SSSError(f'{count} workers run on this host, but devices={[str(c) for c in contexts]} names '
                           f'{len(contexts)}; kvstore=horovod needs one for each worker')
        return [contexts[place]]

    def shutdown_at_exit(self) -> None:
        """Leave ps-lite at the end of the process. Its processes end together, but its scheduler drops the messages
        that it has not sent when it ends: a worker that misses one would wait forever."""
        if self.store is None:
            return
        store, leaving = self.store, threading.Event()

        def leave() -> None:
            leaving.wait()
            handle, store.handle = store.handle, None
            _LIB.MXKVStoreFree(handle)

        waiting = threading.Thread(target=leave, daemon=True)
        waiting.start()     # now: from Python 3.12 on, no thread starts at exit

        def shutdown() -> None:
            leaving.set()
            waiting.join(FAREWELL)
            if waiting.is_alive():
                _end(self.status)

        atexit.register(shutdown)

    def abort(self) -> None:
        """After an error, end this process without waiting for the others, as MXNet would do forever."""
        if self.size > 1:
            atexit.register(_end, 1)


ALONE = Workers()


def _end(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def init_workers(kvstore: str) -> Workers:
    """Join the other workers, if this process was launched as one of several.

    ``device`` and ``local``, the stores of a single process, then stand for their distributed counterparts.
    """
    if 'DMLC_ROLE' in os.environ:
        if kvstore == 'horovod':
            raise SSSError('kvstore=horovod: this job was launched for ps-lite; use: sss-gluon launch --workers 2 '
                           '--backend horovodrun train ...')
        workers = Workers(mx.kv.create(DISTRIBUTED.get(kvstore, kvstore)))
        workers.shutdown_at_exit()
        return workers
    started = max(int(os.environ.get(name, 1)) for name in SIZES)
    if kvstore == 'horovod' or started > 1:
        if 'HOROVOD_RANK' in os.environ:
            threading.Thread(target=_stop_without_reader, daemon=True).start()
        store = HorovodStore()
        if store.num_workers < started:
            raise SSSError(f'{started} processes were started, but Horovod knows of {store.num_workers}: for mpirun, '
                           f'build it with SSS_GLUON_MPI=1 bash scripts/cluster/install_horovod.sh')
        return Workers(store)
    if kvstore in DISTRIBUTED.values():
        raise SSSError(f'kvstore={kvstore} is for several workers, but this process was not launched as one of them; '
                       f'use: sss-gluon launch --workers 2 train ...')
    return Workers()


def _stop_without_reader() -> None:
    """horovodrun stops a worker on another host by ending its ssh; only the worker's output shows it."""
    output = select.poll()
    output.register(1, 0)       # wakes up only when a pipe or a socket has no reader
    output.poll()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.kill(os.getpid(), signal.SIGTERM)


@mx.kvstore.KVStoreBase.register
class HorovodStore(mx.kvstore.KVStoreBase):
    """Horovod as a KVStore: one process for every device."""

    def __init__(self):
        try:
            import horovod.mxnet as horovod
        except ImportError as error:
            raise SSSError(f'kvstore=horovod needs Horovod with MXNet, which is not installed ({error}); build it with '
                           f'scripts/cluster/install_horovod.sh, or use kvstore=dist_sync') from error
        horovod.init()
        self._horovod = horovod

    def broadcast(self, key, value, out, priority=0):
        shared = value.copy()
        self._horovod.broadcast_(shared, root_rank=0, name=f'broadcast.{key}', priority=priority)
        for array in out if isinstance(out, (list, tuple)) else [out]:
            shared.copyto(array)

    def pushpull(self, key, value, out=None, priority=0):
        arrays = value if isinstance(value, (list, tuple)) else [value]
        if len(arrays) != 1 or out is not None:
            raise SSSError('kvstore=horovod sums one array of each process: give every process one device')
        self._horovod.allreduce_(arrays[0], average=False, name=f'sum.{key}', priority=priority)

    @staticmethod
    def is_capable(capability):
        return False    # it runs no optimizer

    def place(self) -> Tuple[int, int]:
        """Rank among the processes of this host, and their number."""
        return self._horovod.local_rank(), self._horovod.local_size()

    @property
    def type(self):
        return 'horovod'

    @property
    def rank(self):
        return self._horovod.rank()

    @property
    def num_workers(self):
        return self._horovod.size()
