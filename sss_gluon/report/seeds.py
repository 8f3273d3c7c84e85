"""Paired runs over seeds: with and without factors, trained alike; mean and standard deviation of the difference."""
from __future__ import annotations

import csv
import io
import sys
from pathlib import Path
from typing import Dict, List, Sequence

import numpy as np

from ..errors import SSSError
from ..files import write_text
from ..train import RunFolder
from .tables import removed

FIELDS = ('seed', 'removed', 'top1_without_factors', 'top1_compact', 'difference_points', 'macs', 'macs_compact',
          'train_seconds')


def summarize(runs: Sequence[str], destination: str) -> str:
    """Write one CSV row per run that was evaluated ``--against`` its partner; return the closing lines.

    Parameters
    ----------
    runs : sequence of run folders
        Each with ``evaluation.csv`` of three networks: dense, compact, and the partner without factors.
    destination : path of the CSV
    """
    rows: List[Dict[str, object]] = []
    for path in runs:
        run = RunFolder.open(path)
        networks = _evaluation(run.path / 'evaluation.csv')
        partner = next((row for name, row in networks.items() if name not in ('dense', 'compact')), None)
        if partner is None or 'compact' not in networks:
            raise SSSError(f'{path}: prune it and evaluate it --against a run without factors first')
        small, without = float(networks['compact']['top1']), float(partner['top1'])
        seconds = sum(float(row['train_seconds']) for row in run.timing.rows())
        rows.append(dict(zip(FIELDS, (run.config().seed, removed(run.structure()), f'{without:.6f}', f'{small:.6f}',
                                      f'{100 * (small - without):.3f}', partner['macs'], networks['compact']['macs'],
                                      f'{seconds:.1f}'))))
    table = io.StringIO()
    writer = csv.DictWriter(table, FIELDS, lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
    write_text(destination, table.getvalue())

    def spread(key, scale=1.0):
        values = np.array([scale * float(row[key]) for row in rows])
        return f'{values.mean():.2f} ± {values.std(ddof=1) if len(values) > 1 else 0:.2f}'

    left = np.mean([int(row['macs_compact']) / int(row['macs']) for row in rows])
    return (f'{len(rows)} paired seeds, top-1 on the test images, mean ± std:\n'
            f'  without factors  {spread("top1_without_factors", 100)} %\n'
            f'  compact          {spread("top1_compact", 100)} %\n'
            f'  difference       {spread("difference_points")} points\n'
            f'  MACs left        {100 * left:.1f} % on average\nwritten: {destination}')


def _evaluation(path: Path) -> Dict[str, Dict[str, str]]:
    if not path.exists():
        raise SSSError(f'{path} is missing; run sss-gluon evaluate first')
    with open(path, newline='', encoding='utf-8') as file:
        return {row['network']: row for row in csv.DictReader(file)}


if __name__ == '__main__':
    try:
        print(summarize(sys.argv[2:], sys.argv[1]))
    except SSSError as error:
        sys.exit(f'seeds: {error}')
