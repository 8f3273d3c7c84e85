"""The parts of a report: all results of one network on one data set, beside the paper's."""
from __future__ import annotations

import re
from typing import Dict, List, NamedTuple, Sequence

from .published import Published
from .summary import Summary


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
