"""Checkpoints: weights, factors, optimizer state, position and configuration of a run in one .npz file.

``param:NAME`` and ``state:NAME`` hold arrays under structural names, ``device1:NAME`` the running statistics of further
devices (numbered over all workers) within an epoch, ``method:NAME`` the state of the pruning method, and ``position``
JSON text as bytes. The file is written under a temporary name and renamed; nothing in it is ever executed.
"""
from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..errors import SSSError
from ..files import read_npz, write_npz
from .config import Config, save_config
from .factor_trainer import FactorTrainer
from .method import Regularizer
from .parameters import named_parameters
from .workers import ALONE, Workers

FORMAT = 'sss_gluon checkpoint 1'


@dataclass
class Position:
    """Progress of a run: ``epoch`` finished epochs and ``step`` steps of the next one.

    ``loss_sum`` and ``correct`` are sums over the images of these steps.
    """
    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    correct: float = 0.0


def save_checkpoint(folder: Path, net: gluon.Block, trainer: FactorTrainer, position: Position,
                    config: Config, keep: int, workers: Workers = ALONE, method: Optional[Regularizer] = None) -> Path:
    """Write a checkpoint and delete all but the newest ``keep``; values that are not finite are refused.

    Every worker has to call it; the first one writes.
    """
    mx.nd.waitall()     # with static_shape, parameters could otherwise be read as an earlier step left them
    arrays = {f'state:{name}': array for name, array in trainer.states().items()}
    arrays.update((f'method:{name}', array) for name, array in (method.states() if method else {}).items())
    for name, parameter in named_parameters(net):
        arrays[f'param:{name}'] = parameter.list_data()[0].asnumpy()
    if position.step:       # at the end of an epoch, all devices have the same
        arrays.update(_statistics(net, workers))
    broken = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if broken:
        where = f'epoch {position.epoch + 1}, step {position.step}' if position.step else f'epoch {position.epoch}'
        raise SSSError(f'{broken[0]} is not finite after {where}, so no checkpoint was written; '
                       f'{recovery_hint(folder)}')
    text = json.dumps({'format': FORMAT, 'seed': config.seed, 'config': save_config(config), **asdict(position)})
    arrays['position'] = np.frombuffer(text.encode(), np.uint8)
    suffix = f'-step-{position.step:06d}' if position.step else ''
    path = folder / f'epoch-{position.epoch:04d}{suffix}.npz'
    if not workers.chief:
        return path
    write_npz(path, arrays)
    found = checkpoints(folder)
    mine = found.index(path)
    for other in found[:max(0, mine + 1 - keep)] + found[mine + 1:]:    # later ones were damaged, so the run went back
        other.unlink()
    return path


def _statistics(net: gluon.Block, workers: Workers) -> Dict[str, np.ndarray]:
    """Running statistics of all devices except the first, whose statistics are stored as ``param:``."""
    running = [(name, p) for name, p in named_parameters(net) if p.grad_req == 'null']
    if not running:
        return {}
    devices = len(running[0][1].list_data())
    mine = [np.concatenate([p.list_data()[i].asnumpy().ravel() for _, p in running]) for i in range(devices)]
    table = workers.allgather('statistics of devices', np.stack(mine)).reshape(workers.size * devices, -1)
    ends = np.cumsum([np.prod(p.shape) for _, p in running])[:-1]
    return {f'device{k}:{name}': values.reshape(p.shape)
            for k, row in enumerate(table) if k
            for (name, p), values in zip(running, np.split(row, ends))}


def recovery_hint(folder: Path) -> str:
    """Advice for a run that diverged: its last good checkpoint, and settings that may help."""
    saved = checkpoints(folder)
    last = f'the last good checkpoint is {saved[-1]}' if saved else 'no checkpoint had been written'
    return f'{last}. Try a smaller learning_rate, warmup_epochs, or clip_gradient'


def checkpoints(folder: Path) -> List[Path]:
    """The checkpoints of a folder, oldest first."""
    return sorted(folder.glob('epoch-*.npz'), key=lambda path: [int(n) for n in re.findall(r'\d+', path.stem)])


def load_latest(folder: Path, net, trainer: Optional[FactorTrainer], log=print, workers: Workers = ALONE,
                method: Optional[Regularizer] = None) -> Optional[Position]:
    """Restore the newest intact checkpoint and return its position; None if there is no checkpoint.

    Without a trainer, for evaluation and pruning, running statistics are the mean over all devices, which differ
    within an epoch.

    Damaged checkpoints are skipped with a line in the log. It is an error if all are damaged, or if a worker does not
    see the checkpoint that the first worker sees.
    """
    position = _load_latest(folder, net, trainer, log, workers, method)
    seen = workers.allgather('position', np.array([position.epoch, position.step] if position else [-1, -1], 'float64'))
    other = np.flatnonzero((seen != seen[0]).any(axis=1))
    if other.size:
        raise SSSError(f'worker {other[0]} does not see the checkpoint in {folder} that worker 0 sees; put run= on a '
                       f'file system that all workers share')
    return position


def _load_latest(folder, net, trainer, log, workers, method):
    found = checkpoints(folder)
    for path in reversed(found):
        try:
            arrays, position = read_checkpoint(path)
        except SSSError as error:
            log(f'{error}; trying the checkpoint before it')
            continue
        restore(path, arrays if trainer else averaged(arrays), net, trainer, workers.rank, method)
        return position
    if found:
        raise SSSError(f'all {len(found)} checkpoints in {folder} are damaged or of another version; delete them to '
                       f'start again')
    return None


def read_checkpoint(path: Path) -> Tuple[Dict[str, np.ndarray], Position]:
    """Read the arrays and the position of a checkpoint file."""
    arrays = read_npz(path)
    try:
        head = json.loads(arrays.pop('position').tobytes().decode())
        if head['format'] != FORMAT:
            raise SSSError(f'{path} is a checkpoint of another version: {head["format"]}')
        position = Position(**{key: head[key] for key in asdict(Position())})
        if not all(type(n) is int and n >= 0 for n in (position.epoch, position.step)):
            raise ValueError(f'epoch {position.epoch!r}, step {position.step!r}')
        position.loss_sum, position.correct = float(position.loss_sum), float(position.correct)
    except (KeyError, ValueError, TypeError) as error:
        raise SSSError(f'{path} is not a checkpoint of sss_gluon ({type(error).__name__}: {error})') from error
    for name, array in arrays.items():      # save_checkpoint writes nothing else
        if array.dtype.kind not in 'fiu' or not np.isfinite(array).all():
            raise SSSError(f'{path} is damaged: {name} does not hold finite numbers')
    if arrays.get('state:num_update', np.array(0)).shape != ():
        raise SSSError(f'{path} is damaged: state:num_update is not a number')
    return arrays, position


def averaged(arrays: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """The arrays of a checkpoint with the mean of the running statistics over all devices."""
    copies: Dict[str, List[np.ndarray]] = defaultdict(list)
    for key, array in arrays.items():
        owner, _, name = key.partition(':')
        if re.fullmatch(r'param|device\d+', owner):
            copies[f'param:{name}'].append(array)
    means = {key: np.mean(found, axis=0, dtype='float64').astype(found[0].dtype)
             for key, found in copies.items() if len(found) > 1}
    return {key: means.get(key, array) for key, array in arrays.items() if not key.startswith('device')}


def restore(path: Path, arrays: Dict[str, np.ndarray], net, trainer: Optional[FactorTrainer], rank: int = 0,
            method: Optional[Regularizer] = None) -> None:
    """Copy the arrays of a checkpoint into a network of the same model, the trainer of this worker, and the method."""
    named = named_parameters(net)
    stored = {key[len('param:'):] for key in arrays if key.startswith('param:')}
    strange = stored.symmetric_difference(name for name, _ in named)
    if strange:
        raise SSSError(f'{path} belongs to another model: {sorted(strange)[0]} is in only one of them '
                       f'({len(strange)} parameters differ)')
    for name, parameter in named:
        value = arrays[f'param:{name}']
        if value.shape != tuple(parameter.shape):
            raise SSSError(f'{path} belongs to another model: {name} has shape {value.shape} there, '
                           f'{parameter.shape} here')
    for name, parameter in named:
        parameter.set_data(mx.nd.array(arrays[f'param:{name}'], dtype=arrays[f'param:{name}'].dtype))
        copies = parameter.list_data()
        for i, copy in enumerate(copies, rank * len(copies)):
            if f'device{i}:{name}' in arrays:
                copy[:] = arrays[f'device{i}:{name}']
    if trainer is not None:
        trainer.set_states(_part(arrays, 'state:'), str(path))
    if method is not None:
        method.set_states(_part(arrays, 'method:'), str(path))


def _part(arrays: Dict[str, np.ndarray], prefix: str) -> Dict[str, np.ndarray]:
    return {key[len(prefix):]: array for key, array in arrays.items() if key.startswith(prefix)}
