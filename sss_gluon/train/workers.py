"""The workers of a job: processes, on one machine or many, that train one network together.

Gradients are summed by the Trainer, over MXNet's KVStore (ps-lite) or Horovod; here are the stores, and the few other
things that workers tell each other. ``sss-gluon launch`` starts them.
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

OF_A_JOB = {'local': 'dist_sync', 'device': 'dist_device_sync'}
OF_HOROVOD = ('HOROVOD_SIZE', 'OMPI_COMM_WORLD_SIZE')      # how many workers there are, by horovodrun and by mpirun
RANK = 'SSS_GLUON_RANK'     # ps-lite numbers workers in the order in which they come
FAREWELL = 10.0     # seconds that the processes of ps-lite have to end together
FIRST_KEY = 10 ** 6     # parameters and their buffers have the keys below it


class Workers:
    """All workers of a job, seen from one of them; alone, nothing is sent.

    Parameters
    ----------
    store : mxnet.kvstore.KVStoreBase, optional
        What joins them; None: this process is the only one.

    Attributes
    ----------
    rank, size : int
        Of this worker, and how many there are.
    status : int
        What this process ends with, where it cannot wait for its end.
    """

    def __init__(self, store: Optional[mx.kvstore.KVStoreBase] = None):
        self.store = store
        self.rank = int(os.environ.get(RANK, store.rank)) if store else 0
        self.size = store.num_workers if store else 1
        self.status = 0
        self._buffers: Dict[object, Tuple[int, nd.NDArray]] = {}

    @property
    def chief(self) -> bool:
        """Does this worker write the run folder?"""
        return self.rank == 0

    def allreduce(self, name: str, array: nd.NDArray) -> nd.NDArray:
        """The sum of the arrays that all workers give under a name; computed while the caller goes on.

        Every worker has to call it, in the same order, with the same shape and type.
        """
        if not self.store:
            return array
        kind = name, array.shape, array.dtype
        if kind not in self._buffers:
            key = FIRST_KEY + len(self._buffers)
            self._buffers[kind] = key, nd.zeros_like(array)
            self.store.broadcast(key, nd.zeros_like(array), nd.zeros_like(array))
        key, buffer = self._buffers[kind]
        array.copyto(buffer)        # always the same array: sums of different ones may overtake each other
        self.store.pushpull(key, buffer)
        return buffer.copy()

    def total(self, name: str, values) -> np.ndarray:
        """The sum of the numbers of all workers, in float64 and always in the same order; waits for it."""
        return self.allgather(name, np.asarray(values, 'float64')).sum(axis=0)

    def allgather(self, name: str, values: np.ndarray) -> np.ndarray:
        """The arrays of all workers, bit for bit, stacked by rank: shape (size, *values.shape)."""
        if not self.store:
            return values[np.newaxis]
        # MXNet's server keeps what is not float32 as float32, in some jobs and not in others: bytes are exact there.
        sent = values if values.dtype == np.float32 else np.frombuffer(values.tobytes(), 'uint8').astype('float32')
        table = np.zeros((self.size, *sent.shape), 'float32')
        table[self.rank] = sent
        table = self.allreduce(name, nd.array(table)).asnumpy()
        if sent is values:
            return table
        return np.frombuffer(table.astype('uint8').tobytes(), values.dtype).reshape(self.size, *values.shape)

    def barrier(self) -> None:
        """Wait until every worker is here."""
        self.total('barrier', [0])

    def devices(self, contexts: List[mx.Context]) -> List[mx.Context]:
        """Those of this worker: with Horovod one of its machine's, else all."""
        if not isinstance(self.store, HorovodStore):
            return contexts
        place, count = self.store.place()
        if len(contexts) == 1 and contexts[0].device_type == 'cpu':
            return contexts
        if len(contexts) < count:
            raise SSSError(f'{count} workers run on this machine, but devices={[str(c) for c in contexts]} names '
                           f'{len(contexts)}; kvstore=horovod needs one for each')
        return [contexts[place]]

    def shutdown(self) -> None:
        """At the end of the process. All of ps-lite's end together, but its scheduler drops what it has not yet sent
        when it does: who does not hear from it would wait for ever."""
        handle, self.store.handle = self.store.handle, None
        free = threading.Thread(target=_LIB.MXKVStoreFree, args=(handle,), daemon=True)
        free.start()
        free.join(FAREWELL)
        if free.is_alive():
            _end(self.status)

    def abort(self) -> None:
        """After an error: end this process without waiting for the others, as MXNet would for ever."""
        if self.size > 1:
            atexit.register(_end, 1)


ALONE = Workers()


def _end(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def init_workers(kvstore: str) -> Workers:
    """Meet the other workers, if this process was launched as one of several.

    The stores for the devices of one process, ``device`` and ``local``, then stand for those of a job.
    """
    if 'DMLC_ROLE' in os.environ:
        if kvstore == 'horovod':
            raise SSSError('kvstore=horovod: this job was launched for ps-lite; use: sss-gluon launch --workers 2 '
                           '--through horovodrun train ...')
        workers = Workers(mx.kv.create(OF_A_JOB.get(kvstore, kvstore)))
        atexit.register(workers.shutdown)
        return workers
    started = max(int(os.environ.get(name, 1)) for name in OF_HOROVOD)
    if kvstore == 'horovod' or started > 1:
        if 'HOROVOD_RANK' in os.environ:
            threading.Thread(target=_stop_when_nobody_listens, daemon=True).start()
        store = HorovodStore()
        if store.num_workers < started:
            raise SSSError(f'{started} processes were started, but Horovod knows of {store.num_workers}: for mpirun it '
                           f'has to be built by SSS_GLUON_MPI=1 bash scripts/cluster/install_horovod.sh')
        return Workers(store)
    if kvstore in OF_A_JOB.values():
        raise SSSError(f'kvstore={kvstore} is for several workers, and this process was not launched as one of them; '
                       f'use: sss-gluon launch --workers 2 train ...')
    return Workers()


def _stop_when_nobody_listens() -> None:
    """horovodrun stops a worker on another machine by ending its ssh, of which the worker hears nothing else."""
    output = select.poll()
    output.register(1, 0)       # wakes up for a pipe or a socket without a reader alone
    output.poll()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.kill(os.getpid(), signal.SIGTERM)


@mx.kvstore.KVStoreBase.register
class HorovodStore(mx.kvstore.KVStoreBase):
    """Horovod in the place of a KVStore: one process for every device."""

    def __init__(self):
        try:
            import horovod.mxnet as horovod
        except ImportError as error:
            raise SSSError(f'kvstore=horovod needs Horovod with MXNet, which is not here ({error}); build it with '
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
            raise SSSError('kvstore=horovod sums one array of each process; give every process one device')
        self._horovod.allreduce_(arrays[0], average=False, name=f'sum.{key}', priority=priority)

    @staticmethod
    def is_capable(capability):
        return False    # it runs no optimizer

    def place(self) -> Tuple[int, int]:
        """Rank among the processes of this machine, and how many there are."""
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
