"""What a report says in tables: results, and the paper beside them, from summaries of runs."""
from __future__ import annotations

from typing import Dict, List, Optional

from .numbers import NOTHING, big, duration, plus_minus, ranges
from .published import STATUS_NOTE, Published, flops_per_mac
from .sections import Section
from .sheets import Sheet
from .summary import Spread


def results_sheet(section: Section) -> Sheet:
    """One line per setting: error, size, speed, cost."""
    batches = sorted({batch for s in section.summaries for record in s.records for batch in record.final.ms})
    flops = flops_per_mac(section.model) != 1       # otherwise the MACs again
    text, data = [], []
    for s in section.summaries:
        epochs = sorted({record.epochs for record in s.records})
        text.append([
            s.label, plus_minus(s.error), plus_minus(s.dense_error), plus_minus(s.difference, '+.2f'),
            big(s.params.mean), f'{s.params_left:.1%}', big(s.macs.mean), f'{s.macs_left:.1%}',
            *([big(s.flops)] if flops else []),
            *(f'{s.ms(batch).mean:.2f}' if s.ms(batch) else NOTHING for batch in batches), ', '.join(map(str, epochs)),
            ranges(s.seeds), duration(s.seconds.mean if s.seconds else None)])
        row = dict(**s.names, runs=len(s.records), seeds=' '.join(map(str, s.seeds)), epochs=' '.join(map(str, epochs)))
        for name, value in dict(top1_error=s.error, top1_error_dense=s.dense_error, difference=s.difference,
                                params=s.params, macs=s.macs).items():
            row.update(_columns(name, value))
        row.update(difference_pairs=s.difference.n if s.difference else '', params_left=f'{s.params_left:.6f}',
                   macs_left=f'{s.macs_left:.6f}', flops_as_the_paper_counts=f'{s.flops:.10g}')
        for batch in batches:
            row.update(_columns(f'ms_batch_{batch}', s.ms(batch)))
        data.append({**row, **_columns('seconds', s.seconds)})
    headers = ['method, structures, setting', 'error %', 'before removal %', 'difference', 'params', 'left', 'MACs',
               'left', *(['FLOPs, paper'] if flops else []), *(f'ms, batch {batch}' for batch in batches), 'epochs',
               'seeds', 'wall time']
    return Sheet('results', 'Results', headers, text, data, RESULTS)


RESULTS = ('Top-1 error on the test images, mean ± standard deviation (n − 1) over seeds. Before removal: of the whole '
           'network; of a method that cuts the network of another run, of that one. Difference: in points to the runs '
           'without factors of the same seeds. Params hold the γ and β of BatchNorm; left: of the network without '
           'factors. A multiply-accumulate is one MAC; the paper counts FLOPs as 2 per MAC for VGG and 1 otherwise. '
           'Wall time is that of one training.')


def _columns(name: str, value: Optional[Spread]) -> Dict[str, str]:
    """Mean and standard deviation, for CSV."""
    mean, std = (value.mean, value.std) if value else (None, None)
    return {name: '' if mean is None else f'{mean:.10g}', f'{name}_std': '' if std is None else f'{std:.10g}'}


def paper_sheet(section: Section) -> Optional[Sheet]:
    """The published rows beside ours, with differences; None where the paper has none for this data and network."""
    text, data = [], []
    for s in section.summaries:
        for row in s.published:
            ours = {'top1_error': s.error.mean, 'params': s.params.mean, 'macs': s.macs.mean}
            gap = {key: None if getattr(row, key) is None else value - getattr(row, key) for key, value in ours.items()}
            text.append([
                s.label, row.model, *_beside(row, 'top1_error', ours, gap, lambda v: f'{v:.2f}', '{:+.2f}'),
                *_beside(row, 'params', ours, gap, big), *_beside(row, 'macs', ours, gap, big), statuses(row)])
            data.append(dict(
                **s.names, published_row=row.model, **{f'{key}{part}': value for key in ours for part, value in (
                    ('_published', '' if getattr(row, key) is None else f'{getattr(row, key):.10g}'),
                    ('', f'{ours[key]:.10g}'), ('_difference', '' if gap[key] is None else f'{gap[key]:.10g}'))},
                top1_status=row.top1_status, counts_status=row.counts_status, source=row.source, note=row.note))
    headers = ['method, structures, setting', 'published row', 'error % published', 'ours', 'difference',
               'params published', 'ours', 'difference', 'MACs published', 'ours', 'difference', 'status']
    notes = dict.fromkeys(f'{row.model}: {row.note}.' for s in section.summaries for row in s.published if row.note)
    return Sheet('paper', 'Beside the paper', headers, text, data, ' '.join([PAPER, *notes]), labels=2,
                 words=1) if text else None


PAPER = (f'Where the paper has several rows for a method, the one with the nearest MACs. Our params hold the γ and β '
         f'of BatchNorm. {STATUS_NOTE}')


def _beside(row: Published, key: str, ours, gap, form, difference: str = '') -> List[str]:
    published = getattr(row, key)
    if published is None:
        return [NOTHING, form(ours[key]), NOTHING]
    relative = difference.format(gap[key]) if difference else f'{100 * gap[key] / published:+.1f} %'
    return [form(published), form(ours[key]), relative]


def statuses(row: Published) -> str:
    """'error cited, counts derived', or one word where both are the same."""
    if row.top1_status in (row.counts_status, '') or not row.counts_status:
        return row.top1_status or row.counts_status
    return f'error {row.top1_status}, counts {row.counts_status}'
