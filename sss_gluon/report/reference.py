"""The runs without factors that a setting is compared with: on the same task, for as many epochs in all."""
from __future__ import annotations

from typing import Callable, Dict, List, Optional, Sequence, Tuple

from .runs import RunResult
from .settings import identity, run_before

TASK = ('data', 'image_size', 'validation', 'model', 'model_options')


def epochs_before(results: Sequence[RunResult]) -> Callable[[RunResult], int]:
    """A function that gives the epochs of the run that another one starts from, and of those before it.

    A run is found by its path, or by its name if no other has it: run folders are copied to other machines.
    """
    named: Dict[str, List[RunResult]] = {}
    for result in results:
        named.setdefault(result.path.resolve().name, []).append(result)

    def start(result: RunResult) -> Optional[RunResult]:
        path = run_before(result.config)
        alike = named.get(path.name, []) if path else []
        return next((other for other in alike if other.path.resolve() == path), alike[0] if len(alike) == 1 else None)

    def count(result: RunResult) -> int:
        seen, found = [result], start(result)
        while found is not None and found not in seen:
            seen.append(found)
            found = start(found)
        return sum(other.epochs for other in seen[1:])

    return count


def reference_of(group: List[RunResult], whole: Sequence[List[RunResult]], before: Callable[[RunResult], int]
                 ) -> Optional[List[RunResult]]:
    """The runs without factors on the same data and model, nearest in epochs, with the most settings in common."""
    mine, epochs = identity(group[0].config), group[0].epochs + before(group[0])
    fitting = [other for other in whole if other is not group
               and all(identity(other[0].config)[key] == mine[key] for key in TASK)]

    def alike(other: List[RunResult]) -> Tuple[int, int]:
        theirs = identity(other[0].config)
        return -abs(other[0].epochs + before(other[0]) - epochs), sum(theirs[key] == mine[key] for key in mine)

    return max(fitting, default=None, key=alike)
