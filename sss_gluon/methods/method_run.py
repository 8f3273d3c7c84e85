"""A pruning method as the training loop sees it: the selection is written once, then its network is trained."""
from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Dict

from mxnet import gluon

from ..errors import SSSError
from ..factors import scaling_factors
from ..files import sha256, write_text
from ..graph import count, load
from ..structures import Structure
from ..train.checkpoint import checkpoints
from ..train.config import Config
from ..train.method import Method, Regularizer
from ..train.run_folder import RunFolder
from . import scratch
from .method import PruningMethod
from .selection import SAME_AS_SOURCE, budget, open_source, select_structures

SELECTION_SETTINGS = ('method', 'source', 'factors', 'seed', *SAME_AS_SOURCE)   # besides its options and budget


class MethodRun(Method):
    """One run of a pruning method."""

    def __init__(self, method: PruningMethod):
        self.method = method

    def prepare(self, config: Config, run: RunFolder, log) -> Config:
        if config.source is None:       # an earlier attempt with other settings may have left a selection
            shutil.rmtree(run.selection.parent, ignore_errors=True)
            return config
        if not self._is_selected(config, run):
            with tempfile.TemporaryDirectory(prefix='.selection.', dir=run.path) as folder:
                new = Path(folder) / 'new'
                new.mkdir()
                source = open_source(config)
                if self.method.score is None:
                    result = scratch.copy_structure(config, source, new, log)
                else:
                    result = select_structures(self.method, config, source, new, log)
                result = dict(asked=self._selection_settings(config), **result)
                write_text(new / 'selection.json', json.dumps(result, indent=2) + '\n')
                shutil.rmtree(run.selection.parent, ignore_errors=True)
                os.replace(new, run.selection.parent)
        if self.method.settings(config).get('budget') == 'compute':
            shape = Structure.load(f'{run.selection}-structure.json').input_shape
            before, after = (count(load(prefix), shape).macs for prefix in (run.source, run.selection))
            epochs, config = config.epochs, scratch.stretched(config, before, after)
            log(f'scratch: trains for {config.epochs} epochs, for the compute that {epochs} epochs of the whole '
                f'network cost (at most twice as many)')
        return config

    def regularizer(self, config: Config, net: gluon.Block, input_shape) -> Regularizer:
        regularizer = self.method.regularizer
        if config.source is not None or regularizer is None:
            return Regularizer()
        if not self.method.trains_factors:
            factors = scaling_factors(net)
            if not factors:
                raise SSSError(f'{config.model} has no factors, so {self.method.name} has no structures to penalise; '
                               f'use another model')
            for factor in factors:
                factor.parameter.grad_req = 'null'      # the factor only marks where the structures are
        return regularizer(net, input_shape, self.method.settings(config))

    def _selection_settings(self, config: Config) -> Dict[str, Any]:
        """All that the selection depends on."""
        settings = {key: getattr(config, key) for key in SELECTION_SETTINGS}
        source = checkpoints(RunFolder(str(config.source)).checkpoints)
        settings.update(method_options=self.method.settings(config), checkpoint=sha256(source[-1]) if source else None,
                        target_macs=budget(config))
        return settings

    def _is_selected(self, config: Config, run: RunFolder) -> bool:
        """Whether the run holds a selection with these settings; once it has trained, the selection is not checked."""
        if checkpoints(run.checkpoints):
            if not run.has_selection():
                raise SSSError(f'{run} has checkpoints but no folder selection; delete the run')
            return True
        try:
            saved = json.loads((run.selection.parent / 'selection.json').read_text('utf-8'))['asked']
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return saved == json.loads(json.dumps(self._selection_settings(config)))
