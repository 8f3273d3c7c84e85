"""Results of benchmarks as a CSV with a description of the machine, and their comparison with an earlier CSV."""
from __future__ import annotations

import math
from pathlib import Path
from typing import Dict, List, Sequence, Union

from ..csv_files import read_csv, write_csv
from ..errors import SSSError
from ..machine import cpu_model
from .host import host
from .isolated import Result
from .settings import Settings
from .table import AT_MOST, REPORT, TABLE

COLUMNS = ('name', 'what', 'kind', 'bound', 'value', 'low', 'high', 'mark', 'note')     # and those of ``machine``
NEEDED = ('name', 'value', 'cpu', 'quick')      # columns of a baseline


def machine(settings: Settings) -> Dict[str, str]:
    """Columns for everything that the numbers depend on."""
    return dict(host(settings.cores), rounds=str(settings.rounds), quick='yes' if settings.quick else 'no')


def save(path: Union[str, Path], results: Sequence[Result], where: Dict[str, str]) -> None:
    """Write one line for each result, with the columns of ``machine``."""
    rows = []
    for result in results:
        row, found = result.row, result.measured
        value, low, high = ['', '', ''] if found is None else [f'{number:.6g}' for number in found[:3]]
        rows.append(dict(name=row.name, what=row.what, kind=row.kind, bound=row.bound, value=value, low=low, high=high,
                         mark=result.mark, note=result.reason if found is None else found.note, **where))
    write_csv(path, rows, [*COLUMNS, *where])


def read_baseline(path: Union[str, Path], settings: Settings) -> Dict[str, dict]:
    """{name: line} of a CSV that ``save`` wrote with the same ``--quick``; lines without a value are left out.

    Raises
    ------
    SSSError
        The file is missing, damaged or something else, or only one of the two measurements is quick.
    """
    try:
        lines = read_csv(path, NEEDED)
    except SSSError as error:
        raise SSSError(f'baseline {error}') from error
    if not lines:
        raise SSSError(f'baseline {path} holds no result')
    found, known = {}, {row.name for row in TABLE}
    for number, line in lines:
        if line['name'] not in known:
            raise SSSError(f'baseline {path}, line {number}: there is no benchmark {line["name"]!r}')
        if (line['quick'] == 'yes') != settings.quick:
            raise SSSError(f'baseline {path} was measured {"with" if line["quick"] == "yes" else "without"} --quick; '
                           f'only equal measurements can be compared')
        if line['value']:
            try:
                value = float(line['value'])
            except ValueError:
                value = math.nan
            if not 0 < value < math.inf:
                raise SSSError(f'baseline {path}, line {number}: the value {line["value"]!r} is not a positive number')
            found[line['name']] = dict(line, value=value)
    return found


def regressions(results: Sequence[Result], baseline: Dict[str, dict], tolerance: float) -> List[str]:
    """'name: 1.02 -> 1.15' for every row that is worse than the baseline by more than the relative ``tolerance``.

    Ratios are compared between any machines, seconds only on the same CPU, and rows without a bound not at all.
    """
    worse = []
    for row, found in ((result.row, result.measured) for result in results):
        before = baseline.get(row.name)
        if found is None or before is None or row.kind == REPORT:
            continue
        if row.key == 'seconds' and before['cpu'] != cpu_model():
            continue
        change = found.value / before['value'] if row.kind == AT_MOST else before['value'] / found.value
        if change > 1 + tolerance:
            worse.append(f'{row.name}: {before["value"]:.3g} -> {found.value:.3g} ({row.kind} {row.bound:g})')
    return worse
