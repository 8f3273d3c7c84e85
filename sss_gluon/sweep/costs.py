"""The cost of the runs of a plan: epochs, steps, MACs, and hours if similar runs were timed."""
from __future__ import annotations

import json
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import mxnet as mx
from tabulate import tabulate

from ..errors import SSSError
from ..graph import count
from ..models import ARCHITECTURES, get_model
from ..structures import load_structure, remaining, set_structure
from ..train import Config, RunFolder
from .plan import Plan, Run
from .progress import claimed, in_use, progress

# Channels, side, classes and training images, so that a plan can be priced before its data are downloaded.
DATA = {'digits': (1, 16, 10, 1497), 'fashion-mnist': (1, 28, 10, 60000), 'cifar10': (3, 32, 10, 50000),
        'cifar100': (3, 32, 100, 50000), 'imagenet': (3, 224, 1000, 1281167)}
FILLED_BATCH = ('imagenet',)        # the last images of an epoch get a batch; other data drop them
HELD_OUT = {'digits': 300}      # validation images unless a configuration names a number
BACKWARD = 2                    # forward passes: gradients of the inputs, and of the weights


class Cost(NamedTuple):
    """Cost of one run trained from the start; None where it is unknown."""
    epochs: int
    steps: Optional[int]
    macs: int                           # per image
    training_macs: Optional[int]        # of all epochs, forwards and backwards
    seconds: Optional[float]


def costs(plan: Plan, runs: Sequence[Run]) -> List[Cost]:
    """Cost of each run, trained from the start; hours come from timing.csv of similar runs of the plan."""
    macs: Dict[str, int] = {}
    timed, found = _timed(plan), []
    for run in runs:
        config, key = run.config, _similarity_key(run.config)
        if key not in macs:
            macs[key] = _macs(config)
        images = training_images(config, plan.images)
        left_over = config.batch_size - 1 if config.data in FILLED_BATCH else 0
        steps = None if images is None else (images + left_over) // config.batch_size
        seconds = timed[key] * config.epochs if key in timed else None
        work = None if steps is None else \
            (1 + BACKWARD) * macs[key] * steps * config.batch_size * config.epochs
        found.append(Cost(config.epochs, None if steps is None else steps * config.epochs, macs[key], work, seconds))
    return found


def describe_plan(plan: Plan, runs: Sequence[Run]) -> str:
    """The plan as a table with totals."""
    rows, total = [], 0
    for run, cost in zip(runs, costs(plan, runs)):
        done = progress(run)
        state = done.text + (', in use' if claimed(run) or in_use(run) else '')
        rows.append([run.name, state, f'{cost.epochs}', '-' if cost.steps is None else f'{cost.steps:,}',
                     f'{cost.macs:,}', '-' if cost.training_macs is None else f'{cost.training_macs:.2e}',
                     '-' if cost.seconds is None else f'{cost.seconds / 3600:.2f}'])
        total += cost.training_macs or 0
    seconds, unknown = seconds_left(plan, runs)
    table = tabulate(rows, headers=['run', 'state', 'epochs', 'steps', 'MACs per image', 'training MACs', 'hours'],
                     disable_numparse=True, colalign=('left', 'left') + ('right',) * 5)
    lines = [f'{plan.title} ({plan.folder})', table,
             f'{len(runs)} runs, {total:.2e} training MACs (a backward pass counts twice)']
    left = f'left to train: {seconds / 3600:.2f} hours' if seconds or not unknown else 'left to train: hours unknown'
    lines.append(left + (f', and {unknown} runs without a similar run that was timed' if unknown else ''))
    return '\n'.join(lines)


def seconds_left(plan: Plan, runs: Sequence[Run]) -> Tuple[float, int]:
    """Seconds of training that are left, and the number of runs unlike all that were timed, which are not in them."""
    timed, seconds, unknown = _timed(plan), 0.0, 0
    for run in runs:
        done, key = progress(run), _similarity_key(run.config)
        if 'train' in done.left:
            seconds += timed.get(key, 0.0) * max(0, done.total - done.epochs)
            unknown += key not in timed
    return seconds, unknown


def training_images(config: Config, folder_images: Optional[int] = None) -> Optional[int]:
    """Images of an epoch; for ``data: folder``, the plan gives their number."""
    if config.data not in DATA:
        return None if folder_images is None else folder_images - (config.validation or 0)
    held = HELD_OUT.get(config.data, 0) if config.validation is None else config.validation
    return DATA[config.data][3] - held


def _similarity_key(config: Config) -> str:
    """A text that is equal for runs whose epochs take the same time."""
    keys = ('model', 'model_options', 'factors', 'structure', 'data', 'image_size', 'validation', 'batch_size',
            'grad_accumulation', 'devices', 'precision', 'augmentation')
    return json.dumps([getattr(config, key) for key in keys], sort_keys=True)


def _timed(plan: Plan) -> Dict[str, float]:
    """{similarity key: mean seconds of an epoch} of the runs of a plan that have trained."""
    epochs: Dict[str, List[float]] = {}
    for run in plan.runs:
        epochs.setdefault(_similarity_key(run.config), []).extend(_epoch_seconds(run))
    return {key: sum(seconds) / len(seconds) for key, seconds in epochs.items() if seconds}


def _epoch_seconds(run: Run) -> List[float]:
    try:
        rows = RunFolder(run.path).timing.rows()
        return [float(row['train_seconds']) + float(row['evaluation_seconds']) for row in rows]
    except (SSSError, KeyError, ValueError):
        return []


def _macs(config: Config) -> int:
    row = ARCHITECTURES.get(config.model)
    channels, side, classes, _ = DATA.get(config.data, (3, row.size if row else 224, None, None))
    side = max(config.image_size or side, row.minimum_size if row else 1)
    shape: Tuple[int, ...] = (1, channels, side, side)
    if config.structure is None:
        return count(get_model(config.model, classes, config.factors, channels, shape, config.neuron_block,
                               **config.model_options), shape).macs
    structure = load_structure(config.structure)
    spec = structure.model or {}
    net = get_model(config.model, classes, spec.get('factors'), channels, shape, **spec.get('options', {}))
    net.initialize(init=mx.init.Xavier())
    set_structure(net, structure)
    return remaining(net, shape)[1].macs
