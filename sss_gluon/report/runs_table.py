"""runs.csv: one row per run with all that a report needs, so that a report can be made from it without the runs."""
from __future__ import annotations

import json
import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Dict, List, Sequence

from ..csv_files import read_csv
from ..errors import SSSError
from ..train.config import load_config, overrides
from .runs import Log, Network, RunResult, StructureCount, number
from .settings import PATH_KEYS
from .summary import Summary, error_of, kept_in_stages

TRAIN = ['sss-gluon', 'train']
NEEDED = ('command', 'cut', 'structures_kept', 'seconds', 'machine')
UNPRUNED = '_unpruned'        # ends the columns of the network as it was trained


def runs_rows(summaries: Sequence[Summary]) -> List[Dict[str, object]]:
    """One CSV row per run."""
    return [_row(result, summary) for summary in summaries for result in summary.runs]


def _row(result: RunResult, summary: Summary) -> Dict[str, object]:
    config = replace(result.config, run=_relative(result.path), data_root=None,
                     **{key: _relative(getattr(result.config, key)) for key in PATH_KEYS})
    row = dict(run=config.run, **summary.names, seed=config.seed, epochs=result.epochs, images=result.final.images,
               cut='yes' if result.compact else 'no', **_columns(result.final), **_columns(result.unpruned, UNPRUNED),
               seconds='' if result.seconds is None else f'{result.seconds:.10g}', machine=result.machine,
               kept=kept_in_stages(replace(summary, runs=[result])))
    row['errors_by_epoch'] = ' '.join(f'{error:.4g}' for error in result.curve)
    return dict(row, structures_kept=json.dumps(result.structure_counts) if result.structure_counts else '',
                command=shlex.join(TRAIN + overrides(config)))


def _relative(path):
    """A path below the current folder as seen from there: the folders above differ between machines."""
    if path is None or not os.path.isabs(path):
        return path if path is None else str(path)
    relative = os.path.relpath(path)
    return str(path) if relative.startswith('..') else relative


def _columns(network: Network, end: str = '') -> Dict[str, object]:
    found = {f'top1_error{end}': f'{error_of(network.top1):.10g}', f'top5_error{end}': f'{error_of(network.top5):.10g}',
             f'params{end}': network.params, f'macs{end}': network.macs}
    return dict(found, **{f'ms_batch_{batch}{end}': ms for batch, ms in network.ms.items()})


def read_runs_table(path: Path, log: Log) -> List[RunResult]:
    """The runs of a runs.csv; ``log`` gets one line for each row that cannot be used."""
    try:
        rows = read_csv(path, NEEDED, lambda problem: log(f'{problem}; the run is left out'))
    except SSSError as error:
        log(str(error))
        return []
    results = []
    for line, row in rows:
        try:
            results.append(_run_result(row, f'{path}, line {line}'))
        except SSSError as error:
            log(f'{error}; the run is left out')
    if not rows:
        log(f'{path} holds no run')
    return results


def _run_result(row: Dict[str, str], place: str) -> RunResult:
    try:
        words = shlex.split(row['command'])
    except ValueError as error:
        raise SSSError(f'{place} is damaged: the command is {row["command"]!r} ({error})') from error
    if words[:2] != TRAIN:
        raise SSSError(f'{place} is damaged: {row["command"]!r} is not a command that trains')
    try:
        config = load_config(None, words[2:])
    except SSSError as error:
        raise SSSError(f'{place}: {error}') from error
    unpruned = _network(row, place, UNPRUNED)
    compact = _network(row, place) if row['cut'] == 'yes' else None
    seconds = number(row, 'seconds', place) if row['seconds'] else None
    return RunResult(Path(config.run), config, unpruned, compact, _structure_counts(row['structures_kept'], place),
                     number(row, 'epochs', place, int), seconds, row['machine'],
                     [number({'errors_by_epoch': word}, 'errors_by_epoch', place, largest=100)
                      for word in row.get('errors_by_epoch', '').split()])


def _network(row: Dict[str, str], place: str, end: str = '') -> Network:
    top1, top5 = (round(1 - number(row, f'{key}_error{end}', place, largest=100) / 100, 10) for key in ('top1', 'top5'))
    batches = {key[len('ms_batch_'):len(key) - len(end)]: key for key in row
               if key.startswith('ms_batch_') and key.endswith(end)}
    return Network(number(row, 'images', place, int), top1, top5, number(row, f'params{end}', place, int),
                   number(row, f'macs{end}', place, int),
                   {int(batch): number(row, key, place) for batch, key in batches.items() if batch.isdecimal()})


def _structure_counts(text: str, place: str) -> List[StructureCount]:
    try:
        counts = [StructureCount(*entry) for entry in json.loads(text or '[]')]
        if not all(isinstance(one.name, str) and isinstance(one.kind, str) and isinstance(one.kept, int)
                   and isinstance(one.size, int) and 0 <= one.kept <= one.size for one in counts):
            raise ValueError
    except (ValueError, TypeError, RecursionError) as error:
        raise SSSError(f'{place} is damaged: structures_kept is {text[:40]!r}') from error
    return counts
