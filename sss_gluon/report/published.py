"""The paper's published numbers as data (``published.csv``): what is known, how surely, and from where.

Status of a number: ``code`` stands in the authors' code; ``derived`` calculated and agrees with a published number;
``cited`` quoted by later papers or projects; ``plot`` read off a plot; ``recalled`` from memory, not seen in a source.
"""
from __future__ import annotations

import csv
import json
import math
import re
from dataclasses import dataclass, fields
from decimal import Decimal
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Union

TABLE = Path(__file__).with_name('published.csv')
STATUSES = ('code', 'derived', 'cited', 'plot', 'recalled')
STATUS_NOTE = ('Status of a published number: derived (calculated, agrees with a published one), cited (quoted by '
               'others), plot (read off a plot), recalled (from memory, not seen in a source).')
NUMBER = re.compile(r'\d+(\.\d+)?(e\d+)?')


class Printed(float):
    """A number, and the digits it was printed with: ``Printed('25.5e6').unit`` is 100000."""

    def __new__(cls, text: str):
        if not NUMBER.fullmatch(text) or not math.isfinite(float(text)):
            raise ValueError(f'{text!r} is not a number')
        number = super().__new__(cls, text)
        number.unit = float(Decimal(1).scaleb(Decimal(text).as_tuple().exponent))
        return number

    def equals(self, value: float) -> bool:
        """Is this what ``value`` looks like when it is rounded to as many digits?"""
        return abs(value - self) <= 0.5 * self.unit * (1 + 1e-9)


@dataclass(frozen=True)
class Published:
    """One row of the table; None where nothing was published.

    Attributes
    ----------
    table, model, method, dataset, source, note : str
        ``method`` as in a configuration, and 'none' for a network that nothing was removed from.
    network : str
        What it was cut from; a name of ``get_model`` where the package has it.
    structure : str
        'all' for the whole network, the name of a shipped structure, any other word with ``options``, or empty where
        the structure was not published.
    options : dict
        Arguments of ``get_model`` that make the structure.
    top1_error, top5_error : float, %
    params, macs, flops_as_printed : float
        ``macs`` counts a multiply-accumulate once, whatever was printed.
    epochs : float
    top1_status, top5_status, counts_status : str
    kept : str
        Blocks kept per stage.
    """
    table: str
    model: str
    method: str
    dataset: str
    network: str
    structure: str
    options: Dict[str, Any]
    top1_error: Optional[Printed]
    top5_error: Optional[Printed]
    params: Optional[Printed]
    macs: Optional[Printed]
    flops_as_printed: Optional[Printed]
    epochs: Optional[Printed]
    top1_status: str
    top5_status: str
    counts_status: str
    kept: str
    source: str
    note: str


COLUMNS = tuple(field.name for field in fields(Published))
NUMBERS = tuple(field.name for field in fields(Published) if 'Printed' in str(field.type))
STATUS_OF = {'top1_error': 'top1_status', 'top5_error': 'top5_status', 'params': 'counts_status',
             'macs': 'counts_status'}


def load_published(path: Union[str, Path, None] = None, log: Callable[[str], None] = print) -> List[Published]:
    """All rows that can be read; what cannot be is one line each through ``log``.

    Parameters
    ----------
    path : path, optional
        Another table with the same columns.
    """
    path = Path(path or TABLE)
    try:
        with open(path, newline='', encoding='utf-8') as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                log(f'{path} has no column {", ".join(missing)}; nothing is compared with it')
                return []
            rows = [(reader.line_num, row) for row in reader]
    except OSError as error:
        log(f'cannot read the published numbers {path}: {error.strerror}; nothing is compared with them')
        return []
    except (csv.Error, UnicodeDecodeError) as error:
        log(f'{path} is damaged ({error}); nothing is compared with it')
        return []
    found = []
    for line, row in rows:
        try:
            found.append(_row(row))
        except ValueError as error:
            log(f'{path}, line {line}: {error}; the row is left out')
    return found


def _row(text: Dict[str, str]) -> Published:
    if None in text or None in text.values():
        raise ValueError('another number of columns than the first line')
    values: Dict[str, Any] = {name: text[name].strip() for name in COLUMNS}
    for name in ('table', 'model', 'method', 'dataset', 'network', 'source'):
        if not values[name]:
            raise ValueError(f'{name} is empty')
    for name in NUMBERS:
        try:
            values[name] = Printed(values[name]) if values[name] else None
        except ValueError as error:
            raise ValueError(f'{name} {error}') from error
    for name, status in STATUS_OF.items():
        if values[name] is not None and values[status] not in STATUSES:
            raise ValueError(f'{status} {values[status]!r} is none of {", ".join(STATUSES)}')
    try:
        values['options'] = json.loads(values['options'] or '{}')
    except (ValueError, RecursionError) as error:
        raise ValueError(f'options are not JSON: {error}') from error
    if not isinstance(values['options'], dict):
        raise ValueError(f'options {values["options"]!r} are not of the form {{"name": value}}')
    return Published(**values)


def partners(rows: Sequence[Published], dataset: str, network: str, method: str, structure: Optional[str] = None,
             macs: Optional[float] = None) -> List[Published]:
    """Rows with errors that a result may stand beside: same data set, network and method.

    Of several the ones with the same shipped ``structure``, otherwise the one whose MACs are nearest.
    """
    found = [row for row in rows if row.top1_error is not None or row.top5_error is not None]
    found = [row for row in found
             if (row.dataset, row.network, row.method.split('-')[0]) == (dataset, network, method)]
    same = [row for row in found if structure and row.structure == structure]
    if same or len(found) < 2 or not macs:
        return same or found
    return sorted((row for row in found if row.macs), key=lambda row: abs(math.log(row.macs / macs)))[:1]


def flops_per_mac(network: str) -> int:
    """How the paper counts: 2 FLOPs a multiply-accumulate in the VGG rows, 1 in all others."""
    return 2 if 'vgg' in network else 1
