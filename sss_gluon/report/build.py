"""``sss-gluon report``: reads runs; writes tables, figures and pages."""
from __future__ import annotations

import os
from pathlib import Path
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Union

from ..csv_files import write_csv
from ..errors import SSSError
from ..files import write_text
from .page import Chapter, html, markdown
from .plots import AXES, curves_figure, error_figure, kept_figures
from .published import count_published, load_published
from .runs import Log, RunResult, find_runs, read_runs
from .runs_table import read_runs_table, runs_rows
from .style import save
from .summary import Section, Summary, sections, summarize
from .tables import Table, counts_table, kept_table, paper_table, ranges, results_table, sentence


class Report(NamedTuple):
    """The tables as text, the notes about the input, and the files written."""
    text: str
    notes: List[str]
    files: List[Path]


def report(runs: Sequence[Union[str, Path]] = (), out: Union[str, Path, None] = None, title: Optional[str] = None,
           published: Union[str, Path, None] = None, counts: bool = False,
           evaluate: Optional[Callable[[Path], None]] = None,
           log: Callable[[str], None] = print) -> Report:
    """Compare runs with each other and with the paper.

    Parameters
    ----------
    runs : sequence of paths
        Run folders, folders that contain run folders at any depth, or a ``runs.csv`` of an earlier report.
    out : path, optional
        Folder to write to; by default ``report`` in the folder of runs if only one is given, otherwise ``runs/report``.
        Without runs, files are written only if it is given.
    title : str, optional
        Title of the page.
    published : path, optional
        Another table of published numbers, with the columns of ``published.csv``.
    counts : bool
        Count the published networks too.
    evaluate : callable, optional
        Prunes and evaluates a run folder: called for runs that are trained, but lack it. By default they are left out.
    log : callable
        Gets one note for each part of the input that cannot be used; the rest is reported.

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
    summaries = summarize(_read(runs, note, evaluate), rows, note)
    parts = sections(summaries, rows)
    chapters = [Chapter(part.title, sentence(part), [], _tables(part), []) for part in parts]
    if counts and rows:
        table = counts_table(count_published(rows, note))
        chapters.append(Chapter(table.title, '', [], [table], []))
    if not chapters:
        raise SSSError('nothing to report: ' + ('no run could be used' if runs else 'no published row could be read'))
    title = title or _title(chapters)
    files: List[Path] = []
    if parts or out:
        folder = _folder(runs, out)
        files += _write_figures(folder, parts, chapters)
        files += _write_tables(folder, chapters, summaries)
        files.append(_write(folder / 'report.md', markdown(title, chapters, notes)))
        files.append(_write(folder / 'report.html', html(title, _lead(summaries), chapters, notes)))
    return Report('\n\n'.join(table.plain() for chapter in chapters for table in chapter.tables), notes, files)


def _title(chapters: Sequence[Chapter]) -> str:
    """'cifar_vgg16 on digits and cifar_resnet20 on digits', or how many there are."""
    names = [chapter.title for chapter in chapters]
    return ' and '.join(names) if len(names) < 3 else f'{names[0]} and {len(names) - 1} more'


def _read(runs: Sequence[Union[str, Path]], log: Log, evaluate: Optional[Callable[[Path], None]]) -> List[RunResult]:
    tables = [Path(run) for run in runs if Path(run).suffix == '.csv' and not os.path.isdir(run)]
    results = read_runs(find_runs([run for run in runs if Path(run) not in tables], log), log, evaluate)
    results += [result for table in tables for result in read_runs_table(table, log)]
    known: Dict[Path, RunResult] = {}
    for result in results:
        known.setdefault(result.path.resolve(), result)
    return list(known.values())


def _folder(runs: Sequence[Union[str, Path]], out: Union[str, Path, None]) -> Path:
    if out is None:
        out = Path(runs[0]) / 'report' if len(runs) == 1 and os.path.isdir(runs[0]) else Path('runs') / 'report'
    return Path(out)


def _tables(part: Section) -> List[Table]:
    tables = results_table(part), paper_table(part), kept_table(part)
    return [table for table in tables if table is not None]


def _write_figures(folder: Path, parts: Sequence[Section], chapters: Sequence[Chapter]) -> List[Path]:
    """Draw the figures of each section as PNG, PDF and SVG; its chapter gets the SVG."""
    files = []
    for part, chapter in zip(parts, chapters):
        drawn = [(error_figure(part, against), f'error-{against}-{part.slug}', chapter.small,
                  f'{part.title}: top-1 error against {name}') for against, name in AXES.items()]
        drawn += [(curves_figure(part), f'curves-{part.slug}', chapter.wide, f'{part.title}: error over epochs')]
        drawn += [(figure, f'kept-{kind}s-{part.slug}', chapter.wide, f'{part.title}: {kind}s kept per layer')
                  for kind, figure in kept_figures(part).items()]
        for figure, name, figures, description in drawn:
            if figure is not None:
                files += [save(figure, folder / f'{name}.{suffix}') for suffix in ('png', 'pdf', 'svg')]
                figures.append((files[-1], description))
    return files


def _write_tables(folder: Path, chapters: Sequence[Chapter], summaries: Sequence[Summary]) -> List[Path]:
    """Write a CSV file for all tables of one name, and runs.csv."""
    tables: Dict[str, List[Mapping[str, object]]] = {}
    for chapter in chapters:
        for table in chapter.tables:
            tables.setdefault(table.name, []).extend(table.data)
    tables['runs'] = list(runs_rows(summaries))
    files = []
    for name, rows in tables.items():
        if rows:
            files.append(folder / f'{name}.csv')
            write_csv(files[-1], rows)
    return files


def _write(path: Path, text: str) -> Path:
    write_text(path, text)
    return path


def _lead(summaries: Sequence[Summary]) -> str:
    """'20 runs, 8 settings, seeds 0–2'; '' without runs."""
    runs = sum(len(summary.runs) for summary in summaries)
    seeds = sorted({seed for summary in summaries for seed in summary.seeds})
    if not runs:
        return ''
    return (f'{runs} run{"s" * (runs != 1)}, {len(summaries)} setting{"s" * (len(summaries) != 1)}, '
            f'seed{"s" * (len(seeds) != 1)} {ranges(seeds)}')
