"""Results as text tables, followed by lines on what was removed and what it cost."""
from __future__ import annotations

import textwrap
from typing import Any, List, Optional, Sequence, Tuple

from tabulate import tabulate

from ..graph import Count
from ..structures import Compact, Structure
from ..terminal import WIDTH, room, short_number, wrapped
from ..train.setting import sections

COLUMN = 24         # of the words on a setting
SHOWN = 4           # lines on structures that are zero but stay
MANY = 20           # classes from which top-5 says something: five guesses of ten are right half of the time
FAST = 8            # widths that are multiples of it have fast convolutions on CPUs


def describe_settings(config_class: Any) -> str:
    """The settings in sections: 'gamma=0.01  sparsity strength γ'."""
    lines = []
    for title, rows in sections(config_class).items():
        lines += ['', f'{title}:']
        for row in rows:
            head = f'  {row.name}={row.default}'
            words = textwrap.wrap(row.text, WIDTH - COLUMN, break_on_hyphens=False)
            if len(head) + 2 > COLUMN:
                lines.append(head)
                head = ''
            lines += [f'{start:{COLUMN}}{line}' for start, line in zip([head] + [''] * len(words), words)]
    return '\n'.join(lines)


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
    lines = [wrapped(f'removed: {removed(result.structure)}'), table,
             f'same outputs: the largest difference is {result.max_difference:.1e} of the largest output']
    lines += [wrapped(line) for line in result.stays[:SHOWN]]
    if len(result.stays) > SHOWN:
        lines.append(f'… and {len(result.stays) - SHOWN} more of the kind')
    if result.unhandled:
        kept = ', '.join(result.unhandled)
        lines.append(wrapped(f'kept whole, because the operator, or this form of it, is unknown: {kept}'))
    odd, narrowed = odd_widths(result.structure)
    if 2 * odd > narrowed:
        lines.append(wrapped(f'odd widths: {odd} of {narrowed} narrowed layers are no multiple of {FAST} wide, which '
                             f'is slow on CPUs; {_fills_up(run)}'))
    return '\n'.join(lines + [wrapped(f'written: {run}/compact/model-symbol.json, model-0000.params, '
                                      f'model-structure.json')])


def removed(structure: Structure) -> str:
    """'2 of 9 blocks (stage1.0.conv2, stage1.1.conv2), and with them 32 neurons that were not zero'.

    The first numbers are those that the log of the training counts as zero; names are of factors that are zero.
    """
    if not structure.factors:
        return 'nothing, the network has no factors'
    parts, inside = [], []
    for kind, count in structure.removed().items():
        rows = {name: row for name, row in structure.factors.items() if row['kind'] == kind}
        others = sum(structure.gone_with.get(name, 0) for name in rows)
        inside += [f'{others} {kind}{"s" * (others != 1)}'] if others else []
        empty = [name for name, row in rows.items() if not row['kept'] and not row.get('stay')
                 and name not in structure.gone_with]
        names = f' ({", ".join(empty)})' if 0 < len(empty) <= 12 else ''
        parts.append(f'{count - others} of {sum(row["size"] for row in rows.values())} {kind}s'
                     f'{structure.of_channels(kind)}{names}')
    with_them = f', and with them {" and ".join(inside)} that were not zero' if inside else ''
    return ', '.join(parts) + with_them


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


def odd_widths(structure: Structure) -> Tuple[int, int]:
    """Layers that pruning left with a width that convolutions are slow for, and all layers that it narrowed."""
    narrowed = [row['after'][0] for row in structure.layers.values()
                if row['after'] and row['before'] and row['after'][0] < row['before'][0]]
    return sum(width % FAST != 0 for width in narrowed), len(narrowed)


def _fills_up(run) -> str:
    return f'sss-gluon export {run} measures which widths are fast, and fills them up with zeros'


def describe_evaluation(rows: Sequence, structure: Optional[Structure] = None, run=None) -> str:
    """Table of networks; what was removed, and how the compact network compares with the others."""
    batches, five = list(rows[0].seconds), rows[0].classes >= MANY
    table = tabulate([[row.name, f'{row.accuracy.top1:.2%}', *([f'{row.accuracy.top5:.2%}'] if five else []),
                       f'{row.params:,}', f'{row.macs:,}'] + [f'{1000 * row.seconds[b]:.2f}' for b in batches]
                      for row in rows],
                     headers=['network', 'top-1', *(['top-5'] if five else []), 'params', 'MACs']
                     + _batches('ms', batches),
                     disable_numparse=True, colalign=('left',) + ('right',) * (3 + five + len(batches)))
    images = rows[0].accuracy.images
    lines = [table, f'accuracy on {images} test images: one image is {100 / images:.2f} points; ms for a batch']
    by_name = {row.name: row for row in rows}
    if structure is not None:
        lines.append(wrapped(f'removed: {removed(structure)}'))
    small = by_name.get('compact')
    if small:
        compared = [[row.name, _points(small, row), change(row.params, small.params), change(row.macs, small.macs),
                     *_speeds(small, row)] for row in rows if row is not small]
        lines += ['', tabulate(compared, headers=['compact against', 'accuracy', 'params', 'MACs']
                               + _batches('speed', batches), disable_numparse=True,
                               colalign=('left',) + ('right',) * (3 + len(batches)))]
        lines += _slow(small, by_name['unpruned'], structure, run)
    return '\n'.join(lines)


def describe_target(config, rows: Sequence) -> Optional[str]:
    """'asked for at most 50.0 % of the MACs; compact has 47.9 %'; None without a target or a compact network."""
    by_name = {row.name: row for row in rows}
    if 'compact' not in by_name:
        return None
    forms = [row for row in rows if row.name.startswith('compact') and not row.name.endswith('(against)')]
    measured = {'target_macs': ('MACs', lambda row: row.macs), 'target_params': ('params', lambda row: row.params),
                'target_latency': ('latency', lambda row: row.seconds.get(config.latency_batch))}
    for key, (what, size) in measured.items():
        whole = size(by_name['unpruned'])
        if getattr(config, key) is not None and whole:
            left = ', '.join(f'{row.name} has {100 * size(row) / whole:.1f} %'
                             for row in (forms if key == 'target_latency' else [by_name['compact']]))
            return f'asked for at most {100 * getattr(config, key):.1f} % of the {what}; {left}'
    return None


def _slow(small, whole, structure: Optional[Structure], run) -> List[str]:
    """A line that says where the compact network is not faster although it computes less, and the way out."""
    batches = [str(batch) for batch in whole.seconds if small.seconds[batch] >= whole.seconds[batch]]
    if not batches or small.macs >= whole.macs:
        return []
    text = f'compact is not faster in MXNet at batch {" and ".join(batches)}'
    odd, narrowed = odd_widths(structure) if structure else (0, 0)
    if odd:
        text += (f': {odd} of {narrowed} narrowed layers are no multiple of {FAST} wide, which is slow on CPUs; '
                 f'{_fills_up(run)}')
    elif run:
        text += f'; sss-gluon export {run} --format onnx measures it in ONNX Runtime'
    return [wrapped(text)]


def _points(row, base) -> str:
    return f'{100 * (row.accuracy.top1 - base.accuracy.top1):+.2f} points'


def _speeds(row, base) -> List[str]:
    return [f'{base.seconds[batch] / row.seconds[batch]:.2f} x' for batch in base.seconds]


def _batches(what: str, batches: Sequence[int]) -> List[str]:
    """Headers of two lines."""
    return [f'{what},\nfor {batch}' for batch in batches]


def describe_export(rows: Sequence, folder) -> str:
    """Table of the exported networks beside float32 in MXNet, and how they compare with it."""
    batches, first = list(rows[0].seconds), rows[0]
    scored = ['top-1'] if first.accuracy else []
    table = tabulate([[row.name, row.runtime, f'{row.bytes:,}' if row.files else '-',
                       *([f'{row.accuracy.top1:.2%}'] if scored else []), f'{row.difference:.1e}']
                      + [f'{1000 * row.seconds[b]:.2f}' for b in batches] for row in rows],
                     headers=['network', 'runtime', 'bytes', *scored, 'difference'] + _batches('ms', batches),
                     disable_numparse=True, colalign=('left', 'left') + ('right',) * (2 + len(scored) + len(batches)))
    accuracy = f'accuracy on {first.accuracy.images} test images; ' if scored else ''
    lines = [table, wrapped(f'{accuracy}difference to the {"trained" if scored else "given"} network, relative to its '
                            f'largest output')]
    if rows[1:]:
        compared = [[f'{row.name} in {row.runtime}', *([_points(row, first)] if scored else []), *_speeds(row, first)]
                    for row in rows[1:]]
        lines += ['', tabulate(compared, headers=['against float32 in MXNet', *(['accuracy'] if scored else [])]
                               + _batches('speed', batches), disable_numparse=True,
                               colalign=('left',) + ('right',) * (len(scored) + len(batches)))]
    if not all(row.files for row in rows):
        lines.append("'-' bytes: measured for comparison, not written")
    files = [file for row in rows for file in row.files]
    return '\n'.join(lines + [wrapped(f'written: {folder}/{", ".join(files)}')])


def describe_count(before: Count, after: Optional[Count] = None) -> str:
    """Table of layers; with ``after``, both networks side by side, the outputs that are left as their channels."""
    left = {layer.name: layer for layer in after.layers} if after else {}
    headers = ['layer', *(['output', 'after', 'params', 'after', 'MACs', 'after'] if after else
                          ['operator', 'output', 'params', 'MACs'])]
    rows: List[List[str]] = []
    for layer in before.layers:
        output, small = 'x'.join(map(str, layer.output_shape[1:])), left.get(layer.name)
        rows.append([output, f'{small.output_shape[1]}' if small else '-',
                     short_number(layer.params), short_number(small.params) if small else '-',
                     short_number(layer.macs), short_number(small.macs) if small else '-'] if after else
                    [layer.op, output, f'{layer.params:,}', f'{layer.macs:,}'])
    width = room(headers[1:], rows)
    cells = [[_at_dots(layer.name, width), *row] for layer, row in zip(before.layers, rows)]
    words = 1 if after else 2
    lines = [tabulate(cells, headers=headers, disable_numparse=True,
                      colalign=('left',) * words + ('right',) * (len(headers) - words)), '', _total('total', before)]
    if after:
        lines += [_total('after', after), f'change: params {change(before.params, after.params)}, '
                                          f'MACs {change(before.macs, after.macs)}']
    lines.append(wrapped('not counted: ' + ', '.join(f'{n} {op}' for op, n in sorted(before.uncounted.items()))))
    return '\n'.join(lines)


def _at_dots(name: str, width: int) -> str:
    """The name of a layer on lines that fit, which begin with a dot after the first."""
    return textwrap.fill(name.replace('.', ' .'), width).replace(' .', '.')


def _total(name: str, size: Count) -> str:
    return wrapped(f'{name}: {size.params:,} params ({size.params_without_bn:,} without BatchNorm), {size.macs:,} MACs '
                   f'({2 * size.macs / 1e9:.3f} GFLOPs at 2 FLOPs per MAC)')
