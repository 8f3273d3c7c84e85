"""A progress bar that a clock moves, for parts that say nothing for minutes but are expected to take some time."""
from __future__ import annotations

import sys
import threading
import time

from tqdm import tqdm

from ..terminal import BAR, fitted, time_left


class ClockBar:
    """On a terminal: what is done now, the share of the time that has passed, and the time left."""

    def __init__(self) -> None:
        self._bar = tqdm(total=1, disable=None, leave=False, bar_format=BAR, dynamic_ncols=True)
        self._over = threading.Event()
        self._start = self._began = time.monotonic()
        self._clock = threading.Thread(target=self._tick, daemon=True)
        self._what, self._done, self._seconds, self._later = 'starting', 0.0, 0.0, 0.0

    def begin(self, what: str, seconds: float, left: float) -> None:
        """The part before has ended; this one is expected to take so many of the seconds that are left.

        Parts of 0 seconds at the beginning are those before it is known what follows.
        """
        self._what, self._began, self._done = what, time.monotonic(), self._done + self._seconds
        self._seconds, self._later = seconds, left - seconds
        if not self._done:
            self._start = self._began

    def state(self) -> tuple:
        """The share of the time that has passed, and the seconds left, by the pace of the parts that are done."""
        now = time.monotonic()
        pace = (self._began - self._start) / self._done if self._done else 1.0
        passed, left = now - self._start, max(0.0, pace * self._seconds - (now - self._began)) + pace * self._later
        return passed / max(passed + left, 1e-9), left

    def say(self, text: str) -> None:
        """Print above the bar."""
        tqdm.write(fitted(text, sys.stderr), file=sys.stderr)
        sys.stderr.flush()

    def _tick(self) -> None:
        while not self._over.wait(0.5):
            self._bar.n, left = self.state() if self._seconds else (0.0, 0.0)
            self._bar.set_description_str(f'{self._what}  {time_left(left)}' if self._seconds else self._what)

    def __enter__(self) -> 'ClockBar':
        if not self._bar.disable:
            self._clock.start()
        return self

    def __exit__(self, *error) -> None:
        self._over.set()
        if self._clock.is_alive():
            self._clock.join()
        self._bar.close()
