"""The bar that a clock moves: the share that has passed and the time left, by hand."""
import pytest

from sss_gluon.cli import clock_bar


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0
    monkeypatch.setattr(clock_bar.time, 'monotonic', lambda: Clock.now)
    return Clock


def test_the_time_left_follows_the_pace_of_the_parts_that_are_done(clock):
    bar = clock_bar.ClockBar()
    bar.begin('before anything is known', 0, 0)
    clock.now += 60
    bar.begin('first', 10, 40)
    clock.now += 4
    assert bar.state() == (4 / 40, 36)
    clock.now += 16                     # 20 s instead of 10
    assert bar.state() == (20 / 50, 30)     # it may end at any moment; what follows takes 30 s as far as is known
    bar.begin('second', 20, 30)
    assert bar.state() == (20 / 80, 60)     # twice what was expected
    clock.now += 10
    assert bar.state() == (30 / 80, 50)
    clock.now += 100
    assert bar.state() == (130 / 150, 20)


def test_without_a_terminal_lines_are_whole_and_there_is_no_bar(capsys):
    with clock_bar.ClockBar() as bar:
        bar.begin('first', 10, 10)
        bar.say('a line ' * 20)
    out, err = capsys.readouterr()
    assert out == '' and err == 'a line ' * 20 + '\n'
