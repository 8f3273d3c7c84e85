"""Hours of training on small data, to see whether memory, threads and open files stay constant.

The whole of ``sss-gluon train`` is watched, in a process of its own: augmentation, steps, evaluation, checkpoint and
logs of every epoch.
"""
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Callable, List, NamedTuple, Sequence

import numpy as np

from ..errors import SSSError
from .child import environment
from .isolated import own_cores

CONFIG = {'data': 'digits', 'image_size': 8, 'model': 'cifar_resnet20', 'batch_size': 64, 'epochs': 10 ** 6,
          'model_options': {'depths': [1, 1, 1], 'widths': [4, 8, 16]}, 'learning_rate': 0.01, 'gamma': 1e-4,
          'augment_pad': 1, 'lr_mode': 'constant'}
SAMPLES = 240
WARM_UP = 0.1       # share of the time in which caches fill; the slope is fitted to the rest
PATIENCE = 60       # seconds for the first epoch, and for the last checkpoint


class Sample(NamedTuple):
    """The process at one moment: seconds since its first epoch, resident bytes, and counts."""
    seconds: float
    epochs: int
    bytes: int
    threads: int
    files: int


def soak(hours: float, log: Callable[[Sample], None] = lambda sample: None) -> List[Sample]:
    """Train for some hours, and sample the process at regular times.

    Raises
    ------
    SSSError
        The training ended by itself, or cannot be watched on this platform.
    """
    if not 0 < hours < float('inf'):
        raise SSSError(f'--soak {hours} must be a number of hours, such as 2')
    cores = own_cores(1)
    with tempfile.TemporaryDirectory() as folder:
        config, run, errors = (Path(folder) / name for name in ('config.yaml', 'run', 'errors'))
        config.write_text(json.dumps(dict(CONFIG, run=str(run))), 'utf-8')
        with open(errors, 'w', encoding='utf-8') as file:
            process = subprocess.Popen([sys.executable, '-m', 'sss_gluon.cli', 'train', str(config)], stderr=file,
                                       stdout=subprocess.DEVNULL, env=environment(cores))
        try:
            return _watch(process, run / 'metrics.csv', 3600 * hours, log)
        except _Ended:
            said = (errors.read_text('utf-8').strip().splitlines() or ['it printed nothing'])[-1]
            raise SSSError(f'the training ended by itself, with status {process.returncode}: {said}') from None
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class _Ended(Exception):
    pass


def _watch(process, metrics: Path, seconds: float, log) -> List[Sample]:
    limit = time.monotonic() + PATIENCE
    while _epochs(metrics) < 1:
        if process.poll() is not None:
            raise _Ended
        if time.monotonic() > limit:
            raise SSSError(f'the training did not finish its first epoch within {PATIENCE} s')
        time.sleep(0.1)
    begin, samples = time.monotonic(), []
    for i in range(SAMPLES + 1):
        time.sleep(max(0.0, begin + i * seconds / SAMPLES - time.monotonic()))
        if process.poll() is not None:
            raise _Ended
        samples.append(_sample(process.pid, time.monotonic() - begin, _epochs(metrics)))
        log(samples[-1])
    return samples


def _epochs(metrics: Path) -> int:
    with suppress(FileNotFoundError):
        with open(metrics, 'rb') as file:
            return max(0, sum(1 for _ in file) - 1)
    return 0


def _sample(pid: int, seconds: float, epochs: int) -> Sample:
    try:
        lines = Path(f'/proc/{pid}/status').read_text('utf-8').splitlines()
        status = dict(line.split(':', 1) for line in lines)
        return Sample(seconds, epochs, 1024 * int(status['VmRSS'].split()[0]), int(status['Threads']),
                      len(os.listdir(f'/proc/{pid}/fd')))
    except (OSError, KeyError):     # an ended process still has a folder in /proc, but no memory
        raise _Ended from None


def slope(samples: Sequence[Sample]) -> float:
    """Bytes per hour, from the least-squares line through all samples after the warm-up."""
    last = samples[-1].seconds
    hours, sizes = np.array([(sample.seconds / 3600, sample.bytes) for sample in samples
                             if sample.seconds >= WARM_UP * last]).T
    hours = hours - hours.mean()
    return float((hours * sizes).sum() / (hours ** 2).sum())
