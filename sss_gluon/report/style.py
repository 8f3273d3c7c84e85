"""The look of all figures: colours that colour-blind readers tell apart, markers, axes, files, and colours in HTML."""
from __future__ import annotations

import re
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from ..files import atomic_write

INK, ACCENT, QUIET, PALE = '#1f2430', '#c8553d', '#7a8699', '#e3e7ee'
# Okabe and Ito, "Color Universal Design": six colours beside ink; the markers repeat after twelve, in other colours
COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9')
MARKERS = ('o', 's', '^', 'v', 'D', 'P', 'X', '<', '>', 'p', 'h', 'd')
SERIES = tuple((COLOURS[i % 6], MARKERS[(i + i // 12) % 12]) for i in range(24))
# Variables of page.html.j2, so that a figure follows the light or dark colours of its page
CSS_COLOURS = {'#000000': 'currentColor', INK: 'currentColor', QUIET: 'var(--quiet)', PALE: 'var(--pale)',
               '#ffffff': 'var(--card)', COLOURS[0]: 'var(--first)'}


def add_axes(figure: Figure, *position, title: str = '', x: str = '', y: str = ''):
    axes = figure.add_subplot(*position)
    axes.set_title(title, loc='left', color=INK, fontsize=11)
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.spines[['top', 'right']].set_visible(False)
    axes.tick_params(colors=QUIET, labelcolor=INK)
    if x == 'epoch':
        axes.locator_params(axis='x', integer=True)
    return axes


def literal(text: str) -> str:
    """Escape dollars: matplotlib would draw the text between two of them as a formula."""
    return text.replace('$', r'\$')


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG or SVG, by the suffix of ``path``; the same figure gives the same bytes."""
    with atomic_write(path) as temporary:
        if path.suffix == '.svg':
            with matplotlib.rc_context({'svg.hashsalt': path.stem, 'svg.fonttype': 'path'}):
                FigureCanvasSVG(figure).print_svg(temporary, metadata={'Date': None, 'Creator': None})
        else:
            FigureCanvasAgg(figure).print_png(temporary)
    return path


def svg_element(path: Path) -> str:
    """The <svg> element of a saved figure, without metadata and comments, in the colours of an HTML page."""
    text = path.read_text('utf-8')
    text = re.sub('<metadata>.*?</metadata>|<!--.*?-->', '', text[text.index('<svg'):], flags=re.DOTALL)
    for colour, variable in CSS_COLOURS.items():
        text = text.replace(colour, variable)
    return text
