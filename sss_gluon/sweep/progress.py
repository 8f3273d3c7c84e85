"""The progress of a run, and whether a process works on it; both are read from its folder without writing there."""
from __future__ import annotations

import json
import os
import re
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Iterator, NamedTuple, Tuple

from filelock import FileLock, Timeout
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ..csv_files import read_csv
from ..errors import SSSError
from ..files import read_npz
from ..train import Config, RunFolder
from ..train.checkpoint import checkpoints
from ..train.config import OPTIONAL, differences
from .plan import Run

CLAIMS = '.claims'      # folder beside the runs: one lock for each run, held from its first step to its last


class Progress(NamedTuple):
    """``epochs`` of ``total`` are done, the steps in ``left`` are still to do."""
    epochs: int
    total: int
    left: Tuple[str, ...]
    problem: str = ''       # why the run cannot be continued

    @property
    def text(self) -> str:
        """new | epoch 3 of 240 | prune left | finished."""
        if self.problem or not self.left:
            return self.problem or 'finished'
        if self.left[0] == 'train':
            return f'epoch {self.epochs} of {self.total}' if self.epochs else 'new'
        return f'{" and ".join(self.left)} left'


def progress(run: Run) -> Progress:
    """Finished epochs of a run, and the steps that are left."""
    folder = RunFolder(run.path)
    found = checkpoints(folder.checkpoints) if folder.config_file.exists() else []
    epochs, total = int(re.findall(r'\d+', found[-1].stem)[0]) if found else 0, run.config.epochs
    if 'train' in run.steps:
        try:
            changed = differences(folder.config(), _absolute(run.config)) if found else []
            if run.config.method != 'sss':      # a method may choose structures and epochs itself
                changed = [text for text in changed if not text.startswith('factors: ')]
                total = _planned_epochs(found[-1]) if found and not changed else total
        except SSSError as error:
            return Progress(epochs, total, run.steps, f'cannot be read ({error})')
        if changed:         # the training says what to do about it
            return Progress(epochs, total, run.steps, f'begun with other settings ({"; ".join(changed)})')
        if not found or epochs < total:
            return Progress(epochs, total, run.steps)
    done = {'train': True, 'prune': os.path.exists(f'{folder.compact}-structure.json')}
    done['evaluate'] = _networks(folder.path / 'evaluation.csv') >= {'unpruned'} | (
        {'compact'} if 'prune' in run.steps else set())
    first = next((i for i, step in enumerate(run.steps) if not done[step]), len(run.steps))
    return Progress(epochs, total, run.steps[first:])


def _planned_epochs(checkpoint: Path) -> int:
    """Epochs of a run, from the configuration in its checkpoint."""
    try:
        position = json.loads(read_npz(checkpoint)['position'].tobytes().decode())
        return int(OmegaConf.create(position['config'])['epochs'])
    except (KeyError, ValueError, TypeError, OmegaConfBaseException, YAMLError) as error:
        raise SSSError(f'{checkpoint} is not a checkpoint of sss_gluon') from error


def _absolute(config: Config) -> Config:
    """The configuration as training writes it: existing paths are absolute."""
    paths: Dict[str, Any] = {key: os.path.abspath(value) for key in OPTIONAL for value in [getattr(config, key)]
                             if isinstance(value, str) and os.path.exists(value)}
    return replace(config, **paths)


def _networks(path: Path) -> set:
    try:
        return {row.get('network') for _, row in read_csv(path)}
    except SSSError:
        return set()


@contextmanager
def claim(run: Run) -> Iterator[bool]:
    """Lock a run for this process through all its steps; yields False when another sweep holds it.

    The operating system releases the lock when the process ends, however it ends.
    """
    lock = FileLock(str(_claim_file(run)))
    try:
        _claim_file(run).parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    except OSError as error:
        raise SSSError(f'cannot write to {_claim_file(run).parent}: {error.strerror}') from error
    try:
        yield True
    finally:
        lock.release()


def in_use(run: Run) -> bool:
    """Whether a command such as train works in the folder of a run."""
    return _held(run.path / '.lock')


def claimed(run: Run) -> bool:
    """Whether a sweep works on a run."""
    return _held(_claim_file(run))


def _claim_file(run: Run) -> Path:
    return run.path.parent / CLAIMS / f'{run.name}.lock'


def _held(path: Path) -> bool:
    if not path.exists():
        return False
    lock = FileLock(str(path))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:         # read-only: nobody writes there
        return False
    lock.release()
    return False
