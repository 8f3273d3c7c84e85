"""Interleaved measurements: every round runs everything once, so that a drift of the machine affects all alike."""
from __future__ import annotations

import statistics
import time
from typing import Callable, Dict, List, NamedTuple, Sequence, TypeVar, Union

import mxnet as mx
import numpy as np

WARM_UP = 3
MOST = 30
LEAST = 3       # rounds of slow calls
PAUSE = 0.05    # seconds: for 30 ms after its work, ONNX Runtime's threads spin on cores that the next one needs

# Of latencies: at least so many rounds, and so many seconds of a machine that does nothing else, unless they last
# longer than AT_MOST seconds. The percentile QUIET of the rounds counts; each is the fastest of CALLS calls, or of
# those that fit into ENOUGH seconds.
ROUNDS, LASTING, AT_MOST, QUIET, CALLS, ENOUGH = 20, 0.1, 5.0, 10, 3, 0.2

Key = TypeVar('Key')


class Measurement(NamedTuple):
    """A measured value, the quartiles of its rounds, and the numbers behind it as text."""
    value: float
    low: float
    high: float
    note: str = ''


def timed(function: Callable[[], object], calls: int = 1, enough: float = float('inf'),
          of: Callable[[List[float]], float] = statistics.median) -> Callable[[], float]:
    """A function that returns the seconds of ``function`` and of all MXNet operations that it starts.

    Of several consecutive calls it returns the median, or another statistic: after the first, caches hold nothing of
    other functions. They end after ``enough`` seconds, because no cache is large enough for what takes long.
    """
    def measure() -> float:
        seconds: List[float] = []
        while len(seconds) < calls and sum(seconds) < enough:
            begin = time.perf_counter()
            function()
            mx.nd.waitall()
            seconds.append(time.perf_counter() - begin)
        return float(of(seconds))
    return measure


def interleaved(functions: Dict[Key, Callable[[], float]], rounds: int, warm_up: int = WARM_UP,
                pause: float = PAUSE, lasting: float = 0.0, at_most: float = float('inf')) -> Dict[Key, np.ndarray]:
    """Call every function once per round, in an order that rotates; rounds of warm-up are discarded.

    Parameters
    ----------
    functions : dict of callables
        Each returns its seconds; see ``timed``.
    pause : float
        Seconds before every call.
    lasting : float
        Seconds that all rounds would take at least if every call were as fast as its fastest, pauses included: short
        calls get more rounds than ``rounds``, up to MOST times as many, because what else the machine does comes in
        longer bursts.
    at_most : float
        Seconds after which no other round begins, warm-up included, once there are LEAST rounds.

    Returns
    -------
    dict of numpy.ndarray
        float64, shape (rounds,), or more or fewer: seconds.
    """
    names = list(functions)
    seconds: Dict[Key, List[float]] = {name: [] for name in names}
    fastest = {name: float('inf') for name in names}
    begin = time.perf_counter()
    for i in range(warm_up + MOST * rounds):
        passed = time.perf_counter() - begin
        if i and passed > at_most / 4:
            warm_up = min(warm_up, i)
        done = i - warm_up
        lasted = done * (sum(fastest.values()) + pause * len(names))
        if done >= rounds and lasted >= lasting or done >= LEAST and passed > at_most:
            break
        first = i % len(names)
        for name in names[first:] + names[:first]:
            time.sleep(pause)
            measured = functions[name]()
            if i >= warm_up:
                seconds[name].append(measured)
                fastest[name] = min(fastest[name], measured)
    return {name: np.array(values) for name, values in seconds.items()}


def quiet_seconds(seconds: Dict[Key, np.ndarray]) -> Dict[Key, float]:
    """{name: 10th percentile of its rounds}: whatever else the machine does only adds to the others."""
    return {name: float(np.percentile(values, QUIET)) for name, values in seconds.items()}


def latencies(calls: Dict[Key, Callable[[], object]], pause: float = 0.0) -> Dict[Key, np.ndarray]:
    """{name: seconds of each round} of predictions, for all that compares latencies: ``quiet_seconds`` of them count.

    Each call follows others of the same network, because a deployed network has the caches to itself. A ``pause`` is
    needed where runtimes are compared whose threads spin, of which ONNX Runtime has some for every network.
    """
    return interleaved({name: timed(call, CALLS, ENOUGH, min) for name, call in calls.items()}, ROUNDS, pause=pause,
                       lasting=LASTING, at_most=AT_MOST)


def median(values: Union[Sequence[float], np.ndarray], note: str = '') -> Measurement:
    """Median and quartiles of the rounds."""
    low, middle, high = np.percentile(values, (25, 50, 75)).tolist()
    return Measurement(middle, low, high, note)


def ratio(seconds: Dict[str, np.ndarray], above: str, below: str, scale: float = 1.0, note: str = '') -> Measurement:
    """Ratio of two medians, times ``scale``, with the quartiles of the ratios of single rounds."""
    value = scale * np.median(seconds[above]) / np.median(seconds[below])
    low, high = np.percentile(scale * seconds[above] / seconds[below], (25, 75))
    parts = [f'{name} {1000 * np.median(seconds[name]):.3g} ms' for name in (above, below)]
    return Measurement(float(value), float(low), float(high), ', '.join(parts + [note] * bool(note)))
