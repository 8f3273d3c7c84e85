"""Bar charts of measured speed: images/s by batch size, and what the compact network gains."""
from __future__ import annotations

from typing import Callable, Dict, List, Mapping, Sequence, Tuple

import numpy as np
from matplotlib.figure import Figure

from .style import INK, LOOKS, QUIET, add_axes, literal

Row = Mapping[str, str]
Bar = Tuple[float, float, float]        # height, and quartiles
Series = Dict[Tuple[str, str], Dict[str, Bar]]          # {(form, what has a colour): {place: bar}}
Panel = Tuple[str, str, Series, Dict[str, float]]       # title, name of the x axis, bars, {name of a line: height}

COLOURS = [colour for colour, _ in LOOKS.values()]
PALE = ('without factors', 'dense', 'predicted')        # forms beside which others are compared
HATCHED = 'with factors'
PANEL, HEIGHT, LEGEND = 4.2, 3.2, 0.2           # inches: width of a panel, its height, a line of its legend


def bars(rows: Sequence[Row], title: str, where: Callable[[Row], str]) -> Figure:
    """A panel for each use, and one for the speed-up of what is compact; bars are medians, lines quartiles."""
    rows = [row for row in rows if not row['failed']]
    panels = [_images_per_second(rows, 'training', where), _images_per_second(rows, 'inference', where),
              _speedup(rows, where), _efficiency(rows)]
    panels = [panel for panel in panels if panel[2]]
    hues = list(dict.fromkeys(hue for _, _, series, _ in panels for _, hue in series))
    colours = {hue: COLOURS[i % len(COLOURS)] for i, hue in enumerate(hues)}        # the same in all panels
    lines = max((len(series) for _, _, series, _ in panels), default=0)
    figure = Figure(figsize=(PANEL * max(1, len(panels)), HEIGHT + LEGEND * lines), dpi=130, layout='constrained')
    figure.suptitle(literal(title), x=0.01, ha='left', color=INK, fontweight='bold', fontsize=11)
    for i, (name, label, series, level) in enumerate(panels, 1):
        _draw(add_axes(figure, 1, len(panels), i, title=name, x=label), series, level, colours)
    return figure


def _images_per_second(rows: Sequence[Row], use: str, where) -> Panel:
    series: Series = {}
    for row in rows:
        if row['use'] == use:
            batch = float(row['batch'])
            found = series.setdefault((row['form'], where(row)), {})
            found[row['batch']] = (float(row['images_per_second']), 1000 * batch / float(row['ms_high']),
                                   1000 * batch / float(row['ms_low']))
    return f'{use}, images/s', 'batch', series, {}


def _speedup(rows: Sequence[Row], where) -> Panel:
    series: Series = {}
    level = {}
    for row in rows:
        if row['use'] == 'inference' and row['speedup']:
            bar = tuple(float(row[name]) for name in ('speedup', 'speedup_low', 'speedup_high'))
            series.setdefault(('', where(row)), {})[row['batch']] = (bar[0], bar[1], bar[2])
            level = {f'MACs: {float(row["macs_ratio"]):.2f}': float(row['macs_ratio']), 'as fast as dense': 1.0}
    return 'inference, compact ÷ dense', 'batch', series, level


def _efficiency(rows: Sequence[Row]) -> Panel:
    series: Series = {}
    for row in rows:
        if row['use'] == 'scaling':
            place = f'{row["batch"]}\n{row["workers"]} × {len(row["devices"].split())}'
            value, low, high = (float(row[name]) for name in ('efficiency', 'efficiency_low', 'efficiency_high'))
            series.setdefault(('', row['form']), {})[place] = (value, low, high)
            if row['predicted']:
                predicted = float(row['predicted'])
                series.setdefault(('predicted', row['form']), {})[place] = (predicted, predicted, predicted)
    return 'efficiency of scaling', 'batch, workers × devices', series, {'ideal': 1.0}


def _draw(axes, series: Series, level: Mapping[str, float], colours: Mapping[str, str]) -> None:
    places: List[str] = list(dict.fromkeys(place for found in series.values() for place in found))
    width = 0.84 / len(series)
    for i, ((form, hue), found) in enumerate(series.items()):
        x = np.array([places.index(place) for place in found]) + (i - (len(series) - 1) / 2) * width
        height, low, high = np.array(list(found.values())).T
        around = np.clip([height - low, high - height], 0, None)
        hatched = form == HATCHED
        axes.bar(x, height, 0.92 * width, color=colours[hue], alpha=0.4 if form in PALE else 0.7 if hatched else 1,
                 hatch='//' if hatched else None, edgecolor='white' if hatched else colours[hue], linewidth=0,
                 label=literal(': '.join(filter(None, (form, hue)))))
        axes.errorbar(x, height, around, linestyle='none', ecolor=INK, elinewidth=0.9, capsize=1.5)
    for (name, value), style in zip(level.items(), ('--', ':')):
        axes.axhline(value, color=QUIET, linestyle=style, linewidth=1.2, label=name)
    axes.set_xticks(range(len(places)))
    axes.set_xticklabels(places)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=7.5, labelcolor=INK, loc='upper left', bbox_to_anchor=(-0.08, -0.2))
