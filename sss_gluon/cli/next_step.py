"""What to do with a run after the step that has just ended."""
from __future__ import annotations

from pathlib import Path
from typing import List, Optional

from ..deploy.source import deploy_folder
from ..train import RunFolder


def next_step(run: RunFolder) -> Optional[str]:
    """The command that continues from training to pruning to evaluation to export; None when the run is exported."""
    pruned = Path(f'{run.compact}-symbol.json').exists()
    if not pruned and (run.has_selection() or removable(run)):
        return f'sss-gluon prune {run}'
    if not (run.path / 'evaluation.csv').exists():
        return f'sss-gluon evaluate {run}'
    if deploy_folder(str(run)).exists():
        return None
    batch = run.config().latency_batch
    return f'sss-gluon export {run}' + f' --batch {batch}' * (batch != 1)


def removable(run: RunFolder) -> List[str]:
    """['5 of 9 blocks']: the structures that were zero after the last epoch."""
    last = (run.metrics.rows() or [{}])[-1]
    counts = {key[:-6]: (int(last[key]), int(last[key[:-6]])) for key in last if key.endswith('_alive')}
    return [f'{total - left} of {total} {kind}' for kind, (left, total) in counts.items() if left < total]
