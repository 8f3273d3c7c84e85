"""``sss-gluon bench``: check the arguments, measure, write a CSV, and compare with an earlier one."""
from __future__ import annotations

import subprocess
from typing import Callable, Dict, List, NamedTuple, Optional

from ..errors import SSSError
from ..files import check_writable
from .expected import Begin, nothing
from .isolated import Result, measure, own_cores
from .results import machine, read_baseline, regressions, save
from .settings import Settings
from .table import select

ROUNDS, QUICK_ROUNDS = 20, 3


class BenchReport(NamedTuple):
    """All results, the machine, and a line about rows that failed or are worse than the baseline."""
    results: List[Result]
    machine: Dict[str, str]
    problem: Optional[str]


def bench(only: Optional[str] = None, rounds: Optional[int] = None, csv=None, baseline=None, tolerance: float = 0.1,
          torch_python: Optional[str] = None, quick: bool = False, everything: bool = False,
          log: Callable[[Result], None] = lambda result: None, begin: Begin = nothing) -> BenchReport:
    """Measure speed and memory on the first two cores that this process may use (on one if quick).

    Parameters
    ----------
    only : str, optional
        Regular expression that selects rows of ``TABLE`` by name.
    rounds : int, optional
        Interleaved rounds; default 20, or 3 if quick.
    csv : path, optional
        Written after every row, so that results survive an interruption.
    baseline : path, optional
        An earlier CSV to compare with.
    tolerance : float
        Relative difference by which a row may be worse.
    torch_python : str, optional
        A Python interpreter that can import torch; without one, the row that needs it is skipped.
    quick : bool
        Tiny networks: shows that everything works.
    everything : bool
        Measure those rows too that only maintainers need; ``only`` and ``torch_python`` imply it.
    log : callable
        Called with every Result as soon as it is measured.
    begin : callable
        Called before each measurement with its name, its expected seconds, and those of all that are left.

    Raises
    ------
    SSSError
        Wrong arguments, an unwritable CSV or an unusable baseline; nothing was measured.
    """
    rows = select(only, everything or torch_python is not None)
    rounds = (QUICK_ROUNDS if quick else ROUNDS) if rounds is None else rounds
    if rounds < 1:
        raise SSSError(f'--rounds {rounds} must be at least 1')
    if not 0 <= tolerance < float('inf'):
        raise SSSError(f'--tolerance {tolerance} must be a share such as 0.1')
    if torch_python is not None:
        _check_torch(torch_python)
    settings = Settings(rounds, quick, torch_python, own_cores(1 if quick else 2))
    earlier = None if baseline is None else read_baseline(baseline, settings)
    if csv is not None:
        check_writable(csv)
    results, where = [], machine(settings)
    for result in measure(rows, settings, begin):
        log(result)
        results.append(result)
        if csv is not None:
            save(csv, results, where)
    problems = []
    failed = [f'{result.row.name} ({result.failed})' for result in results if result.failed]
    worse = [] if earlier is None else regressions(results, earlier, tolerance)
    if failed:
        problems.append(f'could not be measured: {", ".join(failed)}')
    if worse:
        problems.append(f'worse than in {baseline} by more than {100 * tolerance:g} %: {", ".join(worse)}')
    return BenchReport(results, where, '; '.join(problems) or None)


def _check_torch(path: str) -> None:
    try:
        done = subprocess.run([path, '-c', 'import torch'], capture_output=True, text=True)
    except OSError as error:
        raise SSSError(f'--torch-python {path} cannot be run: {error.strerror}') from error
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f'status {done.returncode}'])[-1]
        raise SSSError(f'--torch-python {path} cannot import torch: {reason}')
