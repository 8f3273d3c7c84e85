"""CSV files: written whole, or row by row while a run goes on; read as text."""
from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Dict, List

from .errors import SSSError
from .files import write_text


class EpochTable:
    """A CSV file with one row per epoch, the epoch in its first column; every row is flushed to disk."""

    def __init__(self, path: Path):
        self.path = path

    def append(self, row: Dict[str, object]) -> None:
        """Add a row; the keys of the first row become the header."""
        lines = self._lines()
        if lines and lines[0].rstrip('\n').split(',') != list(row):
            raise SSSError(f'{self.path} has other columns than this run writes; delete it, or name another run=')
        try:
            with open(self.path, 'a', newline='', encoding='utf-8') as file:
                writer = csv.DictWriter(file, row, lineterminator='\n')
                if file.tell() == 0:
                    writer.writeheader()
                writer.writerow(row)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise SSSError(f'cannot write {self.path}: {error.strerror}') from error

    def rows(self) -> List[Dict[str, str]]:
        """All rows as text; none when there is no file."""
        rows = list(csv.DictReader(self._lines()))
        for number, row in enumerate(rows, 2):
            if None in row or None in row.values():
                raise SSSError(f'{self.path} is damaged: line {number} has another number of columns than the first; '
                               f'delete it')
        return rows

    def _lines(self) -> List[str]:
        if not os.path.exists(self.path):
            return []
        try:
            return self.path.read_text('utf-8').splitlines(keepends=True)
        except (OSError, UnicodeDecodeError) as error:
            raise SSSError(f'{self.path} cannot be read ({error}); delete it') from error

    def keep_epochs(self, epochs: int) -> None:
        """Drop the rows after epoch ``epochs``, because a resumed run repeats that work."""
        lines = self._lines()
        if lines and not epochs:        # with the header, which belongs to the earlier settings
            self.path.unlink()
            return
        kept = lines[:1] + [line for line in lines[1:] if line.endswith('\n') and _epoch(line) <= epochs]
        if kept != lines:
            write_text(self.path, ''.join(kept))


def _epoch(line: str) -> float:
    first = line.split(',', 1)[0]
    return int(first) if first.isdigit() else float('inf')
