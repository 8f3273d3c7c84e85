"""Pruning methods by name, SSS among them: all train in one loop, are cut by one graph pass and reported by one code.

>>> from sss_gluon import methods
>>> methods.train(load_config('configs/digits/cifar_resnet20_dense.yaml',
...                           ['method=l1', 'source=runs/dense', 'target_macs=0.6', 'run=runs/l1']))
"""
from __future__ import annotations

from dataclasses import replace
from typing import Callable, Dict

from ..errors import SSSError, nearest
from ..train import Config, RunFolder
from ..train.loop import run_training
from . import apoz, ista, l1, lasso, random_pruning, scratch, slimming, ssl, sss, taylor, thinet, uniform
from .method import PruningMethod
from .selection import MethodRun

METHODS: Dict[str, PruningMethod] = {module.METHOD.name: module.METHOD for module in
                                     (sss, ssl, slimming, l1, taylor, apoz, ista, thinet, lasso, random_pruning,
                                      uniform, scratch)}

__all__ = ['METHODS', 'PruningMethod', 'train']


def train(config: Config, log: Callable[[str], None] = print) -> RunFolder:
    """Train the network of a configuration with its ``method``; continue where an earlier call stopped.

    Returns
    -------
    RunFolder
        With config.yaml, metrics.csv, timing.csv, factors.csv and checkpoints.

    Raises
    ------
    SSSError
        For wrong settings or files, a method that does not exist, a source that is not a trained run of the same
        network and data, a budget that cannot be met, or a loss that is not finite.
    Interrupted
        After SIGINT, SIGTERM or SIGUSR1, with everything saved.
    """
    method = find(config.method)
    _check(config, method)
    if method.kinds:
        config = replace(config, factors=method.structures(config))
    return run_training(config, MethodRun(method), log)


def find(name: str) -> PruningMethod:
    """The method of a name; an unknown name is an error that names the nearest one."""
    if name in METHODS:
        return METHODS[name]
    raise SSSError(f'method={name} is unknown; did you mean {nearest(name, METHODS)}? Methods: {", ".join(METHODS)}')


def _check(config: Config, method: PruningMethod) -> None:
    name, cuts = method.name, config.source is not None
    if method.trains_factors:
        for key in ('method_options', 'source', 'target_macs', 'match'):
            if getattr(config, key):
                raise SSSError(f'{key} is not a setting of method={name}; set another method=, or leave {key} out')
        return
    method.settings(config)
    budget = config.target_macs is not None or config.match is not None
    if not cuts and method.regularizer is None:
        raise SSSError(f'{name} starts from a trained network: source= names its run folder')
    if not cuts:
        for key, given in (('target_macs', config.target_macs), ('match', config.match),
                           ('method_options.ignored_layers', config.method_options.get('ignored_layers'))):
            if given is not None:
                raise SSSError(f'{name} without source= trains with its penalty and cuts nothing; {key} is for the run '
                               f'that cuts: set source= to the run of the penalty, or leave {key} out')
    if cuts and method.score and not method.zeros and not budget:
        raise SSSError(f'{name} needs a budget: target_macs=0.6 keeps 60 % of the MACs, match=RUN keeps as many as RUN '
                       f'has left')
    if method.score is None and budget:
        raise SSSError(f'{name} takes the structure of its source as it is; leave target_macs and match out')
    for key in ('structure', 'init') if cuts else ('structure',):
        if getattr(config, key):
            raise SSSError(f'{name} makes its network itself; leave {key}= out')
