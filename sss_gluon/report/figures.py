"""Training figures of one run, drawn from its CSV files alone."""
from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Optional, Tuple, Union

import numpy as np
from matplotlib.figure import Figure

from ..errors import SSSError
from ..train import RunFolder
from .style import ACCENT, INK, PALE, QUIET, add_axes, save

MAPS = 5        # small maps in a row


def draw(run: RunFolder, folder: Optional[Union[str, Path]] = None) -> List[Path]:
    """Draw the figures of a run as PNG into a folder, by default its own, except those whose data is missing."""
    drawn = []
    for table, figures in ((run.metrics, {'training': _curves}),
                           (run.factors, {'factors': _heat_map, 'alive': _alive})):
        rows = table.rows()
        for name, figure in figures.items() if rows else ():
            try:
                made = figure(rows, run.path.name)
            except (ValueError, KeyError) as error:
                raise SSSError(f'{table.path} is damaged ({type(error).__name__}: {error}); delete it') from error
            drawn.append(save(made, Path(folder or run.figures) / f'{name}.png'))
    return drawn


def _curves(rows: List[Dict[str, str]], name: str) -> Figure:
    """Loss, error, and remaining size of the network over epochs."""
    column = {key: np.array([float(row[key]) for row in rows]) for key in rows[0] if key != 'evaluated_on'}
    epoch, part = column['epoch'], rows[-1]['evaluated_on']
    panels = 4 if 'gamma' in column else 3
    figure = Figure(figsize=(13 * panels / 3, 4), dpi=110, layout='constrained')
    figure.suptitle(name, x=0.01, ha='left', color=INK, fontweight='bold')
    loss = add_axes(figure, 1, panels, 1, title='cross-entropy', x='epoch')
    error = add_axes(figure, 1, panels, 2, title='top-1 error, %', x='epoch')
    for axes, train, held in ((loss, column['train_loss'], column['loss']),
                              (error, 100 * (1 - column['train_top1']), 100 * (1 - column['top1']))):
        axes.plot(epoch, train, color=QUIET, label='training')
        axes.plot(epoch, held, color=ACCENT, label=part)
        axes.legend(frameon=False)
    loss.set_yscale('log')
    error.set_ylim(bottom=0)
    left = add_axes(figure, 1, panels, 3, title='remaining, % of the unpruned network', x='epoch')
    for key, color in (('params_left', QUIET), ('macs_left', ACCENT)):
        left.plot(epoch, 100 * column[key] / column[key[:-5]], color=color, drawstyle='steps-post',
                  label={'params_left': 'params', 'macs_left': 'MACs'}[key])
    for key, style in zip((key for key in column if key.endswith('s_alive')), (':', '--', '-.')):
        left.plot(epoch, 100 * column[key] / column[key[:-6]], color=INK, linestyle=style, drawstyle='steps-post',
                  label=key.replace('_', ' '))
    if 'gamma' in column:
        left.plot(epoch, 100 * column['planned_left'], color=ACCENT, linewidth=1, linestyle='--', label='planned')
        gamma = add_axes(figure, 1, panels, 4, title='γ, the highest of each epoch', x='epoch')
        gamma.plot(epoch, column['gamma'], color=ACCENT, drawstyle='steps-pre')
        gamma.set_ylim(bottom=0)
    left.set_ylim(0, 105)
    left.legend(frameon=False)
    return figure


def _by_factor(rows: List[Dict[str, str]]) -> Dict[str, np.ndarray]:
    """{factor: array of shape (epochs, size)}."""
    columns: Dict[str, List[str]] = {}
    for key in rows[0]:
        if key != 'epoch':
            columns.setdefault(key.rpartition('[')[0], []).append(key)
    return {name: np.array([[float(row[key]) for key in keys] for row in rows]) for name, keys in columns.items()}


def _heat_map(rows: List[Dict[str, str]], name: str) -> Figure:
    """Every scaling factor over epochs, with exact zeros white: a small map for each layer, one for all blocks."""
    factors = _by_factor(rows)
    blocks = {factor: values for factor, values in factors.items() if values.shape[1] == 1}
    maps = {factor: values for factor, values in factors.items() if factor not in blocks}
    if blocks:
        maps['blocks'] = np.concatenate(list(blocks.values()), axis=1)
    every = np.abs(np.concatenate(list(maps.values()), axis=1))
    top = float(np.percentile(every[every != 0], 97)) if every.any() else 1.0   # the few largest would take the scale
    columns = min(MAPS, len(maps))
    lines = -(-len(maps) // columns)
    tall = min(14.0, max(3.5, 0.25 * len(blocks) + 1.4)) if len(maps) == 1 else 1.5 * lines + 0.8
    figure = Figure(figsize=(9 if columns == 1 else 2.2 * columns + 0.8, tall), dpi=110, layout='constrained')
    figure.suptitle(f'{name}: scaling factors over training', x=0.01, ha='left', color=INK, fontweight='bold')
    first, last = int(rows[0]['epoch']), int(rows[-1]['epoch'])
    shown = []
    for i, (factor, values) in enumerate(maps.items(), 1):
        alive, size = int((values[-1] != 0).sum()), values.shape[1]
        axes = add_axes(figure, lines, columns, i, title=f'{factor or "factor"}, {alive}/{size}', font=8,
                        x='epoch' if i > len(maps) - columns else '')
        order = range(size) if factor == 'blocks' else _by_end(values)
        image = axes.imshow(np.ma.masked_equal(values.T[list(order)], 0), aspect='auto', interpolation='nearest',
                            cmap='viridis', vmin=0, vmax=top, extent=(first - 0.5, last + 0.5, size - 0.5, -0.5))
        axes.set_facecolor('white')
        axes.set_yticks([])
        if factor == 'blocks':
            step = -(-size // int(4 * tall if len(maps) == 1 else 8))       # as many names as fit
            axes.set_yticks(range(0, size, step))
            axes.set_yticklabels(list(blocks)[::step], fontsize=8 if len(maps) == 1 else 5)
        shown.append(axes)
    figure.colorbar(image, ax=shown, label='λ (white: exactly 0)', shrink=min(0.8, 3 / tall + 0.2), extend='max')
    return figure


def _by_end(values: np.ndarray) -> np.ndarray:
    """The order of structures in a map: those that live longest on top, of equal ones the largest."""
    lived = (values != 0).sum(axis=0)
    return np.lexsort((-np.abs(values[-1]), -lived))


def _alive(rows: List[Dict[str, str]], name: str) -> Figure:
    """Structures alive at the end and in all: neurons and groups per layer, blocks per stage."""
    layers: Dict[str, Tuple[int, int]] = {}
    stages: Dict[str, Tuple[int, int]] = {}
    for factor, values in _by_factor(rows).items():
        left, total = int((values[-1] != 0).sum()), values.shape[1]
        if total > 1:
            layers[factor] = left, total
        else:       # one factor for a whole block
            stage = factor.split('.')[0]
            alive, all_blocks = stages.get(stage, (0, 0))
            stages[stage] = alive + left, all_blocks + total
    both = (('neurons or groups per layer', layers), ('blocks per stage', stages))
    parts = [(title, bars) for title, bars in both if bars]
    widths = [max(4, 0.16 * len(bars) + 1.5) for _, bars in parts]
    title = f'{name}: structures alive after epoch {rows[-1]["epoch"]}'
    figure = Figure(figsize=(max(sum(widths) + 1, 0.12 * len(title)), 4.2), dpi=110, layout='constrained')
    grid = figure.add_gridspec(1, len(parts), width_ratios=widths)
    figure.suptitle(title, x=0.01, ha='left', color=INK, fontweight='bold')
    for i, (title, bars) in enumerate(parts):
        axes = add_axes(figure, grid[0, i], title=title)
        x = np.arange(len(bars))
        axes.bar(x, [total for _, total in bars.values()], color=PALE, label='all')
        axes.bar(x, [left for left, _ in bars.values()], color=ACCENT, label='alive')
        axes.set_xticks(x)
        axes.set_xticklabels(list(bars), rotation=90, fontsize=7 if len(bars) > 30 else 8)
        axes.set_xlim(-1, len(bars))
        axes.locator_params(axis='y', integer=True)
    axes.legend(frameon=False, loc='upper left', bbox_to_anchor=(1, 1))
    return figure
