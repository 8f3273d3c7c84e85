"""The look of all figures: colours that colour-blind readers tell apart, markers, axes, files, and colours in HTML."""
from __future__ import annotations

import re
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from ..files import atomic_write

INK, ACCENT, QUIET, PALE = '#1f2430', '#c8553d', '#7a8699', '#e3e7ee'
# Colour and marker of every method, the same in all figures. The first six colours are those of Okabe and Ito, "Color
# Universal Design"; where two are alike to a colour-blind reader, their markers are not.
LOOKS = {'sss': ('#0072b2', 'o'), 'l1': ('#d55e00', 's'), 'slimming': ('#009e73', '^'), 'ssl': ('#cc79a7', 'v'),
         'scratch': ('#e69f00', 'D'), 'taylor': ('#56b4e9', 'P'), 'thinet': ('#7570b3', 'X'), 'lasso': ('#a6761d', '<'),
         'apoz': ('#8ca31a', '>'), 'ista': ('#b2182b', 'p'), 'uniform': ('#17becf', 'h'), 'random': ('#888888', 'd'),
         'fine-tuned': ('#5c4033', 'H')}
OTHER = ('#f0597a', '8')        # a method of the user's own
FILLS = ('full', 'none', 'left', 'right', 'top', 'bottom')      # of the markers of one method's lines
# Variables of page.html.j2, so that a figure follows the light or dark colours of its page
CSS_COLOURS = {'#000000': 'currentColor', INK: 'currentColor', QUIET: 'var(--quiet)', PALE: 'var(--pale)',
               '#ffffff': 'var(--card)', LOOKS['sss'][0]: 'var(--first)'}


def add_axes(figure: Figure, *position, title: str = '', x: str = '', y: str = '', font: float = 10):
    """Axes without the upper and the right frame; ``font`` is the size of the text in points."""
    axes = figure.add_subplot(*position)
    axes.set_title(title, loc='left', color=INK, fontsize=font + 1)
    axes.set_xlabel(x, color=INK, fontsize=font)
    axes.set_ylabel(y, color=INK, fontsize=font)
    axes.spines[['top', 'right']].set_visible(False)
    axes.tick_params(colors=QUIET, labelcolor=INK, labelsize=font)
    if x == 'epoch':
        axes.locator_params(axis='x', integer=True)
    return axes


def literal(text: str) -> str:
    """Escape dollars: matplotlib would draw the text between two of them as a formula."""
    return text.replace('$', r'\$')


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, SVG or PDF, by the suffix of ``path``; the same figure gives the same bytes.

    Text in SVG and PDF stays text, which can be searched, and edited with the figure.
    """
    with atomic_write(path) as temporary:
        if path.suffix == '.svg':
            with matplotlib.rc_context({'svg.hashsalt': path.stem, 'svg.fonttype': 'none'}):
                FigureCanvasSVG(figure).print_svg(temporary, metadata={'Date': None, 'Creator': None})
        elif path.suffix == '.pdf':
            with matplotlib.rc_context({'pdf.fonttype': 42}):
                FigureCanvasPdf(figure).print_pdf(temporary, metadata={'CreationDate': None})
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
