"""The run folder: everything that a run writes, and all that later steps read.

    config.yaml   metrics.csv   timing.csv   factors.csv   checkpoints/epoch-0030.npz   figures/   compact/   deploy/
    selection/      written by methods that choose structures before training
"""
from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Optional, Union

from filelock import FileLock, Timeout

from ..csv_files import EpochTable
from ..errors import SSSError
from ..files import clear_temporaries, write_text
from ..structures import Structure, load_structure
from .config import Config, load_config, save_config


class RunFolder:
    """Paths and small files of one run.

    Parameters
    ----------
    path : path
        The folder; ``RunFolder.open`` requires that it holds a run.
    """

    def __init__(self, path: Union[str, Path]):
        self.path = Path(path)
        self.chief = True       # only one of several workers writes the folder
        self.config_file = self.path / 'config.yaml'
        self.metrics = EpochTable(self.path / 'metrics.csv')
        self.timing = EpochTable(self.path / 'timing.csv')
        self.factors = EpochTable(self.path / 'factors.csv')
        self.checkpoints = self.path / 'checkpoints'
        self.figures = self.path / 'figures'
        self.compact = self.path / 'compact' / 'model'      # prefix of the exported files
        self.deploy = self.path / 'deploy' / 'model'        # prefix of the files for inference
        self.selection = self.path / 'selection' / 'model'  # compact network that fine-tuning starts from
        self.source = self.path / 'selection' / 'source'    # the dense network it was pruned from

    @classmethod
    def open(cls, path: Union[str, Path]) -> 'RunFolder':
        """Open an existing run; anything else is an error."""
        run = cls(path)
        if not os.path.exists(path):
            raise SSSError(f'there is no folder {path}')
        if not os.path.isfile(run.config_file):
            raise SSSError(f'{path} is not a run folder: it has no config.yaml')
        return run

    @classmethod
    def for_writing(cls, path: Union[str, Path]) -> 'RunFolder':
        """A run to begin or continue; a file, or a folder with something else in it, is an error."""
        if not path:
            raise SSSError('run= is empty; name the folder that the run should write')
        run = cls(path)
        if os.path.lexists(path) and not os.path.isdir(path):
            raise SSSError(f'{run} is not a folder; name another run=')
        others = run.path.is_dir() and [name for name in os.listdir(path)
                                        if name not in ('.lock', 'selection') and not name.startswith('.selection.')]
        if others and not run.config_file.exists():
            raise SSSError(f'{run} is not empty and not a run folder; name another run=')
        return run

    def __str__(self):
        return str(self.path)

    def config(self) -> Config:
        return load_config(self.config_file)

    def save_config(self, config: Config) -> None:
        """Write config.yaml and a copy of the structure that it names, so that the folder needs no other file."""
        structure = self.initial_structure(config)
        if structure is not None:
            structure.save(self.path / 'structure.json')
        write_text(self.config_file, save_config(config))

    def initial_structure(self, config: Config) -> Optional[Structure]:
        """The structure that ``structure=`` names; the copy in the folder wins once the run has started."""
        if config.structure is None:
            return None
        copy = self.path / 'structure.json'
        started = copy.exists() and any(self.checkpoints.glob('*.npz'))
        return load_structure(copy if started else config.structure)

    def has_selection(self) -> bool:
        """Whether the run trains a compact network that its method selected."""
        return Path(f'{self.selection}-structure.json').exists()

    def structure(self) -> Structure:
        """The structure of the compact network that ``prune`` wrote."""
        return Structure.load(f'{self.compact}-structure.json')

    def discard_results(self) -> None:
        """Remove what earlier verbs made of the network, because training is about to change it."""
        for prefix in (self.compact, self.deploy):
            shutil.rmtree(prefix.parent, ignore_errors=True)
        for name in ('evaluation.csv', 'diagnosis.txt'):
            if (self.path / name).exists():
                (self.path / name).unlink()

    @contextmanager
    def locked(self, wait: float = 0) -> Iterator[None]:
        """Hold the folder for this process.

        It is an error if another process still holds it after ``wait`` seconds, or if it cannot be written.
        """
        made = [path for path in (self.path, *self.path.parents) if not os.path.exists(path)]
        lock = FileLock(str(self.path / '.lock'))
        try:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                lock.acquire(timeout=wait)
            except Timeout as error:
                made = []       # the other process made them
                raise SSSError(f'{self} is in use by another process; wait for it, or use another run=') from error
            except OSError as error:
                raise SSSError(f'cannot write to the run folder {self}: {error.strerror}') from error
            for folder in {self.path, self.checkpoints, self.figures, self.compact.parent, self.deploy.parent}:
                clear_temporaries(folder)
            yield
        finally:
            for path in made:       # leave nothing behind if nothing was written
                if os.path.isdir(path) and set(os.listdir(path)) <= {'.lock'}:
                    shutil.rmtree(path)
            lock.release()
