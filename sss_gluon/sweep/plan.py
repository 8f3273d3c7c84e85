"""A plan: runs that belong together, and the selection of those that one process does."""
from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

from ..errors import SSSError, nearest
from ..train.config import Config

STEPS = ('train', 'prune', 'evaluate')


class Run(NamedTuple):
    """One run of a plan: a configuration with settings, the run folder, and the runs that must be finished first."""
    name: str
    path: Path
    config_file: str
    settings: Tuple[str, ...]           # key=value, as on the command line
    config: Config
    steps: Tuple[str, ...]
    needs: Tuple[str, ...]              # names of the runs in `source` and `match`

    @property
    def arguments(self) -> List[str]:
        """Arguments of ``sss-gluon train``."""
        return [self.config_file, *self.settings, f'run={self.path}']


@dataclass
class Plan:
    """A plan and all its runs in the order of its entries; runs come after those that they need."""
    name: str
    title: str
    folder: Path
    runs: List[Run] = field(default_factory=list)
    images: Optional[int] = None

    def select(self, only: Optional[str] = None, shard: Optional[str] = None) -> List[Run]:
        """The runs in shard ``i/n`` (1/4 … 4/4) whose names match a regular expression.

        Runs that need each other are in the same shard.
        """
        group: Dict[str, int] = {}
        for number, run in enumerate(self.runs):
            joined = {group[name] for name in run.needs}
            group[run.name] = min(joined, default=number)
            group.update({name: group[run.name] for name, old in group.items() if old in joined})
        index, count = _shard(shard)
        order = {label: i for i, label in enumerate(sorted(set(group.values())))}
        try:
            pattern = re.compile(only or '')
        except re.error as error:
            raise SSSError(f'--only {only!r} is not a regular expression: {error}') from error
        found = [run for run in self.runs if order[group[run.name]] % count == index - 1]
        chosen = [run for run in found if pattern.search(run.name)]
        if found and not chosen:
            near = nearest(only, [run.name for run in found])
            raise SSSError(f'--only {only!r} matches no run; did you mean {near!r}?')
        return chosen


def _shard(text: Optional[str]) -> Tuple[int, int]:
    match = re.fullmatch(r'(\d+)/(\d+)', '1/1' if text is None else text)
    if not match or not 1 <= int(match.group(1)) <= int(match.group(2)):
        raise SSSError(f'--shard {text} is not of the form I/N with I from 1 to N, such as 2/8')
    return int(match.group(1)), int(match.group(2))
