"""Files for inference: MXNet symbol, ONNX or INT8, each verified and measured before it is kept."""
from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple, Union, cast

import mxnet as mx
import numpy as np

from ..csv_files import write_csv
from ..errors import SSSError
from ..graph.block import export_program, load, to_block
from ..graph.inference import prepared
from ..graph.int8 import MAX_ERROR, float32_operators, quantize
from ..graph.ir import Program
from ..graph.onnx import write_onnx
from ..graph.onnx_int8 import write_onnx_int8
from ..graph.onnx_runtime import open_onnx, packages
from ..structures import compact
from ..timing import PAUSE, latencies, quiet_seconds
from ..train.accuracy import Accuracy, evaluate_images
from .alignment import fastest_alignment
from .evaluate import LATENCY_BATCHES
from .metadata import onnx_metadata
from .source import Source, opened
from .trained_run import check_on_images, differences, normalise_only

FORMATS = {'symbol': 'MXNet', 'onnx': 'ONNX Runtime'}      # {format: the runtime that it is for}
CALIBRATION = 512       # images that calibrate the ranges of INT8
MAX_DROP = 0.02         # largest loss of top-1 accuracy allowed for INT8


class Exported(NamedTuple):
    """One network in the table of ``export``."""
    name: str                       # 'float32' or 'int8'
    runtime: str                    # 'MXNet' or 'ONNX Runtime'
    files: Tuple[str, ...]          # empty if the network was only measured, for comparison
    bytes: int
    accuracy: Optional[Accuracy]    # on the test images; None where the network has no classes or there are no images
    difference: float               # from the given network: largest error / largest output, 32 test images
    seconds: Dict[int, float]       # batch size -> latency
    align: int = 1                  # widths are multiples of it, or the width before pruning


def export(path: Union[str, Path], format: str = 'symbol', int8: bool = False, calibration: int = CALIBRATION,
           max_drop: float = MAX_DROP, align: Union[int, str] = 'auto', batch: int = 1, log=print,
           data: Optional[str] = None, params: Optional[str] = None, size: Optional[int] = None,
           channels: Optional[int] = None) -> List[Exported]:
    """Write a network for inference: pruned, with BatchNorm folded into the convolutions.

    Writes into ``deploy`` in the run folder, or into ``NAME-deploy`` beside ``NAME-symbol.json``:
    ``model-symbol.json`` and ``model-0000.params`` (symbol) or ``model.onnx`` (onnx), with ``int8`` also
    ``model-int8-symbol.json`` and ``model-int8-0000.params``, or ``model-int8.onnx``, and ``export.csv`` with the rows
    that are returned.
    Without a run, the files have the name of the symbol file in place of ``model``. No file is kept if a check fails.

    Parameters
    ----------
    path : path
        A run folder, or the ``NAME-symbol.json`` of a network with one input, ``data``. ``prune`` need not have run;
        zero structures are removed here too.
    format : {'symbol', 'onnx'}
        ONNX needs the packages of the extra ``onnx``.
    int8 : bool
        Also write a network that computes with 8-bit integers, in the same format. It needs images.
    calibration : int
        Number of training images that calibrate the ranges of INT8.
    max_drop : float
        Largest loss of top-1 accuracy allowed for INT8, on validation images (or test images if there are none).
    align : int or 'auto'
        Leave zeros in place so that layer widths are multiples of this, for which CPUs have faster convolutions.
        'auto' measures 1, 8, 16 and 32 in float32, in the runtime of the format on the CPU, takes the fastest, and logs
        how much faster it is; of those that are equally fast, it takes the smallest.
    batch : int
        Number of images for which 'auto' measures.
    data : path, optional
        For a symbol file: a run whose data it was trained on, or a folder of images with ``train`` and ``test``. The
        default is the run that contains the file; without one, random images check the network.
    params : path, optional
        For a symbol file: its parameters, if they are not in ``NAME-0000.params``.
    size, channels : int, optional
        For a symbol file without data and without a structure.json: height and width, and channels (3), of the input.

    Returns
    -------
    list of Exported
        The first row is the float32 network in MXNet, written or not. ONNX files are compared with MXNet, in INT8 too.
        Latencies come from interleaved rounds (``timing.latencies``).

    Raises
    ------
    SSSError
        If a package is missing, if float32 outputs on the images differ from those of the given network by more than
        rounding (1e-4), if INT8 loses more accuracy than ``max_drop``, or if its outputs are plainly wrong.
    """
    if format not in FORMATS:
        raise SSSError(f'format {format!r} does not exist; the formats are {", ".join(FORMATS)}')
    if align != 'auto' and not isinstance(align, int):
        raise SSSError(f"align {align!r} must be a number or 'auto'")
    for name, value in dict(align=align, batch=batch, size=size, channels=channels).items():
        if isinstance(value, int) and value < 1:
            raise SSSError(f'{name} {value} must be at least 1')
    if calibration < 1:
        raise SSSError(f'calibration {calibration} must be at least 1 image')
    if format == 'onnx':
        packages()
    with opened(path, data, params, size, channels, log) as source, ExitStack() as stack:
        images = source.calibration_images(calibration) if int8 else None
        if align == 'auto':
            align = _fastest(source, FORMATS[format], batch, log)
        result = compact(source.net, source.input_shape, align=cast(int, align))
        program, metadata = prepared(result.program), onnx_metadata(source, result.structure)
        deploy = source.target.parent
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix='.deploy.', dir=deploy.parent)))
        nets = [_Candidate('float32', 'MXNet', (), to_block(program))]
        if format == 'symbol':
            nets = [_symbol(program, folder, source.target.name, 'float32')]
        else:
            nets.append(_onnx(program, source, folder / f'{source.target.name}.onnx', metadata))
        differ = [check_on_images(source, net.net) for net in nets]
        if images is not None:
            whole = nets[0].net
            for candidate in _quantized(program, images, source, format, folder, metadata, log):
                difference = _compare_int8(source, whole, candidate, max_drop, log)
                if difference is not None:
                    nets.append(candidate)
                    differ.append(difference)
        rows = _measured(source, nets, differ, folder, cast(int, align))
        _write_table(folder / 'export.csv', rows)
        deploy.mkdir(exist_ok=True)
        for file in sorted(folder.iterdir()):
            os.replace(file, deploy / file.name)
    return rows


class _Candidate(NamedTuple):
    name: str
    runtime: str
    files: Tuple[str, ...]
    net: Callable[[mx.nd.NDArray], mx.nd.NDArray]


def _fastest(source: Source, runtime: str, batch: int, log) -> int:
    found = fastest_alignment(source.net, source.input_shape, runtime, source.images(batch))
    if found.gains:
        log(found.describe(runtime, batch))
    return found.align


def _symbol(program: Program, folder: Path, name: str, kind: str) -> _Candidate:
    written = export_program(program, to_block(program), folder / name)
    return _Candidate(kind, 'MXNet', tuple(Path(file).name for file in written), load(folder / name))


def _onnx(program: Program, source: Source, file: Path, metadata: Dict[str, str]) -> _Candidate:
    write_onnx(program, file, source.images(8), source.name, metadata)
    return _opened('float32', file)


def _quantized(program: Program, images: np.ndarray, source: Source, format: str, folder: Path,
               metadata: Dict[str, str], log) -> Iterator[_Candidate]:
    """The network in INT8, in MXNet and in ONNX Runtime; MXNet's without files if only ONNX is asked for."""
    name = f'{source.target.name}-int8'
    if format == 'symbol':
        quantized = quantize(program, images)
        _tell(float32_operators(quantized), log)
        yield _symbol(quantized, folder, name, 'int8')
        return
    try:
        yield _Candidate('int8', 'MXNet', (), to_block(quantize(program, images)))
    except SSSError as error:       # it is here for comparison only
        log(f'note: INT8 in MXNet is not compared: {error}')
    _tell(write_onnx_int8(program, folder / f'{name}.onnx', images, source.name, metadata), log)
    yield _opened('int8', folder / f'{name}.onnx')


def _tell(kept: List[str], log) -> None:
    if kept:
        log(f'INT8 leaves in float32: {", ".join(kept)}')


def _opened(kind: str, file: Path) -> _Candidate:
    run = open_onnx(file)

    def net(images):
        outputs = [mx.nd.array(output) for output in run(images.asnumpy())]
        return outputs if len(outputs) > 1 else outputs[0]

    return _Candidate(kind, 'ONNX Runtime', (file.name,), net)


def _compare_int8(source: Source, net, candidate: _Candidate, max_drop: float, log) -> Optional[float]:
    """Compare INT8 with float32 on images that did not calibrate it; return the largest difference.

    None if it loses too much, but is here for comparison only.
    """
    try:
        return _checked_int8(source, net, candidate.net, max_drop)
    except SSSError as error:
        if candidate.files:
            raise
        log(f'note: INT8 in MXNet is not compared: {error}')
        return None


def _checked_int8(source: Source, net, quantized, max_drop: float) -> float:
    data = source.data
    if data is not None and source.classifies:
        name, held = ('validation', data.validation) if data.validation is not None else ('test', data.test)
        before, after = (evaluate_images(one, held, normalise_only(data), LATENCY_BATCHES[-1], [mx.cpu()]).top1
                         for one in (net, quantized))
        if not before - after <= max_drop:
            raise SSSError(f'INT8 takes top-1 on {len(held)} {name} images from {before:.2%} to {after:.2%}, more '
                           f'than the {100 * max_drop:g} points allowed; no file was kept. Try more calibration images')
    largest, error = differences(source, quantized)
    if not error <= MAX_ERROR:
        raise SSSError(f'INT8 outputs are off by {error:.0%} of the float32 ones (root mean square), more than '
                       f'{MAX_ERROR:.0%}, though not on the images that calibrated them; no file was kept. Try more '
                       f'calibration images')
    return largest


def _measured(source: Source, nets, differ, folder: Path, align: int) -> List[Exported]:
    data = source.data
    pause = 0.0
    for net in nets:
        if net.runtime == 'MXNet':
            net.net.hybridize(static_alloc=True, static_shape=True)
        else:
            pause = PAUSE
    seconds: Dict[int, Dict[int, float]] = {}
    accuracies: List[Optional[Accuracy]] = [None for _ in nets]
    for batch in LATENCY_BATCHES:
        images = mx.nd.array(source.images(batch))
        seconds[batch] = quiet_seconds(latencies({i: partial(net.net, images) for i, net in enumerate(nets)}, pause))
    if data is not None and source.classifies:
        accuracies = [evaluate_images(net.net, data.test, normalise_only(data), LATENCY_BATCHES[-1], [mx.cpu()])
                      for net in nets]
    return [Exported(net.name, net.runtime, net.files, sum((folder / file).stat().st_size for file in net.files),
                     accuracies[i], differ[i], {batch: seconds[batch][i] for batch in LATENCY_BATCHES}, align)
            for i, net in enumerate(nets)]


def _write_table(path: Path, rows: List[Exported]) -> None:
    write_csv(path, [dict(
        network=row.name, runtime=row.runtime, align=row.align, files=' '.join(row.files), bytes=row.bytes,
        **_scores(row.accuracy), difference=f'{row.difference:.3e}',
        **{f'ms_batch_{batch}': f'{1000 * row.seconds[batch]:.4f}' for batch in LATENCY_BATCHES}) for row in rows])


def _scores(accuracy: Optional[Accuracy]) -> Dict[str, object]:
    """Empty columns where accuracy was not measured."""
    if accuracy is None:
        return dict(images='', top1='', top5='', loss='')
    return dict(images=accuracy.images, top1=f'{accuracy.top1:.6f}', top5=f'{accuracy.top5:.6f}',
                loss=f'{accuracy.loss:.6f}')
