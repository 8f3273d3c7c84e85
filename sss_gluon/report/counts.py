"""Parameters and MACs of the published networks, counted again: no training, no weights, no data."""
from __future__ import annotations

import json
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ..deploy.sizes import sizes
from ..errors import SSSError
from ..graph import Count, count
from ..models import ARCHITECTURES, get_model
from ..models.layers import Layers
from ..models.resnet import BasicBlock, ResNet
from ..structures import shipped
from .published import STATUS_NOTE, Printed, Published, flops_per_mac
from .sheets import Sheet

IMAGE = (1, 3, 224, 224)
BASIC_DEPTHS = {'resnet18': (2, 2, 2, 2), 'resnet34': (3, 4, 6, 3)}     # in the paper's plot; not networks of ours


class Counted(NamedTuple):
    """A published row, and what its network counts here: None where its structure was not published."""
    row: Published
    count: Optional[Count]

    @property
    def flops(self) -> Optional[int]:
        """As the row prints them: twice the MACs for VGG."""
        return None if self.count is None else flops_per_mac(self.row.network) * self.count.macs

    @property
    def printed_flops(self) -> Optional[Printed]:
        return self.row.flops_as_printed or self.row.macs

    def agrees(self) -> str:
        """Which columns are equal to the printed digits: 'params, FLOPs'."""
        if self.count is None:
            return ''
        params = (self.count.params_without_bn, self.count.params)
        equal = {'params': self.row.params and any(map(self.row.params.equals, params)),
                 'FLOPs': self.printed_flops and self.printed_flops.equals(self.flops)}
        return ', '.join(name for name, same in equal.items() if same) or 'no'


def count_published(rows: Sequence[Published], log: Callable[[str], None] = print) -> List[Counted]:
    """Count every row that printed parameters or MACs; a row that cannot be built is a line through ``log``."""
    known: Dict[Tuple[str, str, str], Optional[Count]] = {}
    counted = []
    for row in rows:
        if row.params is None and row.macs is None:
            continue
        key = row.network, row.structure, json.dumps(row.options, sort_keys=True)
        if key not in known:
            try:
                known[key] = _count(row)
            except (SSSError, TypeError) as error:
                log(f'published row {row.model}: {error}; it is not counted')
                known[key] = None
        counted.append(Counted(row, known[key]))
    return counted


def _count(row: Published) -> Optional[Count]:
    if not row.structure:
        return None
    if row.network in BASIC_DEPTHS:
        widths = (64, 128, 256, 512)
        return count(ResNet(Layers(()), 1000, 3, BasicBlock, BASIC_DEPTHS[row.network], widths, 64, True), IMAGE)
    if row.network not in ARCHITECTURES:
        raise SSSError(f'its structure {row.structure!r} is given, but there is no network {row.network!r}')
    if row.structure in shipped():
        return sizes(row.network, row.structure)[1]
    if row.structure != 'all' and not row.options:
        raise SSSError(f'structure {row.structure!r} is not a shipped one: {", ".join(shipped())}')
    return count(get_model(row.network, factors=(), **row.options), IMAGE)


def counts_sheet(counted: Sequence[Counted]) -> Sheet:
    """Published, counted, difference."""
    text, data = [], []
    for one in counted:
        row, size = one.row, one.count
        known = size is not None
        text.append([
            row.table, row.model, _printed(row.params), *_beside(row.params, size.params if known else None),
            *_beside(row.params, size.params_without_bn if known else None),
            _printed(one.printed_flops), *_beside(one.printed_flops, one.flops),
            row.counts_status, one.agrees() if known else 'structure not published'])
        data.append(dict(
            table=row.table, model=row.model, network=row.network, structure=row.structure or 'not published',
            params_published=_digits(row.params), params=size.params if known else '',
            params_without_bn=size.params_without_bn if known else '',
            params_without_bn_difference=size.params_without_bn - int(row.params) if known and row.params else '',
            flops_published=_digits(one.printed_flops), flops=one.flops if known else '',
            flops_difference=one.flops - int(one.printed_flops) if known and one.printed_flops else '',
            macs=size.macs if known else '', status=row.counts_status, agrees=one.agrees(), source=row.source,
            note=row.note))
    headers = ['table', 'model', 'params printed', 'counted', 'difference', 'without BN', 'difference',
               'FLOPs printed', 'counted', 'difference', 'status', 'equal to the printed digits']
    return Sheet('counts', 'Published counts, counted again', headers, text, data, CONVENTIONS, labels=2, words=2)


CONVENTIONS = ('FLOPs as the paper counts them: a multiply-accumulate is 1 in the ResNet, ResNeXt and PeleeNet rows, '
               f'2 in the VGG rows. Params with BatchNorm, and without, as the ResNet rows have it. {STATUS_NOTE}')


def _printed(number: Optional[Printed]) -> str:
    """'25.5 M', '4.09 G', with the digits that were printed."""
    if number is None:
        return '–'
    for size, letter in ((1e9, 'G'), (1e6, 'M')):
        if number >= size:
            return f'{number / size:.{max(0, round(-_exponent(number.unit / size)))}f} {letter}'
    return f'{number:g}'


def _exponent(unit: float) -> int:
    return int(f'{unit:e}'.partition('e')[2])


def _digits(number: Optional[Printed]) -> str:
    return '' if number is None else str(int(number))


def _beside(printed: Optional[Printed], counted: Optional[int]) -> List[str]:
    """The number counted, and how far it is from the printed one."""
    if counted is None:
        return ['–', '–']
    return [f'{counted:,}', f'{100 * (counted - printed) / printed:+.2f} %' if printed else '–']
