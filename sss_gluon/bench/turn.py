"""One cell of the matrix in a process of its own, which takes its turn when it is asked.

``python -m sss_gluon.bench.turn REQUEST``; the parent asks with (batch size, least calls) and gets seconds and bytes.
"""
from __future__ import annotations

import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Callable, List, Optional, Tuple

import mxnet as mx
import numpy as np

from ..errors import SSSError, reason
from ..graph.block import load
from ..graph.onnx_runtime import open_session, packages, placed
from ..machine import card_memory
from ..train import Config, make_trainer
from ..train.devices import contexts
from ..train.precision import enable, loss_scaler, mixed
from .child import serve
from .deployment import other_cores
from .matrix import CUT, ENOUGH, MXNET, TRAINING, WITH, Cell, provider_of
from .memory import forget_peak, peak
from .network import Subject, subject_of
from .settings import Skipped
from .shrinking import CutStep
from .training import DECAY, GAMMA, MOMENTUM, RATE, Step

WARM_UP = 2         # calls before memory is read: the first compiles

Call = Callable[[], object]
Prepare = Callable[[int], Call]     # from a batch size to a call


def main(request: str) -> None:
    fields = json.loads(request)
    cell = Cell(**dict(fields['cell'], devices=tuple(fields['cell']['devices'])))
    subject = subject_of(fields['subject'])
    taken = _Memory(cell.devices[0])
    prepare: Optional[Prepare] = None
    ready: Tuple[int, Optional[Call]] = (0, None)

    def work(batch: int, calls: int) -> dict:
        nonlocal prepare, ready
        try:
            if prepare is None:
                prepare = _open(cell, subject, Path(fields['folder']), fields['shape'], fields['cores'])
            if ready[0] != batch:
                taken.forget()
                ready = batch, prepare(batch)
                _seconds(ready[1], WARM_UP)
            return dict(seconds=_seconds(ready[1], calls), bytes=taken.bytes())
        except SSSError as error:
            return dict(failed=str(error))
        except Exception as error:      # what a runtime raises for want of memory is anything
            return dict(failed=f'{type(error).__name__}: {reason(error)}')

    serve({}, work)


def _seconds(call: Optional[Call], calls: int) -> List[float]:
    """Seconds of single calls with all that they start; fewer than ``calls`` where they take long."""
    found: List[float] = []
    while call is not None and len(found) < calls and sum(found) < ENOUGH:
        begin = time.perf_counter()
        call()
        mx.nd.waitall()
        found.append(time.perf_counter() - begin)
    return found


def _open(cell: Cell, subject: Subject, folder: Path, shape, cores) -> Prepare:
    if cell.use == TRAINING:
        return _training(cell, subject)
    return (_in_mxnet if cell.runtime == MXNET else _in_onnx_runtime)(cell, folder / cell.form, tuple(shape[1:]), cores)


def _training(cell: Cell, subject: Subject) -> Prepare:
    devices = contexts(cell.devices)
    networks = subject.open(devices)
    enable(cell.precision)
    net = networks.whole if cell.form in (WITH, CUT) else networks.dense
    trainer = make_trainer(net, GAMMA if cell.form in (WITH, CUT) else 0.0, RATE, MOMENTUM, DECAY,
                           loss_scaler=loss_scaler(cell.precision))
    shape = (len(devices), *networks.shape[1:])
    if cell.form == CUT:
        cut = CutStep(net, shape, Config.shrink_align, trainer=trainer, devices=devices)
        cut.step()
        cut.cut()
        step = cut.step
    else:
        step = Step(net, shape, trainer, devices)

    def prepare(batch: int) -> Call:
        if batch % len(devices):
            raise SSSError(f'a batch of {batch} images cannot be shared by {len(devices)} devices')
        step.feed((batch, *networks.shape[1:]))
        return step

    return prepare


def _in_mxnet(cell: Cell, prefix: Path, image, cores) -> Prepare:
    device = contexts(cell.devices)[0]
    net = load(prefix, device)
    enable(cell.precision)
    net = mixed(net, cell.precision)

    def prepare(batch: int) -> Call:
        net.hybridize(static_alloc=True, static_shape=True)
        return partial(net, mx.nd.random.normal(shape=(batch, *image), ctx=device))

    return prepare


def _in_onnx_runtime(cell: Cell, prefix: Path, image, cores) -> Prepare:
    """The batch and the outputs stay on the card, as those of MXNet do."""
    file = f'{prefix}.onnx'
    model = float16(file) if cell.precision == 'float16' else file
    provider, options = provider_of(cell)
    session = open_session(model, provider, options, other_cores(cores))
    random = np.random.RandomState(0)

    def prepare(batch: int) -> Call:
        images = random.standard_normal((batch, *image)).astype('float32')
        return placed(session, images, 'cuda' if options else 'cpu', int(options.get('device_id', 0)))

    return prepare


def float16(path) -> bytes:
    """An ONNX file whose weights and sums are float16, with inputs and outputs in float32."""
    onnx, _ = packages()
    from onnxruntime.transformers.float16 import convert_float_to_float16
    return convert_float_to_float16(onnx.load(path), keep_io_types=True).SerializeToString()


class _Memory:
    """Bytes that this process has taken since it began: of the host, or of the card that it computes on.

    While it works, all other processes of the benchmark wait, so that what a card has more is this one's.
    """

    def __init__(self, device: str):
        self._card = int(device[3:] or 0) if device.startswith('gpu') else None
        self._begin, self._held = self._now() or 0, 0

    def _now(self) -> Optional[int]:
        if self._card is not None:
            return card_memory(self._card)
        try:
            return peak()
        except Skipped:
            return None

    def forget(self) -> None:
        """Begin again with another batch size; of a card, MXNet keeps what it has."""
        if self._card is None:
            forget_peak()
        else:
            self._begin = (self._now() or 0) - self._held

    def bytes(self) -> Optional[int]:
        now = self._now()
        if now is not None:
            self._held = now - self._begin
        return None if now is None else self._held


if __name__ == '__main__':
    main(sys.argv[1])
