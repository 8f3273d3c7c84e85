"""How one network scales over devices and workers: weak and strong, with the share of the sums, and the prediction.

In a job of ``sss-gluon launch`` every worker runs this. Without one, several devices of this process are compared with
the first; that takes a process of its own: ``python -m sss_gluon.bench.job REQUEST``.
"""
from __future__ import annotations

import json
import sys
from typing import Dict, Iterator, List

import numpy as np

from ..errors import SSSError
from ..graph.count import count
from ..machine import threads
from ..timing import ratio
from ..train.devices import contexts
from ..train.precision import check_devices, enable, loss_scaler
from ..train.workers import Workers, init_workers
from .child import serve
from .expected import Begin, nothing, scaling_seconds
from .host import host
from .interconnect import exchange
from .matrix import MXNET
from .model import Log, Plan, Row, bench_model, plan_of, texts
from .workers import StepKind, link, measure

STRONG, WEAK = 'strong', 'weak'


def measure_job(plan: Plan, log: Log = lambda line: None, begin: Begin = nothing) -> Iterator[List[Row]]:
    """The rows of a plan as soon as they are measured; of a job how it scales, from the worker that writes."""
    workers = init_workers('device')
    if workers.size == 1:
        yield from bench_model(plan, log, begin)
        return
    try:
        for rows in scaling(plan, workers, begin):
            if workers.chief:
                yield rows
        workers.barrier()
    except BaseException:
        workers.abort()
        raise


def scaling(plan: Plan, workers: Workers, begin: Begin = nothing) -> Iterator[List[Row]]:
    """Training steps of the network with its factors, on one device and on all devices of all workers.

    Every batch of the plan is that of a device, or of all devices together; its rows are yielded when it is measured.
    """
    precision, = plan.precisions if len(plan.precisions) == 1 else ('',)
    if not precision:
        raise SSSError(f'a job measures one precision, not {",".join(plan.precisions)}; launch it again for another')
    check_devices(precision, plan.devices)
    devices = workers.devices(contexts(plan.devices))
    networks = plan.subject.open()
    size = count(networks.dense, networks.shape)
    enable(precision)
    total = workers.size * len(devices)
    left = {batch: scaling_seconds(len(devices), batch, plan.rounds, size.macs) for batch in sorted(plan.batches)}
    for batch in sorted(plan.batches):
        begin(f'scaling, batch {batch}', left[batch], sum(left.values()))
        del left[batch]
        each = batch * len(devices)
        kinds = {'single': StepKind(batch, devices[:1], chief_only=True), 'alone': StepKind(each, devices),
                 WEAK: StepKind(each, devices, shared=True)}
        if batch % total == 0:
            kinds.update({'alone strong': StepKind(batch // workers.size, devices),
                          STRONG: StepKind(batch // workers.size, devices, shared=True)})
        measured = measure(lambda where: plan.subject.open(where).whole, networks.shape[1:], kinds, workers,
                           plan.rounds, lambda: loss_scaler(precision))
        seconds = {key: np.array(values) for key, values in measured['seconds'].items()}
        shared = dict(
            model=plan.subject.model, structure=plan.subject.structure or '', cut='with factors', use='scaling',
            runtime=MXNET, provider='', precision=precision, devices=' '.join(map(_name, devices)), batch=batch,
            image='x'.join(map(str, networks.shape[1:])), params=size.params, macs=size.macs, workers=workers.size,
            rounds=plan.rounds, quick='yes' if plan.subject.quick else 'no', failed='')
        where, rows = host(range(threads())), []
        for form, images in ((WEAK, batch * total), (STRONG, batch)):
            if form in kinds:
                found = _scaled(seconds, form, batch, images, total, workers.size, measured['traffic'][form]['bytes'])
                rows.append({**texts(form=form, **shared, **found), **where})
        yield rows


def _name(device) -> str:
    return f'{device.device_type}{device.device_id}'


def _scaled(seconds: Dict[str, np.ndarray], form: str, batch: int, images: int, total: int, workers: int,
            size: int) -> Dict[str, object]:
    """Columns of a form, which takes all ``total`` devices for a number of images; one device has a batch."""
    gain = ratio(seconds, 'single', form, images / batch)
    step = float(np.median(seconds[form]))
    found: Dict[str, object] = dict(
        ms_p50=f'{1000 * step:.5g}', images_per_second=f'{images / step:.5g}', speedup=f'{gain.value:.4g}',
        efficiency=f'{gain.value / total:.4g}', efficiency_low=f'{gain.low / total:.4g}',
        efficiency_high=f'{gain.high / total:.4g}', predicted='', share='', megabytes='', gigabytes_per_second='')
    if workers > 1:
        alone = seconds['alone' if form == WEAK else 'alone strong']
        cluster = link(seconds, size, workers)
        predicted = float(np.median(alone)) + exchange(cluster, workers)
        found.update(
            predicted=f'{images / predicted / (batch / np.median(seconds["single"])) / total:.4g}',
            share=f'{np.median(1 - alone / seconds[form]):.4g}', megabytes=f'{size / 1e6:.4g}',
            gigabytes_per_second=f'{cluster.bandwidth / 1e9:.4g}')
    return found


def main(request: str) -> None:
    """A child that answers with the rows of several devices of one process, batch by batch."""
    measured = scaling(plan_of(json.loads(request)), Workers())

    def work() -> dict:
        try:
            return dict(rows=next(measured))
        except SSSError as error:
            return dict(failed=str(error))

    serve({}, work)


if __name__ == '__main__':
    main(sys.argv[1])
