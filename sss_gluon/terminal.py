"""Text for a terminal: lines of 80 columns, short numbers, and lengths of time in words."""
from __future__ import annotations

import shutil
import textwrap
from typing import Sequence, TextIO

from tabulate import MIN_PADDING

WIDTH = 80
NARROW = 12     # columns that words have at least beside the numbers of a table
BAR = '{desc}  {percentage:3.0f}%|{bar}|'       # of tqdm


def wrapped(text: str, width: int = WIDTH) -> str:
    """Lines that fit, of which all but the first are indented; a word that is longer stays whole."""
    return textwrap.fill(text, width, subsequent_indent='  ', break_long_words=False, break_on_hyphens=False)


def fitted(text: str, stream: TextIO) -> str:
    """A message wrapped to the width of the terminal that it goes to; in a file or a pipe it stays one line."""
    return wrapped(text, shutil.get_terminal_size((WIDTH, 24)).columns) if stream.isatty() else text


def room(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Columns of text that ``tabulate`` leaves for one more column of words, beside those given."""
    widths = (max(map(len, column)) for column in zip([f'{header}{" " * MIN_PADDING}' for header in headers], *rows))
    return max(NARROW, WIDTH - sum(width + 2 for width in widths))


def short_number(number: float) -> str:
    """'272,250', '2.55 M', '4.09 G'."""
    if number < 1e6:
        return f'{number:,.0f}'
    return f'{number / 1e9:.2f} G' if number >= 1e9 else f'{number / 1e6:.2f} M'


def duration(seconds: float) -> str:
    """'4.1 s', '41 s', '2 min 05 s', '3 h 07 min'."""
    if seconds < 60:
        return f'{seconds:.0f} s' if seconds >= 10 else f'{seconds:.1f} s'
    minutes, rest = divmod(round(seconds), 60)
    return f'{minutes} min {rest:02d} s' if minutes < 60 else f'{minutes // 60} h {minutes % 60:02d} min'


def time_left(seconds: float) -> str:
    """'40 s left', '4 min left', '3 h 07 min left', '2 days 5 h left': no more digits than an estimate has."""
    if seconds < 59.5:
        return f'{seconds:.0f} s left'
    minutes = round(seconds / 60)
    if minutes < 60:
        return f'{minutes} min left'
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f'{hours} h {minutes:02d} min left'
    return f'{hours // 24} days {hours % 24} h left'
