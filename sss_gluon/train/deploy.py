"""Run folder in, compact network out; and what both networks of a run are worth."""
from __future__ import annotations

import csv
import io
import os
import shutil
import tempfile
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple, Union

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..data import Augmentation, DataSet
from ..errors import SSSError, reason
from ..files import sha256, write_text
from ..graph import Compact, Count, Structure, compact, count, load
from ..graph.block import to_block
from ..graph.compact import TOLERANCE
from ..graph.fold import fold
from ..graph.trace import trace
from ..machine import describe
from .accuracy import Accuracy, evaluate_images
from .checkpoint import load_latest
from .config import Config
from .devices import contexts
from .latency import latencies
from .network import load_data, network_of
from .precision import require_float32
from .run import RunFolder

LATENCY_BATCHES = (1, 64)


class Trained(NamedTuple):
    """The network of a run with the weights of its newest checkpoint, and the data it was trained on."""
    net: gluon.HybridBlock
    config: Config
    data: DataSet
    epochs: int

    @property
    def input_shape(self):
        return (1,) + tuple(self.data.shape)


def load_run(path: Union[str, Path], device: str = 'cpu', log=print) -> Trained:
    """Network and data of a run folder, on one device and in float32, whatever it was trained with."""
    require_float32(f'what follows the training of {path}')
    run = RunFolder.open(path)
    config = run.config()
    config.devices = [device]
    data = load_data(config)
    config.init = None      # the checkpoint holds all there is to know
    net = network_of(run, config, data)
    position = load_latest(run.checkpoints, net, None, log)
    if position is None:
        raise SSSError(f'{run} has no checkpoint yet; train it first: sss-gluon train {run}')
    return Trained(net, config, data, position.epoch)


def prune(path: Union[str, Path], log=print) -> Compact:
    """Cut the network of a run to what its factors leave, check that nothing changed, and export it.

    Writes ``compact/model-symbol.json``, ``-0000.params`` and ``-structure.json`` into the run folder.
    """
    run = RunFolder.open(path)
    with run.locked():
        trained = load_run(path, log=log)
        if trained.epochs < trained.config.epochs:
            log(f'note: {run} is at epoch {trained.epochs} of {trained.config.epochs}')
        result = compact(trained.net, trained.input_shape)
        if run.has_selection():
            _count_from_source(result, run)
        target = run.compact.parent
        with tempfile.TemporaryDirectory(prefix='.compact.', dir=run.path) as folder:
            result.export(Path(folder) / 'new' / run.compact.name)
            check_on_images(trained, load(Path(folder) / 'new' / run.compact.name))
            shutil.rmtree(target, ignore_errors=True)
            os.replace(Path(folder) / 'new', target)
    return result


def _count_from_source(result: Compact, run: RunFolder) -> None:
    """Say what was removed from the whole network, where the run began with the compact one of a baseline."""
    structure = Structure.load(f'{run.selection}-structure.json')
    after = {name: row['after'] for name, row in result.structure.layers.items()}
    for name, row in structure.layers.items():
        row['after'] = after.get(name)
    result.structure, result.before = structure, whole_size(run)


def whole_size(run: RunFolder) -> Optional[Count]:
    """Size of the network that a baseline cut before this run began; None where none did."""
    if not run.has_selection():
        return None
    return count(load(run.source), Structure.load(f'{run.selection}-structure.json').input_shape)


def check_on_images(trained: Trained, net) -> float:
    """Hold what was exported against the network of the run, on real images: the largest difference, or an error."""
    difference = differences(trained, net)[0]
    if not difference <= TOLERANCE:
        raise SSSError(f'on test images the exported network differs by {difference:.1e} of the largest output, more '
                       f'than rounding ({TOLERANCE:.0e}); nothing was kept')
    return difference


def differences(trained: Trained, net) -> Tuple[float, float]:
    """Outputs on test images against those of the run's network: largest error over largest output, RMS over RMS."""
    images = mx.nd.array(plain(trained.data).normalise(trained.data.test.images[:32]))
    expected, found = trained.net(images).asnumpy(), net(images).asnumpy()
    error, size = np.abs(expected - found), np.abs(expected)
    return (float(error.max() / max(size.max(), 1e-30)),
            float(np.sqrt(np.square(error).mean() / max(np.square(size).mean(), 1e-30))))


def plain(data: DataSet) -> Augmentation:
    """Normalised only: how images go in after training."""
    return Augmentation(pad=0, flip=False, mean=data.mean, std=data.std)


class Row(NamedTuple):
    """One network in the table of ``evaluate``."""
    name: str
    accuracy: Accuracy
    params: int
    macs: int
    seconds: Dict[int, float]       # batch size -> median latency


def evaluate(path: Union[str, Path], against: Optional[Union[str, Path]] = None, device: Optional[str] = None,
             log=print) -> List[Row]:
    """Accuracy on the test images, size and latency of the networks of a run.

    Parameters
    ----------
    path : run folder
        The network with its factors folded in (``dense``), and its compact network if ``prune`` wrote one. Of a
        baseline ``dense`` is the network that it cut, ``compact`` the fine-tuned one.
    against : run folder, optional
        A network of another run on the same data, e.g. one trained without factors.
    device : str, optional
        Default the first device of the run.

    Returns
    -------
    list of Row
        Also written to ``evaluation.csv`` in the run folder. Latencies are measured in turn.
    """
    run = RunFolder.open(path)
    device = device or run.config().devices[0]
    trained = load_run(path, device, log)
    context = contexts([device])[0]
    nets = {'dense': _folded(trained, context)}
    if run.has_selection():     # the run's own network is compact; the whole one has the weights it was cut from
        nets = {'dense': load(run.source, context), 'compact': nets['dense']}
    if Path(f'{run.compact}-symbol.json').exists():
        nets['compact'] = load_exported(run.compact, trained.data, context)
    data = trained.data
    if against is not None:
        other = load_run(against, device, log)
        if (other.data.name, other.data.shape) != (data.name, data.shape):
            raise SSSError(f'{against} was trained on {other.data.name} {other.data.shape}, {path} on {data.name} '
                           f'{data.shape}; they cannot be compared')
        name = Path(against).resolve().name
        nets[f'{name} (against)' if name in ('dense', 'compact') else name] = _folded(other, context)
    rows = _rows(nets, data, context)
    header = ['network', 'images', 'top1', 'top5', 'loss', 'params', 'macs']
    header += [f'ms_batch_{b}' for b in LATENCY_BATCHES] + ['machine']
    lines = [[row.name, row.accuracy.images, f'{row.accuracy.top1:.6f}', f'{row.accuracy.top5:.6f}',
              f'{row.accuracy.loss:.6f}', row.params, row.macs] +
             [f'{1000 * row.seconds[b]:.4f}' for b in LATENCY_BATCHES] + [describe(device)] for row in rows]
    text = io.StringIO()
    csv.writer(text, lineterminator='\n').writerows([header] + lines)
    write_text(run.path / 'evaluation.csv', text.getvalue())
    return rows


def evaluate_exported(symbol_file: Union[str, Path], data_of: Union[None, str, Path] = None,
                      device: Optional[str] = None) -> Row:
    """Accuracy, size and latency of an exported network, on the test images of a run.

    Parameters
    ----------
    symbol_file : path
        ``prefix-symbol.json``.
    data_of : run folder, optional
        Default the run whose folder the file lies in.
    """
    if not os.path.exists(symbol_file):
        raise SSSError(f'there is no {symbol_file}')
    folder = Path(data_of) if data_of else Path(symbol_file).resolve().parent.parent
    if not data_of and not (folder / 'config.yaml').is_file():
        raise SSSError(f'{symbol_file} does not lie in a run folder; name one for its data: --data run')
    config = RunFolder.open(folder).config()
    data = load_data(config)
    context = contexts([device or config.devices[0]])[0]
    net = load_exported(symbol_file, data, context)
    return _rows({Path(symbol_file).name: net}, data, context)[0]


def load_exported(prefix: Union[str, Path], data: DataSet, context) -> gluon.SymbolBlock:
    """``load``, and errors where params were changed since structure.json was written, or are of other data."""
    net = load(prefix, context)
    prefix = str(prefix).replace('-symbol.json', '')
    params, beside = Path(f'{prefix}-0000.params'), Path(f'{prefix}-structure.json')
    if beside.exists() and Structure.load(beside).params_sha256 not in (None, sha256(params)):
        raise SSSError(f'{params} is not the file that was written with {beside.name}: it was changed, or is damaged; '
                       f'export it again, or delete {beside.name}')
    shape = (1,) + tuple(data.shape)
    outputs = trace(net, shape, values=False).output_shapes()
    if outputs != [(1, data.classes)]:
        raise SSSError(f'{prefix}-symbol.json gives outputs of shape {outputs} for an image of {data.name}, which has '
                       f'{data.classes} classes: it is of other data')
    try:
        net(mx.nd.zeros(shape, ctx=context)).wait_to_read()
    except mx.base.MXNetError as error:
        raise SSSError(f'{prefix}-symbol.json cannot be run: {reason(error)}') from error
    return net


def _rows(nets: Dict[str, gluon.HybridBlock], data: DataSet, context) -> List[Row]:
    seconds = {batch: latencies(nets, (batch,) + tuple(data.shape), context) for batch in LATENCY_BATCHES}
    rows = []
    for name, net in nets.items():
        size = count(net, (1,) + tuple(data.shape))
        accuracy = evaluate_images(net, data.test, plain(data), LATENCY_BATCHES[-1], [context])
        rows.append(Row(name, accuracy, size.params, size.macs, {b: seconds[b][name] for b in LATENCY_BATCHES}))
    return rows


def _folded(trained: Trained, context) -> gluon.SymbolBlock:
    """The network as it would be deployed without removing anything: factors multiplied into the weights."""
    return to_block(fold(trace(trained.net, trained.input_shape)), context)
