"""Run folder in, compact network out; and what both networks of a run are worth."""
from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Union

import mxnet as mx
from mxnet import gluon

from ..csv_files import write_csv
from ..data import DataSet
from ..errors import SSSError, reason
from ..files import sha256
from ..graph import count, load
from ..graph.block import to_block
from ..graph.fold import fold
from ..graph.inference import inference_block
from ..graph.trace import trace
from ..machine import describe
from ..structures import Structure, compact
from ..train.accuracy import Accuracy, evaluate_images, heads
from ..train.devices import contexts
from ..train.network import load_data
from ..train.run_folder import RunFolder
from .alignment import fastest_alignment
from .latency import latencies
from .trained_run import TrainedRun, load_run, normalise_only

LATENCY_BATCHES = (1, 64)


class Row(NamedTuple):
    """One network in the table of ``evaluate``."""
    name: str
    accuracy: Accuracy
    params: int
    macs: int
    seconds: Dict[int, float]       # batch size -> latency
    classes: int = 1000


def evaluate(path: Union[str, Path], against: Optional[Union[str, Path]] = None, device: Optional[str] = None,
             log=print) -> List[Row]:
    """Measure accuracy on the test images, size and latency of the networks of a run.

    Parameters
    ----------
    path : run folder
        Its networks are ``unpruned``, as trained, with the factors folded in, and ``compact`` if ``prune`` wrote
        one. For a method that prunes before training, ``unpruned`` is the network that it pruned and ``compact`` the
        fine-tuned one. A run with a ``target_latency`` also has ``compact align N`` where ``export`` would choose N:
        that is what the budget measured.
    against : run folder, optional
        Compare with the network of another run on the same data, such as one trained without factors.
    device : str, optional
        The default is the first device of the run.

    Returns
    -------
    list of Row
        Also written to ``evaluation.csv`` in the run folder. Latencies are measured in interleaved rounds
        (``timing.latencies``), with BatchNorm folded into the convolutions: that is how ``export`` writes a network,
        and how a budget of the latency measures it.
    """
    run = RunFolder.open(path)
    device = device or run.config().devices[0]
    trained = load_run(path, device, log)
    context = contexts([device])[0]
    nets = {'unpruned': _folded(trained, context)}
    if run.has_selection():     # the run trained the compact network; the other has the weights it was cut from
        nets = {'unpruned': load(run.source, context), 'compact': nets['unpruned']}
    if Path(f'{run.compact}-symbol.json').exists():
        nets['compact'] = load_exported(run.compact, trained.data, context)
        if trained.config.target_latency is not None:
            nets.update(_aligned(trained, context))
    data = trained.data
    if against is not None:
        other = load_run(against, device, log)
        if (other.data.name, other.data.shape) != (data.name, data.shape):
            raise SSSError(f'{against} was trained on {other.data.name} {other.data.shape}, {path} on {data.name} '
                           f'{data.shape}; they cannot be compared')
        name = Path(against).resolve().name
        nets[f'{name} (against)' if name in ('unpruned', 'compact') else name] = _folded(other, context)
    rows = _rows(nets, data, context)
    write_csv(run.path / 'evaluation.csv', [dict(
        network=row.name, images=row.accuracy.images, top1=f'{row.accuracy.top1:.6f}', top5=f'{row.accuracy.top5:.6f}',
        loss=f'{row.accuracy.loss:.6f}', params=row.params, macs=row.macs,
        **{f'ms_batch_{b}': f'{1000 * row.seconds[b]:.4f}' for b in LATENCY_BATCHES}, machine=describe(device))
        for row in rows])
    return rows


def evaluate_exported(symbol_file: Union[str, Path], data_of: Union[None, str, Path] = None,
                      device: Optional[str] = None) -> Row:
    """Measure accuracy, size and latency of an exported network on the test images of a run.

    Parameters
    ----------
    symbol_file : path
        ``prefix-symbol.json``.
    data_of : run folder, optional
        The default is the run whose folder contains the file.
    """
    if not os.path.exists(symbol_file):
        raise SSSError(f'there is no {symbol_file}')
    folder = Path(data_of) if data_of else Path(symbol_file).resolve().parent.parent
    if not data_of and not (folder / 'config.yaml').is_file():
        raise SSSError(f'{symbol_file} is not inside a run folder; name a run for its data: --data run')
    config = RunFolder.open(folder).config()
    data = load_data(config)
    context = contexts([device or config.devices[0]])[0]
    net = load_exported(symbol_file, data, context)
    return _rows({Path(symbol_file).name: net}, data, context)[0]


def load_exported(prefix: Union[str, Path], data: DataSet, context) -> gluon.SymbolBlock:
    """``load`` an exported network; refuse changed parameters and networks for other data."""
    net = load(prefix, context)
    prefix = str(prefix).replace('-symbol.json', '')
    params, beside = Path(f'{prefix}-0000.params'), Path(f'{prefix}-structure.json')
    if beside.exists() and Structure.load(beside).params_sha256 not in (None, sha256(params)):
        raise SSSError(f'{params} is not the file that was written with {beside.name}: it was changed or damaged; '
                       f'export the network again, or delete {beside.name}')
    shape = (1,) + tuple(data.shape)
    outputs = trace(net, shape, values=False).output_shapes()
    if set(outputs) != {(1, data.classes)}:       # several, if there are auxiliary heads
        raise SSSError(f'{prefix}-symbol.json gives outputs of shape {outputs} for an image of {data.name}, which has '
                       f'{data.classes} classes: it was trained on other data')
    try:
        heads(net(mx.nd.zeros(shape, ctx=context)))[0].wait_to_read()
    except mx.base.MXNetError as error:
        raise SSSError(f'{prefix}-symbol.json cannot be run: {reason(error)}') from error
    return net


def _rows(nets: Dict[str, gluon.HybridBlock], data: DataSet, context) -> List[Row]:
    one = (1,) + tuple(data.shape)
    deployed = {name: inference_block(trace(net, one), context) for name, net in nets.items()}
    seconds = {batch: latencies(deployed, (batch,) + one[1:], context) for batch in LATENCY_BATCHES}
    rows = []
    for name, net in nets.items():
        size = count(net, one)
        accuracy = evaluate_images(net, data.test, normalise_only(data), LATENCY_BATCHES[-1], [context])
        rows.append(Row(name, accuracy, size.params, size.macs, {b: seconds[b][name] for b in LATENCY_BATCHES},
                        data.classes))
    return rows


def _aligned(trained: TrainedRun, context) -> Dict[str, gluon.HybridBlock]:
    """The compact network as ``export`` would write it, if that differs."""
    images = trained.images(trained.config.latency_batch)
    align = fastest_alignment(trained.net, trained.input_shape, 'MXNet', images, context).align
    return {f'compact align {align}': compact(trained.net, trained.input_shape, context, align).net} \
        if align > 1 else {}


def _folded(trained: TrainedRun, context) -> gluon.SymbolBlock:
    """The network as it would be deployed without pruning: factors folded into the weights."""
    return to_block(fold(trace(trained.net, trained.input_shape)), context)
