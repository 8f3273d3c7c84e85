"""What to do with a run after the step that has just ended."""
from __future__ import annotations

from pathlib import Path
from typing import List, Optional

from ..train import RunFolder


def next_step(run: RunFolder) -> Optional[str]:
    """The command that continues from training to pruning to evaluation; None when the run is evaluated."""
    pruned = Path(f'{run.compact}-symbol.json').exists()
    if not pruned and (run.has_selection() or removable(run)):
        return f'sss-gluon prune {run}'
    return None if (run.path / 'evaluation.csv').exists() else f'sss-gluon evaluate {run}'


def removable(run: RunFolder) -> List[str]:
    """['5 of 9 blocks']: the structures that were zero after the last epoch."""
    last = (run.metrics.rows() or [{}])[-1]
    counts = {key[:-6]: (int(last[key]), int(last[key[:-6]])) for key in last if key.endswith('_alive')}
    return [f'{total - left} of {total} {kind}' for kind, (left, total) in counts.items() if left < total]
