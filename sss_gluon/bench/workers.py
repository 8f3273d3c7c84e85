"""Two workers on this host against one: the gain, and the cost of their messages.

``python -m sss_gluon.bench.workers NAME SETTINGS FILE`` is one of the workers; the first writes the measurements.
"""
from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..errors import SSSError
from ..files import write_text
from ..launch.processes import Node
from ..launch.run import free_port
from ..launch.supervise import supervise
from ..timing import Measurement, interleaved, median, ratio, timed
from ..train import make_trainer
from ..train.precision import LossScaler
from ..train.workers import Workers, init_workers
from .interconnect import Cluster, exchange
from .settings import Settings, Skipped
from .training import DECAY, GAMMA, MOMENTUM, RATE, Step

COUNT = 2
LARGE = 2 ** 22     # numbers


def workers(settings: Settings, name: str) -> Dict[str, Measurement]:
    """Training steps of two workers with a core each, and with as many images as one worker has, or half of them.

    ``weak``: images/s of two ÷ one. ``strong``: the same, with the batch of one shared by both. ``share``: part of a
    step that is spent on allreduce. ``keys``: a step ÷ one that sends every parameter by itself. ``model``: allreduce
    ÷ the prediction of ``interconnect.exchange``.
    """
    if len(settings.cores) < COUNT and not settings.quick:
        raise Skipped(f'needs {COUNT} cores')
    node = Node(0, 1, COUNT, 1, '127.0.0.1', free_port())
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / 'measured.json'
        command = [sys.executable, '-m', __name__, name, json.dumps(asdict(settings)), str(file)]
        processes = [process._replace(
            command=command if process.environment['DMLC_ROLE'] == 'worker' else process.command,
            environment={**process.environment, 'OMP_NUM_THREADS': '1', 'OMP_PROC_BIND': 'false'})
            for process in node.processes(())]
        ended = supervise(processes, Path(folder), lambda line: None)
        if ended.problem or not file.exists():
            raise SSSError(f'the workers failed: {ended.problem}')
        measured = json.loads(file.read_text('utf-8'))
    seconds = {key: np.array(values) for key, values in measured['seconds'].items()}
    buckets, each = measured['traffic']['buckets'], measured['traffic']['each']
    sent = f'{buckets["messages"]} messages of {buckets["bytes"] / 1e6:.2f} MB in all, {each["messages"]} one by one'
    return {'weak': ratio(seconds, 'single', 'buckets', COUNT), 'strong': ratio(seconds, 'single', 'half'),
            'share': median(1 - seconds['alone'] / seconds['buckets'], sent),
            'keys': ratio(seconds, 'buckets', 'each', note=sent), 'model': _model(seconds, buckets['bytes'])}


def _model(seconds: Mapping[str, np.ndarray], size: int) -> Measurement:
    """The allreduce of a step ÷ the prediction of ``interconnect.exchange`` with the bandwidth of a large array."""
    cluster = link(seconds, size, COUNT)
    predicted = exchange(cluster, COUNT)
    note = (f'predicted {1000 * predicted:.3g} ms, {cluster.bandwidth / 1e9:.2f} GB/s, {1000 * cluster.latency:.2g} ms '
            f'per message')
    return median((seconds['buckets'] - seconds['alone']) / predicted, note)


def link(seconds: Mapping[str, np.ndarray], size: int, workers: int) -> Cluster:
    """What joins the workers, by their sums of a tiny and of a large array, and the bytes of a step.

    On one host, the bytes of all workers pass through it, while ``exchange`` assumes a host for each worker; measured
    between the same workers, the bandwidth has that in it.
    """
    tiny, large = float(np.median(seconds['tiny'])), float(np.median(seconds['large']))
    bandwidth = 2 * (workers - 1) / workers * 4 * LARGE / max(large - tiny, 1e-9)
    return Cluster(0.0, size, bandwidth, tiny)


class StepKind(NamedTuple):
    """A kind of step.

    Attributes
    ----------
    images : int
        In the batch of a worker.
    devices : list of mxnet.Context
        Of a worker.
    shared : bool
        Whether the workers sum their gradients.
    chief_only : bool
        Whether the others wait meanwhile.
    aggregate : bool
        As for ``make_trainer``.
    """
    images: int
    devices: Sequence[mx.Context] = (mx.cpu(),)
    shared: bool = False
    chief_only: bool = False
    aggregate: bool = True


def measure(net: Callable[[List[mx.Context]], gluon.HybridBlock], image: Sequence[int], kinds: Mapping[str, StepKind],
            workers: Workers, rounds: int, scaler: Callable[[], Optional[LossScaler]] = lambda: None) -> dict:
    """Called in every worker: seconds of every kind of step, which all workers take at the same time.

    ``net`` builds a network on devices. With several workers, the sums of a tiny and of a large array are timed too.
    """
    steps = {}
    for place, (key, kind) in enumerate(kinds.items()):
        network, devices = net(list(kind.devices)), list(kind.devices)
        store = Shifted(workers.store, place) if kind.shared and workers.store else 'device'
        trainer = make_trainer(network, GAMMA, RATE, MOMENTUM, DECAY, kvstore=store, aggregate=kind.aggregate,
                               loss_scaler=scaler())
        steps[key] = Step(network, (kind.images, *image), trainer, devices)
    functions: Dict[str, Callable[[], float]] = {key: timed(step) for key, step in steps.items()}
    if workers.size > 1:
        for key, size in (('tiny', 1), ('large', LARGE)):
            functions[key] = timed(partial(workers.allreduce, key, mx.nd.zeros((size,))))

    def together(key):
        waits = key in kinds and kinds[key].chief_only and not workers.chief

        def wait_and_call():
            workers.barrier()
            return 0.0 if waits else functions[key]()
        return wait_and_call

    seconds = interleaved({key: together(key) for key in functions}, rounds)
    return dict(seconds={key: list(values) for key, values in seconds.items()},
                traffic={key: traffic(steps[key].trainer) for key, kind in kinds.items() if kind.shared})


class Shifted(mx.kvstore.KVStoreBase):
    """The store of a job, with other keys for each of several trainers."""

    def __init__(self, store, place: int):
        self._store, self._first = store, 10 ** 5 * place

    def broadcast(self, key, value, out, priority=0):
        self._store.broadcast(self._first + key, value, out, priority)

    def pushpull(self, key, value, out=None, priority=0):
        self._store.pushpull(self._first + key, value, out, priority)

    @staticmethod
    def is_capable(capability):
        return False

    type = property(lambda self: self._store.type)
    rank = property(lambda self: self._store.rank)
    num_workers = property(lambda self: self._store.num_workers)


def traffic(trainer) -> Dict[str, int]:
    """Messages and bytes that one worker sends in a step, and receives."""
    arrays = [arrays[0] for arrays in trainer.messages().values()]
    return dict(messages=len(arrays), bytes=sum(array.size * array.dtype().itemsize for array in arrays))


def main(name: str, settings: str, file: str) -> None:
    fields = json.loads(settings)
    workers = init_workers('local')
    os.sched_setaffinity(0, {fields['cores'][workers.rank % len(fields['cores'])]})
    chosen = Settings(**fields)
    batch = chosen.batch
    kinds = {'single': StepKind(batch, chief_only=True), 'alone': StepKind(batch),
             'buckets': StepKind(batch, shared=True), 'half': StepKind(max(1, batch // workers.size), shared=True),
             'each': StepKind(batch, shared=True, aggregate=False)}
    measured = measure(lambda devices: chosen.net(name), chosen.image_shape(name), kinds, workers, chosen.rounds)
    if workers.chief:
        write_text(file, json.dumps(measured))


if __name__ == '__main__':
    main(*sys.argv[1:])
