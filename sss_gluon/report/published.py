"""The paper's numbers as data (``published.csv``), each with its status and source, and its networks counted again.

Status of a number: ``code`` is in the authors' code; ``derived`` is calculated and agrees with a published number;
``cited`` is quoted by later papers or projects; ``plot`` is read off a plot; ``recalled`` is from memory, without a
source.
"""
from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from ..csv_files import read_csv
from ..deploy.sizes import sizes
from ..errors import SSSError
from ..graph import Count, count
from ..models import ARCHITECTURES, get_model
from ..models.layers import Layers
from ..models.resnet import BasicBlock, ResNet
from ..structures import shipped

TABLE = Path(__file__).with_name('published.csv')
STATUSES = ('code', 'derived', 'cited', 'plot', 'recalled')
NUMBER = re.compile(r'\d+(\.\d+)?(e\d+)?')
BASIC_DEPTHS = {'resnet18': (2, 2, 2, 2), 'resnet34': (3, 4, 6, 3)}     # in a plot of the paper; not in ARCHITECTURES


class Printed(float):
    """A number that knows its last printed digit: ``Printed('25.5e6').unit`` is 100000."""
    unit: float

    def __new__(cls, text: str):
        if not NUMBER.fullmatch(text) or not math.isfinite(float(text)):
            raise ValueError(f'{text!r} is not a number')
        number = super().__new__(cls, text)
        number.unit = float(Decimal(1).scaleb(int(Decimal(text).as_tuple().exponent)))
        return number

    def equals(self, value: float) -> bool:
        """Whether ``value`` rounds to the printed digits."""
        return abs(value - self) <= 0.5 * self.unit * (1 + 1e-9)

    def percent_of(self, whole: float) -> 'Printed':
        """The number of which this is the printed percentage, as precise as it."""
        number = float.__new__(Printed, self / 100 * whole)
        number.unit = self.unit / 100 * whole
        return number


@dataclass(frozen=True)
class Published:
    """One row of the table; None for a number that was not published.

    Attributes
    ----------
    table, model, method, dataset, source, note : str
        ``method`` as in a configuration; 'none' for an unpruned network.
    network : str
        The network before pruning; a name for ``get_model`` if the package has it.
    structure : str
        'all' for the whole network, the name of a shipped structure, any other word if ``options`` build it, or empty
        if the structure was not published.
    options : dict
        Arguments of ``get_model`` that build the structure.
    top1_error, top5_error : float, %
    params, macs, flops_as_printed : float
        ``macs`` counts a multiply-accumulate once, whatever the paper printed.
    params_left, macs_left : float, %
        What is left of the whole network, where that is printed instead of numbers.
    epochs : float
    top1_status, top5_status, counts_status : str
    kept : str
        Number of blocks kept per stage.
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
    params_left: Optional[Printed]
    macs_left: Optional[Printed]
    epochs: Optional[Printed]
    top1_status: str
    top5_status: str
    counts_status: str
    kept: str
    source: str
    note: str

    def sized(self, params: float, macs: float) -> 'Published':
        """With numbers where percentages are printed, those of a whole network of this size."""
        return replace(self, params=self.params_left.percent_of(params) if self.params_left else self.params,
                       macs=self.macs_left.percent_of(macs) if self.macs_left else self.macs)


COLUMNS = tuple(field.name for field in fields(Published))
NUMBERS = tuple(field.name for field in fields(Published) if 'Printed' in str(field.type))
STATUS_OF = {'top1_error': 'top1_status', 'top5_error': 'top5_status', 'params': 'counts_status',
             'macs': 'counts_status', 'params_left': 'counts_status', 'macs_left': 'counts_status'}


def load_published(path: Union[str, Path, None] = None, log: Callable[[str], None] = print) -> List[Published]:
    """Read all valid rows; ``log`` gets one line for each of the others, or for a table that cannot be read.

    Parameters
    ----------
    path : path, optional
        Another table with the same columns.
    """
    path = Path(path or TABLE)
    try:
        rows = read_csv(path, COLUMNS, lambda problem: log(f'{problem}; the row is left out'))
    except SSSError as error:
        log(f'{error}; nothing is compared with it')
        return []
    found = []
    for line, row in rows:
        try:
            found.append(_row(row))
        except ValueError as error:
            log(f'{path}, line {line}: {error}; the row is left out')
    return found


def _row(text: Dict[str, str]) -> Published:
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
            raise ValueError(f'{status} {values[status]!r} is not one of {", ".join(STATUSES)}')
    try:
        values['options'] = json.loads(values['options'] or '{}')
    except (ValueError, RecursionError) as error:
        raise ValueError(f'options are not JSON: {error}') from error
    if not isinstance(values['options'], dict):
        raise ValueError(f'options {values["options"]!r} do not have the form {{"name": value}}')
    return Published(**values)


def comparable(rows: Sequence[Published], dataset: str, network: str, method: str, structure: Optional[str] = None,
               macs: Optional[float] = None) -> List[Published]:
    """Rows with errors to compare a result with: those of the same data set, network and method.

    Among several, those with the same shipped ``structure``, or else the one with the nearest MACs.
    """
    found = [row for row in rows if row.top1_error is not None or row.top5_error is not None]
    found = [row for row in found
             if (row.dataset, row.network, row.method.split('-')[0]) == (dataset, network, method)]
    same = [row for row in found if structure and row.structure == structure]
    if same or len(found) < 2 or not macs:
        return same or found
    distances = [(abs(math.log(row.macs / macs)), i) for i, row in enumerate(found) if row.macs]
    return [found[i] for _, i in sorted(distances)[:1]]


def flops_per_mac(network: str) -> int:
    """The paper's convention: 2 FLOPs per multiply-accumulate for VGG, 1 for all other networks."""
    return 2 if 'vgg' in network else 1


class Counted(NamedTuple):
    """A published row and the size of its network as counted here; None if its structure was not published.

    Where the row has percentages, its numbers are those of the whole network as counted here, without BatchNorm.
    """
    row: Published
    size: Optional[Count]

    @property
    def flops(self) -> Optional[int]:
        """FLOPs by the convention of the row."""
        return None if self.size is None else flops_per_mac(self.row.network) * self.size.macs

    @property
    def printed_flops(self) -> Optional[Printed]:
        return self.row.flops_as_printed or self.row.macs

    def agrees(self) -> str:
        """The columns whose count rounds to the printed digits: 'params, FLOPs'; 'no' if none does."""
        if self.size is None or self.flops is None:
            return ''
        counts = {'params': (self.row.params, (self.size.params_without_bn, self.size.params)),
                  'FLOPs': (self.printed_flops, (self.flops,))}
        return ', '.join(name for name, (printed, counted) in counts.items()
                         if printed and any(map(printed.equals, counted))) or 'no'


def count_published(rows: Sequence[Published], log: Callable[[str], None] = print) -> List[Counted]:
    """Count the networks of all rows with parameters or MACs; ``log`` gets one line for each that cannot be built."""
    known: Dict[Tuple[str, str, str], Optional[Tuple[Count, Count]]] = {}
    counted = []
    for row in rows:
        if not any((row.params, row.macs, row.params_left, row.macs_left)):
            continue
        key = row.network, row.structure, json.dumps(row.options, sort_keys=True)
        if key not in known:
            try:
                known[key] = _count(row)
            except (SSSError, TypeError) as error:
                log(f'published row {row.model} is not counted: {error}')
                known[key] = None
        whole, size = known[key] or (None, None)
        counted.append(Counted(row.sized(whole.params_without_bn, whole.macs) if whole else row, size))
    return counted


def _count(row: Published) -> Optional[Tuple[Count, Count]]:
    """The whole network and that of the row, which are the same where no shipped structure prunes it."""
    if not row.structure:
        return None
    if row.network in BASIC_DEPTHS:
        widths = (64, 128, 256, 512)
        net = ResNet(Layers(()), 1000, 3, BasicBlock, BASIC_DEPTHS[row.network], widths, 64, True)
        return (count(net, (1, 3, 224, 224)),) * 2
    if row.network not in ARCHITECTURES:
        raise SSSError(f'structure {row.structure!r} needs a network {row.network!r}, which does not exist')
    if row.structure in shipped():
        whole, pruned = sizes(row.network, row.structure)
        return whole, pruned or whole
    if row.structure != 'all' and not row.options:
        raise SSSError(f'structure {row.structure!r} is not shipped; use one of {", ".join(shipped())}, or options')
    size = ARCHITECTURES[row.network].size
    return (count(get_model(row.network, factors=(), **row.options), (1, 3, size, size)),) * 2
