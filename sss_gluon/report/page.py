"""The report as one HTML file: no network, no script; figures are inlined and take the colours of the page."""
from __future__ import annotations

import re
from html import escape
from pathlib import Path
from string import Template
from typing import List, NamedTuple, Sequence, Tuple

from .sheets import Sheet
from .style import COLOURS, INK, PALE, QUIET

SHOWN = 4       # with more notes than that they are folded
RECOLOURED = {'#000000': 'currentColor', INK: 'currentColor', QUIET: 'var(--quiet)', PALE: 'var(--pale)',
              '#ffffff': 'var(--card)', COLOURS[0]: 'var(--first)'}


class Chapter(NamedTuple):
    """A part of the page: figures as (SVG file, description), small ones side by side, then tables."""
    title: str
    small: List[Tuple[Path, str]]
    sheets: List[Sheet]
    wide: List[Tuple[Path, str]]


def page(title: str, lead: str, chapters: Sequence[Chapter], notes: Sequence[str]) -> str:
    """HTML of a report; every text is escaped."""
    links = ''.join(f'<a href="#part{i}">{escape(chapter.title)}</a>' for i, chapter in enumerate(chapters))
    parts = [_chapter(i, chapter) for i, chapter in enumerate(chapters)]
    return PAGE.substitute(title=escape(title), lead=escape(lead), style=STYLE,
                           links=f'<nav>{links}</nav>' if len(chapters) > 1 else '',
                           notes=_notes(notes) if notes else '', chapters='\n'.join(parts))


def _notes(notes: Sequence[str]) -> str:
    listed = ''.join(f'<li>{escape(note)}</li>' for note in notes)
    head = '1 note' if len(notes) == 1 else f'{len(notes)} notes'
    unfolded = ' open' if len(notes) <= SHOWN else ''
    return f'<details{unfolded}><summary>{head} about the input</summary><ul>{listed}</ul></details>'


def _chapter(number: int, chapter: Chapter) -> str:
    small = ''.join(f'<figure>{_svg(*figure)}</figure>' for figure in chapter.small)
    wide = ''.join(f'<figure class="wide">{_svg(*figure)}</figure>' for figure in chapter.wide)
    head = f'<section id="part{number}"><h2>{escape(chapter.title)}</h2>'
    pair = f'<div class="pair">{small}</div>' if small else ''
    return '\n'.join(filter(None, [head, pair, *map(_table, chapter.sheets), wide, '</section>']))


def _table(sheet: Sheet) -> str:
    def row(cells, tag):
        words = [' class="words"' if align == 'left' else '' for align in sheet.alignment]
        return '<tr>' + ''.join(f'<{tag}{mark}>{escape(cell)}</{tag}>' for cell, mark in zip(cells, words)) + '</tr>'

    head, body = row(sheet.headers, 'th'), '\n'.join(row(cells, 'td') for cells in sheet.text)
    note = f'<p class="note">{escape(sheet.note)}</p>' if sheet.note else ''
    return (f'<h3>{escape(sheet.title)}</h3>\n<div class="scroll" tabindex="0"><table><thead>{head}</thead>\n'
            f'<tbody>{body}</tbody></table></div>{note}')


def _svg(path: Path, description: str) -> str:
    """A figure without its XML head, metadata and comments, in colours that follow the page."""
    text = path.read_text('utf-8')
    text = re.sub('<metadata>.*?</metadata>|<!--.*?-->', '', text[text.index('<svg'):], flags=re.DOTALL)
    for colour, variable in RECOLOURED.items():
        text = text.replace(colour, variable)
    return text.replace('<svg ', f'<svg role="img" aria-label="{escape(description)}" ', 1)


STYLE = '''
:root { color-scheme: light dark; --ink: #1f2430; --quiet: #66718a; --pale: #e3e7ee; --card: #ffffff; --back: #f5f6f9;
  --line: #dfe3ea; --accent: #b5472f; --first: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --quiet: #9aa5b8; --pale: #3a4252; --card: #1d222c;
  --back: #14181f; --line: #333b49; --accent: #f08a6c; --first: #3d9bdc; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI",
  Roboto, "Helvetica Neue", Arial, "DejaVu Sans", sans-serif; }
main { max-width: 1360px; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 0 0 .8rem; overflow-wrap: anywhere; }
h3 { font-size: 1rem; margin: 1.6rem 0 .5rem; }
.lead { color: var(--quiet); margin: 0 0 1.2rem; }
nav { display: flex; flex-wrap: wrap; gap: .5rem; margin-bottom: 1.2rem; }
nav a { color: var(--ink); text-decoration: none; border: 1px solid var(--line); border-radius: 1rem;
  padding: .2rem .8rem; background: var(--card); font-size: .9rem; }
nav a:hover, nav a:focus { border-color: var(--accent); color: var(--accent); }
section, details { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1.2rem;
  margin-bottom: 1.4rem; }
details { border-left: 4px solid var(--accent); }
summary { font-weight: 600; cursor: pointer; }
details ul { margin: .5rem 0 0; padding-left: 1.1rem; font-size: .9rem; overflow-wrap: anywhere; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 1rem; }
figure { margin: 0; }
figure.wide { margin-top: 1.4rem; overflow-x: auto; }
svg { display: block; width: 100%; height: auto; max-width: 640px; margin: 0 auto;
  stroke-linejoin: round; stroke-linecap: butt; }
.wide svg { width: auto; max-width: 100%; min-width: 480px; margin: 0; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: .4rem; }
table { border-collapse: collapse; width: 100%; font-size: .8rem; font-variant-numeric: tabular-nums; }
th, td { padding: .36rem .33rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { color: var(--quiet); font-weight: 600; vertical-align: bottom; white-space: normal; }
.words { text-align: left; }
td.words:last-child { white-space: normal; min-width: 16rem; }
tbody tr:last-child td { border-bottom: 0; }
th:first-child, td:first-child { position: sticky; left: 0; background: var(--card); font-weight: 600; }
.note { color: var(--quiet); font-size: .82rem; margin: .5rem 0 0; max-width: 110ch; }
@media (max-width: 600px) { main { padding: 1.2rem .6rem 3rem; } section, details { padding: .8rem; }
  h1 { font-size: 1.4rem; } th:first-child, td:first-child { border-right: 1px solid var(--line); min-width: 8rem;
  max-width: 40vw; white-space: normal; } }
@media print { body { background: none; } section, details { break-inside: avoid; } .scroll { overflow: visible; } }
'''

PAGE = Template('''<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>
<h1>$title</h1>
<p class="lead">$lead</p>
$links
$notes
$chapters
</main>
</body>
</html>
''')
