"""Files for inference: MXNet symbol, ONNX or INT8, each verified and measured before it is kept."""
from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Tuple, Union

import mxnet as mx
import numpy as np

from ..csv_files import write_csv
from ..errors import SSSError
from ..graph.block import export_program, load, to_block
from ..graph.inference import for_inference
from ..graph.int8 import quantize
from ..graph.ir import Program
from ..graph.onnx import open_onnx, packages, write_onnx
from ..graph.verify import verify
from ..structures import compact
from ..train.accuracy import Accuracy, evaluate_images
from ..train.run_folder import RunFolder
from .evaluate import LATENCY_BATCHES
from .latency import median_seconds
from .trained_run import TrainedRun, check_on_images, differences, load_run, normalise_only

FORMATS = ('symbol', 'onnx')
CALIBRATION = 512       # images that calibrate the ranges of INT8
MAX_DROP = 0.02         # largest loss of top-1 accuracy allowed for INT8
MAX_ERROR = 0.25        # largest relative RMS error allowed for INT8 outputs; 0.02 to 0.08 is normal


class Exported(NamedTuple):
    """One network in the table of ``export``."""
    name: str                       # 'float32' or 'int8'
    runtime: str                    # 'MXNet' or 'ONNX Runtime'
    files: Tuple[str, ...]          # empty if the network was only measured, for comparison
    bytes: int
    accuracy: Accuracy              # on the test images
    difference: float               # from the network of the run: largest error / largest output, 32 test images
    seconds: Dict[int, float]       # batch size -> median latency


def export(path: Union[str, Path], format: str = 'symbol', int8: bool = False, calibration: int = CALIBRATION,
           max_drop: float = MAX_DROP, align: int = 1, log=print) -> List[Exported]:
    """Write the network of a run for inference: pruned, with BatchNorm folded into the convolutions.

    Writes into ``deploy`` in the run folder: ``model-symbol.json`` and ``model-0000.params`` (symbol) or
    ``model.onnx`` (onnx), with ``int8`` also ``model-int8-symbol.json`` and ``model-int8-0000.params``, and
    ``export.csv`` with the rows that are returned. No file is kept if a check fails.

    Parameters
    ----------
    path : run folder
        ``prune`` need not have run; zero structures are removed here too.
    format : {'symbol', 'onnx'}
        Format of the float32 network. ONNX needs the packages of the extra ``onnx``.
    int8 : bool
        Also write a network that computes with 8-bit integers, in MXNet's own format.
    calibration : int
        Number of training images that calibrate the ranges of INT8.
    max_drop : float
        Largest loss of top-1 accuracy allowed for INT8, on validation images (or test images if there are none).
    align : int
        Leave zeros in place so that layer widths are multiples of this; 8 or 16 make convolutions faster on CPUs.

    Returns
    -------
    list of Exported
        The first row is the float32 network in MXNet, written or not. Latencies come from interleaved rounds.

    Raises
    ------
    SSSError
        If a package is missing, if float32 outputs on test images differ from those of the run's network by more than
        rounding (1e-4), if INT8 loses more accuracy than ``max_drop``, or if its outputs are plainly wrong.
    """
    if format not in FORMATS:
        raise SSSError(f'format {format!r} does not exist; the formats are {", ".join(FORMATS)}')
    if align < 1:
        raise SSSError(f'align {align} must be at least 1')
    if calibration < 1:
        raise SSSError(f'calibration {calibration} must be at least 1 image')
    if format == 'onnx':
        packages()
    run = RunFolder.open(path)
    with run.locked(), ExitStack() as stack:
        trained = load_run(path, log=log)
        if trained.epochs < trained.config.epochs:
            log(f'note: {run} is at epoch {trained.epochs} of {trained.config.epochs}')
        cut = compact(trained.net, trained.input_shape, align=align).program
        program = for_inference(cut)
        verify(cut, program, 'the network for inference')
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix='.deploy.', dir=run.path)))
        nets = [_Candidate('float32', 'MXNet', (), to_block(program))]
        if format == 'symbol':
            nets = [_symbol(program, folder, run.deploy.name, 'float32')]
        else:
            nets.append(_onnx(program, trained, folder / f'{run.deploy.name}.onnx'))
        differ = [check_on_images(trained, net.net) for net in nets]
        if int8:
            quantized = quantize(program, _calibration_images(trained, calibration))
            nets.append(_symbol(quantized, folder, f'{run.deploy.name}-int8', 'int8'))
            differ.append(_compare_int8(trained, nets[0].net, nets[-1].net, max_drop))
        rows = _measured(trained, nets, differ, folder)
        _write_table(folder / 'export.csv', rows)
        run.deploy.parent.mkdir(exist_ok=True)
        for file in sorted(folder.iterdir()):
            os.replace(file, run.deploy.parent / file.name)
    return rows


class _Candidate(NamedTuple):
    name: str
    runtime: str
    files: Tuple[str, ...]
    net: Callable[[mx.nd.NDArray], mx.nd.NDArray]


def _symbol(program: Program, folder: Path, name: str, kind: str) -> _Candidate:
    written = export_program(program, to_block(program), folder / name)
    return _Candidate(kind, 'MXNet', tuple(Path(file).name for file in written), load(folder / name))


def _onnx(program: Program, trained: TrainedRun, file: Path) -> _Candidate:
    data = trained.data
    metadata = dict(data=data.name, classes=str(data.classes), mean=_numbers(data.mean), std=_numbers(data.std),
                    input='pixels from 0 to 255, minus mean, divided by std, per channel')
    write_onnx(program, file, normalise_only(data).normalise(data.test.images[:8]), trained.config.model, metadata)
    run = open_onnx(file)
    return _Candidate('float32', 'ONNX Runtime', (file.name,), lambda images: mx.nd.array(run(images.asnumpy())[0]))


def _numbers(values) -> str:
    return ' '.join(str(value) for value in values)


def _calibration_images(trained: TrainedRun, count: int) -> np.ndarray:
    """Random training images, the same ones every time; the first ones could all be of one class."""
    images = trained.data.train.images
    return normalise_only(trained.data).normalise(images[np.random.RandomState(0).permutation(len(images))[:count]])


def _compare_int8(trained: TrainedRun, net, quantized, max_drop: float) -> float:
    """Compare INT8 with float32 on images that did not calibrate it; return the largest difference."""
    data = trained.data
    name, held = ('validation', data.validation) if data.validation is not None else ('test', data.test)
    before, after = (evaluate_images(one, held, normalise_only(data), LATENCY_BATCHES[-1], [mx.cpu()]).top1
                     for one in (net, quantized))
    if not before - after <= max_drop:
        raise SSSError(f'INT8 takes top-1 on {len(held)} {name} images from {before:.2%} to {after:.2%}, more than '
                       f'the {100 * max_drop:g} points allowed; no file was kept. Try more calibration images')
    largest, error = differences(trained, quantized)
    if not error <= MAX_ERROR:
        raise SSSError(f'INT8 outputs are off by {error:.0%} of the float32 ones (root mean square), more than '
                       f'{MAX_ERROR:.0%}; no file was kept. Try more calibration images')
    return largest


def _measured(trained: TrainedRun, nets, differ, folder: Path) -> List[Exported]:
    data = trained.data
    for net in nets:
        if net.runtime == 'MXNet':
            net.net.hybridize(static_alloc=True, static_shape=True)
    seconds = {}
    for batch in LATENCY_BATCHES:
        images = mx.nd.array(normalise_only(data).normalise(np.resize(data.test.images[:batch], (batch,) + data.shape)))
        seconds[batch] = median_seconds({i: partial(net.net, images) for i, net in enumerate(nets)})
    return [Exported(net.name, net.runtime, net.files, sum((folder / file).stat().st_size for file in net.files),
                     evaluate_images(net.net, data.test, normalise_only(data), LATENCY_BATCHES[-1], [mx.cpu()]),
                     differ[i], {batch: seconds[batch][i] for batch in LATENCY_BATCHES})
            for i, net in enumerate(nets)]


def _write_table(path: Path, rows: List[Exported]) -> None:
    write_csv(path, [dict(
        network=row.name, runtime=row.runtime, files=' '.join(row.files), bytes=row.bytes, images=row.accuracy.images,
        top1=f'{row.accuracy.top1:.6f}', top5=f'{row.accuracy.top5:.6f}', loss=f'{row.accuracy.loss:.6f}',
        difference=f'{row.difference:.3e}',
        **{f'ms_batch_{batch}': f'{1000 * row.seconds[batch]:.4f}' for batch in LATENCY_BATCHES}) for row in rows])
