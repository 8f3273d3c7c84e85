"""Figures that compare runs: error against size, one line per method, and structures kept in every layer."""
from __future__ import annotations

from typing import Dict, List, Optional, Tuple

import numpy as np
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox, offset_copy

from .style import FILLS, INK, LOOKS, OTHER, PALE, QUIET, add_axes, literal
from .summary import MeanStd, Section, StructureCount, Summary

AXES = {'macs': 'MACs', 'ms': 'latency', 'params': 'params'}
WIDTH, HEIGHT, ROW = 3.5, 2.5, 0.15     # inches: a figure without its legend, in a column of a paper; a legend's row
FONT, DPI = 8, 300
ALIKE = 0.05        # relative difference up to which sizes count as equal
LEAST_SPAN = 2.0    # points of error between the lowest one and the end of the axis: one image more is no cliff
STEP = 4.0          # points, the width of a marker
# Places of a label: offset in points, horizontal and vertical alignment, in order of preference
PLACES = ((0, 5, 'center', 'bottom'), (0, -5, 'center', 'top'), (6, 0, 'left', 'center'), (-6, 0, 'right', 'center'),
          (5, 5, 'left', 'bottom'), (-5, 5, 'right', 'bottom'), (5, -5, 'left', 'top'), (-5, -5, 'right', 'top'),
          (0, 14, 'center', 'bottom'), (0, -14, 'center', 'top'))

Label = Tuple[str, float, float]
Box = Tuple[float, float, float, float]     # left, right, below, above
Look = Tuple[str, str, str]     # colour, marker, fill


def looks(section: Section) -> Dict[str, Look]:
    """{series: its colour, marker and fill}; a method has one colour and marker in every figure."""
    found: Dict[str, Look] = {}
    for summary in section.pruned:
        colour, marker = LOOKS.get(summary.method, OTHER)
        alike = [look for look in found.values() if look[:2] == (colour, marker)]
        found.setdefault(summary.series, (colour, marker, FILLS[len(alike) % len(FILLS)]))
    return found


def short_names(section: Section) -> Dict[str, str]:
    """{series: its name}, without the kinds of structures where all series have the same."""
    kinds = {summary.structures for summary in section.pruned}
    return {s.series: s.short if len(kinds) == 1 else s.series for s in section.summaries}


def error_figure(section: Section, against: str) -> Optional[Figure]:
    """Top-1 error over ``params``, ``macs``, or ``ms`` in % of the unpruned network: a line joins a method's settings.

    Bars are one standard deviation over seeds. A line is moved sideways where it would cover others. The axis of errors
    follows the bulk of them; an arrow with its value stands for each error above. None where nothing was measured.
    """
    batch = min((batch for s in section.summaries for result in s.runs for batch in result.final.ms), default=0)

    def sizes(summary: Summary) -> Optional[MeanStd]:
        return summary.latency_left(batch) if against == 'ms' else getattr(summary, against)

    lines: Dict[str, List[Summary]] = {}
    for summary in section.pruned:
        if sizes(summary):
            lines.setdefault(summary.series, []).append(summary)
    whole = section.whole if section.whole and sizes(section.whole) else None
    published = [] if against == 'ms' else sorted(
        ((getattr(row, against), row.top1_error, row) for row in section.published
         if getattr(row, against) and row.top1_error), key=lambda point: point[0])
    shown = [sizes(summary).mean for summary in [*sum(lines.values(), []), *filter(None, [whole])]]   # type: ignore
    if not shown or against == 'ms' and not lines:
        return None
    scale, unit = _unit(max(shown + [size for size, _, _ in published]))
    if against == 'ms':
        unit = '% of the unpruned'
    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI, layout='constrained')
    name = f'{AXES[against]} of a batch of {batch}' if against == 'ms' else AXES[against]
    axes = add_axes(figure, 1, 1, 1, x=name + (f', {unit}' if unit else ''), y='top-1 error, %', font=FONT)
    labels: List[Label] = []
    busy = []       # points of lines and markers, which labels avoid
    placed: List[Box] = []
    names = short_names(section)
    if whole:
        x, dx = _values([sizes(whole)], scale)      # type: ignore[list-item]
        y, dy = _values([whole.error])
        axes.axhline(y[0], color=QUIET, linestyle=':', linewidth=0.8, zorder=0)
        axes.errorbar(x, y, _or_none(dy), _or_none(dx), color=INK, marker='*', linestyle='none', markersize=8,
                      capsize=1.5, elinewidth=0.8, zorder=2, label=literal(names[whole.series]))
        busy += [(x[0], y[0])]
    top = _top([value for s in [*sum(lines.values(), []), *filter(None, [whole])]
                for value in [(s.error.mean, s.error.mean + (s.error.std or 0))]], [float(e) for _, e, _ in published])
    low = min(s.error.mean - (s.error.std or 0) for s in [*sum(lines.values(), []), *filter(None, [whole])])
    point = max(shown) / scale / (60 * WIDTH), (top - low) / (50 * HEIGHT)      # about one point in data, from 0
    for series, (colour, marker, fill) in looks(section).items():
        if series not in lines:
            continue
        ordered = sorted(lines[series], key=lambda s: sizes(s).mean)        # type: ignore[union-attr]
        x, dx = _values([sizes(s) for s in ordered], scale)     # type: ignore[misc]
        y, dy = _values([s.error for s in ordered])
        line = '-' if np.ptp(x) > ALIKE * max(x) else 'none'     # no curve through settings of one size
        apart = offset_copy(axes.transData, figure, _beside(placed, x, y, dy, point), 0, 'points')
        axes.errorbar(x, y, _or_none(dy), _or_none(dx), color=colour, marker=marker, linestyle=line, markersize=4,
                      fillstyle=fill, markeredgewidth=0.8, capsize=1.5, elinewidth=0.7, linewidth=1, zorder=2,
                      transform=apart, label=literal(names[series]))
        for a, b in zip(x, y):
            if b > top:
                axes.plot(a, top, marker='^', color=colour, markersize=4, transform=apart, clip_on=False)
                labels.append((f'{b:.1f}', a, top))
        if not ordered[0].variant and ordered[0].method == 'sss':       # sizes do not tell γ, but they tell budgets
            labels += [(s.setting, a, b) for s, a, b in zip(ordered, x, y) if b <= top]
        busy += [*np.linspace((x[:-1], y[:-1]), (x[1:], y[1:]), 12).transpose(0, 2, 1).reshape(-1, 2),
                 *np.linspace((x, y - dy), (x, y + dy), 12).transpose(0, 2, 1).reshape(-1, 2),
                 *np.linspace((x - dx, y), (x + dx, y), 12).transpose(0, 2, 1).reshape(-1, 2)]
        axes.update_datalim(np.column_stack([np.concatenate([x, x]), np.concatenate([y, y - dy])]))
    for i, (size, error, row) in enumerate(published):
        place = size / scale, float(error)
        axes.plot(*place, marker='o' if row.method in ('none', 'sss') else 'd', color=INK, markerfacecolor='none',
                  markersize=6, linestyle='none', zorder=3, label=None if i else 'published (status)')
        labels.append((f'{row.model} ({row.top1_status})', *place))
        busy.append(place)
        axes.update_datalim([place])
    axes.margins(x=0.12, y=0.05)
    axes.autoscale_view()
    axes.set_xlim(max(0, axes.get_xlim()[0]))
    axes.set_ylim(max(0, axes.get_ylim()[0]), top)
    _write_legend(figure, axes)
    _write_labels(figure, axes, labels, busy)
    return figure


def _top(found: List[Tuple[float, float]], published: List[float]) -> float:
    """The upper end of the axis of errors: above the bulk of (error, error plus its deviation), with the published."""
    errors = np.array([error for error, _ in found])
    low, high = np.percentile(errors, [25, 75])
    limit = high + 2 * max(high - low, 0.5)
    inside = [above for error, above in found if error <= limit]
    return max([1.06 * max([min(max(inside), 1.5 * limit)] + published), errors.min() + LEAST_SPAN])


def _beside(placed: List[Box], x: np.ndarray, y: np.ndarray, dy: np.ndarray, point: Tuple[float, float]) -> float:
    """How far to move markers and their bars sideways, in points, so that they cover no others; those are noted."""
    def boxes(step: int) -> List[Box]:
        return [(a + (step - 0.5) * STEP * point[0], a + (step + 0.5) * STEP * point[0],
                 b - d - STEP / 2 * point[1], b + d + STEP / 2 * point[1]) for a, b, d in zip(x, y, dy)]

    def overlaps(step: int) -> int:
        return sum(mine[0] < other[1] and other[0] < mine[1] and mine[2] < other[3] and other[2] < mine[3]
                   for mine in boxes(step) for other in placed)

    best = min((0, 1, -1, 2, -2), key=overlaps)
    placed += boxes(best)
    return best * STEP


def _or_none(deviations: np.ndarray) -> np.ndarray:
    """NaN for 0, which has no bar."""
    return np.where(deviations > 0, deviations, np.nan)


def _write_legend(figure: Figure, axes) -> None:
    """Put the legend below the axes, in as many columns as fit; the figure grows with its rows."""
    drawn = [(handle[0] if isinstance(handle, ErrorbarContainer) else handle, name)     # without the bars
             for handle, name in zip(*axes.get_legend_handles_labels())]
    for columns in (3, 2, 1):
        legend = axes.legend(*zip(*drawn), frameon=False, fontsize=FONT - 1, labelcolor=INK, loc='upper center',
                             ncol=columns, bbox_to_anchor=(0.45, -0.2), columnspacing=1, handletextpad=0.3)
        if legend.get_window_extent().width <= 0.97 * figure.bbox.width:
            break
    figure.set_size_inches(WIDTH, HEIGHT + ROW * -(-len(drawn) // columns))


def _write_labels(figure: Figure, axes, labels: List[Label], busy) -> None:
    """Put each label where it covers the least."""
    texts = [axes.annotate(literal(text), (x, y), (0, 0), textcoords='offset points', fontsize=FONT - 2, color=INK)
             for text, x, y in labels if text]
    for text in texts:
        text.set_in_layout(False)
    for _ in range(2):      # a tall legend needs two
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
    counts = {s.label: s.structure_counts() for s in section.pruned}
    colours = {s.label: LOOKS.get(s.method, OTHER)[0] for s in section.summaries}
    kinds = list(dict.fromkeys(count.kind for rows in counts.values() for count in rows))
    return {kind: _bars(f'{kind}s kept, % of each layer',
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
    figure = Figure(figsize=(width, lines + 1.8), dpi=DPI)
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


def curves_figure(section: Section) -> Optional[Figure]:
    """Error over epochs: one small set of axes per series, one line per setting, the network without factors behind.

    None where no run says how it went.
    """
    lines: Dict[str, List[Summary]] = {}
    for summary in section.pruned:
        if summary.curve.size > 1:
            lines.setdefault(summary.series, []).append(summary)
    if not lines:
        return None
    names, look = short_names(section), looks(section)
    columns = min(3, len(lines))
    rows = -(-len(lines) // columns)
    figure = Figure(figsize=(2.3 * columns + 0.4, 1.6 * rows + 0.4), dpi=DPI, layout='constrained')
    curves = [s.curve for s in sum(lines.values(), [])]
    top = 1.3 * max(float(np.percentile(curve[len(curve) // 4:], 90)) for curve in curves)
    for i, (series, summaries) in enumerate(lines.items(), 1):
        first, last = i % columns == 1 % columns, i > len(lines) - columns
        axes = add_axes(figure, rows, columns, i, title=literal(names[series]), font=FONT - 1,
                        x='epoch' if last else '', y='error, %' if first else '')
        if section.whole and section.whole.curve.size:
            axes.plot(range(1, section.whole.curve.size + 1), section.whole.curve, color=QUIET, linewidth=0.8,
                      label='without factors')
        for j, summary in enumerate(sorted(summaries, key=lambda s: -s.macs.mean)):
            axes.plot(range(1, summary.curve.size + 1), summary.curve, color=look[series][0], linewidth=1,
                      alpha=1 - 0.6 * j / len(summaries), linestyle=('-', '--', ':', '-.')[j % 4],
                      label=literal(summary.setting))
        axes.set_ylim(0, top)
        axes.legend(frameon=False, fontsize=FONT - 2, loc='upper right', handlelength=1.6, labelspacing=0.2)
    return figure
