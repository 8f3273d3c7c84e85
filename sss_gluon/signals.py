"""Signals are collected while work goes on, so that it can be saved before the process ends."""
from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Optional

from .errors import SSSError

REPEATED = getattr(signal, 'SIGUSR1', None)     # launchers send it again, because mpirun can lose it


class Interrupted(SSSError):
    """A signal stopped the work, and everything was saved first."""

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.signal_number = signal_number


@contextmanager
def catch_signals(*names: str, on_signal: Optional[Callable[[int], None]] = None, once: bool = False,
                  keep_ignored: bool = False) -> Iterator[List[int]]:
    """Collect the numbers of arriving signals in a list. Outside the main thread, signals are left to the caller.

    Parameters
    ----------
    *names : str
        Such as 'SIGINT'; a signal that the platform lacks is left out.
    on_signal : callable, optional
        Called with the number of every signal, to pass it on.
    once : bool
        A second signal acts as it did before, except SIGUSR1, which is then ignored.
    keep_ignored : bool
        Leave signals alone that are ignored, as SIGHUP is under nohup.
    """
    arrived: List[int] = []
    previous: Dict[int, Any] = {}

    def note(number, frame):
        arrived.append(number)
        if once:
            signal.signal(number, signal.SIG_IGN if number == REPEATED else previous[number])
        if on_signal is not None:
            on_signal(number)

    if threading.current_thread() is threading.main_thread():
        for number in (getattr(signal, name) for name in names if hasattr(signal, name)):
            handler = signal.getsignal(number)
            if handler != signal.SIG_IGN or not keep_ignored:
                previous[number] = handler
                signal.signal(number, note)
    try:
        yield arrived
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
