"""The pruning methods, SSS among them. One loop trains them all, one graph pass prunes, one report compares.

>>> from sss_gluon import methods
>>> methods.train(load_config('configs/digits/cifar_resnet20_dense.yaml',
...                           ['method=l1', 'source=runs/dense', 'target_macs=0.6', 'run=runs/l1']))
"""
from __future__ import annotations

from dataclasses import replace
from typing import Callable, Dict

from ..errors import SSSError, nearest
from ..models import largest_kind
from ..train import Config, RunFolder
from ..train.config import TARGETS
from ..train.loop import run_training
from . import apoz, gamma_range, ista, l1, lasso, random_pruning, scratch, slimming, ssl, sss, taylor, thinet, uniform
from .gamma_range import GammaRange
from .method import PruningMethod
from .method_run import MethodRun

METHODS: Dict[str, PruningMethod] = {module.METHOD.name: module.METHOD for module in
                                     (sss, ssl, slimming, l1, taylor, apoz, ista, thinet, lasso, random_pruning,
                                      uniform, scratch)}

__all__ = ['GammaRange', 'METHODS', 'PruningMethod', 'find_gamma', 'train']


def train(config: Config, log: Callable[[str], None] = print) -> RunFolder:
    """Train the network of a configuration with its ``method``; an interrupted run continues from its checkpoint.

    Returns
    -------
    RunFolder
        Holds config.yaml, metrics.csv, timing.csv, factors.csv and the checkpoints.

    Raises
    ------
    SSSError
        If a setting or file is wrong, the method is unknown, the source is not a trained run of the same network and
        data, the budget cannot be met, or the loss is not finite.
    Interrupted
        After SIGINT, SIGTERM or SIGUSR1, once everything is saved.
    """
    method = find(config.method)
    _check(config, method)
    if method.kinds:
        config = replace(config, factors=method.structure_kinds(config))
    return run_training(config, MethodRun(method), log)


def find_gamma(config: Config, steps: int = gamma_range.STEPS, log: Callable[[str], None] = print) -> GammaRange:
    """Find the γ worth sweeping, in a short run in which γ rises exponentially (``gamma_range.py``).

    Parameters
    ----------
    config : Config
        The run to find γ for. Its network, data, batch size, learning rate, momentum, gamma_mult and gamma_weighting
        are used as they are; its epochs and schedule decide what is predicted; its gamma and run folder are ignored.
    steps : int
        Steps of the optimizer, at most. The ramp ends before if 10 % of the MACs are left or the loss is not finite.

    Returns
    -------
    GammaRange
        Nothing is written; ``sss_gluon.report.gamma.write_gamma`` does that.

    Raises
    ------
    SSSError
        For wrong settings or files, a method without γ, a network without factors, or a loss that is not finite
        before any structure was zero.
    """
    method = find(config.method)
    if not method.trains_factors:
        raise SSSError(f'method={config.method} does not use γ; find-gamma is for method=sss')
    _check(config, method)
    return gamma_range.measure(config, steps, log)


def find(name: str) -> PruningMethod:
    """Look a method up; the error for an unknown name suggests the nearest one."""
    if name in METHODS:
        return METHODS[name]
    raise SSSError(f'method={name} is unknown; did you mean {nearest(name, METHODS)}? Methods: {", ".join(METHODS)}')


def _check(config: Config, method: PruningMethod) -> None:
    name, prunes = method.name, config.source is not None
    if method.trains_factors:
        for key in ('method_options', 'source'):
            if getattr(config, key):
                raise SSSError(f'{key} is not a setting of method={name}; set another method=, or leave {key} out')
        _check_budget(config)
        return
    for key in ('target_params', 'target_latency', 'latency_batch', 'search', 'shrink', 'shrink_align', 'patience'):
        if getattr(config, key) != getattr(Config, key):
            raise SSSError(f'{key} is a setting of method=sss, not of method={name}; leave it out')
    method.settings(config)
    budget = config.target_macs is not None or config.match is not None
    if not prunes and method.regularizer is None:
        raise SSSError(f'{name} starts from a trained network; set source= to its run folder')
    if not prunes:
        for key, given in (('target_macs', config.target_macs), ('match', config.match),
                           ('method_options.ignored_layers', config.method_options.get('ignored_layers'))):
            if given is not None:
                raise SSSError(f'{name} without source= only trains with its penalty, and {key} belongs to the run '
                               f'that prunes: set source= to the penalised run, or leave {key} out')
    if prunes and method.score and not method.prunes_zeros and not budget:
        raise SSSError(f'{name} needs a budget: target_macs=0.6 keeps 60 % of the MACs, match=RUN keeps the share that '
                       f'RUN kept')
    if method.score is None and budget:
        raise SSSError(f'{name} copies the structure of its source; leave target_macs and match out')
    for key in ('structure', 'init') if prunes else ('structure',):
        if getattr(config, key):
            raise SSSError(f'{name} builds its network itself; leave {key}= out')


def _check_budget(config: Config) -> None:
    asked = next((key for key in TARGETS if getattr(config, key) is not None), None)
    if config.patience is not None and (asked or not config.shrink):
        raise SSSError(f'patience={config.patience} belongs to shrink=true without a target; ' + (
            f'leave it out: {asked} holds every structure as soon as it is zero' if asked else 'set shrink=true'))
    for key, used, needs in (('search', asked, 'a target, such as target_macs=0.5'),
                             ('latency_batch', config.target_latency, 'target_latency'),
                             ('shrink_align', asked if config.shrink is None else config.shrink, 'shrink=true')):
        value, default = getattr(config, key), getattr(Config, key)
        if value != default and not used:
            raise SSSError(f'{key}={value} does nothing without {needs}; set that, or leave {key} at {default}')
    if (asked or config.shrink) and config.structure:
        raise SSSError(f'{asked or "shrink"} needs factors, but structure={config.structure} names a compact network, '
                       f'which has none; leave one of them out')
    if (asked or config.shrink) and config.factors == []:
        raise SSSError(f'{asked or "shrink"} needs factors, but factors=[] leaves {config.model} without any; set '
                       f'factors={largest_kind(config.model)}')
    if asked and not config.gamma:
        raise SSSError(f'{asked} steers gamma, which has to start above 0; leave gamma=0 out')
