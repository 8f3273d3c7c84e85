"""Text for a terminal: numbers, lengths of time, and lines that fit."""
import io

import pytest

from sss_gluon.terminal import WIDTH, duration, fitted, short_number, time_left, wrapped


@pytest.mark.parametrize('seconds, text', [(4.26, '4.3 s'), (59.4, '59 s'), (61, '1 min 01 s'),
                                           (3599, '59 min 59 s'), (11_220, '3 h 07 min')])
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize('seconds, text', [
    (0, '0 s left'), (59.4, '59 s left'), (59.6, '1 min left'), (89, '1 min left'), (91, '2 min left'),
    (3569, '59 min left'), (3571, '1 h 00 min left'), (11_220, '3 h 07 min left'), (47.5 * 3600, '47 h 30 min left'),
    (53 * 3600, '2 days 5 h left')])
def test_time_left(seconds, text):
    assert time_left(seconds) == text


@pytest.mark.parametrize('number, text', [(0, '0'), (272_250, '272,250'), (2_549_376, '2.55 M'), (999_999, '999,999'),
                                          (4_089_184_256, '4.09 G')])
def test_short_number(number, text):
    assert short_number(number) == text


def test_wrapped_lines_fit_and_nothing_is_lost():
    text = 'removed: ' + ', '.join(f'stage{i}.0.conv2' for i in range(12)) + ' ' + '/long' * 20
    lines = wrapped(text).splitlines()
    assert len(lines) > 2 and all(len(line) <= WIDTH for line in lines[:-1]) and ' '.join(wrapped(text).split()) == text
    assert not lines[0].startswith(' ') and all(line.startswith('  s') or line.startswith('  /') for line in lines[1:])


def test_messages_are_wrapped_on_a_terminal_alone(monkeypatch):
    text = 'sss-gluon train: ' + 'word ' * 30 + 'end'
    monkeypatch.setenv('COLUMNS', '60')
    for terminal in (True, False):
        stream = io.StringIO()
        stream.isatty = lambda terminal=terminal: terminal
        lines = fitted(text, stream).splitlines()
        assert (max(map(len, lines)) <= 60) == terminal == (len(lines) > 1)
        assert ' '.join(' '.join(lines).split()) == text
