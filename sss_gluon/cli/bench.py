"""Benchmarks as text: single results while they are measured, and the table of all results."""
from __future__ import annotations

from textwrap import fill, indent
from typing import Dict, Sequence

from tabulate import tabulate

from ..bench.interconnect import GIGABITS, GPUS, STEP
from ..bench.isolated import Result
from ..bench.soak import WARM_UP, Sample, slope
from ..bench.table import AT_LEAST, AT_MOST, Benchmark
from ..terminal import WIDTH, room, wrapped

MIB = 2 ** 20
SIGNS = {AT_MOST: '≤', AT_LEAST: '≥'}
BUSY = 0.5      # load average before the measurement


def describe_rows(rows: Sequence[Benchmark]) -> str:
    """The list of benchmarks with their bounds."""
    return '\n'.join(f'{row.name}: {_bound(row)}{", for maintainers" if row.maintainers else ""}\n'
                     f'{indent(fill(row.what, WIDTH - 4), "    ")}' for row in rows)


def describe_result(result: Result) -> str:
    """'step-cifar_resnet20: 1.01 (1.00 to 1.02), ≤ 1.03: met; with 23 ms, without 22 ms'."""
    return (f'{result.row.name}: {_value(result)} {_spread(result)}, {_bound(result.row)}: {_mark(result)}'
            + (f'; {result.measured.note}' if result.measured else ''))


def describe_results(results: Sequence[Result], machine: Dict[str, str]) -> str:
    """The table of results, and the machine."""
    headers, cells = ['measured', 'quartiles', 'bound', ''], [
        [_value(result), _spread(result), _bound(result.row), result.mark] for result in results]
    width = room(headers, cells)
    table = tabulate([[fill(result.row.what, width), *row] for result, row in zip(results, cells)],
                     headers=['what', *headers], disable_numparse=True,
                     colalign=('left', 'right', 'right', 'left', 'left'))
    where = (f'cores: {machine["cores"]} of {machine["cpu"]}, MXNet {machine["mxnet"]}, {machine["rounds"]} rounds; '
             f'load before: {machine["load"]}')
    lines = [table, wrapped(where)]
    lines += [wrapped(f'{result.row.name}: {_mark(result)}') for result in results if result.reason]
    if float(machine['load']) > BUSY:
        lines.append('other processes were running: measure again when the machine is idle')
    if machine['quick'] == 'yes':
        lines.append('--quick: the networks are tiny, the numbers mean nothing')
    return '\n'.join(lines)


def describe_scaling(rows: Sequence[tuple]) -> str:
    """``bench.interconnect.prediction`` as a table of worst and best efficiencies."""
    cells = [[gpus, *(f'{worst:.0%} to {best:.0%}' for worst, best in pairs)] for gpus, *pairs in rows]
    return (f'resnet50, predicted efficiency: images/s ÷ images/s of one host ÷ number of hosts; {GPUS} GPUs per host, '
            f'{1000 * STEP:.0f} ms per step;\nat worst allreduce waits for the last gradient, at best it overlaps with '
            f'the backward pass\n'
            + tabulate(cells, headers=['GPUs', *(f'{bits} Gbit/s' for bits in GIGABITS)], disable_numparse=True))


def describe_sample(sample: Sample) -> str:
    """'12.5 min, epoch 310: 251.3 MiB, 14 threads, 9 open files'."""
    return (f'{sample.seconds / 60:.1f} min, epoch {sample.epochs}: {sample.bytes / MIB:.1f} MiB, {sample.threads} '
            f'threads, {sample.files} open files')


def describe_soak(samples: Sequence[Sample]) -> str:
    """Changes of the process during a long training."""
    first, last = samples[0], samples[-1]
    middle = next(sample for sample in samples if sample.seconds >= WARM_UP * last.seconds)
    return '\n'.join([
        f'{last.epochs - first.epochs} epochs in {last.seconds / 3600:.2f} h',
        f'memory: {first.bytes / MIB:.1f} MiB at first, {middle.bytes / MIB:.1f} after a tenth of the time, '
        f'{last.bytes / MIB:.1f} at the end; since that tenth {slope(samples) / MIB:+.2f} MiB per hour',
        f'threads: {first.threads} to {last.threads}, open files: {first.files} to {last.files}'])


def _number(value: float) -> str:
    return f'{value:.3f}' if value < 10 else f'{value:,.1f}'


def _value(result: Result) -> str:
    return _number(result.measured.value) if result.measured else '-'


def _spread(result: Result) -> str:
    return f'{_number(result.measured.low)} to {_number(result.measured.high)}' if result.measured else '-'


def _bound(row: Benchmark) -> str:
    return row.kind if row.bound is None else f'{SIGNS[row.kind]} {row.bound:.2f}'


def _mark(result: Result) -> str:
    return f'{result.mark} ({result.reason})' if result.reason else result.mark
