"""Training the compact network from scratch: does accuracy come from the weights, or from the structure?

Equation    None: the network has the structure of a pruned run, and every layer is initialised for its own fan-in.
            ``budget: epochs`` (E) trains for the configured epochs. ``budget: compute`` (B) trains until the MACs spent
            are the same, for epochs · MACs before / MACs after, at most twice as many.
Source      Liu et al., "Rethinking the Value of Network Pruning", ICLR 2019, section 3, which does so for this
            paper's networks.
Differs     Schedules are stretched alike: steps and warm-up in proportion, a cosine by itself.
"""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict

from ..deploy.trained_run import load_run
from ..errors import SSSError
from ..files import sha256
from ..graph import count, load
from ..graph.block import export_program, to_block
from ..graph.fold import fold
from ..graph.trace import trace
from ..structures import Structure
from ..train.config import Config
from ..train.network import build_network, load_data
from ..train.run_folder import RunFolder
from .method import PruningMethod

MOST = 2.0


def copy_structure(config: Config, source: RunFolder, folder: Path, log) -> Dict[str, Any]:
    """Write the compact network of a pruned run with new weights, and the whole network of that run; return sizes."""
    file = Path(f'{source.compact}-structure.json')
    if not file.exists():
        raise SSSError(f'source={config.source} is not pruned yet; prune it first: sss-gluon prune {source}')
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
        log(f'warning: scratch: {source} removed nothing, so this run trains the whole network')
    return dict(macs=after.macs / before.macs, params=after.params / before.params)


def stretched(config: Config, macs_before: int, macs_after: int) -> Config:
    """The configuration with as many epochs as the same compute allows."""
    factor = min(MOST, macs_before / macs_after)
    return replace(config, epochs=round(config.epochs * factor), warmup_epochs=config.warmup_epochs * factor,
                   lr_decay_epochs=[epoch if epoch < 1 else round(epoch * factor) for epoch in config.lr_decay_epochs])


METHOD = PruningMethod('scratch', (), dict(budget='epochs'))
