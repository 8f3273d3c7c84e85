"""What was kept of every stage and of every factor."""
from __future__ import annotations

import re
from typing import Dict, List, Optional

from .sections import Section
from .sheets import Sheet
from .summary import Summary

STAGE = re.compile(r'(stage\d+)|(?<![a-z])(?:conv|norm)(\d+)_\d+')


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
    data = [dict(**s.names, factor=name, kind=kind, stage=stage_of(name), kept=f'{kept:.10g}', size=size)
            for s in cut for name, kind, kept, size in s.kept()]
    note = 'Means over the seeds.' if any(len(s.records) > 1 for s in cut) else ''
    return Sheet('kept', 'Structures kept', ['method, structures, setting', 'kept / all, per stage'], text, data, note,
                 words=1) if text else None
