"""A table once, for every place it goes to: text for people (terminal, Markdown, HTML), raw numbers for CSV."""
from __future__ import annotations

import csv
import io
import textwrap
from dataclasses import dataclass
from typing import Dict, List, Sequence, Tuple

from tabulate import tabulate


@dataclass(frozen=True)
class Sheet:
    """A table.

    Attributes
    ----------
    name : str
        Of its CSV file.
    title : str
    headers : list of str
    text : list of lists of str
        What people read, formatted.
    data : list of dict
        What programs read, in full precision; the rows of the CSV.
    note : str
        A sentence below the table.
    labels, words : int
        How many of the first and of the last columns hold words, not numbers.
    """
    name: str
    title: str
    headers: Sequence[str]
    text: Sequence[Sequence[str]]
    data: Sequence[Dict[str, object]]
    note: str = ''
    labels: int = 1
    words: int = 0

    @property
    def alignment(self) -> Tuple[str, ...]:
        """'left' or 'right' for every column."""
        numbers = len(self.headers) - self.labels - self.words
        return ('left',) * self.labels + ('right',) * numbers + ('left',) * self.words

    def plain(self) -> str:
        """For a terminal."""
        table = tabulate(self.text, headers=self.headers, disable_numparse=True, colalign=self.alignment)
        return '\n'.join(filter(None, [table, textwrap.fill(self.note, 120)]))

    def markdown(self, level: int = 3) -> str:
        rows = [[markdown_escape(cell) for cell in row] for row in self.text]
        table = tabulate(rows, headers=[markdown_escape(text) for text in self.headers], disable_numparse=True,
                         colalign=self.alignment, tablefmt='pipe')
        title = f'{"#" * level} {markdown_escape(self.title)}'
        return '\n\n'.join(filter(None, [title, table, markdown_escape(self.note)])) + '\n'


def markdown_escape(text: str) -> str:
    """Text that Markdown shows as it is, in one line of a table."""
    text = ' '.join(text.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;').split())
    for mark in '\\`*_[]|':
        text = text.replace(mark, '\\' + mark)
    return text


def csv_text(rows: Sequence[Dict[str, object]]) -> str:
    """Rows as CSV; the columns are all keys in the order they first occur."""
    columns: List[str] = list(dict.fromkeys(key for row in rows for key in row))
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, restval='', lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()
