"""The table of benchmarks: what each measures, and the bound that it should meet."""
from __future__ import annotations

import re
from typing import Callable, Dict, List, NamedTuple, Optional

from ..errors import SSSError, nearest
from ..timing import Measurement
from .deployment import compact_seconds, gain, onnx_runtime
from .expected import START
from .memory import training_memory
from .pipeline import imagenet_input, input_pipeline
from .precisions import bfloat16
from .pytorch import against_pytorch
from .settings import Settings
from .shrinking import cut_seconds, step_after_cut, total_time
from .training import factor_step, update
from .workers import workers

AT_MOST, AT_LEAST, REPORT = 'at most', 'at least', 'report'
GAINS = (           # network, what is removed, neuron_block (AVX-512 has blocks of 16 channels), ms an image
    ('cifar_vgg16', 'without half of its neurons, 16 at a time', 16, 5),
    ('resnet50', 'to ResNet-26', 1, 60),
    ('resnext50_32x4d', 'without half of its groups', 1, 80),
    ('peleenet', 'without half of its neurons, 8 at a time', 8, 20),
)
GAIN_BOUNDS: Dict[str, Dict[int, Optional[float]]] = {      # {runtime: {batch: bound}}
    'ONNX Runtime': {1: 1.0, 8: 1.0, 64: 1.0},
    'MXNet': {1: None, 8: 0.9, 64: 0.9},
}


class Benchmark(NamedTuple):
    """One row of the table.

    Attributes
    ----------
    name : str
    what : str
        Description; ``a ÷ b`` is a ratio.
    kind : str
        ``at most``, ``at least`` or ``report``.
    bound : float, optional
    measure : callable
        ``measure(settings, **arguments)`` returns {key: Measurement}.
    arguments : dict
    key : str
        Key of this row's measurement.
    seconds : float
        That its measurement takes with 20 rounds on two quiet cores of an AMD EPYC, beside the start of its process.
    maintainers : bool
        Whether only maintainers of the package need it: then it is measured if it is asked for.
    """
    name: str
    what: str
    kind: str
    bound: Optional[float]
    measure: Callable[..., Dict[str, Measurement]]
    arguments: dict
    key: str
    seconds: float
    maintainers: bool = False

    def met(self, value: float) -> Optional[bool]:
        """Whether a value is within the bound; None if there is no bound."""
        if self.bound is None:
            return None
        return value <= self.bound if self.kind == AT_MOST else value >= self.bound

    def expected(self, settings: Settings) -> float:
        """Seconds that its measurement is expected to take."""
        return START if settings.quick else START + self.seconds * settings.rounds / Settings.rounds

    @property
    def group(self) -> tuple:
        """Equal for rows that are measured together."""
        return (self.measure, *sorted(self.arguments.items()))


def _table() -> List[Benchmark]:
    rows = []
    for name, seconds in (('cifar_resnet20', 6), ('cifar_resnext20', 10), ('cifar_vgg16', 20)):
        arguments = dict(name=name, activation=True) if name == 'cifar_resnet20' else dict(name=name)
        rows.append(Benchmark(f'step-{name}', f'training step of {name}: with factors ÷ without', AT_MOST, 1.02,
                              factor_step, arguments, 'folded', seconds))
        if name == 'cifar_resnet20':
            rows.append(Benchmark(f'activation-{name}', f'training step of {name}: factors on activations ÷ folded',
                                  REPORT, None, factor_step, arguments, 'activation', seconds, maintainers=True))
    rows.append(Benchmark('bfloat16', 'training images/s of cifar_resnet20: bfloat16 ÷ float32', AT_LEAST, 1.5,
                          bfloat16, dict(name='cifar_resnet20'), 'bfloat16', 15))
    for key, how, kind, bound in (('default', 'apgnag', AT_MOST, 0.5),
                                  ('own', 'apgnag, as for your own network', AT_MOST, 0.5),
                                  ('each', 'apgnag, one parameter at a time', REPORT, None)):
        rows.append(Benchmark(f'update-{key}', f'trainer.step of cifar_resnet164: {how} ÷ nag', kind, bound, update,
                              dict(name='cifar_resnet164'), key, 20))
    for name in ('cifar_resnet20', 'cifar_resnext20', 'cifar_vgg16'):
        rows.append(Benchmark(f'memory-{name}', f'peak memory of training {name}: with factors ÷ without', AT_MOST,
                              1.02, training_memory, dict(name=name), 'memory', 10))
    narrow = 'cifar_vgg16 of a quarter of its width'
    for key, name, what, block, seconds in (
            ('cifar_resnet20', 'cifar_resnet20', 'cifar_resnet20', 1, 165),
            ('cifar_vgg16', 'cifar_vgg16', narrow, 1, 115),
            ('cifar_vgg16-block16', 'cifar_vgg16', f'{narrow}, neurons of 16 channels', 16, 105)):
        rows.append(Benchmark(f'total-{key}', f'whole training run of {what}: to half of the MACs ÷ without factors',
                              AT_MOST, 0.75, total_time, dict(name=name, neuron_block=block), 'total', seconds))
    rows.append(Benchmark('cut', 'seconds to cut half of the blocks of cifar_resnet164 while it trains, with the next '
                          'step', AT_MOST, 2.0, cut_seconds, dict(name='cifar_resnet164'), 'seconds', 15))
    for name in ('cifar_resnet20', 'cifar_vgg16'):
        rows.append(Benchmark(f'cut-step-{name}', f'training step of {name} without half of its structures: cut while '
                              f'it trains ÷ built anew', AT_MOST, 1.1, step_after_cut, dict(name=name), 'step', 10))
    name = 'cifar_resnet20'
    rows.append(Benchmark('pytorch', f'training images/s of {name}: MXNet ÷ PyTorch', AT_LEAST, 1.0, against_pytorch,
                          dict(name=name), 'pytorch', 10, maintainers=True))
    rows.append(Benchmark('pipeline', f'images/s: augmentation on 1 core ÷ training {name}', AT_LEAST, 20.0,
                          input_pipeline, dict(name=name), 'pipeline', 10))
    rows.append(Benchmark('imagenet-input', 'images/s on 1 core: ImageNet decoded and augmented for training', REPORT,
                          None, imagenet_input, {}, 'images', 25))
    rows.append(Benchmark('compact', 'seconds to prune resnet50 to ResNet-26 and verify it at 224', AT_MOST, 10.0,
                          compact_seconds, dict(name='resnet50'), 'seconds', 10))
    for name, removed, block, image in GAINS:
        for runtime, bounds in GAIN_BOUNDS.items():
            for batch, bound in bounds.items():
                rows.append(Benchmark(
                    f'gain-{runtime.split()[0].lower()}-{name}-batch{batch}', f'{name} {removed}, {runtime}, batch '
                    f'{batch}: gain in latency ÷ gain in MACs', REPORT if bound is None else AT_LEAST, bound, gain,
                    dict(name=name, batch=batch, runtime=runtime, neuron_block=block), 'gain',
                    6 + 0.01 * image * (5 if batch < 64 else 1) * batch))
    for name, what in (('cifar_resnet164', 'cifar_resnet164 without half of its blocks'), ('resnet50', 'ResNet-26')):
        for batch in (1, 8):
            rows.append(Benchmark(f'onnx-{name}-batch{batch}',
                                  f'images/s of {what}, batch {batch}: ONNX Runtime ÷ MXNet', AT_LEAST, 1.5,
                                  onnx_runtime, dict(name=name, batch=batch), 'onnx', 8))
    name = 'cifar_resnet20'
    for key, what in (('weak', f'training images/s of {name}, one core per worker: 2 workers ÷ 1'),
                      ('strong', f'training images/s of {name}, one core per worker: 2 workers ÷ 1, same global batch'),
                      ('share', f'part of the step of {name} that 2 workers spend on allreduce'),
                      ('keys', f'step of {name} with 2 workers: gradient buckets ÷ one parameter at a time'),
                      ('model', f'allreduce of a step of {name} with 2 workers: measured ÷ predicted')):
        rows.append(Benchmark(f'workers-{key}-{name}', what, REPORT, None, workers, dict(name=name), key, 60))
    return rows


TABLE = _table()


def select(pattern: Optional[str] = None, everything: bool = False) -> List[Benchmark]:
    """The rows whose names match a regular expression; without one, all but those for maintainers, or ``everything``.
    """
    if pattern is None:
        return [row for row in TABLE if everything or not row.maintainers]
    try:
        found = [row for row in TABLE if re.search(pattern, row.name)]
    except re.error as error:
        raise SSSError(f'--only {pattern!r} is not a regular expression: {error}') from error
    if not found:
        names = [row.name for row in TABLE]
        raise SSSError(f'--only {pattern!r} matches no benchmark; did you mean {nearest(pattern, names)!r}? Names: '
                       f'{", ".join(names)}')
    return found
