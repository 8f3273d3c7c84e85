"""``make_trainer``: the trainer of a network, with one optimizer for weights and factors."""
from __future__ import annotations

import warnings
from typing import Dict, Optional, Sequence, Set

import mxnet as mx
from mxnet import gluon

from ..errors import SSSError
from ..factors import scaling_factors
from .compiling import compile_for_cpu
from .factor_trainer import FactorTrainer
from .parameters import NO_DECAY, exempt_from_decay, gamma_multipliers, named_parameters, scaled_parameters
from .precision import LossScaler


def make_trainer(net: gluon.Block, gamma: float = 0.01, learning_rate: Optional[float] = None, momentum: float = 0.9,
                 wd: float = 0.0, kvstore='device', gamma_mult: Optional[Dict[str, float]] = None,
                 gamma_weighting: str = 'uniform', input_shape: Optional[Sequence[int]] = None, lr_scheduler=None,
                 update_on_kvstore: bool = False, non_negative: bool = True, clip_gradient: Optional[float] = None,
                 multi_precision: bool = False, no_decay: str = NO_DECAY, aggregate: bool = True,
                 loss_scaler: Optional[LossScaler] = None) -> FactorTrainer:
    """A gluon.Trainer that trains weights with NAG and scaling factors with APG.

    On CPUs, ``net`` is compiled in a form that oneDNN computes faster (``train/compiling.py``); nothing else changes.

    Parameters
    ----------
    net : mxnet.gluon.Block
        The network itself, initialised. One without factors is trained with NAG alone.
    gamma : float
        Sparsity strength γ; 0 says that a network without factors is meant to have none.
    learning_rate, momentum, wd : float
        For weights and factors alike, except that factors are not decayed. The learning rate defaults to that of
        ``lr_scheduler``, else 0.1. The multipliers ``lr_mult`` and ``wd_mult`` of the parameters are respected.
    kvstore : str or KVStore
    gamma_mult : dict of str to float, optional
        {regular expression: multiplier of γ}, searched in the names of ``scaling_factors(net)``; the last match
        wins.
    gamma_weighting : {'uniform', 'macs'}
        ``macs`` multiplies γ by the MACs that one structure costs, normalised so that the mean over all structures
        is 1; needs ``input_shape``.
    input_shape : sequence of int, optional
        Batch first.
    lr_scheduler : mxnet.lr_scheduler.LRScheduler, optional
    update_on_kvstore : bool
        Update on the store. This needs a scheduler, cannot save states, and has no effect on a single device.
    non_negative : bool
        Project factors to λ >= 0 after each step. Without the projection they oscillate around zero for a while.
    clip_gradient : float, optional
        Bound of each component of the rescaled gradient.
    multi_precision : bool
        Keep a float32 copy of float16 weights.
    no_decay : str
        Regular expression of parameter names whose ``wd_mult`` is set to 0.
    aggregate : bool
        Update all small parameters at once: the same numbers in a fraction of the time. On one CPU, the arrays of any
        network are updated where they lie (``train/host_update.py``), and ``step`` returns when that is done. On GPUs
        and several devices (``train/buckets.py``), in networks of ``get_model`` that have not run yet, gradients and
        the parameters of BatchNorm, biases and factors move into common buckets, so fetch ``p.data()`` and
        ``p.grad()`` after this call.
    loss_scaler : LossScaler, optional
        For float16 (``train/precision.py``): call ``backward`` on ``trainer.scaled(loss)``. An update whose gradients
        are not all finite is skipped on all devices and workers, for weights and factors.

    Returns
    -------
    FactorTrainer

    Warns
    -----
    UserWarning
        ``gamma`` is not 0, and the network has no factors.
    """
    if not isinstance(net, gluon.Block):
        raise SSSError(f'make_trainer needs the network itself, make_trainer(net, ...), to find its scaling factors; '
                       f'{type(net).__name__} is not a network')
    factors = scaling_factors(net)
    if gamma and not factors:
        warnings.warn(f'{type(net).__name__} has no scaling factors, so gamma={gamma} has no effect; give it some with '
                      f'sss.add_factors(net, input_shape=...) first, or pass gamma=0', stacklevel=2)
    named = named_parameters(net)
    if isinstance(kvstore, str) and 'dist' not in kvstore and len(named[0][1].list_ctx()) == 1:
        update_on_kvstore = False
    if update_on_kvstore and loss_scaler:
        raise SSSError('update_on_kvstore=True updates each parameter before loss_scaler has seen the gradients of '
                       'all; use update_on_kvstore=False')
    exempt_from_decay(net, no_decay)
    if lr_scheduler is None:
        learning_rate = 0.1 if learning_rate is None else learning_rate
    elif learning_rate is None:
        learning_rate = lr_scheduler.base_lr
    elif learning_rate != lr_scheduler.base_lr:
        raise SSSError(f'learning_rate={learning_rate} and the base_lr={lr_scheduler.base_lr} of lr_scheduler differ; '
                       f'give one of them')
    multipliers = gamma_multipliers(net, gamma_mult, gamma_weighting, input_shape)
    position = {id(parameter): i for i, (_, parameter) in enumerate(named)}
    index = {factor.name: position[id(factor.parameter)] for factor in factors}
    optimizer = mx.optimizer.create(
        'apgnag', factors=index.values(), gamma=gamma, gamma_mult={index[n]: m for n, m in multipliers.items()},
        momentum=momentum, non_negative=non_negative, learning_rate=learning_rate, wd=wd,
        clip_gradient=clip_gradient, lr_scheduler=lr_scheduler, multi_precision=multi_precision,
        param_dict={i: parameter for i, (_, parameter) in enumerate(named)})
    views = hasattr(net, 'spec') and not _has_run(net)
    compile_for_cpu(net)
    return FactorTrainer(named, optimizer, index, multipliers, aggregate, views, _grouped(net, position), loss_scaler,
                         scaled_parameters(net), kvstore=kvstore, update_on_kvstore=update_on_kvstore)


def _grouped(net: gluon.Block, position: Dict[int, int]) -> Optional[Set[int]]:
    """Positions of the weights of grouped convolutions, or None if they are unknown.

    Custom layers may call the convolution operator with any weight; the layers of ``get_model`` do not.
    """
    if not hasattr(net, 'spec'):
        return None
    found = set()

    def visit(block):
        if getattr(block, '_kwargs', {}).get('num_group', 1) > 1:
            found.add(position[id(block.weight)])
    net.apply(visit)
    return found


def _has_run(block: gluon.Block) -> bool:
    return getattr(block, '_cached_op', None) is not None or any(_has_run(b) for b in block._children.values())
