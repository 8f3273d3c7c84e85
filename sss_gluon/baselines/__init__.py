"""The methods that the paper compares with, and controls; all cut by the same graph pass, fine-tuned in the same loop.

>>> from sss_gluon import baselines
>>> baselines.train(load_config('configs/digits/cifar_resnet20_dense.yaml',
...                             ['method=l1', 'source=runs/dense', 'target_macs=0.6', 'run=runs/l1']))
"""
from __future__ import annotations

import difflib
from dataclasses import replace
from typing import Callable, Dict

from ..errors import SSSError
from ..train import Config, RunFolder
from ..train import train as _train
from . import apoz, chance, ista, l1, lasso, scratch, slimming, ssl, taylor, thinet, uniform
from .method import Method
from .run import Baseline

METHODS: Dict[str, Method] = {module.METHOD.name: module.METHOD for module in
                              (ssl, slimming, l1, taylor, apoz, ista, thinet, lasso, chance, uniform, scratch)}

__all__ = ['METHODS', 'Method', 'train']


def train(config: Config, log: Callable[[str], None] = print) -> RunFolder:
    """``sss_gluon.train.train`` for every ``method``: select, once, what a baseline keeps, then train.

    Raises
    ------
    SSSError
        For a method that does not exist, settings that do not fit it, a source that is not a trained run of the same
        network and data, or a budget that cannot be met; and what ``sss_gluon.train.train`` raises.
    """
    if config.method == 'sss':
        return _train(config, log)
    method = find(config.method)
    _check(config, method)
    if method.kinds:
        config = replace(config, factors=method.structures(config))
    return _train(config, log, Baseline(method))


def find(name: str) -> Method:
    """A row of the table; an unknown name is an error that names the nearest one."""
    if name in METHODS:
        return METHODS[name]
    names = ['sss', *METHODS]
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.0)[0]
    raise SSSError(f'method={name} is unknown; did you mean {near}? Methods: {", ".join(names)}')


def _check(config: Config, method: Method) -> None:
    method.settings(config)
    name, cuts = method.name, config.source is not None
    budget = config.target_macs is not None or config.match is not None
    if not cuts and method.penalty is None:
        raise SSSError(f'{name} starts from a trained network: source= names its run folder')
    if not cuts:
        for key, given in (('target_macs', config.target_macs), ('match', config.match),
                           ('method_options.spare', config.method_options.get('spare'))):
            if given is not None:
                raise SSSError(f'{name} trains with its penalty when there is no source=, and cuts nothing; {key} is '
                               f'for the run that cuts: set source= to the run of the penalty, or leave {key} out')
    if cuts and method.score and not method.zeros and not budget:
        raise SSSError(f'{name} needs a budget: target_macs=0.6 keeps 60 % of the MACs, match=RUN as many as RUN has '
                       f'left')
    if method.score is None and budget:
        raise SSSError(f'{name} takes the structure of its source as it is; leave target_macs and match out')
    for key in ('structure', 'init') if cuts else ('structure',):
        if getattr(config, key):
            raise SSSError(f'{name} makes its network itself; leave {key}= out')
