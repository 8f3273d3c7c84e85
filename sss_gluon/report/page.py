"""The pages of a report: report.html, one file that needs no network, and report.md."""
from __future__ import annotations

import hashlib
from base64 import b64encode
from pathlib import Path
from typing import List, NamedTuple, Sequence, Tuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from .style import svg_element
from .tables import Table, markdown_escape

SCRIPT = Path(__file__).with_name('sort.js')
SHOWN_NOTES = 4         # more than these are folded
TEMPLATES = Environment(loader=FileSystemLoader(str(Path(__file__).parent)), autoescape=True, undefined=StrictUndefined,
                        trim_blocks=True, lstrip_blocks=True)


class Chapter(NamedTuple):
    """A part of a page: what it says, figures as (SVG file, description), small ones side by side, and tables."""
    title: str
    sentence: str
    small: List[Tuple[Path, str]]
    tables: List[Table]
    wide: List[Tuple[Path, str]]


def html(title: str, lead: str, chapters: Sequence[Chapter], notes: Sequence[str]) -> str:
    """The page as HTML with its figures inlined; all other texts are escaped. Its only script sorts tables."""
    script = SCRIPT.read_text('utf-8')
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()      # the page runs no other
    return TEMPLATES.get_template('page.html.j2').render(
        title=title, lead=lead, chapters=chapters, notes=notes, shown_notes=SHOWN_NOTES, svg=_svg,
        script=Markup(script), digest=digest)


def _svg(path: Path, description: str) -> Markup:
    label = Markup('<svg role="img" aria-label="{}" ').format(description)
    return Markup(svg_element(path).replace('<svg ', label, 1))


def markdown(title: str, chapters: Sequence[Chapter], notes: Sequence[str]) -> str:
    """The page as Markdown, which refers to the PNG files of the figures."""
    lines = [f'# {markdown_escape(title)}', '']
    for chapter in chapters:
        lines += [f'## {markdown_escape(chapter.title)}', ''] if chapter.title != title else []
        lines += [markdown_escape(chapter.sentence), ''] if chapter.sentence else []
        lines += [f'![{markdown_escape(about)}]({path.stem}.png)\n' for path, about in chapter.small + chapter.wide]
        lines += [table.markdown() for table in chapter.tables]
    if notes:
        lines += ['## Notes', ''] + [f'- {markdown_escape(note)}' for note in notes] + ['']
    return '\n'.join(lines)
