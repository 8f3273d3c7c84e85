"""How all figures look: colours that colour-blind readers tell apart, markers that differ too, axes, files."""
from __future__ import annotations

from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from ..files import atomic_write

INK, ACCENT, QUIET, PALE = '#1f2430', '#c8553d', '#7a8699', '#e3e7ee'
# Okabe and Ito, "Color Universal Design": six colours beside ink; markers repeat later, and then with other colours
COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9')
MARKERS = ('o', 's', '^', 'v', 'D', 'P', 'X', '<', '>', 'p', 'h', 'd')
SERIES = tuple((COLOURS[i % 6], MARKERS[(i + i // 12) % 12]) for i in range(24))


def add_axes(figure: Figure, *position, title: str = '', x: str = '', y: str = ''):
    axes = figure.add_subplot(*position)
    axes.set_title(title, loc='left', color=INK, fontsize=11)
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.spines[['top', 'right']].set_visible(False)
    axes.tick_params(colors=QUIET, labelcolor=INK)
    if x == 'epoch':
        axes.xaxis.get_major_locator().set_params(integer=True)
    return axes


def literal(text: str) -> str:
    """Text that matplotlib shows as it is: a pair of dollars would be a formula."""
    return text.replace('$', r'\$')


def save(figure: Figure, path: Path) -> Path:
    """As PNG or SVG, by the ending of ``path``; the same figure gives the same file."""
    with atomic_write(path) as temporary:
        if path.suffix == '.svg':
            with matplotlib.rc_context({'svg.hashsalt': path.stem, 'svg.fonttype': 'path'}):
                FigureCanvasSVG(figure).print_svg(temporary, metadata={'Date': None, 'Creator': None})
        else:
            FigureCanvasAgg(figure).print_png(temporary)
    return path
