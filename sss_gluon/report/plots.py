"""Figures that compare runs: error against size, one line per method, and structures kept in every layer."""
from __future__ import annotations

from typing import Dict, List, Tuple

import numpy as np
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from .style import FILLS, INK, LOOKS, OTHER, PALE, QUIET, add_axes, literal
from .summary import MeanStd, Section, StructureCount, Summary

AXES = {'params': 'params', 'macs': 'MACs'}
WIDTH, HEIGHT, ROW = 4.8, 3.7, 0.2      # inches: a figure without its legend, and a row of the legend
ALIKE = 0.05        # relative difference up to which sizes count as equal
LABELLED = 16       # more points are not labelled: labels would cover them
# Places of a label: offset in points, horizontal and vertical alignment, in order of preference
PLACES = ((0, 7, 'center', 'bottom'), (0, -7, 'center', 'top'), (8, 0, 'left', 'center'), (-8, 0, 'right', 'center'),
          (6, 6, 'left', 'bottom'), (-6, 6, 'right', 'bottom'), (6, -6, 'left', 'top'), (-6, -6, 'right', 'top'),
          (0, 18, 'center', 'bottom'), (0, -18, 'center', 'top'))

Label = Tuple[str, float, float]


def error_figure(section: Section, against: str) -> Figure:
    """Top-1 error over ``params`` or ``macs``: a line joins the settings of a method, a bar is one std over seeds."""
    lines: Dict[str, List[Summary]] = {}
    for summary in section.summaries:
        lines.setdefault(summary.series, []).append(summary)
    pruned = [series for series, summaries in lines.items() if summaries[0].method != 'none']
    kinds = {lines[series][0].structures for series in pruned}
    names = {series: summaries[0].short if len(kinds) == 1 else series for series, summaries in lines.items()}
    title = section.title + (': ' + kinds.pop().replace(',', 's,') + 's' if len(kinds) == 1 else '')
    published = sorted(((getattr(row, against), row.top1_error, row) for row in section.published
                        if getattr(row, against) and row.top1_error), key=lambda point: point[0])
    scale, unit = _unit(max([getattr(s, against).mean for s in section.summaries]
                            + [size for size, _, _ in published]))
    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=150, layout='constrained')
    axes = add_axes(figure, 1, 1, 1, title=literal(title), x=AXES[against] + (f', {unit}' if unit else ''),
                    y='top-1 error, %')
    labels: List[Label] = []
    settings = [setting for summaries in lines.values() for setting in {s.setting for s in summaries}]
    shared = [setting for setting in settings if settings.count(setting) > 1]       # they do not tell series apart
    busy = []       # points of lines and markers, which labels avoid
    for series, summaries in lines.items():
        ordered = sorted(summaries, key=lambda s: getattr(s, against).mean)
        x, dx = _values([getattr(s, against) for s in ordered], scale)
        y, dy = _values([s.error for s in ordered])
        (colour, marker), line, size, fill = (INK, '*'), 'none', 11, 'full'
        if series in pruned:
            method = summaries[0].method
            alike = [other for other in pruned if lines[other][0].method == method]
            (colour, marker), size = LOOKS.get(method, OTHER), 6
            fill = FILLS[alike.index(series) % len(FILLS)]
            line = '-' if np.ptp(x) > ALIKE * max(x) else 'none'     # no curve through settings of one size
        else:
            for error in y:
                axes.axhline(error, color=QUIET, linestyle=':', linewidth=1, zorder=0)
        axes.errorbar(x, y, dy, dx, color=colour, marker=marker, linestyle=line, markersize=size, fillstyle=fill,
                      capsize=2.5, elinewidth=1, linewidth=1.4, zorder=2, label=literal(names[series]))
        busy += [*np.linspace((x[:-1], y[:-1]), (x[1:], y[1:]), 12).transpose(0, 2, 1).reshape(-1, 2),
                 *np.linspace((x, y - dy), (x, y + dy), 12).transpose(0, 2, 1).reshape(-1, 2)]
        if len(section.summaries) <= LABELLED:
            labels += [(names[series] if s.setting in shared else s.setting, a, b) for s, a, b in zip(ordered, x, y)]
    for i, (size, error, row) in enumerate(published):
        place = size / scale, float(error)
        axes.plot(*place, marker='o' if row.method in ('none', 'sss') else 'd', color=INK, markerfacecolor='none',
                  markersize=9, linestyle='none', zorder=3, label=None if i else 'published (status)')
        labels.append((f'{row.model} ({row.top1_status})', *place))
        busy.append(place)
    axes.margins(x=0.15, y=0.15)
    for limits, hold in ((axes.get_xlim, axes.set_xlim), (axes.get_ylim, axes.set_ylim)):
        low, high = limits()
        hold(max(0, low), high)
    _write_legend(figure, axes)
    _write_labels(figure, axes, labels, busy)
    return figure


def _write_legend(figure: Figure, axes) -> None:
    """Put the legend below the axes, in as many columns as fit; the figure grows with its rows."""
    drawn = [(handle[0] if isinstance(handle, ErrorbarContainer) else handle, name)     # without the bars
             for handle, name in zip(*axes.get_legend_handles_labels())]
    for columns in (3, 2, 1):
        legend = axes.legend(*zip(*drawn), frameon=False, fontsize=9, labelcolor=INK, loc='upper center', ncol=columns,
                             bbox_to_anchor=(0.45, -0.17), columnspacing=1.2, handletextpad=0.4)
        if legend.get_window_extent().width <= 0.97 * figure.bbox.width:
            break
    figure.set_size_inches(WIDTH, HEIGHT + ROW * -(-len(drawn) // columns))


def _write_labels(figure: Figure, axes, labels: List[Label], busy) -> None:
    """Put each label where it covers the least."""
    texts = [axes.annotate(literal(text), (x, y), (0, 0), textcoords='offset points', fontsize=8, color=INK)
             for text, x, y in labels if text]
    for text in texts:
        text.set_in_layout(False)
    figure.draw_without_rendering()     # the axes keep their place from here on
    figure.set_layout_engine('none')
    points = axes.transData.transform(busy) if busy else np.zeros((0, 2))
    inside = axes.get_window_extent()
    taken: List[Bbox] = []
    for text in texts:
        candidates = []
        for dx, dy, horizontal, vertical in PLACES:
            text.set(position=(dx, dy), ha=horizontal, va=vertical)
            box = text.get_window_extent()
            cost = (10 * sum(box.overlaps(other) for other in taken) + box.count_contains(points)
                    + 5 * (Bbox.union([box, inside]).bounds != inside.bounds))
            candidates.append((cost, box, dict(position=(dx, dy), ha=horizontal, va=vertical)))
        _, box, place = min(candidates, key=lambda candidate: candidate[0])
        text.set(**place)
        taken.append(box)


def _unit(largest: float) -> Tuple[float, str]:
    for size, unit in ((1e9, 'G'), (1e6, 'M'), (1e3, 'thousands')):
        if largest >= size:
            return size, unit
    return 1.0, ''


def _values(numbers: List[MeanStd], scale: float = 1.0) -> Tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations; 0 for one run."""
    return (np.array([value.mean for value in numbers]) / scale,
            np.array([value.std or 0.0 for value in numbers]) / scale)


def kept_figures(section: Section) -> Dict[str, Figure]:
    """{kind: bars of the structures that each setting kept in each layer, in %}."""
    counts = {s.label: s.structure_counts() for s in section.summaries if s.method != 'none'}
    colours = {s.label: LOOKS.get(s.method, OTHER)[0] for s in section.summaries}
    kinds = list(dict.fromkeys(count.kind for rows in counts.values() for count in rows))
    return {kind: _bars(f'{section.title}: {kind}s kept, % of each layer',
                        {label: [count for count in rows if count.kind == kind] for label, rows in counts.items()},
                        colours)
            for kind in kinds}


def _bars(title: str, counts: Dict[str, List[StructureCount]], colours: Dict[str, str]) -> Figure:
    """One small set of axes per setting, one bar per layer."""
    counts = {label: rows for label, rows in counts.items() if rows}
    names = list(dict.fromkeys(count.name for rows in counts.values() for count in rows))
    place = {name: i for i, name in enumerate(names)}
    columns = 2 if len(counts) > 4 and len(names) <= 30 else 1
    lines = -(-len(counts) // columns)
    width = min(11.0, columns * max(5.0, 0.17 * len(names) + 1.2))
    figure = Figure(figsize=(width, lines + 1.8), dpi=150)
    figure.suptitle(literal(title), x=0.01, ha='left', color=INK, fontsize=11)
    grid = figure.add_gridspec(lines, columns, left=0.5 / width, right=1 - 0.1 / width, top=1 - 0.6 / (lines + 1.8),
                               bottom=1.2 / (lines + 1.8), hspace=0.55, wspace=0.12)
    for i, (label, rows) in enumerate(counts.items()):
        axes = add_axes(figure, grid[i % lines, i // lines])        # down, then across
        axes.set_title(literal(label), loc='left', color=INK, fontsize=9, pad=3)
        x = [place[count.name] for count in rows]
        axes.bar(x, [100] * len(x), color=PALE)
        axes.bar(x, [100 * count.kept / count.size for count in rows], color=colours[label])
        axes.set_ylim(0, 100)
        axes.set_yticks([0, 50, 100])
        axes.tick_params(labelsize=8)
        axes.set_xlim(-0.7, len(names) - 0.3)
        step = -(-len(names) // 60)     # as many names as fit
        lowest = i % lines == lines - 1 or i == len(counts) - 1
        axes.set_xticks(range(0, len(names), step))
        axes.set_xticklabels([literal(name) for name in names[::step]] if lowest else [], rotation=90, fontsize=8)
    return figure
