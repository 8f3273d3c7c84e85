"""Finished runs, read from their folders: settings, accuracy and size of their networks, what was kept, time."""
from __future__ import annotations

import csv
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Union

from ..csv_files import EpochTable
from ..errors import SSSError
from ..structures import Structure
from ..train import Config, RunFolder

Log = Callable[[str], None]


class Network(NamedTuple):
    """One row of evaluation.csv; accuracies are shares, ms is {batch size: latency in milliseconds}."""
    images: int
    top1: float
    top5: float
    params: int
    macs: int
    ms: Dict[int, float]


class Kept(NamedTuple):
    """What is left of one factor, or of one layer where nothing carried factors (kind 'output')."""
    name: str
    kind: str
    kept: int
    size: int


@dataclass(frozen=True)
class Record:
    """All that a report needs of one run.

    Attributes
    ----------
    path : Path
    config : Config
    dense : Network
        As it was trained, nothing removed.
    compact : Network or None
        What ``prune`` left; None where nothing was to be cut (no factors, or a penalty before another run cuts).
    kept : list of Kept
        Empty without ``compact``.
    epochs : int
    seconds : float or None
        Training and evaluation of all epochs.
    machine : str
        Where latencies were measured; '' where it is not known.
    """
    path: Path
    config: Config
    dense: Network
    compact: Optional[Network]
    kept: List[Kept]
    epochs: int
    seconds: Optional[float]
    machine: str = ''

    @property
    def final(self) -> Network:
        """What one would deploy."""
        return self.compact or self.dense


def find_runs(arguments: Sequence[Union[str, Path]], log: Log) -> List[Path]:
    """Run folders among and below the given folders, each once, in order; what holds none is a line through ``log``."""
    found: Dict[Path, Path] = {}
    for argument in arguments:
        path = Path(argument)
        if not os.path.isdir(path):
            log(f'there is no folder {path}')
            continue
        below = list(_below(path, log))
        if not below:
            log(f'{path} holds no run: there is no config.yaml in it or below')
        for run in below:
            found.setdefault(run.resolve(), run)
    return list(found.values())


def _below(path: Path, log: Log):
    if os.path.isfile(path / 'config.yaml'):
        yield path
        return
    try:
        inside = sorted(entry.name for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False))
    except OSError as error:
        log(f'cannot look into {path}: {error.strerror}')
        return
    for name in sorted(inside, key=_natural):
        if not name.startswith('.'):
            yield from _below(path / name, log)


def _natural(name: str):
    """'run10' after 'run9'."""
    return [(int(part), '') if part.isdigit() else (-1, part) for part in re.split(r'(\d+)', name)]


def read_runs(paths: Sequence[Path], log: Log) -> List[Record]:
    """The runs that can be reported; every other one is a line through ``log``, with what to do."""
    records = []
    for path in paths:
        try:
            records.append(read_run(path, log))
        except SSSError as error:
            log(f'{error}; the run is left out')
    return records


def read_run(path: Path, log: Log = print) -> Record:
    """One finished and evaluated run.

    Raises
    ------
    SSSError
        When it is of another version, not finished, not cut, not evaluated, or damaged.
    """
    run = RunFolder.open(path)
    try:
        config = run.config()
    except SSSError as error:
        raise SSSError(f'{path} cannot be read by this version: {error}') from error
    epochs = [number(row, 'epoch', run.metrics.path, int) for row in _rows(run.metrics)]
    if not epochs or epochs[-1] < config.epochs:
        raise SSSError(f'{path} is at epoch {epochs[-1] if epochs else 0} of {config.epochs}: sss-gluon train {path}')
    table = EpochTable(path / 'evaluation.csv')
    if not os.path.isfile(table.path):
        raise SSSError(f'{path} is not evaluated: sss-gluon prune {path} (where it has factors), then sss-gluon '
                       f'evaluate {path}')
    rows = _rows(table)
    networks = {row.get('network'): _network(row, table.path) for row in rows}
    if 'dense' not in networks:
        raise SSSError(f'{table.path} has no row dense: sss-gluon evaluate {path}')
    compact, kept = networks.get('compact'), []
    if not compact and (config.factors != [] if config.method == 'sss' else config.source):
        raise SSSError(f'{path} is not cut: sss-gluon prune {path}, then sss-gluon evaluate {path}')
    if compact:
        try:
            kept = _kept(run.structure())
        except SSSError as error:
            log(f'{error}; what {path} kept is not shown')
    return Record(path, config, networks['dense'], compact, kept, epochs[-1], _seconds(run.timing, log),
                  rows[0].get('machine', ''))


def _rows(table: EpochTable) -> List[Dict[str, str]]:
    try:
        return table.rows()
    except csv.Error as error:
        raise SSSError(f'{table.path} is damaged: {error}') from error


def number(row: Dict[str, str], key: str, path: Path, kind=float, largest=math.inf):
    """A value of a row of a CSV file, at least 0."""
    try:
        value = kind(row[key])
    except KeyError as error:
        raise SSSError(f'{path} has no column {key}: it is damaged, or of another version') from error
    except (ValueError, TypeError) as error:
        raise SSSError(f'{path} is damaged: {key} is {row[key]!r}') from error
    if not 0 <= value <= largest or math.isinf(value):      # not a NaN either
        raise SSSError(f'{path} is damaged: {key} is {row[key]!r}')
    return value


def _network(row: Dict[str, str], path: Path) -> Network:
    batches = {int(key.rpartition('_')[2]): key for key in row if re.fullmatch(r'ms_batch_\d+', key)}
    return Network(number(row, 'images', path, int), number(row, 'top1', path, largest=1),
                   number(row, 'top5', path, largest=1), number(row, 'params', path, int),
                   number(row, 'macs', path, int), {b: number(row, key, path) for b, key in batches.items()})


def _kept(structure: Structure) -> List[Kept]:
    if structure.factors:
        return [Kept(name, row['kind'], len(row['kept']), row['size']) for name, row in structure.factors.items()]
    return [Kept(name, 'output', row['after'][0] if row['after'] else 0, row['before'][0])
            for name, row in structure.layers.items()]


def _seconds(timing: EpochTable, log: Log) -> Optional[float]:
    """Wall time of the training; None where it is not known."""
    try:
        return sum(number(row, key, timing.path) for row in _rows(timing)
                   for key in ('train_seconds', 'evaluation_seconds')) or None
    except SSSError as error:
        log(f'{error}; its wall time is not shown')
        return None
