"""Files for inference: MXNet symbol, ONNX or INT8, each verified and measured before it is kept."""
from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple, Union

import mxnet as mx

from ..csv_files import write_csv
from ..errors import SSSError
from ..graph.block import export_program, load, to_block
from ..graph.inference import prepared
from ..graph.int8 import MAX_ERROR, float32_operators, quantize
from ..graph.ir import Program
from ..graph.onnx import write_onnx
from ..graph.onnx_runtime import open_onnx, packages
from ..structures import compact
from ..train.accuracy import Accuracy, evaluate_images
from .evaluate import LATENCY_BATCHES
from .latency import median_seconds
from .source import Source, opened
from .trained_run import check_on_images, differences, normalise_only

FORMATS = ('symbol', 'onnx')
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
    seconds: Dict[int, float]       # batch size -> median latency


def export(path: Union[str, Path], format: str = 'symbol', int8: bool = False, calibration: int = CALIBRATION,
           max_drop: float = MAX_DROP, align: int = 1, log=print, data: Optional[str] = None,
           params: Optional[str] = None, size: Optional[int] = None, channels: Optional[int] = None) -> List[Exported]:
    """Write a network for inference: pruned, with BatchNorm folded into the convolutions.

    Writes into ``deploy`` in the run folder, or into ``NAME-deploy`` beside ``NAME-symbol.json``:
    ``model-symbol.json`` and ``model-0000.params`` (symbol) or ``model.onnx`` (onnx), with ``int8`` also
    ``model-int8-symbol.json`` and ``model-int8-0000.params``, and ``export.csv`` with the rows that are returned.
    Without a run, the files have the name of the symbol file in place of ``model``. No file is kept if a check fails.

    Parameters
    ----------
    path : path
        A run folder, or the ``NAME-symbol.json`` of a network with one input, ``data``. ``prune`` need not have run;
        zero structures are removed here too.
    format : {'symbol', 'onnx'}
        Format of the float32 network. ONNX needs the packages of the extra ``onnx``.
    int8 : bool
        Also write a network that computes with 8-bit integers, in MXNet's own format. It needs images.
    calibration : int
        Number of training images that calibrate the ranges of INT8.
    max_drop : float
        Largest loss of top-1 accuracy allowed for INT8, on validation images (or test images if there are none).
    align : int
        Leave zeros in place so that layer widths are multiples of this; 8 or 16 make convolutions faster on CPUs.
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
        The first row is the float32 network in MXNet, written or not. Latencies come from interleaved rounds.

    Raises
    ------
    SSSError
        If a package is missing, if float32 outputs on the images differ from those of the given network by more than
        rounding (1e-4), if INT8 loses more accuracy than ``max_drop``, or if its outputs are plainly wrong.
    """
    if format not in FORMATS:
        raise SSSError(f'format {format!r} does not exist; the formats are {", ".join(FORMATS)}')
    for name, value in dict(align=align, size=size, channels=channels).items():
        if value is not None and value < 1:
            raise SSSError(f'{name} {value} must be at least 1')
    if calibration < 1:
        raise SSSError(f'calibration {calibration} must be at least 1 image')
    if format == 'onnx':
        packages()
    with opened(path, data, params, size, channels, log) as source, ExitStack() as stack:
        images = source.calibration_images(calibration) if int8 else None
        program = prepared(compact(source.net, source.input_shape, align=align).program)
        deploy = source.target.parent
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix='.deploy.', dir=deploy.parent)))
        nets = [_Candidate('float32', 'MXNet', (), to_block(program))]
        if format == 'symbol':
            nets = [_symbol(program, folder, source.target.name, 'float32')]
        else:
            nets.append(_onnx(program, source, folder / f'{source.target.name}.onnx'))
        differ = [check_on_images(source, net.net) for net in nets]
        if images is not None:
            quantized = quantize(program, images)
            nets.append(_symbol(quantized, folder, f'{source.target.name}-int8', 'int8'))
            differ.append(_compare_int8(source, nets[0].net, nets[-1].net, max_drop))
            kept = float32_operators(quantized)
            if kept:
                log(f'INT8 leaves in float32: {", ".join(kept)}')
        rows = _measured(source, nets, differ, folder)
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


def _symbol(program: Program, folder: Path, name: str, kind: str) -> _Candidate:
    written = export_program(program, to_block(program), folder / name)
    return _Candidate(kind, 'MXNet', tuple(Path(file).name for file in written), load(folder / name))


def _onnx(program: Program, source: Source, file: Path) -> _Candidate:
    data, metadata = source.data, {}
    if data is not None:
        metadata = dict(data=data.name, classes=str(data.classes), mean=_numbers(data.mean), std=_numbers(data.std),
                        input='pixels from 0 to 255, minus mean, divided by std, per channel')
    write_onnx(program, file, source.images(8), source.name, metadata)
    run = open_onnx(file)

    def net(images):
        outputs = [mx.nd.array(output) for output in run(images.asnumpy())]
        return outputs if len(outputs) > 1 else outputs[0]

    return _Candidate('float32', 'ONNX Runtime', (file.name,), net)


def _numbers(values) -> str:
    return ' '.join(str(value) for value in values)


def _compare_int8(source: Source, net, quantized, max_drop: float) -> float:
    """Compare INT8 with float32 on images that did not calibrate it; return the largest difference."""
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


def _measured(source: Source, nets, differ, folder: Path) -> List[Exported]:
    data = source.data
    for net in nets:
        if net.runtime == 'MXNet':
            net.net.hybridize(static_alloc=True, static_shape=True)
    seconds: Dict[int, Dict[int, float]] = {}
    accuracies: List[Optional[Accuracy]] = [None for _ in nets]
    for batch in LATENCY_BATCHES:
        images = mx.nd.array(source.images(batch))
        seconds[batch] = median_seconds({i: partial(net.net, images) for i, net in enumerate(nets)})
    if data is not None and source.classifies:
        accuracies = [evaluate_images(net.net, data.test, normalise_only(data), LATENCY_BATCHES[-1], [mx.cpu()])
                      for net in nets]
    return [Exported(net.name, net.runtime, net.files, sum((folder / file).stat().st_size for file in net.files),
                     accuracies[i], differ[i], {batch: seconds[batch][i] for batch in LATENCY_BATCHES})
            for i, net in enumerate(nets)]


def _write_table(path: Path, rows: List[Exported]) -> None:
    write_csv(path, [dict(
        network=row.name, runtime=row.runtime, files=' '.join(row.files), bytes=row.bytes, **_scores(row.accuracy),
        difference=f'{row.difference:.3e}',
        **{f'ms_batch_{batch}': f'{1000 * row.seconds[batch]:.4f}' for batch in LATENCY_BATCHES}) for row in rows])


def _scores(accuracy: Optional[Accuracy]) -> Dict[str, object]:
    """Empty columns where accuracy was not measured."""
    if accuracy is None:
        return dict(images='', top1='', top5='', loss='')
    return dict(images=accuracy.images, top1=f'{accuracy.top1:.6f}', top5=f'{accuracy.top5:.6f}',
                loss=f'{accuracy.loss:.6f}')
