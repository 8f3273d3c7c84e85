"""CSV files: written whole, or row by row during a run; read as text, with the line of every row."""
from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from .errors import SSSError
from .files import write_text

LONGEST_FIELD = 2 ** 20     # characters; Python's default of 2 ** 17 is too few for the structures of a deep network


def csv_text(rows: Sequence[Mapping[str, object]], columns: Optional[Sequence[str]] = None) -> str:
    """Rows as CSV under ``columns``, by default all keys in the order of their first occurrence."""
    columns = columns or list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval='', lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_csv(path: Union[str, Path], rows: Sequence[Mapping[str, object]],
              columns: Optional[Sequence[str]] = None) -> None:
    """Write ``csv_text`` to a file, which appears whole or not at all."""
    write_text(path, csv_text(rows, columns))


def read_csv(path: Union[str, Path], columns: Sequence[str] = (),
             damaged: Optional[Callable[[str], None]] = None) -> List[Tuple[int, Dict[str, str]]]:
    """Read a CSV file that starts with a header.

    Parameters
    ----------
    path : path
    columns : sequence of str
        Columns that the file must have.
    damaged : callable, optional
        Gets one sentence for each row that has more or fewer columns than the header; the row is left out. Without
        it such a row, or a quote that is never closed, is an error.

    Returns
    -------
    list of (int, dict)
        Number of the line where a row ends, and the row as {column: text}.

    Raises
    ------
    SSSError
        When the file cannot be read, is not CSV in UTF-8, or lacks a column.
    """
    rows = []
    default = csv.field_size_limit(LONGEST_FIELD)
    try:
        with open(path, newline='', encoding='utf-8') as file:
            reader = csv.DictReader(file, strict=damaged is None)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise SSSError(f'{path} has no column {", ".join(missing)}')
            for row in reader:
                if None not in row and None not in row.values():
                    rows.append((reader.line_num, row))
                    continue
                problem = f'{path} is damaged: line {reader.line_num} has another number of columns than the first'
                if damaged is None:
                    raise SSSError(problem)
                damaged(problem)
    except (OSError, UnicodeDecodeError) as error:
        raise SSSError(f'{path} cannot be read: {getattr(error, "strerror", None) or error}') from error
    except csv.Error as error:
        raise SSSError(f'{path} is damaged: line {reader.reader.line_num}: {error}') from error
    finally:
        csv.field_size_limit(default)
    return rows


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
        if not os.path.exists(self.path):
            return []
        try:
            return [row for _, row in read_csv(self.path)]
        except SSSError as error:
            raise SSSError(f'{error}; delete it') from error

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
