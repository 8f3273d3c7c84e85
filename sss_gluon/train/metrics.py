"""Logging: a line of text before the first epoch; after every epoch another, the tables of the run, TensorBoard."""
from __future__ import annotations

from functools import partial
from hashlib import blake2b
from typing import Any, Dict, List, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from ..data import DataSet
from ..errors import SSSError
from ..factors import ScalingFactor, factor_values
from ..graph import Count, count, load
from ..machine import threads
from ..structures import collapse_now, remaining
from ..terminal import WIDTH, duration, short_number, wrapped
from .accuracy import Accuracy
from .config import Config
from .method import Regularizer
from .precision import LossScaler
from .run_folder import RunFolder


def alive(factors: Sequence[ScalingFactor], values: Dict[str, np.ndarray]) -> Dict[str, Tuple[int, int]]:
    """{kind: (structures whose factor is not exactly zero, all structures)}."""
    counts: Dict[str, Tuple[int, int]] = {}
    for factor in factors:
        left, total = counts.get(factor.kind, (0, 0))
        array = values[factor.name]
        counts[factor.kind] = left + int((array != 0).sum()), total + array.size
    return counts


class MetricsLogger:
    """Writes the tables of a run. A rerun repeats metrics.csv bit for bit; wall times go into timing.csv."""

    def __init__(self, run: RunFolder, config: Config, net, factors: List[ScalingFactor], input_shape,
                 regularizer: Optional[Regularizer] = None,
                 loss_scaler: Optional[LossScaler] = None):
        self.run, self.config, self.net, self.factors, self.input_shape = run, config, net, factors, input_shape
        self.regularizer = regularizer or Regularizer()
        # a regularizer may measure structures differently
        self.values = regularizer.values if regularizer else partial(factor_values, net)
        self.loss_scaler = loss_scaler
        self.before = count(load(run.source), input_shape) if run.has_selection() else None
        self.left = ''              # '54.3% MACs' of the unpruned network, for the progress bar
        self.collapsed = ''         # what has collapsed
        self._form = 0              # of the lines for the log: how much they leave out
        self._measured: Any = (None,)
        self._writer = _tensorboard(run) if config.tensorboard else None

    def keep_epochs(self, epochs: int) -> None:
        """Drop what was logged after the checkpoint that the run resumes from."""
        for table in (self.run.metrics, self.run.timing, self.run.factors):
            table.keep_epochs(epochs)

    def measure(self, values: Dict[str, np.ndarray]) -> Tuple[Count, Count]:
        """Count the unpruned network and the network as it would be pruned now."""
        zeros = self._zeros()
        if zeros != self._measured[0]:
            self._measured = zeros, *remaining(self.net, self.input_shape), \
                collapse_now(self.net, self.input_shape, values)
        _, dense, left, self.collapsed = self._measured
        dense = self.before or dense
        if values:
            share = '100%' if left.macs == dense.macs else f'{min(left.macs / dense.macs, 0.999):.1%}'
            self.left = self.regularizer.left() or f'{share} MACs'
        return dense, left

    def _zeros(self) -> bytes:
        """Digest of where parameters are exactly zero, on which alone the sizes depend."""
        digest = blake2b(digest_size=16)
        for parameter in self.net.collect_params().values():
            digest.update(np.packbits(parameter.list_data()[0].asnumpy() != 0).tobytes())
        return digest.digest()

    def header(self, data: DataSet, devices: Sequence[mx.Context], workers: int = 1) -> str:
        """'1,197 images of 1x16x16, 10 classes; 10.35 M MACs, 272,250 params; cpu, 2 threads'."""
        _, left = remaining(self.net, self.input_shape)
        images = f'{len(data.train):,} images of {"x".join(map(str, data.shape))}, {data.classes:,} classes'
        where = ', '.join(f'{device.device_type}{device.device_id}' for device in devices)
        if 'gpu' not in where:
            where = f'{where if len(devices) > 1 else "cpu"}, {threads()} thread{"s" * (threads() != 1)}'
        size = f'{short_number(left.macs)} MACs, {left.params:,} params'
        return wrapped('; '.join([images, size, where] + [f'{workers} workers'] * (workers > 1)))

    def write(self, epoch: int, learning_rate: float, trained: Accuracy, part: str, result: Accuracy,
              train_seconds: float, images_per_second: float, evaluation_seconds: float) -> str:
        """Write one row into every table and return the line for the log."""
        values, before = self.values(), self.collapsed
        dense, left = self.measure(values)
        warning = f'\nwarning: after epoch {epoch} {self.collapsed}' if self.collapsed not in ('', before) else ''
        row: Dict[str, Any] = dict(
            epoch=epoch, learning_rate=f'{learning_rate:.9g}', train_loss=f'{trained.loss:.9g}',
            train_top1=f'{trained.top1:.6f}', evaluated_on=part, loss=f'{result.loss:.9g}',
            top1=f'{result.top1:.6f}', top5=f'{result.top5:.6f}')
        counts = alive(self.factors, values)
        for kind, (some, total) in counts.items():
            row.update({f'{kind}s_alive': some, f'{kind}s': total})
        row.update(self.regularizer.columns())
        row.update(params=dense.params, params_left=left.params, macs=dense.macs, macs_left=left.macs)
        scale = ''
        if self.loss_scaler:
            row.update(loss_scale=f'{self.loss_scaler.scale:g}', skipped=self.loss_scaler.skipped)
            scale = f'  loss scale {row["loss_scale"]}, {row["skipped"]} skipped'
        self.run.metrics.append(row)
        self.run.timing.append(dict(epoch=epoch, train_seconds=f'{train_seconds:.3f}',
                                    images_per_second=f'{images_per_second:.1f}',
                                    evaluation_seconds=f'{evaluation_seconds:.3f}'))
        if values:
            self.run.factors.append(dict(epoch=epoch, **{f'{name}[{i}]': f'{value:.9g}'
                                                         for name, array in values.items()
                                                         for i, value in enumerate(array)}))
        if self._writer:
            for key, value in row.items():
                if key not in ('epoch', 'evaluated_on'):
                    self._writer.add_scalar(key, float(value), epoch)
            for name, array in values.items():
                self._writer.add_histogram(f'factors/{name}', array, epoch)
            self._writer.flush()
        alive_text = ' '.join(f'{some}/{total} {kind}s' for kind, (some, total) in counts.items())
        begin = (f'epoch {epoch:3d}/{self.config.epochs}', f'loss {trained.loss:.3f}',
                 f'{"val" if part == "validation" else part} {result.top1:.1%}')
        rate, took = f'lr {learning_rate:.2g}', duration(train_seconds + evaluation_seconds)
        forms = [(alive_text, self.left, rate, took), (alive_text, self.left, took), (alive_text, self.left),
                 (self.left,)][self._form:]
        lines = ['  '.join(filter(None, (*begin, *form))) for form in forms]
        fits = next((number for number, line in enumerate(lines) if len(line) <= WIDTH), -1)
        self._form += max(fits, 0)      # a column that had no room does not come back
        return lines[fits] + scale + warning

    def close(self) -> None:
        if self._writer:
            self._writer.close()


def _tensorboard(run: RunFolder):
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise SSSError('tensorboard=true needs tensorboardX: pip install "sss_gluon[tensorboard]"') from error
    return SummaryWriter(str(run.path / 'tensorboard'))
