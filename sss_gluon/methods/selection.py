"""The selection: a trained network is ranked, pruned to a budget, and written into the run folder that fine-tunes it.

    selection/selection.json        the settings of the selection, and the sizes that remain
              scores.npz            score of every structure
              model-symbol.json     the compact network that training starts from, -0000.params, -structure.json
              source-symbol.json    the whole network before pruning, -0000.params
"""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Optional

import mxnet as mx

from ..csv_files import read_csv
from ..deploy.trained_run import load_run
from ..errors import SSSError
from ..files import write_npz
from ..graph.block import export_program, to_block
from ..graph.fold import fold
from ..graph.trace import trace
from ..structures import compact
from ..train.checkpoint import checkpoints
from ..train.config import Config
from ..train.given_weights import start_from
from ..train.network import build_network, load_data
from ..train.run_folder import RunFolder
from .method import Case, PruningMethod
from .ranking import meet_budget, zero_scores

SAME_AS_SOURCE = ('model', 'model_options', 'data', 'image_size', 'validation')


def budget(config: Config) -> Optional[float]:
    """Share of the MACs to keep: ``target_macs``, or the share that the run ``match`` kept; None if neither is set."""
    if config.match is None:
        return config.target_macs
    run = RunFolder.open(config.match)
    file = run.path / 'evaluation.csv'
    try:
        macs = {row['network']: int(row['macs']) for _, row in read_csv(file, ('network', 'macs'))}
        share = macs['compact'] / macs['unpruned']
    except (SSSError, KeyError, ValueError, ZeroDivisionError) as error:
        raise SSSError(f'match={run}: {file} does not hold the MACs of its compact network; run sss-gluon prune '
                       f'{run}, then sss-gluon evaluate {run}') from error
    if not 0 < share < 1:
        raise SSSError(f'match={run} removed nothing, so there is no budget to match; raise its gamma or the strength '
                       f'of its method')
    return share


def open_source(config: Config) -> RunFolder:
    """The run folder ``source``; it must have a checkpoint, and the network and data of this run."""
    source = RunFolder.open(str(config.source))
    theirs = source.config()
    for key in SAME_AS_SOURCE:
        if getattr(theirs, key) != getattr(config, key):
            raise SSSError(f'source={config.source} has {key}={getattr(theirs, key)}, but this run has '
                           f'{key}={getattr(config, key)}; they must agree')
    if not checkpoints(source.checkpoints):
        raise SSSError(f'source={config.source} has no checkpoint yet; train it first: sss-gluon train {source}')
    return source


def select_structures(method: PruningMethod, config: Config, source: RunFolder, folder: Path, log) -> Dict[str, Any]:
    """Rank the structures of a trained network, remove some, and write the result; return its sizes."""
    if method.score is None:
        raise SSSError(f'{method.name} has no criterion to rank structures by')
    target = budget(config)
    if source.has_selection() or source.config().structure is not None:
        raise SSSError(f'source={config.source} is a compact network, whose structures have no factors; set source= to '
                       f'the run of the whole network')
    trained = load_run(source.path, log=log)
    if trained.epochs < trained.config.epochs:
        log(f'note: {source} has trained only {trained.epochs} of {trained.config.epochs} epochs')
    data = load_data(config)
    net = build_network(replace(config, init=None, devices=['cpu']), data)
    start_from(net, str(checkpoints(source.checkpoints)[-1]))
    shape = (1,) + tuple(data.shape)
    whole = fold(trace(net, shape))
    export_program(whole, to_block(whole), folder / 'source')
    case = Case(net, data, config, method.settings(config), log)
    if not case.units:
        raise SSSError(f'{config.model} has no structures that {method.name} may remove; use another model, or fewer '
                       f'ignored_layers')
    scores = method.score(case)
    write_npz(folder / 'scores.npz', scores)
    if target is None:
        masks = zero_scores(net, scores)
    else:
        masks = meet_budget(net, shape, scores, target, case.options.get('scope', method.scope))
    removed = sum(int((~mask).sum()) for mask in masks.values())
    adjusted = method.adjust(case, masks) if method.adjust and removed else None
    for unit in case.units:
        unit.factor.parameter.set_data(mx.nd.array(masks[unit.name].astype('float32')))
    result = compact(net, shape)
    result.export(folder / 'model')
    total = sum(mask.size for mask in masks.values())
    macs, params = result.after.macs / result.before.macs, result.after.params / result.before.params
    log(f'{method.name}: removes {removed} of {total} structures and keeps {macs:.1%} of the MACs, {params:.1%} of the '
        f'parameters')
    if not removed:
        log(f'warning: {method.name} changed nothing: ' + (
            f'no structure of {config.source} is exactly zero; train it with more strength, or set target_macs'
            if target is None else
            f'{config.source} already has no more than {target:.4g} of the MACs left'))
    return dict(removed=removed, structures=total, macs=macs, params=params, adjusted=adjusted)
