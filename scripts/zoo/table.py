"""The table: a CSV file with a row for each network, and its summary in README.md."""
from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, Dict, Iterable, List, Sequence

from tabulate import tabulate

from sss_gluon.files import write_text

COLUMNS = ('name', 'task', 'family', 'size', 'neurons', 'groups', 'blocks', 'macs', 'compact_macs', 'difference',
           'onnx_difference', 'seconds', 'reason')
BEGIN, END = '<!-- made by zoo.py: -->', '<!-- end -->'
Row = Dict[str, Any]


def read(path: Path) -> List[Row]:
    """The rows of a table; none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: Iterable[Row]) -> None:
    """All rows, atomically."""
    lines = [','.join(COLUMNS)]
    for row in rows:
        cells = (str(row[column]) for column in COLUMNS)
        lines.append(','.join(f'"{cell.replace(chr(34), chr(39))}"' if set(cell) & set(',"') else cell
                              for cell in cells))
    write_text(path, '\n'.join(lines) + '\n')


def is_done(row: Row) -> bool:
    """Whether nothing is missing."""
    return not row['reason']


def summary(rows: Sequence[Row]) -> str:
    """Markdown: done and tried by task, the families, and the networks that are not done with the reason."""
    tasks = list(dict.fromkeys(row['task'] for row in rows))
    counts = [(task, sum(map(is_done, mine)), len(mine), f'{100 * sum(map(is_done, mine)) / len(mine):.0f} %')
              for task in tasks for mine in [[row for row in rows if row['task'] == task]]]
    families = []
    for task, family in dict.fromkeys((row['task'], row['family']) for row in rows):
        mine = [row for row in rows if (row['task'], row['family']) == (task, family)]
        done = [row for row in mine if is_done(row)]
        cut = [row for row in mine if row['difference']]
        families.append((
            family, task, f'{len(done)} of {len(mine)}',
            *(_range(cut, kind) for kind in ('neurons', 'groups', 'blocks')),
            _range([dict(share=100 * int(row['compact_macs']) / int(row['macs'])) for row in cut], 'share'),
            _largest(cut, 'difference'), _largest(cut, 'onnx_difference')))
    missing = [(row['name'], row['reason']) for row in rows if not is_done(row)]
    return '\n\n'.join([
        _markdown(counts, ('task', 'done', 'networks', 'share')),
        _markdown(families, ('module', 'task', 'done', 'neurons', 'groups', 'blocks', '% of MACs left', 'difference',
                             'ONNX Runtime')),
        _markdown(missing, ('not done', 'why')) if missing else 'All networks are done.'])


def put(page: Path, text: str) -> None:
    """Replace the text of a page between the marks."""
    before, _, rest = page.read_text('utf-8').partition(BEGIN)
    write_text(page, f'{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}')


def _markdown(rows, headers) -> str:
    return tabulate(rows, headers, tablefmt='pipe', disable_numparse=True)


def _range(rows: Sequence[Row], column: str) -> str:
    numbers = sorted(float(row[column]) for row in rows)
    if not numbers:
        return ''
    low, high = f'{numbers[0]:,.0f}', f'{numbers[-1]:,.0f}'
    return low if low == high else f'{low} to {high}'


def _largest(rows: Sequence[Row], column: str) -> str:
    return max((row[column] for row in rows if row[column]), key=float, default='')
