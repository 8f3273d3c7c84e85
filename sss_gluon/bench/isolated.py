"""Every benchmark runs in a process of its own: no earlier one has warmed, filled or fragmented anything."""
from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from typing import Dict, Iterator, NamedTuple, Optional, Sequence, Tuple

from ..errors import SSSError
from ..timing import Measurement
from .child import BINDING, Child, python, serve
from .expected import Begin, nothing
from .settings import Settings, Skipped
from .table import TABLE, Benchmark


class Result(NamedTuple):
    """A row with its measurement, or with the reason why it was skipped or failed."""
    row: Benchmark
    measured: Optional[Measurement] = None
    skipped: str = ''
    failed: str = ''

    @property
    def reason(self) -> str:
        return self.failed or self.skipped

    @property
    def mark(self) -> str:
        """'met', 'not met', 'report only', 'skipped' or 'failed'."""
        if self.measured is None:
            return 'failed' if self.failed else 'skipped'
        return {None: 'report only', True: 'met', False: 'not met'}[self.row.met(self.measured.value)]


def own_cores(limit: int = 2) -> Tuple[int, ...]:
    """The first cores that this process may run on; the bounds are defined for two."""
    bound = [name for name in BINDING if name in os.environ]
    if bound:
        raise SSSError(f'{bound[0]} is set, which hides the other cores: unset it, bench binds its threads itself')
    if not hasattr(os, 'sched_getaffinity'):
        raise SSSError('bench needs Linux: it gives every process its cores')
    return tuple(sorted(os.sched_getaffinity(0))[:limit])


def measure(rows: Sequence[Benchmark], settings: Settings, begin: Begin = nothing) -> Iterator[Result]:
    """Measure rows one after another; rows that share a measurement are measured once."""
    left = {row.group: row.expected(settings) for row in rows}
    known: Dict[tuple, dict] = {}
    for row in rows:
        if row.group not in known:
            begin(row.name, left[row.group], sum(left.values()))
            known[row.group] = _measure(row, settings)
            del left[row.group]
        answer = known[row.group]
        if 'measured' in answer:
            yield Result(row, Measurement(*answer['measured'][row.key]))
        else:
            yield Result(row, **answer)


def _measure(row: Benchmark, settings: Settings) -> dict:
    try:
        with Child(python('isolated', row.name, json.dumps(asdict(settings))), settings.cores) as child:
            return child.ask()
    except SSSError as error:
        return dict(failed=str(error))


def main(name: str, settings: str) -> None:
    """A child that answers with the measurements of a row."""
    fields = json.loads(settings)
    row = next(row for row in TABLE if row.name == name)

    def work() -> dict:
        try:
            return dict(measured=row.measure(Settings(**fields), **row.arguments))
        except Skipped as reason:
            return dict(skipped=str(reason))
        except SSSError as error:
            return dict(failed=str(error))

    serve({}, work)


if __name__ == '__main__':
    main(*sys.argv[1:])
