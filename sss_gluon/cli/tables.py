"""Results as text tables, followed by lines on what was removed and what it cost."""
from __future__ import annotations

from typing import List, Optional, Sequence, Tuple

from tabulate import tabulate

from ..graph import Count
from ..structures import Compact, Structure


def change(before: float, after: float) -> str:
    """'-33.1 %'."""
    return f'{100 * (after - before) / before:+.1f} %' if before else 'n/a'


def describe_compact(result: Compact, run) -> str:
    """The effect of pruning, and the files that it wrote."""
    before, after = result.before, result.after
    table = tabulate([['params', f'{before.params:,}', f'{after.params:,}', change(before.params, after.params)],
                      ['MACs', f'{before.macs:,}', f'{after.macs:,}', change(before.macs, after.macs)]],
                     headers=['', 'before', 'after', 'change'], disable_numparse=True,
                     colalign=('left', 'right', 'right', 'right'))
    lines = [f'removed: {removed(result.structure)}', table,
             f'same outputs: the largest difference is {result.max_difference:.1e} of the largest output']
    if result.unhandled:
        lines.append(f'not pruned, because the operator is unknown: {", ".join(result.unhandled)}')
    return '\n'.join(lines + [f'written: {run}/compact/model-symbol.json, model-0000.params, model-structure.json'])


def removed(structure: Structure) -> str:
    """'3 of 9 blocks (stage1.0.conv2, stage1.1.conv2, stage1.2.conv2)', with the names of removed factors."""
    if not structure.factors:
        return 'nothing, the network has no factors'
    parts = []
    for kind, count in structure.removed().items():
        rows = {name: row for name, row in structure.factors.items() if row['kind'] == kind}
        empty = [name for name, row in rows.items() if not row['kept']]
        names = f' ({", ".join(empty)})' if 0 < len(empty) <= 12 else ''
        parts.append(f'{count} of {sum(row["size"] for row in rows.values())} {kind}s{names}')
    return ', '.join(parts)


def describe_gamma(found) -> str:
    """The γ that are predicted to leave some shares of the MACs, and those worth sweeping."""
    end, rows = found.ramp[-1], [[f'{size.gamma:.3g}', f'{size.macs:.1%}', f'{size.params:.1%}',
                                  ', '.join(f'{some}/{total} {kind}s' for kind, (some, total) in size.alive.items())]
                                 for size in found.steps_down()]
    table = tabulate(rows, headers=['γ', 'MACs left', 'params left', 'alive'], disable_numparse=True,
                     colalign=('left', 'right', 'right', 'left'))
    return '\n'.join([f'the ramp left {end.macs:.1%} of the MACs after {len(found.ramp)} steps, at γ {end.gamma:.2g}',
                      f'predicted for a run of {found.epochs} epochs:', table,
                      f'worth sweeping: gamma: [{", ".join(f"{gamma:g}" for gamma in found.sweep)}]'])


def describe_evaluation(rows: Sequence, structure: Optional[Structure] = None) -> str:
    """Table of networks; what was removed, and how the compact network compares with the others."""
    batches = list(rows[0].seconds)
    table = tabulate([[row.name, f'{row.accuracy.top1:.2%}', f'{row.accuracy.top5:.2%}', f'{row.params:,}',
                       f'{row.macs:,}'] + [f'{1000 * row.seconds[b]:.2f}' for b in batches] for row in rows],
                     headers=['network', 'top-1', 'top-5', 'params', 'MACs'] + [f'ms, batch {b}' for b in batches],
                     disable_numparse=True, colalign=('left',) + ('right',) * (4 + len(batches)))
    images = rows[0].accuracy.images
    lines = [table, f'accuracy on {images} test images: one image is {100 / images:.2f} points']
    by_name = {row.name: row for row in rows}
    if structure is not None:
        lines.append(f'removed: {removed(structure)}')
    small = by_name.get('compact')
    for row in rows:
        if small and row is not small:
            accuracy, speed = _compared(small, row)
            lines.append(f'compact against {row.name}: {accuracy}, params {change(row.params, small.params)}, '
                         f'MACs {change(row.macs, small.macs)}, {speed}')
    return '\n'.join(lines)


def _compared(row, base) -> Tuple[str, str]:
    """Accuracy and speed of a network compared with those of another."""
    faster = ', '.join(f'{base.seconds[b] / row.seconds[b]:.2f} x at batch {b}' for b in base.seconds)
    return f'accuracy {100 * (row.accuracy.top1 - base.accuracy.top1):+.2f} points', f'speed {faster}'


def describe_export(rows: Sequence, run) -> str:
    """Table of the exported networks beside float32 in MXNet, and how they compare with it."""
    batches, first = list(rows[0].seconds), rows[0]
    table = tabulate([[row.name, row.runtime, f'{row.bytes:,}' if row.files else '-', f'{row.accuracy.top1:.2%}',
                       f'{row.difference:.1e}'] + [f'{1000 * row.seconds[b]:.2f}' for b in batches] for row in rows],
                     headers=['network', 'runtime', 'bytes', 'top-1', 'difference'] +
                             [f'ms, batch {b}' for b in batches],
                     disable_numparse=True, colalign=('left', 'left') + ('right',) * (3 + len(batches)))
    lines = [table, f'accuracy on {first.accuracy.images} test images; difference to the trained network, relative to '
                    f'its largest output']
    for row in rows[1:]:
        lines.append(f'{row.name} in {row.runtime} against float32 in MXNet: {", ".join(_compared(row, first))}')
    files = [file for row in rows for file in row.files]
    return '\n'.join(lines + [f'written: {run}/deploy/{", ".join(files)}'])


def describe_count(before: Count, after: Optional[Count] = None) -> str:
    """Table of layers; with ``after``, both networks side by side."""
    left = {layer.name: layer for layer in after.layers} if after else {}
    rows: List[List[str]] = []
    for layer in before.layers:
        row = [layer.name, layer.op, 'x'.join(map(str, layer.output_shape[1:])), f'{layer.params:,}', f'{layer.macs:,}']
        if after:
            small = left.get(layer.name)
            row += ['x'.join(map(str, small.output_shape[1:])), f'{small.params:,}', f'{small.macs:,}'] if small \
                else ['-', '-', '-']
        rows.append(row)
    headers = ['layer', 'operator', 'output', 'params', 'MACs'] + (['output after', 'params after', 'MACs after']
                                                                 if after else [])
    lines = [tabulate(rows, headers=headers, disable_numparse=True,
                      colalign=('left', 'left') + ('right',) * (len(headers) - 2)), '', _total('total', before)]
    if after:
        lines += [_total('after', after), f'change: params {change(before.params, after.params)}, '
                                          f'MACs {change(before.macs, after.macs)}']
    lines.append('not counted: ' + ', '.join(f'{n} {op}' for op, n in sorted(before.uncounted.items())))
    return '\n'.join(lines)


def _total(name: str, size: Count) -> str:
    return (f'{name}: {size.params:,} params ({size.params_without_bn:,} without BatchNorm), {size.macs:,} MACs '
            f'({2 * size.macs / 1e9:.3f} GFLOPs at 2 FLOPs per MAC)')
