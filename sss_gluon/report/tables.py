"""The tables of a report: results, comparison with the paper, structures kept, published counts counted again.

Each table is made once, as formatted text for terminal, Markdown and HTML, and as full-precision data for CSV.
"""
from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from tabulate import MIN_PADDING, tabulate

from ..terminal import WIDTH, duration, short_number
from .published import Counted, Printed, Published, flops_per_mac
from .summary import CLOSE, MeanStd, Section, Summary, kept_in_stages, stage_of

NOTHING = '–'
LABEL = 36          # characters of a line of a label, in a terminal
SETTING = 'method, structures, setting'
STATUS_NOTE = ('Status of a published number: derived (calculated, agrees with a published one), cited (quoted by '
               'others), plot (read off a plot), recalled (from memory, without a source).')
RESULTS_NOTE = (
    'Errors are top-1 on the test images: mean ± standard deviation (n − 1) over seeds. Before pruning: the error of '
    'the trained network; for a method that prunes the network of another run, of that network. Difference: percentage '
    'points to the runs without factors, paired by seed. Params include the γ and β of BatchNorm. Left: share of the '
    'network without factors. One MAC is one multiply-accumulate; the paper counts 2 FLOPs per MAC for VGG and 1 '
    'otherwise. Speed: of the pruned network over the unpruned one, measured in turns with it. Epochs: in 15 + 15, '
    'the first are those of the network that it starts from. Wall time is that of the last of them.')
PAPER_NOTE = (
    'If the paper has several rows for a method, the one with the nearest MACs is shown. Published percentages of the '
    f'whole network are those of ours here. Our params include the γ and β of BatchNorm. {STATUS_NOTE}')
COUNTS_NOTE = (
    'FLOPs follow the paper: 1 per multiply-accumulate in the ResNet, ResNeXt and PeleeNet rows, 2 in the VGG rows. '
    f'Params are counted with BatchNorm, and without it, as the ResNet rows print them. {STATUS_NOTE}')


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes
    ----------
    name : str
        Name of its CSV file.
    title : str
    headers : list of str
    text : list of lists of str
        Formatted cells.
    data : list of dict
        Rows of the CSV file, in full precision.
    note : str
        A remark below the table.
    labels, words : int
        Number of columns at the left and at the right that hold words; those between hold numbers.
    """
    name: str
    title: str
    headers: Sequence[str]
    text: Sequence[Sequence[str]]
    data: Sequence[Mapping[str, object]]
    note: str = ''
    labels: int = 1
    words: int = 0
    best: Tuple[int, int] = (-1, -1)        # row and column of the cell that is marked

    @property
    def alignment(self) -> Tuple[str, ...]:
        """'left' or 'right' for every column."""
        numbers = len(self.headers) - self.labels - self.words
        return ('left',) * self.labels + ('right',) * numbers + ('left',) * self.words

    def plain(self) -> str:
        """Text for a terminal: columns that do not fit beside the others follow below, with the labels again."""
        padded = [f'{header}{" " * MIN_PADDING}' for header in self.headers]
        cells = [[textwrap.fill(cell, LABEL) if i < self.labels else cell for i, cell in enumerate(row)]
                 for row in self.text]
        room = WIDTH - sum(width + 2 for width in _widths([padded, *cells])[:self.labels])
        words = len(self.headers) - self.words
        cells = [[*row[:words], *(textwrap.fill(cell, max(LABEL, room)) for cell in row[words:])] for row in cells]
        tables = [tabulate([[row[i] for i in part] for row in cells], headers=[self.headers[i] for i in part],
                           disable_numparse=True, colalign=[self.alignment[i] for i in part])
                  for part in self._parts(_widths([padded, *cells]))]
        return '\n'.join(['\n\n'.join(tables), *filter(None, [textwrap.fill(self.note, WIDTH)])])

    def _parts(self, widths: Sequence[int]) -> List[List[int]]:
        """Numbers of the columns of each table that fits; at least one column beside the labels."""
        parts = [list(range(self.labels))]
        for i in range(self.labels, len(widths)):
            if len(parts[-1]) > self.labels and sum(widths[j] + 2 for j in parts[-1]) + widths[i] > WIDTH:
                parts.append(list(range(self.labels)))
            parts[-1].append(i)
        return parts

    def markdown(self, level: int = 3) -> str:
        rows = [[f'**{markdown_escape(cell)}**' if (i, j) == self.best else markdown_escape(cell)
                 for j, cell in enumerate(row)] for i, row in enumerate(self.text)]
        table = tabulate(rows, headers=[markdown_escape(text) for text in self.headers], disable_numparse=True,
                         colalign=self.alignment, tablefmt='pipe')
        title = f'{"#" * level} {markdown_escape(self.title)}'
        return '\n\n'.join(filter(None, [title, table, markdown_escape(self.note)])) + '\n'


def _widths(rows: Sequence[Sequence[str]]) -> List[int]:
    """Columns of text of each column, whose cells may have several lines."""
    return [max(len(line) for cell in column for line in cell.split('\n')) for column in zip(*rows)]


def markdown_escape(text: str) -> str:
    """Text on one line without Markdown or HTML syntax."""
    text = ' '.join(text.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;').split())
    for mark in '\\`*_[]|':
        text = text.replace(mark, '\\' + mark)
    return text


def results_table(section: Section) -> Table:
    """One line per setting: error, size, speed, cost."""
    batches = sorted({batch for s in section.summaries for result in s.runs for batch in result.final.ms})
    flops = flops_per_mac(section.model) != 1       # otherwise they are the MACs
    text, data = [], []
    for s in section.summaries:
        ms = {batch: s.ms(batch) for batch in batches}
        text.append([
            s.label, plus_minus(s.error), plus_minus(s.unpruned_error), plus_minus(s.difference, '+.2f'),
            short_number(s.params.mean), f'{s.params_left:.1%}', short_number(s.macs.mean), f'{s.macs_left:.1%}',
            *([short_number(s.flops)] if flops else []),
            *(_speed(s, batch) for batch in batches), ' + '.join(str(n) for n in (s.epochs_before, s.epochs) if n),
            ranges(s.seeds), duration(s.seconds.mean) if s.seconds else NOTHING])
        row = dict(**s.names, runs=len(s.runs), seeds=' '.join(map(str, s.seeds)), epochs=s.epochs,
                   epochs_before=s.epochs_before)
        for name, value in dict(top1_error=s.error, top1_error_unpruned=s.unpruned_error, difference=s.difference,
                                params=s.params, macs=s.macs).items():
            row.update(_columns(name, value))
        row.update(difference_pairs=s.difference.n if s.difference else '', params_left=f'{s.params_left:.6f}',
                   macs_left=f'{s.macs_left:.6f}', flops_as_the_paper_counts=f'{s.flops:.10g}')
        for batch, value in ms.items():
            row.update(_columns(f'ms_batch_{batch}', value))
        data.append({**row, **_columns('seconds', s.seconds)})
    headers = [SETTING, 'error %', 'before pruning %', 'difference', 'params', 'left', 'MACs', 'left',
               *(['FLOPs, paper'] if flops else []), *(f'speed, batch {batch}' for batch in batches), 'epochs', 'seeds',
               'wall time']
    best = next((i for i, s in enumerate(section.summaries) if s is section.best), -1)
    return Table('results', 'Results', headers, text, data, RESULTS_NOTE, best=(best, 1))


def sentence(section: Section) -> str:
    """What the results of a section say, in words; '' if nothing was pruned."""
    whole, best, smallest = section.whole, section.best, section.smallest
    if best is None:
        return ''
    parts = [f'Without factors, the error is {plus_minus(whole.error)} % with {short_number(whole.macs.mean)} '
             f'MACs.'] if whole else []
    parts.append(f'The lowest error of a pruned network is {plus_minus(best.error)} % with {best.macs_left:.1%} of '
                 f'the MACs ({best.label}).')
    if smallest is not None and smallest is not best:
        parts.append(f'The fewest MACs with an error of at most {CLOSE:g} points more than without factors are '
                     f'{smallest.macs_left:.1%}, with {plus_minus(smallest.error)} % ({smallest.label}).')
    elif whole and smallest is None:
        parts.append(f'None comes within {CLOSE:g} points of the network without factors.')
    return ' '.join(parts)


def _speed(summary: Summary, batch: int) -> str:
    """'1.81 ×'."""
    left = summary.latency_left(batch)
    return f'{100 / left.mean:.2f} ×' if left and summary.method != 'none' else NOTHING


def _columns(name: str, value: Optional[MeanStd]) -> Dict[str, str]:
    """Mean and standard deviation as two CSV columns."""
    mean, std = (value.mean, value.std) if value else (None, None)
    return {name: _full(mean), f'{name}_std': _full(std)}


def paper_table(section: Section) -> Optional[Table]:
    """Our results and the published rows, with differences; None if the paper has no such data and network."""
    text, data = [], []
    for s in section.summaries:
        for row in s.published:
            ours = {'top1_error': s.error.mean, 'params': s.params.mean, 'macs': s.macs.mean}
            gap = {key: None if getattr(row, key) is None else value - getattr(row, key) for key, value in ours.items()}
            text.append([
                s.label, row.model, *_compared(row, 'top1_error', ours, gap, lambda v: f'{v:.2f}', '{:+.2f}'),
                *_compared(row, 'params', ours, gap, short_number), *_compared(row, 'macs', ours, gap, short_number),
                _statuses(row)])
            data.append(dict(
                **s.names, published_row=row.model, **{f'{key}{part}': _full(value) for key in ours for part, value in (
                    ('_published', getattr(row, key)), ('', ours[key]), ('_difference', gap[key]))},
                top1_status=row.top1_status, counts_status=row.counts_status, source=row.source, note=row.note))
    headers = [SETTING, 'published row', 'error % published', 'ours', 'difference', 'params published', 'ours',
               'difference', 'MACs published', 'ours', 'difference', 'status']
    notes = dict.fromkeys(f'{row.model}: {row.note}.' for s in section.summaries for row in s.published if row.note)
    return Table('paper', 'Comparison with the paper', headers, text, data, ' '.join([PAPER_NOTE, *notes]), labels=2,
                 words=1) if text else None


def _compared(row: Published, key: str, ours, gap, form, difference: str = '') -> List[str]:
    """Published, ours, and the difference: in the given form, otherwise in percent."""
    published = getattr(row, key)
    if published is None:
        return [NOTHING, form(ours[key]), NOTHING]
    relative = difference.format(gap[key]) if difference else f'{100 * gap[key] / published:+.1f} %'
    return [form(published), form(ours[key]), relative]


def _statuses(row: Published) -> str:
    """'error cited, counts derived', or one word for both."""
    if row.top1_status in (row.counts_status, '') or not row.counts_status:
        return row.top1_status or row.counts_status
    return f'error {row.top1_status}, counts {row.counts_status}'


def kept_table(section: Section) -> Optional[Table]:
    """Structures kept in each stage; the CSV has every factor. None if no run was pruned."""
    pruned = [s for s in section.summaries if s.structure_counts() and s.method != 'none']
    text = [[s.label, kept_in_stages(s)] for s in pruned]
    data = [dict(**s.names, factor=name, kind=kind, stage=stage_of(name), kept=_full(kept), size=size)
            for s in pruned for name, kind, kept, size in s.structure_counts()]
    note = 'Means over the seeds.' if any(len(s.runs) > 1 for s in pruned) else ''
    return Table('kept', 'Structures kept', [SETTING, 'kept / all, per stage'], text, data, note,
                 words=1) if text else None


def counts_table(counted: Sequence[Counted]) -> Table:
    """Printed params and FLOPs, our counts, and the differences."""
    text, data = [], []
    for one in counted:
        row, size, flops = one.row, one.size, one.printed_flops
        params, without_bn, macs = (size.params, size.params_without_bn, size.macs) if size else (None, None, None)
        text.append([
            row.table, row.model, _printed(row.params, row.params_left), *_counted(row.params, params),
            *_counted(row.params, without_bn), _printed(flops, row.macs_left), *_counted(flops, one.flops),
            row.counts_status, one.agrees() or 'structure not published'])
        data.append(dict(
            table=row.table, model=row.model, network=row.network, structure=row.structure or 'not published',
            params_published=_digits(row.params), params=params, params_without_bn=without_bn,
            params_without_bn_difference=_difference(row.params, without_bn), flops_published=_digits(flops),
            flops=one.flops, flops_difference=_difference(flops, one.flops), macs=macs, status=row.counts_status,
            agrees=one.agrees(), source=row.source, note=row.note))
    headers = ['table', 'model', 'params printed', 'counted', 'difference', 'without BN', 'difference',
               'FLOPs printed', 'counted', 'difference', 'status', 'rounds to the printed digits']
    return Table('counts', 'Published counts, counted again', headers, text, data, COUNTS_NOTE, labels=2, words=2)


def _counted(printed: Optional[Printed], counted: Optional[int]) -> List[str]:
    """Our count, and its difference to the printed number."""
    if counted is None:
        return [NOTHING, NOTHING]
    return [f'{counted:,}', f'{100 * (counted - printed) / printed:+.2f} %' if printed else NOTHING]


def _difference(printed: Optional[Printed], counted: Optional[int]) -> Optional[int]:
    return None if printed is None or counted is None else counted - int(printed)


def _printed(number: Optional[Printed], left: Optional[Printed]) -> str:
    """'25.5 M', '4.09 G', '84.75 %', with the printed digits; what is left of the whole, if that is printed."""
    if left is not None:
        return f'{_digits_of(left, 1)} %'
    if number is None:
        return NOTHING
    for size, letter in ((1e9, 'G'), (1e6, 'M')):
        if number >= size:
            return f'{_digits_of(number, size)} {letter}'
    return f'{number:g}'


def _digits_of(number: Printed, size: float) -> str:
    """The printed digits of a number in units of ``size``."""
    exponent = int(f'{number.unit / size:e}'.partition('e')[2])
    return f'{number / size:.{max(0, -exponent)}f}'


def _digits(number: Optional[Printed]) -> str:
    return '' if number is None else str(int(number))


def _full(number: Optional[float]) -> str:
    return '' if number is None else f'{number:.10g}'


def plus_minus(value: Optional[MeanStd], form: str = '.2f') -> str:
    """'8.31 ± 0.24'; without ± for one run."""
    if value is None:
        return NOTHING
    std = '' if value.std is None else f' ± {format(value.std, form.replace("+", ""))}'
    return format(value.mean, form) + std


def ranges(numbers: Sequence[int]) -> str:
    """'0–4, 7' for sorted numbers."""
    parts: List[List[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ', '.join(f'{part[0]}–{part[-1]}' if len(part) > 1 else str(part[0]) for part in parts)
