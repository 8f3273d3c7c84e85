"""Finished runs, read from their folders: settings, accuracy, size and speed of their networks, structures kept."""
from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Union

from ..csv_files import EpochTable, read_csv
from ..errors import SSSError
from ..structures import Structure
from ..train import Config, RunFolder

Log = Callable[[str], None]


class NotEvaluated(SSSError):
    """A run is trained, but not pruned or not evaluated."""


class Network(NamedTuple):
    """One row of evaluation.csv; accuracies are fractions, ms is {batch size: latency in milliseconds}."""
    images: int
    top1: float
    top5: float
    params: int
    macs: int
    ms: Dict[int, float]


class StructureCount(NamedTuple):
    """Number of structures that a factor keeps out of ``size``; for a layer without a factor, of its outputs."""
    name: str
    kind: str       # 'neuron', 'group', 'block'; 'output' without a factor
    kept: float     # a mean in the summary of several runs
    size: int


@dataclass(frozen=True)
class RunResult:
    """All that a report needs of one run.

    Attributes
    ----------
    path : Path
    config : Config
    unpruned : Network
        The network as it was trained, nothing removed.
    compact : Network or None
        The pruned network; None without factors, or where the run trains for another run that prunes.
    structure_counts : list of StructureCount
        Empty without ``compact``.
    epochs : int
    seconds : float or None
        Time of training and evaluation over all epochs.
    machine : str
        Where latencies were measured; '' if unknown.
    curve : list of float, %
        Top-1 error after each epoch, on validation images or, without any, on test images.
    """
    path: Path
    config: Config
    unpruned: Network
    compact: Optional[Network]
    structure_counts: List[StructureCount]
    epochs: int
    seconds: Optional[float]
    machine: str = ''
    curve: List[float] = field(default_factory=list)

    @property
    def final(self) -> Network:
        """The network to deploy."""
        return self.compact or self.unpruned


def find_runs(arguments: Sequence[Union[str, Path]], log: Log) -> List[Path]:
    """Run folders among and below the given folders, each once, in order; ``log`` gets a line where there is none."""
    found: Dict[Path, Path] = {}
    for argument in arguments:
        path = Path(argument)
        if not os.path.isdir(path):
            log(f'there is no folder {path}')
            continue
        below = list(_below(path, log))
        if not below:
            log(f'{path} holds no run: neither it nor a folder below has a config.yaml')
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
        log(f'{path} cannot be searched for runs: {error.strerror}')
        return
    for name in sorted(inside, key=_natural):
        if not name.startswith('.'):
            yield from _below(path / name, log)


def _natural(name: str):
    """Sorts 'run10' after 'run9'."""
    return [(int(part), '') if part.isdigit() else (-1, part) for part in re.split(r'(\d+)', name)]


def read_runs(paths: Sequence[Path], log: Log, evaluate: Optional[Callable[[Path], None]] = None) -> List[RunResult]:
    """Read the runs that can be reported; ``log`` gets one line for each of the others, with what to do.

    ``evaluate`` prunes and evaluates a run; it is called for those that are trained and lack it.
    """
    results = []
    for path in paths:
        try:
            try:
                results.append(read_run(path, log))
            except NotEvaluated:
                if evaluate is None:
                    raise
                evaluate(path)
                results.append(read_run(path, log))
        except SSSError as error:
            log(f'{error}; the run is left out')
    return results


def expects_pruning(config: Config) -> bool:
    """Whether a run of these settings ends in a pruned network."""
    return config.factors != [] if config.method == 'sss' else config.source is not None


def read_run(path: Path, log: Log = print) -> RunResult:
    """Read one finished and evaluated run.

    Raises
    ------
    SSSError
        When the run is of another version, unfinished, not pruned, not evaluated, or damaged.
    """
    run = RunFolder.open(path)
    try:
        config = run.config()
    except SSSError as error:
        raise SSSError(f'{path} cannot be read by this version: {error}') from error
    metrics = run.metrics.rows()
    epochs = [number(row, 'epoch', run.metrics.path, int) for row in metrics]
    if not epochs or epochs[-1] < config.epochs:
        raise SSSError(f'{path} is at epoch {epochs[-1] if epochs else 0} of {config.epochs}; continue it with '
                       f'sss-gluon train {path}')
    file = path / 'evaluation.csv'
    if not os.path.isfile(file):
        raise NotEvaluated(f'{path} is trained but not evaluated; add --evaluate')
    rows = [row for _, row in read_csv(file)]
    networks = {row.get('network'): _network(row, file) for row in rows}
    if 'unpruned' not in networks:
        raise NotEvaluated(f'{file} has no row unpruned; run sss-gluon evaluate {path}')
    compact, counts = networks.get('compact'), []
    if not compact and expects_pruning(config):
        raise NotEvaluated(f'{path} is trained but not pruned; add --evaluate')
    if compact:
        try:
            counts = _structure_counts(run.structure())
        except SSSError as error:
            log(f'{error}; the structures that {path} kept are not shown')
    return RunResult(path, config, networks['unpruned'], compact, counts, epochs[-1], _seconds(run.timing, log),
                     rows[0].get('machine', ''),
                     [100 * (1 - number(row, 'top1', run.metrics.path, largest=1)) for row in metrics])


def number(row: Dict[str, str], key: str, place, kind=float, largest=math.inf):
    """A value of a CSV row, at least 0; ``place`` names the file, and the line if known, in errors."""
    try:
        value = kind(row[key])
    except KeyError as error:
        raise SSSError(f'{place} has no column {key}: it is damaged, or of another version') from error
    except (ValueError, TypeError) as error:
        raise SSSError(f'{place} is damaged: {key} is {row[key]!r}') from error
    if not 0 <= value <= largest or math.isinf(value):      # nor is NaN accepted
        raise SSSError(f'{place} is damaged: {key} is {row[key]!r}')
    return value


def _network(row: Dict[str, str], file: Path) -> Network:
    batches = {int(key.rpartition('_')[2]): key for key in row if re.fullmatch(r'ms_batch_\d+', key)}
    return Network(number(row, 'images', file, int), number(row, 'top1', file, largest=1),
                   number(row, 'top5', file, largest=1), number(row, 'params', file, int),
                   number(row, 'macs', file, int), {b: number(row, key, file) for b, key in batches.items()})


def _structure_counts(structure: Structure) -> List[StructureCount]:
    if structure.factors:
        return [StructureCount(name, row['kind'], len(row['kept']), row['size'])
                for name, row in structure.factors.items()]
    return [StructureCount(name, 'output', (row['after'] or [0])[0], (row['before'] or [0])[0])
            for name, row in structure.layers.items()]


def _seconds(timing: EpochTable, log: Log) -> Optional[float]:
    """Wall time of the training; None if unknown."""
    try:
        return sum(number(row, key, timing.path) for row in timing.rows()
                   for key in ('train_seconds', 'evaluation_seconds')) or None
    except SSSError as error:
        log(f'{error}; its wall time is not shown')
        return None
