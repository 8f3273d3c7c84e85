"""Turns that rotate, warm-up that is not kept, ratios by hand."""
import itertools

import mxnet as mx
import numpy as np
import pytest

from sss_gluon import timing
from sss_gluon.timing import interleaved, ratio, timed


def test_functions_are_called_in_turn_and_the_order_rotates():
    calls = []

    def turn(name):
        def call():
            calls.append(name)
            return float(len(calls))
        return call

    found = interleaved({name: turn(name) for name in 'abc'}, rounds=3, warm_up=1, pause=0)
    assert ''.join(calls) == 'abc' 'bca' 'cab' 'abc'        # the first round is the warm-up
    assert {name: seconds.tolist() for name, seconds in found.items()} \
        == {'a': [6.0, 8.0, 10.0], 'b': [4.0, 9.0, 11.0], 'c': [5.0, 7.0, 12.0]}


@pytest.mark.parametrize('lasting, rounds', [(0.0, 4), (0.5, 4), (2.95, 10), (1e9, 4 * timing.MOST)])
def test_short_functions_get_more_rounds(lasting, rounds):
    """Calls of 0.1 and 0.2 s: as many as fill the time, or as were asked for. What delays a call does not count."""
    delays = itertools.cycle([0.0, 5.0])
    found = interleaved({'a': lambda: 0.1, 'b': lambda: 0.2 + next(delays)}, 4, pause=0, lasting=lasting)
    assert {len(seconds) for seconds in found.values()} == {rounds}


def test_ratio_of_medians_and_quartiles_of_the_rounds():
    seconds = {'new': np.array([0.010, 0.012, 0.011, 0.050, 0.011]),
               'old': np.array([0.010, 0.010, 0.010, 0.020, 0.011])}
    found = ratio(seconds, 'new', 'old')
    assert found.value == pytest.approx(1.1)
    # Ratios of the rounds: 1, 1.2, 1.1, 2.5, 1; sorted 1, 1, 1.1, 1.2, 2.5.
    assert (found.low, found.high) == pytest.approx((1.0, 1.2))
    assert found.note == 'new 11 ms, old 10 ms'
    assert ratio(seconds, 'new', 'old', scale=0.5, note='halved')[:3] == pytest.approx((0.55, 0.5, 0.6))
    assert ratio(seconds, 'new', 'old', note='halved').note.endswith(', halved')


def test_timed_waits_for_what_mxnet_was_asked_to_do(monkeypatch):
    """The clock is read after waitall, and of several calls the median counts."""
    events = []
    clock = iter([0.0, 5.0, 10.0, 11.0, 20.0, 23.0])
    monkeypatch.setattr(mx.nd, 'waitall', lambda: events.append('wait'))
    monkeypatch.setattr(timing.time, 'perf_counter', lambda: events.append('clock') or next(clock))
    assert timed(lambda: events.append('work'), calls=3)() == 3.0       # of 5, 1 and 3
    assert events == ['clock', 'work', 'wait', 'clock'] * 3
