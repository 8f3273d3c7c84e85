"""``sss-gluon bench --model``: one network on the devices, batch sizes and precisions that its user has."""
from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ..errors import SSSError
from ..graph.block import export_program, to_block
from ..graph.fold import fold
from ..graph.inference import prepared
from ..graph.ir import Program
from ..graph.onnx import write_onnx
from ..graph.trace import trace
from ..machine import threads
from ..structures import compact
from ..timing import interleaved, ratio
from .child import Child, python
from .expected import Begin, nothing, scaling_seconds, turn_seconds
from .host import host
from .isolated import own_cores
from .matrix import CALLS, COMPACT, DENSE, ONNX, TRAINING, Cell, cells
from .network import Subject, subject_of

BATCHES = (1, 8, 64)
ROUNDS, QUICK_ROUNDS = 20, 2
MIB = 2 ** 20

# p50 and p95 of the seconds of single calls, their quartiles, and the ratio to the baseline in single rounds
MEASURED = ('ms_p50', 'ms_p95', 'ms_low', 'ms_high', 'images_per_second', 'memory_mib', 'speedup', 'speedup_low',
            'speedup_high', 'macs_ratio', 'gain')

Row = Dict[str, str]
Log = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What to measure of a network, and how.

    Attributes
    ----------
    subject : Subject
    devices, precisions : tuple of str
        As in the settings ``devices`` and ``precision`` of a run.
    batches : tuple of int
        Images in a training step on all devices, and in a prediction.
    rounds : int
        Interleaved rounds.
    align : int
        Of the compact network, as for ``export``.
    """
    subject: Subject
    devices: Tuple[str, ...] = ('cpu',)
    precisions: Tuple[str, ...] = ('float32',)
    batches: Tuple[int, ...] = BATCHES
    rounds: int = ROUNDS
    align: int = 1

    def __post_init__(self):
        for name, value in (('batch', min(self.batches, default=0)), ('rounds', self.rounds), ('align', self.align)):
            if value < 1:
                raise SSSError(f'{name} {value} must be at least 1')


def plan_of(fields: Dict[str, Any]) -> Plan:
    """The plan of ``dataclasses.asdict``, also after it was JSON."""
    lists = {key: tuple(fields[key]) for key in ('devices', 'precisions', 'batches')}
    return Plan(subject_of(fields['subject']), rounds=fields['rounds'], align=fields['align'], **lists)


class Sizes(NamedTuple):
    """Parameters and MACs before and after, the shape of the input, and what is cut."""
    params: Tuple[int, int]
    macs: Tuple[int, int]
    shape: Tuple[int, ...]
    cut: str


class _Process:
    """The process of a cell; it remembers what it has measured of the present batch size."""

    def __init__(self, cell: Cell, child: Child):
        self.cell, self._child = cell, child
        self.batch, self.failed = 0, ''
        self.seconds: List[float] = []
        self.bytes: Optional[int] = None

    def begin(self, batch: int) -> None:
        """Prepare for a batch size; what failed once fails with larger batches too."""
        self.batch, self.seconds = batch, []
        if not self.failed:
            self()

    def __call__(self) -> float:
        """Take a turn: the median of its seconds."""
        try:
            answer = self._child.ask(self.batch, CALLS[self.cell.use])
        except SSSError as error:       # killed for want of memory, for example
            answer = dict(failed=str(error))
        if 'failed' in answer:
            self.failed = answer['failed']
            return float('nan')
        self.bytes = answer['bytes']
        self.seconds += answer['seconds']
        return float(np.median(answer['seconds']))


def bench_model(plan: Plan, log: Log = lambda line: None, begin: Begin = nothing) -> Iterator[List[Row]]:
    """Measure a network: training with and without factors and after a cut, inference dense and compact.

    Every cell of the matrix is a process of its own. At each batch size those of one use take turns in interleaved
    rounds, after warm-up, with nothing left in MXNet's queue when a clock is read.

    Several devices are then compared with the first one (``job.scaling``).

    Yields
    ------
    list of dict
        What was measured of one use with one batch size: a row for each cell, with the columns of ``host``. A cell that
        cannot be measured has ``failed``.

    Raises
    ------
    SSSError
        The plan cannot be carried out.
    """
    matrix, no_mxnet = cells(plan.devices, plan.precisions)
    if no_mxnet:
        log(f'MXNet is not measured, only ONNX Runtime: {no_mxnet}')
    cores = own_cores(1 if plan.subject.quick else threads())
    several = len(plan.devices) > 1 and no_mxnet is None
    with tempfile.TemporaryDirectory() as folder:
        begin('writing both networks', 0.0, 0.0)
        sizes = _export(plan, Path(folder), any(cell.runtime == ONNX for cell in matrix), log)
        log(f'{plan.subject.model}, {sizes.cut}: {sizes.macs[0]:,} to {sizes.macs[1]:,} MACs')
        where = host(cores)
        groups, batches = _groups(matrix), sorted(plan.batches)
        left = {(use, batch): turn_seconds(group, batch, plan.rounds, sizes.macs, batch == batches[0])
                for use, group in groups.items() for batch in batches}
        if several:
            left.update({('scaling', batch): scaling_seconds(len(plan.devices), batch, plan.rounds, sizes.macs[0])
                         for batch in batches})

        def note(use: str, batch: int) -> None:
            begin(f'{use}, batch {batch}', left[use, batch], sum(left.values()))
            del left[use, batch]

        for use, group in groups.items():
            with ExitStack() as stack:
                processes: List[_Process] = []
                for batch in batches:
                    note(use, batch)
                    processes = processes or _started(group, plan, sizes, cores, folder, stack)
                    yield [{**row, **where} for row in _measure(processes, batch, plan, sizes)]
    if several:
        request = json.dumps(asdict(replace(plan, precisions=plan.precisions[:1])))
        with Child(python('job', request), cores) as child:
            for batch in batches:
                note('scaling', batch)
                answer = child.ask()
                if 'failed' in answer:
                    raise SSSError(answer['failed'])
                yield answer['rows']


def _groups(matrix: Iterable[Cell]) -> Dict[str, List[Cell]]:
    """Cells that take turns: all of inference; of training those of one precision, because each holds its memory."""
    found: Dict[str, List[Cell]] = {}
    for cell in matrix:
        name = f'{cell.use} in {cell.precision}' if cell.use == TRAINING else cell.use
        found.setdefault(name, []).append(cell)
    return found


def _export(plan: Plan, folder: Path, onnx: bool, log: Log) -> Sizes:
    """Write both networks as ``export`` does, for the processes of inference."""
    networks = plan.subject.open()
    result = compact(networks.whole, networks.shape, align=plan.align)
    dense = fold(trace(networks.dense, networks.shape))
    programs: Dict[str, Program] = {DENSE: dense, COMPACT: result.program}
    for form, program in programs.items():
        ready = prepared(program)
        export_program(ready, to_block(ready), folder / form)
        if onnx:
            write_onnx(ready, folder / f'{form}.onnx')
    return Sizes((result.before.params, result.after.params), (result.before.macs, result.after.macs),
                 networks.shape, networks.cut)


def _started(group: Sequence[Cell], plan: Plan, sizes: Sizes, cores, folder: str, stack: ExitStack) -> List[_Process]:
    """A process for each cell, until the stack is closed."""
    found = []
    for cell in group:
        request = dict(cell=cell._asdict(), subject=asdict(plan.subject), folder=folder, shape=sizes.shape, cores=cores)
        found.append(_Process(cell, stack.enter_context(Child(python('turn', json.dumps(request)), cores))))
    return found


def _measure(processes: Sequence[_Process], batch: int, plan: Plan, sizes: Sizes) -> List[Row]:
    """The rows of one batch size."""
    for process in processes:
        process.begin(batch)
    able: Dict[Cell, Callable[[], float]] = {}
    for process in processes:
        process.seconds = []        # without those of the preparation
        if not process.failed:
            able[process.cell] = process
    seconds = interleaved(able, plan.rounds, warm_up=0) if able else {}
    return [_row(process, seconds, plan, sizes) for process in processes]


def _row(process: _Process, rounds: Mapping[Cell, np.ndarray], plan: Plan, sizes: Sizes) -> Row:
    cell, subject = process.cell, plan.subject
    less = cell.less
    row = texts(
        model=subject.model, structure=subject.structure or '', cut=sizes.cut, use=cell.use, form=cell.form,
        runtime=cell.runtime, provider=cell.provider, precision=cell.precision, devices=' '.join(cell.devices),
        batch=process.batch, image='x'.join(map(str, sizes.shape[1:])), params=sizes.params[less],
        macs=sizes.macs[less], **dict.fromkeys(MEASURED, ''), align=plan.align, rounds=plan.rounds,
        calls=len(process.seconds), quick='yes' if subject.quick else 'no', failed=process.failed)
    if process.failed:
        return row
    low, middle, high, late = np.percentile(process.seconds, (25, 50, 75, 95))
    row.update(ms_p50=_digits(1000 * middle), ms_p95=_digits(1000 * late), ms_low=_digits(1000 * low),
               ms_high=_digits(1000 * high), images_per_second=_digits(process.batch / middle),
               memory_mib='' if process.bytes is None else f'{process.bytes / MIB:.1f}')
    against = rounds.get(cell.baseline)
    if cell != cell.baseline and against is not None and np.isfinite(against).all():
        gain = ratio({'baseline': against, 'this': rounds[cell]}, 'baseline', 'this')
        fewer = sizes.macs[0] / sizes.macs[less]
        row.update(speedup=_digits(gain.value), speedup_low=_digits(gain.low), speedup_high=_digits(gain.high),
                   macs_ratio=_digits(fewer), gain=_digits(gain.value / fewer))
    return row


def texts(**columns: object) -> Row:
    """A row of the CSV."""
    return {name: str(value) for name, value in columns.items()}


def _digits(value: float) -> str:
    return f'{value:.5g}'
