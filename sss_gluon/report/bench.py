"""Measurements of ``sss-gluon bench --model`` as CSV, tables and bar charts, and one page for a folder of them."""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Callable, Dict, List, Mapping, NamedTuple, Sequence, Tuple, Union

from ..csv_files import read_csv, write_csv
from ..errors import SSSError
from ..files import write_text
from .bench_bars import bars
from .page import Chapter, html, markdown
from .style import save
from .tables import NOTHING, Table, short_number

Row = Mapping[str, str]

SUFFIXES = ('.png', '.pdf', '.svg')
NEEDED = ('use', 'model', 'cut', 'batch', 'failed')     # columns by which a CSV of a measurement is known
MACHINE = (         # columns of a CSV that the line below a table names, and how
    ('cpu', '{}'), ('clock', '{}'), ('threads', 'threads: {}'), ('card', '{}'), ('driver', 'driver {}'),
    ('card_clock', '{}'), ('mxnet', 'MXNet {}'), ('onnxruntime', 'ONNX Runtime {}'), ('python', 'Python {}'),
    ('load', 'load before: {}'), ('date', '{}'))


class Kind(NamedTuple):
    """How the rows of one use are shown: title, remark, number of columns of words, and (header, cell) pairs."""
    title: str
    note: str
    labels: int
    columns: Sequence[Tuple[str, Callable[[Row], str]]]


def _plain(name: str) -> Callable[[Row], str]:
    return lambda row: row[name] or NOTHING


def _number(name: str, form: str) -> Callable[[Row], str]:
    return lambda row: form.format(float(row[name])) if row[name] else NOTHING


def _range(low: str, high: str, form: str) -> Callable[[Row], str]:
    return lambda row: f'{form.format(float(row[low]))}–{form.format(float(row[high]))}' if row[low] else NOTHING


def _ms(*names: str) -> Callable[[Row], str]:
    """'0.142', '55.8', '1,260'; two with a dash between."""
    def short(value: float) -> str:
        return f'{value:,.0f}' if value >= 100 else f'{value:.3g}'
    return lambda row: '–'.join(short(float(row[name])) for name in names) if row[names[0]] else NOTHING


def where(row: Row) -> str:
    """'ONNX Runtime CPU, float32'; 'MXNet on cpu0 and cpu1, bfloat16'."""
    devices = row['devices'].split()
    several = f' on {" and ".join(devices)}' if len(devices) > 1 else ''
    return f'{" ".join(filter(None, (row["runtime"], row["provider"])))}{several}, {row["precision"]}'


def describe_row(row: Row) -> str:
    """'training, with factors, MXNet, float32, batch 8: 12.3 ms, 650 images/s, 0.98 times as fast'."""
    if row['failed']:
        found = f'not measured: {row["failed"]}'
    else:
        gain = f', {float(row["speedup"]):.2f} times as fast' if row['speedup'] else ''
        found = f'{_ms("ms_p50")(row)} ms, {float(row["images_per_second"]):,.0f} images/s{gain}'
    return f'{row["use"]}, {row["form"]}, {where(row)}, batch {row["batch"]}: {found}'


MEASURED = (
    ('', _plain('form')), ('on', where), ('batch', _plain('batch')), ('p50 ms', _ms('ms_p50')),
    ('p95 ms', _ms('ms_p95')), ('quartiles, ms', _ms('ms_low', 'ms_high')),
    ('images/s', _number('images_per_second', '{:,.0f}')), ('MiB', _number('memory_mib', '{:,.0f}')),
    ('speed-up', _number('speedup', '{:.2f}')), ('its quartiles', _range('speedup_low', 'speedup_high', '{:.2f}')),
    ('MACs ÷', _number('macs_ratio', '{:.2f}')), ('gain', _number('gain', '{:.2f}')))
KINDS: Dict[str, Kind] = {
    'training': Kind(
        'Training', 'A step is forward, backward and update, on random images that stay in memory; the batch is that '
        'of all devices. MiB is the most that the process took, or that its first card did. Speed-ups, over the '
        'network without factors, are quotients of medians; their quartiles are those of single rounds, and a median '
        'of few rounds may lie outside.', 3, MEASURED[:-1]),
    'inference': Kind(
        'Inference', 'Dense and compact are the files that export writes. Speed-ups, over dense in the same runtime, '
        'are quotients of medians; gain is the speed-up divided by that of the MACs. On a card, images and outputs '
        'stay in its memory.', 3, MEASURED),
    'scaling': Kind(
        'Scaling', 'Weak: each device has a batch of its own. Strong: all devices share one. Efficiency is images/s '
        'over those of one device, divided by the number of devices; predicted from the bytes of the gradients and '
        'the bandwidth of a large sum, without overlap. Sums: the part of a step that workers spend on them.', 2, (
            ('', _plain('form')), ('batch', _plain('batch')), ('workers', _plain('workers')),
            ('devices each', lambda row: str(len(row['devices'].split()))), ('ms', _ms('ms_p50')),
            ('images/s', _number('images_per_second', '{:,.0f}')), ('speed-up', _number('speedup', '{:.2f}')),
            ('efficiency', _number('efficiency', '{:.0%}')),
            ('quartiles', _range('efficiency_low', 'efficiency_high', '{:.0%}')),
            ('predicted', _number('predicted', '{:.0%}')), ('sums', _number('share', '{:.0%}')),
            ('MB sent', _number('megabytes', '{:.3g}')))),
}


def title(rows: Sequence[Row]) -> str:
    """'resnet50, to resnet26: 4.09 G to 1.28 G MACs'."""
    macs = sorted({int(row['macs']) for row in rows if row.get('macs')}, reverse=True)
    size = f': {" to ".join(short_number(number) for number in macs)} MACs' if macs else ''
    return f'{rows[0]["model"]}, {rows[0]["cut"]}{size}'


def bench_tables(rows: Sequence[Row]) -> List[Table]:
    """A table for each use of the rows; the last one names the machine."""
    found = []
    for use, kind in KINDS.items():
        mine = [row for row in rows if row['use'] == use]
        if not mine:
            continue
        failed: Dict[str, List[str]] = {}       # by the reason
        for row in mine:
            if row['failed']:
                failed.setdefault(row['failed'], []).append(f'{row["form"]}, {where(row)}, batch {row["batch"]}')
        text = [[cell(row) for _, cell in kind.columns] for row in mine if not row['failed']]
        lost = [f'{"; ".join(names)}: {reason}.' for reason, names in failed.items()]
        note = ' '.join([kind.note, *(['Not measured:', *lost] if lost else [])])
        found.append(Table(use, kind.title, [header for header, _ in kind.columns], text, mine, note, kind.labels))
    if found:
        found[-1] = replace(found[-1], note=f'{found[-1].note} {_machine(rows[-1])}')
    return found


def _machine(row: Row) -> str:
    """The machine in a sentence; with --quick, that the numbers mean nothing."""
    parts = [form.format(row[name]) for name, form in MACHINE if row.get(name)]
    quick = ' --quick: few rounds or tiny networks, the numbers mean nothing.' if row.get('quick') == 'yes' else ''
    return f'Measured on {", ".join(parts)}.{quick}'


def write_bench(rows: Sequence[Row], folder: Union[str, Path], name: str) -> List[Path]:
    """Write the CSV and the figure of a measurement, and the page of all measurements in the folder.

    Returns the paths: ``NAME.csv``, ``NAME.png``, ``.pdf`` and ``.svg``, ``bench.md`` and ``bench.html``.
    """
    folder = Path(folder)
    write_csv(folder / f'{name}.csv', rows)
    files, chapters = [folder / f'{name}.csv'], []
    for path in sorted(folder.glob('*.csv')):
        try:
            read = [row for _, row in read_csv(path, NEEDED)]
        except SSSError:        # a file of something else
            continue
        if not read:
            continue
        drawn = folder / f'{path.stem}.svg'
        if path.stem == name or not drawn.exists():
            figure = bars(read, title(read), where)
            files += [save(figure, drawn.with_suffix(suffix)) for suffix in SUFFIXES]
        figures = [(drawn, f'bars of {title(read)}')]
        chapters.append(Chapter(title(read), _sentence(read), [], bench_tables(read), figures))
    heading = 'Speed of training and inference'
    write_text(folder / 'bench.md', markdown(heading, chapters, []))
    write_text(folder / 'bench.html', html(heading, _lead(chapters), chapters, []))
    return [*files, folder / 'bench.md', folder / 'bench.html']


def _sentence(rows: Sequence[Row]) -> str:
    """How much faster the compact network is; '' where that was not measured."""
    found = sorted(float(row['speedup']) for row in rows if row['use'] == 'inference' and row['speedup'])
    if not found:
        return ''
    fewer = next(row['macs_ratio'] for row in rows if row['use'] == 'inference' and row['speedup'])
    return (f'The compact network predicts {found[0]:.2f} to {found[-1]:.2f} times as fast as the dense one, with '
            f'{float(fewer):.2f} times fewer MACs.')


def _lead(chapters: Sequence[Chapter]) -> str:
    rows = [row for chapter in chapters for table in chapter.tables for row in table.data]
    machines = sorted({' with '.join(str(row[key]) for key in ('cpu', 'card') if row.get(key)) for row in rows})
    return f'{len(chapters)} measurement{"s" * (len(chapters) != 1)} on {" and on ".join(machines)}'
