"""What a ramp of γ found, as CSV files and a figure."""
from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Callable, Dict, List, Tuple, Union

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from ..csv_files import write_csv
from ..methods import GammaRange
from ..methods.gamma_range import Size
from .style import ACCENT, INK, PALE, QUIET, add_axes, save


def write_gamma(found: GammaRange, folder: Union[str, Path], title: str = '') -> List[Path]:
    """Write ``ramp.csv``, ``predicted.csv`` and ``find-gamma.png`` into a folder; return the paths.

    ``ramp.csv`` has one row for each step of the ramp, ``predicted.csv`` one for each γ of a whole run.
    """
    folder = Path(folder)
    ramp = [dict(step=step, **_row(size), loss=f'{loss:.6g}')
            for step, (size, loss) in enumerate(zip(found.ramp, found.losses), 1)]
    write_csv(folder / 'ramp.csv', ramp)
    write_csv(folder / 'predicted.csv', [_row(size) for size in found.predicted])
    return [folder / 'ramp.csv', folder / 'predicted.csv', save(_figure(found, title), folder / 'find-gamma.png')]


def _row(size: Size) -> Dict[str, object]:
    row: Dict[str, object] = dict(gamma=f'{size.gamma:.6g}', params_share=f'{size.params:.6f}',
                                  macs_share=f'{size.macs:.6f}')
    for kind, (some, total) in size.alive.items():
        row.update({f'{kind}s_alive': some, f'{kind}s': total})
    return row


def _alive_share(kind: str, size: Size) -> float:
    some, total = size.alive[kind]
    return some / total


def _figure(found: GammaRange, title: str) -> Figure:
    """Share of the MACs, and of the structures of each kind, over γ; the values worth sweeping are marked."""
    figure = Figure(figsize=(10, 4), dpi=110, layout='constrained')
    figure.suptitle(title, x=0.01, ha='left', color=INK, fontweight='bold')
    whole = Size(min(found.ramp[0].gamma, found.sweep[0], found.predicted[0].gamma) / 2, 1.0, 1.0,
                 {kind: (total, total) for kind, (_, total) in found.ramp[0].alive.items()})
    parts: List[Tuple[str, Dict[str, Callable[[Size], float]]]] = [
        ('MACs left, %', {'': lambda size: size.macs}),
        ('structures alive, %', {kind: partial(_alive_share, kind) for kind in whole.alive})]
    for i, (name, lines) in enumerate(parts, 1):
        axes = add_axes(figure, 1, 2, i, title=name, x='γ')
        for gamma in found.sweep:
            axes.axvline(gamma, color=PALE, linewidth=5, zorder=0)
        for (kind, share), style in zip(lines.items(), ('-', '--', ':')):
            for label, sizes, colour in ((f'while γ rises ({len(found.ramp)} steps)', found.ramp, QUIET),
                                         (f'predicted, {found.epochs} epochs', [whole, *found.predicted], ACCENT)):
                axes.plot([size.gamma for size in sizes], [100 * share(size) for size in sizes], color=colour,
                          linestyle=style, drawstyle='steps-post', label=f'{kind}s {label}' if kind else label)
        axes.set_xscale('log')
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(left=whole.gamma)
        axes.set_ylim(0, 105)
        axes.legend(frameon=False, loc='lower left', fontsize=9)
    return figure
