"""``sss-gluon report``: run folders in; tables, figures and one HTML page out."""
from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Union

from ..errors import SSSError
from ..files import write_text
from .comparison import paper_sheet, results_sheet
from .counts import count_published, counts_sheet
from .kept import kept_sheet
from .numbers import ranges
from .page import Chapter, page
from .plots import AXES, error_figure, kept_figures
from .published import load_published
from .runs import Log, Record, find_runs, read_runs
from .runs_table import read_runs_table, runs_rows
from .sections import Section, sections
from .sheets import Sheet, csv_text, markdown_escape
from .style import save
from .summary import Summary, summarize


class Report(NamedTuple):
    """The tables as text, the lines that were said about the input, and the files written."""
    text: str
    notes: List[str]
    files: List[Path]


def to_stderr(note: str) -> None:
    print(f'sss-gluon report: {note}', file=sys.stderr, flush=True)


def report(runs: Sequence[Union[str, Path]] = (), out: Union[str, Path, None] = None, title: Optional[str] = None,
           published: Union[str, Path, None] = None, counts: bool = False,
           log: Callable[[str], None] = to_stderr) -> Report:
    """Compare runs with each other and with the paper.

    Parameters
    ----------
    runs : sequence of paths
        Run folders, folders below which run folders are found, or a ``runs.csv`` that an earlier report wrote.
    out : path, optional
        Folder to write to; default ``report`` in the one folder of runs that was given, or in the current folder.
        Without runs nothing is written unless it is given.
    title : str, optional
        Of the page.
    published : path, optional
        Another table of published numbers, with the columns of ``published.csv``.
    counts : bool
        Count the published networks too.
    log : callable
        Gets one line for everything in the input that could not be used; the rest is reported.

    Raises
    ------
    SSSError
        When nothing can be reported.
    """
    if not runs and not counts:
        raise SSSError('name run folders, or folders of runs; --counts needs none')
    notes: List[str] = []

    def note(text: str) -> None:
        line = ' '.join(str(text).split())
        if line not in notes:
            notes.append(line)
            log(line)

    rows = load_published(published, note)
    parts = sections(summarize(_read(runs, note), rows, note), rows)
    counted = [counts_sheet(count_published(rows, note))] if counts and rows else []
    if not parts and not counted:
        raise SSSError('nothing to report: ' + ('no run could be read' if runs else 'no published row could be read'))
    titles = [section.title for section in parts] or ['Published counts']
    title = title or titles[0] + (f' and {len(titles) - 1} more' if len(titles) > 1 else '')
    files: List[Path] = []
    if parts or out:
        files = _write(_folder(runs, out), title, parts, counted, notes)
    sheets = [sheet for section in parts for sheet in _sheets(section)] + counted
    text = '\n\n'.join(sheet.plain() for sheet in sheets)
    return Report(text, notes, files)


def _read(runs: Sequence[Union[str, Path]], log: Log) -> List[Record]:
    tables = [Path(run) for run in runs if Path(run).suffix == '.csv' and not os.path.isdir(run)]
    records = read_runs(find_runs([run for run in runs if Path(run) not in tables], log), log)
    records += [record for table in tables for record in read_runs_table(table, log)]
    known: Dict[Path, Record] = {}
    for record in records:
        known.setdefault(record.path.resolve(), record)
    return list(known.values())


def _folder(runs: Sequence[Union[str, Path]], out: Union[str, Path, None]) -> Path:
    if out is None:
        out = Path(runs[0]) / 'report' if len(runs) == 1 and os.path.isdir(runs[0]) else 'report'
    return Path(out)


def _sheets(section: Section) -> List[Sheet]:
    return list(filter(None, [results_sheet(section), paper_sheet(section), kept_sheet(section)]))


def _write(folder: Path, title: str, parts: Sequence[Section], counted: Sequence[Sheet],
           notes: Sequence[str]) -> List[Path]:
    """All files of a report; the page last, so that one that is there is whole."""
    files, chapters = [], []
    for section in parts:
        chapter = Chapter(section.title, [], _sheets(section), [])
        for against, name in AXES.items():
            path = _save(error_figure(section, against), folder, f'error-{against}-{section.slug}', files)
            chapter.small.append((path, f'{section.title}: top-1 error against {name}'))
        for kind, figure in kept_figures(section).items():
            path = _save(figure, folder, f'kept-{kind}s-{section.slug}', files)
            chapter.wide.append((path, f'{section.title}: {kind}s kept per layer'))
        chapters.append(chapter)
    chapters += [Chapter(sheet.title, [], [sheet], []) for sheet in counted]
    sheets = [sheet for chapter in chapters for sheet in chapter.sheets]
    tables = {}
    for sheet in sheets:
        tables.setdefault(sheet.name, []).extend(sheet.data)
    tables['runs'] = runs_rows([summary for section in parts for summary in section.summaries])
    for name, rows in tables.items():
        if rows:
            files.append(_text(folder / f'{name}.csv', csv_text(rows)))
    files.append(_text(folder / 'report.md', _markdown(title, chapters, notes)))
    summaries = [summary for section in parts for summary in section.summaries]
    files.append(_text(folder / 'report.html', page(title, _lead(summaries), chapters, notes)))
    return files


def _save(figure, folder: Path, name: str, files: List[Path]) -> Path:
    """As PNG and SVG; the SVG is what the page shows."""
    files += [save(figure, folder / f'{name}.png'), save(figure, folder / f'{name}.svg')]
    return files[-1]


def _text(path: Path, text: str) -> Path:
    write_text(path, text)
    return path


def _markdown(title: str, chapters: Sequence[Chapter], notes: Sequence[str]) -> str:
    lines = [f'# {markdown_escape(title)}', '']
    for chapter in chapters:
        lines += [f'## {markdown_escape(chapter.title)}', '']
        lines += [f'![{markdown_escape(about)}]({path.stem}.png)\n' for path, about in chapter.small + chapter.wide]
        lines += [sheet.markdown() for sheet in chapter.sheets]
    if notes:
        lines += ['## Notes', ''] + [f'- {markdown_escape(note)}' for note in notes] + ['']
    return '\n'.join(lines)


def _lead(summaries: Sequence[Summary]) -> str:
    """'20 runs: 8 settings, 3 seeds'."""
    runs = sum(len(summary.records) for summary in summaries)
    seeds = sorted({seed for summary in summaries for seed in summary.seeds})
    if not runs:
        return ''
    return (f'{runs} run{"s" * (runs != 1)}, {len(summaries)} setting{"s" * (len(summaries) != 1)}, '
            f'seed{"s" * (len(seeds) != 1)} {ranges(seeds)}')
