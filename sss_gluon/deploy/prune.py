"""Run folder in, compact network out: pruned, verified on test images, exported."""
from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Union

from ..graph import load
from ..structures import Compact, Structure, compact
from ..train.run_folder import RunFolder
from .trained_run import check_on_images, dense_size, load_run


def prune(path: Union[str, Path], log=print) -> Compact:
    """Prune the network of a run to the structures whose factors are not zero, verify the outputs, and export it.

    Writes ``compact/model-symbol.json``, ``-0000.params`` and ``-structure.json`` into the run folder.
    """
    run = RunFolder.open(path)
    with run.locked():
        trained = load_run(path, log=log)
        if trained.epochs < trained.config.epochs:
            log(f'note: {run} is at epoch {trained.epochs} of {trained.config.epochs}')
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter('ignore')
            warnings.filterwarnings('always', category=UserWarning, module='sss_gluon')
            result = compact(trained.net, trained.input_shape)
        for warning in told:
            if not (result.collapsed and result.collapsed in str(warning.message)):     # said below, with the way out
                log(f'warning: {warning.message}')
        if result.collapsed:
            said = run.path / 'diagnosis.txt'
            log(said.read_text('utf-8').rstrip() if said.exists() else f'warning: {result.collapsed}')
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
    """Report what was removed from the dense network, for a run that started from a compact one."""
    structure = Structure.load(f'{run.selection}-structure.json')
    after = {name: row['after'] for name, row in result.structure.layers.items()}
    for name, row in structure.layers.items():
        row['after'] = after.get(name)
    result.structure, result.before = structure, dense_size(run) or result.before
