"""A baseline as a run: the selection is made once, written into the run folder, and fine-tuned by the training loop.

    selection/selection.json        what was chosen, by which settings, and what is left
              scores.npz            score of every structure
              model-symbol.json     the compact network that training begins with, -0000.params, -structure.json
              source-symbol.json    the whole network that it was cut from, -0000.params
"""
from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Optional

import mxnet as mx
from mxnet import gluon

from ..csv_files import EpochTable
from ..deploy.trained_run import load_run
from ..errors import SSSError
from ..factors import scaling_factors
from ..files import sha256, write_npz, write_text
from ..graph import count, load
from ..graph.block import export_program, to_block
from ..graph.fold import fold
from ..graph.trace import trace
from ..structures import Structure, compact
from ..train.checkpoint import checkpoints
from ..train.config import Config
from ..train.method import Method, Regularizer
from ..train.network import build_network, load_data, start_from
from ..train.run_folder import RunFolder
from . import scratch
from .method import Case, PruningMethod
from .ranking import choose, zeros

SAME = ('model', 'model_options', 'data', 'image_size', 'validation')      # as in the run that is cut
ASKED = ('method', 'source', 'factors', 'seed', *SAME)      # what a selection depends on, besides its budget


def budget(config: Config) -> Optional[float]:
    """Share of the MACs that is to be left: ``target_macs``, or what the run ``match`` has left; None without both."""
    if config.match is None:
        return config.target_macs
    run = RunFolder.open(config.match)
    table = EpochTable(run.path / 'evaluation.csv')
    try:
        macs = {row['network']: int(row['macs']) for row in table.rows()}
        left = macs['compact'] / macs['dense']
    except (KeyError, ValueError, ZeroDivisionError) as error:
        raise SSSError(f'match={run}: {table.path} does not say what its compact network has left: sss-gluon prune '
                       f'{run}, then sss-gluon evaluate {run}') from error
    if not 0 < left < 1:
        raise SSSError(f'match={run} lost nothing, so there is no budget to match; raise what drives its structures '
                       f'to zero, e.g. gamma')
    return left


class MethodRun(Method):
    """A pruning method in one run."""

    def __init__(self, method: PruningMethod):
        self.method = method

    def prepare(self, config: Config, run: RunFolder, log) -> Config:
        if config.source is None:       # an earlier attempt with other settings may have left a selection
            shutil.rmtree(run.selection.parent, ignore_errors=True)
            return config
        if not self._is_there(config, run):
            with tempfile.TemporaryDirectory(prefix='.selection.', dir=run.path) as folder:
                new = Path(folder) / 'new'
                new.mkdir()
                select = self._take_structure if self.method is scratch.METHOD else self._select
                facts = select(config, new, log)
                facts = dict(asked=self._asked(config), **facts)
                write_text(new / 'selection.json', json.dumps(facts, indent=2) + '\n')
                shutil.rmtree(run.selection.parent, ignore_errors=True)
                os.replace(new, run.selection.parent)
        if self.method.settings(config).get('budget') == 'compute':
            shape = Structure.load(f'{run.selection}-structure.json').input_shape
            before, after = (count(load(prefix), shape).macs for prefix in (run.source, run.selection))
            config = scratch.stretched(config, before, after)
            log(f'scratch: {config.epochs} epochs, for the compute that the whole network takes in those that are set '
                f'(at most twice as many)')
        return config

    def regularizer(self, config: Config, net: gluon.Block, input_shape) -> Regularizer:
        if config.source is not None:
            return Regularizer()
        if not self.method.trains_factors:
            factors = scaling_factors(net)
            if not factors:
                raise SSSError(f'{config.model} has no structures with factors that {self.method.name} could penalise')
            for factor in factors:
                factor.parameter.grad_req = 'null'      # it only says where the structures are
        return self.method.regularizer(net, input_shape, self.method.settings(config))

    # The selection

    def _asked(self, config: Config) -> Dict[str, Any]:
        asked = {key: getattr(config, key) for key in ASKED}
        source = checkpoints(RunFolder(config.source).checkpoints)
        asked.update(method_options=self.method.settings(config), checkpoint=sha256(source[-1]) if source else None,
                     target_macs=budget(config))
        return asked

    def _is_there(self, config: Config, run: RunFolder) -> bool:
        """Is there a selection of these settings? One that was trained on already is not asked again."""
        if checkpoints(run.checkpoints):
            if not run.has_selection():
                raise SSSError(f'{run} was trained on, but its folder selection is gone; delete the run')
            return True
        try:
            there = json.loads((run.selection.parent / 'selection.json').read_text('utf-8'))['asked']
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return there == json.loads(json.dumps(self._asked(config)))

    def _source(self, config: Config) -> RunFolder:
        source = RunFolder.open(config.source)
        theirs = source.config()
        for key in SAME:
            if getattr(theirs, key) != getattr(config, key):
                raise SSSError(f'source={config.source} has {key}={getattr(theirs, key)}, this run '
                               f'{getattr(config, key)}; they must agree')
        if not checkpoints(source.checkpoints):
            raise SSSError(f'source={config.source} has no checkpoint yet; train it first: sss-gluon train {source}')
        return source

    def _select(self, config: Config, folder: Path, log) -> Dict[str, Any]:
        """Rank the structures of a trained network and cut it."""
        source, target = self._source(config), budget(config)
        if source.has_selection() or source.config().structure is not None:
            raise SSSError(f'source={config.source} is a compact network, whose structures have no factors; name the '
                           f'run of the whole one')
        trained = load_run(source.path, log=log)
        if trained.epochs < trained.config.epochs:
            log(f'note: {source} is at epoch {trained.epochs} of {trained.config.epochs}')
        data = load_data(config)
        net = build_network(replace(config, init=None, devices=['cpu']), data)
        start_from(net, str(checkpoints(source.checkpoints)[-1]))
        shape = (1,) + tuple(data.shape)
        whole = fold(trace(net, shape))
        export_program(whole, to_block(whole), folder / 'source')
        case = Case(net, data, config, self.method.settings(config), log)
        if not case.units:
            raise SSSError(f'{config.model} has no structures with factors to choose from')
        scores = self.method.score(case)
        write_npz(folder / 'scores.npz', scores)
        if target is None:
            chosen = zeros(net, shape, scores)
        else:
            scope = case.options.get('scope', self.method.scope)
            chosen = choose(net, shape, scores, target, scope)
        removed = sum(int((~kept).sum()) for kept in chosen.kept.values())
        facts = self.method.adjust(case, chosen.kept) if self.method.adjust and removed else None
        for unit in case.units:
            unit.factor.parameter.set_data(mx.nd.array(chosen.kept[unit.name].astype('float32')))
        result = compact(net, shape)
        result.export(folder / 'model')
        total = sum(kept.size for kept in chosen.kept.values())
        macs, params = result.after.macs / result.before.macs, result.after.params / result.before.params
        log(f'{self.method.name}: {removed} of {total} structures go, {macs:.1%} of the MACs and {params:.1%} of the '
            f'parameters are left')
        if not removed:
            log(f'warning: {self.method.name} changed nothing: ' + (
                f'no structure of {config.source} is exactly zero; train it with more strength, or give target_macs'
                if target is None else
                f'no more than {target:.4g} of the MACs of {config.source} were left already'))
        return dict(removed=removed, structures=total, macs=macs, params=params, adjusted=facts)

    def _take_structure(self, config: Config, folder: Path, log) -> Dict[str, Any]:
        """The structure of a pruned run, with new weights."""
        source = self._source(config)
        file = Path(f'{source.compact}-structure.json')
        if not file.exists():
            raise SSSError(f'source={config.source} is not pruned yet: sss-gluon prune {source}')
        structure = Structure.load(file)
        data = load_data(config)
        net = build_network(replace(config, init=None, structure=str(file), devices=['cpu']), data, structure)
        program = trace(net, structure.input_shape)
        export_program(program, net, folder / 'model')
        structure.params_sha256 = sha256(folder / 'model-0000.params')
        structure.save(folder / 'model-structure.json')
        if source.has_selection():
            whole = trace(load(source.source), structure.input_shape)
        else:
            whole = fold(trace(load_run(source.path, log=log).net, structure.input_shape))
        export_program(whole, to_block(whole), folder / 'source')
        before, after = count(to_block(whole), structure.input_shape), count(net, structure.input_shape)
        if after.macs == before.macs:
            log(f'warning: scratch: nothing was removed from {source}, this is its network again')
        return dict(macs=after.macs / before.macs, params=after.params / before.params)
