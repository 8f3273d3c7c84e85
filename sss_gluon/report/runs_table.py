"""runs.csv: a row for every run, with all that a report needs of it, so that a report can be made again from it."""
from __future__ import annotations

import csv
import json
import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Dict, List, Sequence

from ..errors import SSSError
from ..train.config import load_config, overrides
from .kept import kept_in_stages
from .runs import Kept, Log, Network, Record, number
from .settings import ELSEWHERE
from .summary import Summary, error_of

TRAIN = ['sss-gluon', 'train']
WHOLE = '_dense'        # ends the columns of a network before anything was removed
LONGEST = 2 ** 20       # characters of a field


def runs_rows(summaries: Sequence[Summary]) -> List[Dict[str, object]]:
    """One CSV row per run."""
    return [_row(record, summary) for summary in summaries for record in summary.records]


def _row(record: Record, summary: Summary) -> Dict[str, object]:
    config = replace(record.config, run=_near(record.path), data_root=None,
                     **{key: _near(getattr(record.config, key)) for key in ELSEWHERE})
    row = dict(run=config.run, **summary.names, seed=config.seed, epochs=record.epochs, images=record.final.images,
               cut='yes' if record.compact else 'no', **_numbers(record.final), **_numbers(record.dense, WHOLE),
               seconds='' if record.seconds is None else f'{record.seconds:.10g}', machine=record.machine,
               kept=kept_in_stages(Summary(**{**vars(summary), 'records': [record]})))
    return dict(row, structures_kept=json.dumps(record.kept) if record.kept else '',
                command=shlex.join(TRAIN + overrides(config)))


def _near(path):
    """A path as seen from here, if it lies below; other machines have other folders above."""
    if path is None or not os.path.isabs(path):
        return path if path is None else str(path)
    relative = os.path.relpath(path)
    return str(path) if relative.startswith('..') else relative


def _numbers(network: Network, end: str = '') -> Dict[str, object]:
    found = {f'top1_error{end}': f'{error_of(network.top1):.10g}', f'top5_error{end}': f'{error_of(network.top5):.10g}',
             f'params{end}': network.params, f'macs{end}': network.macs}
    return dict(found, **{f'ms_batch_{batch}{end}': ms for batch, ms in network.ms.items()})


def read_runs_table(path: Path, log: Log) -> List[Record]:
    """The runs of a runs.csv; a row that cannot be used is a line through ``log``."""
    csv.field_size_limit(LONGEST)
    try:
        with open(path, newline='', encoding='utf-8') as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        log(f'{path} cannot be read: {getattr(error, "strerror", None) or error}')
        return []
    records = []
    for line, row in enumerate(rows, 2):
        try:
            records.append(_record(row, path))
        except SSSError as error:
            log(f'line {line}: {error}; the run is left out')
    if not rows:
        log(f'{path} holds no run')
    return records


def _record(row: Dict[str, str], path: Path) -> Record:
    missing = [key for key in ('command', 'cut', 'structures_kept', 'seconds', 'machine') if row.get(key) is None]
    if missing:
        raise SSSError(f'{path} has no column {missing[0]}: it is damaged, of another version, or no runs.csv')
    try:
        words = shlex.split(row['command'])
    except ValueError as error:
        raise SSSError(f'{path} is damaged: the command is {row["command"]!r} ({error})') from error
    if words[:2] != TRAIN:
        raise SSSError(f'{path} is damaged: {row["command"]!r} is not a command that trains')
    config = load_config(None, words[2:])
    dense = _network(row, path, WHOLE)
    compact = _network(row, path) if row['cut'] == 'yes' else None
    seconds = number(row, 'seconds', path) if row['seconds'] else None
    return Record(Path(config.run), config, dense, compact, _kept(row['structures_kept'], path),
                  number(row, 'epochs', path, int), seconds, row['machine'])


def _network(row: Dict[str, str], path: Path, end: str = '') -> Network:
    shares = [round(1 - number(row, f'{key}_error{end}', path, largest=100) / 100, 10) for key in ('top1', 'top5')]
    batches = {key[len('ms_batch_'):len(key) - len(end)]: key for key in row
               if key and key.startswith('ms_batch_') and key.endswith(end)}
    return Network(number(row, 'images', path, int), *shares, number(row, f'params{end}', path, int),
                   number(row, f'macs{end}', path, int),
                   {int(batch): number(row, key, path) for batch, key in batches.items() if batch.isdecimal()})


def _kept(text: str, path: Path) -> List[Kept]:
    try:
        kept = [Kept(*entry) for entry in json.loads(text or '[]')]
        if not all(isinstance(one.name, str) and isinstance(one.kind, str) and isinstance(one.kept, int)
                   and isinstance(one.size, int) and 0 <= one.kept <= one.size for one in kept):
            raise ValueError
    except (ValueError, TypeError, RecursionError) as error:
        raise SSSError(f'{path} is damaged: structures_kept is {text[:40]!r}') from error
    return kept
