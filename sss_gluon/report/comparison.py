"""What a report says in tables: results, the paper beside them, and what was kept, from summaries of runs."""
from __future__ import annotations

import re
from typing import Dict, List, NamedTuple, Optional, Sequence

from .published import STATUS_NOTE, Published, flops_per_mac
from .runs import Record
from .sheets import Sheet
from .summary import Spread, Summary, data_name, error_of, method_name

NOTHING = '–'
STAGE = re.compile(r'(stage\d+)|(?<![a-z])(?:conv|norm)(\d+)_\d+')


class Section(NamedTuple):
    """All that is known of one network on one data set; ``published`` are the paper's rows with errors and counts."""
    data: str
    model: str
    summaries: List[Summary]
    published: List[Published]

    @property
    def title(self) -> str:
        return f'{self.model} on {self.data}'

    @property
    def slug(self) -> str:
        """For file names."""
        return re.sub(r'[^A-Za-z0-9.]+', '-', f'{self.data}-{self.model}').strip('-')


def sections(summaries: Sequence[Summary], published: Sequence[Published] = ()) -> List[Section]:
    found: Dict[tuple, List[Summary]] = {}
    for summary in summaries:
        found.setdefault((summary.data, summary.model), []).append(summary)
    parts = []
    for (data, model), mine in found.items():
        datasets = {row.dataset for summary in mine for row in summary.published}
        rows = [row for row in published if row.dataset in datasets and row.network == model]
        parts.append(Section(data, model, mine, [row for row in rows if row.top1_error and row.macs]))
    return parts


def plus_minus(value: Optional[Spread], form: str = '.2f', scale: float = 1) -> str:
    """'8.31 ± 0.24'; without ± for one run."""
    if value is None:
        return NOTHING
    std = '' if value.std is None else f' ± {format(scale * value.std, form.replace("+", ""))}'
    return format(scale * value.mean, form) + std


def big(number: Optional[float]) -> str:
    """'272,250', '2.55 M', '4.09 G'."""
    if number is None:
        return NOTHING
    if number < 1e6:
        return f'{number:,.0f}'
    return f'{number / 1e9:.2f} G' if number >= 1e9 else f'{number / 1e6:.2f} M'


def ranges(numbers: Sequence[int]) -> str:
    """'0–4, 7' of sorted numbers."""
    parts: List[List[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ', '.join(f'{part[0]}–{part[-1]}' if len(part) > 1 else str(part[0]) for part in parts)


def duration(seconds: Optional[float]) -> str:
    """'41 s', '2 min 05 s', '3 h 07 min'."""
    if seconds is None:
        return NOTHING
    if seconds < 60:
        return f'{seconds:.0f} s' if seconds >= 10 else f'{seconds:.1f} s'
    minutes, rest = divmod(round(seconds), 60)
    return f'{minutes} min {rest:02d} s' if minutes < 60 else f'{minutes // 60} h {minutes % 60:02d} min'


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
            *(plus_minus(s.ms(batch)) for batch in batches), ', '.join(map(str, epochs)),
            ranges(s.seeds), duration(s.seconds.mean if s.seconds else None)])
        row = dict(data=s.data, model=s.model, method=s.method, structures=s.structures, setting=s.setting,
                   runs=len(s.records), seeds=' '.join(map(str, s.seeds)), epochs=' '.join(map(str, epochs)))
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


RESULTS = ('Top-1 error on the test images, mean ± standard deviation (n − 1) over seeds; difference in points to the '
           'runs without factors of the same seeds. Params hold the γ and β of BatchNorm; left: of the network without '
           'factors. A multiply-accumulate is one MAC; the paper counts FLOPs as 2 per MAC for VGG and 1 '
           'otherwise. Wall time is that of one training.')


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
                data=s.data, model=s.model, method=s.method, structures=s.structures, setting=s.setting,
                published_row=row.model, **{f'{key}{part}': value for key in ours for part, value in (
                    ('_published', '' if getattr(row, key) is None else f'{getattr(row, key):.10g}'),
                    ('', f'{ours[key]:.10g}'), ('_difference', '' if gap[key] is None else f'{gap[key]:.10g}'))},
                top1_status=row.top1_status, counts_status=row.counts_status, source=row.source, note=row.note))
    headers = ['method, structures, setting', 'published row', 'error % published', 'ours', 'difference',
               'params published', 'ours', 'difference', 'MACs published', 'ours', 'difference', 'status']
    return Sheet('paper', 'Beside the paper', headers, text, data, PAPER, labels=2, words=1) if text else None


PAPER = f'Where the paper has several rows for a method, the one with the nearest MACs. {STATUS_NOTE}'


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


def stage_of(name: str) -> str:
    """'stage1' of 'stage1.0.conv2' and of 'norm1_2'; otherwise the first word of the name."""
    found = STAGE.match(name)
    return (found.group(1) or f'stage{found.group(2)}') if found else name.partition('.')[0]


def kept_in_stages(summary: Summary) -> str:
    """'blocks: stage1 0/3, stage2 2/3, stage3 3/3'; means where there are several runs."""
    counts: Dict[str, Dict[str, List[float]]] = {}
    for name, kind, kept, size in summary.kept():
        entry = counts.setdefault(kind, {}).setdefault(stage_of(name), [0.0, 0])
        entry[0] += kept
        entry[1] += size
    return '; '.join(f'{kind}s: ' + ', '.join(f'{stage} {_mean(kept)}/{size}' for stage, (kept, size) in stages.items())
                     for kind, stages in counts.items())


def _mean(value: float) -> str:
    return f'{value:.0f}' if abs(value - round(value)) < 1e-9 else f'{value:.1f}'


def kept_sheet(section: Section) -> Optional[Sheet]:
    """What is left of every stage, and in the CSV of every factor."""
    cut = [s for s in section.summaries if s.kept() and s.method != 'none']
    text = [[s.label, kept_in_stages(s)] for s in cut]
    data = [dict(data=s.data, model=s.model, method=s.method, structures=s.structures, setting=s.setting, factor=name,
                 kind=kind, stage=stage_of(name), kept=f'{kept:.10g}', size=size)
            for s in cut for name, kind, kept, size in s.kept()]
    note = 'Kept of all; means over the seeds.' if any(len(s.records) > 1 for s in cut) else 'Kept of all.'
    return Sheet('kept', 'Structures kept', ['method, structures, setting', 'kept per stage'], text, data, note,
                 words=1) if text else None


def runs_rows(summaries: Sequence[Summary]) -> List[Dict[str, object]]:
    """One CSV row per run."""
    return [_run_row(record, summary) for summary in summaries for record in summary.records]


def _run_row(record: Record, summary: Summary) -> Dict[str, object]:
    dense, final = record.dense, record.final
    row = dict(run=record.path, data=data_name(record.config), model=record.config.model,
               method=method_name(record.config), structures=summary.structures, setting=summary.setting,
               seed=record.config.seed, epochs=record.epochs, images=final.images,
               top1_error=f'{error_of(final.top1):.10g}', top1_error_dense=f'{error_of(dense.top1):.10g}',
               top5_error=f'{error_of(final.top5):.10g}', params=final.params, params_dense=dense.params,
               macs=final.macs, macs_dense=dense.macs)
    row.update({f'ms_batch_{batch}': ms for batch, ms in final.ms.items()})
    return dict(row, seconds='' if record.seconds is None else f'{record.seconds:.10g}',
                kept=kept_in_stages(summary_of(record, summary)))


def summary_of(record: Record, summary: Summary) -> Summary:
    """The same line for one of its runs."""
    return Summary(**{**vars(summary), 'records': [record]})
