"""``make_trainer``: one gluon.Trainer for weights and factors, whose states are saved by structural name."""
from __future__ import annotations

import re
from typing import Dict, List, Optional, Sequence, Set, Tuple

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..errors import SSSError
from ..factors import scaling_factors
from ..files import read_npz, write_npz
from ..structures.masked_count import mac_weights
from .buckets import GradientBuckets, all_fresh, set_stale
from .precision import LOSS_SCALE, LossScaler, overflow

NO_DECAY = r'(bias|beta)$'      # authors' code: weight decay on weights and BatchNorm.gamma only
MASTER = '@float32'             # suffix of the float32 copy of a float16 weight in the saved states


class FactorTrainer(gluon.Trainer):
    """A gluon.Trainer that saves its states as arrays under structural names in an .npz file, without pickle.

    ``make_trainer`` makes it. Loading states keeps this trainer's optimizer: γ, learning rate and schedule come from
    the configuration, momenta and the number of updates from the file. ``gamma_multipliers`` maps factor names to
    multipliers of γ. ``aggregate`` updates small parameters through ``GradientBuckets``, which get ``views`` and
    ``grouped``. With a ``loss_scaler``, a step whose gradients overflow lowers the scale, sets ``overflowed`` and
    changes nothing else, neither momenta nor the schedule.
    """

    def __init__(self, named_parameters, optimizer, gamma_multipliers: Dict[str, float], aggregate: bool, views: bool,
                 grouped: Optional[Set[int]] = None, loss_scaler: Optional[LossScaler] = None, **kwargs):
        self.names = [name for name, _ in named_parameters]
        self.gamma_multipliers = gamma_multipliers
        self.loss_scaler, self.overflowed = loss_scaler, False
        super().__init__([parameter for _, parameter in named_parameters], optimizer, **kwargs)
        self._buckets: List[GradientBuckets] = []
        self._keys: Dict[Tuple[int, int], int] = {}     # store keys of the buckets
        self._stepping = self._gathered = False
        if aggregate:
            trained = {i: p for i, p in enumerate(self._params) if p.grad_req != 'null'}
            self._buckets = [GradientBuckets(trained, device, updater, views, grouped)
                          for device, updater in enumerate(self._updaters)]
        # The store copies all parameters of the first device to the others. gluon.Trainer would do so in its first
        # step: a race with running statistics that are being written, and a loss of those that a checkpoint restored.
        store = kwargs['kvstore']
        remote = kwargs.get('update_on_kvstore') and 'dist' in str(getattr(store, 'type', store))
        if not remote and not any(parameter._deferred_init for parameter in self._params):
            self._init_kvstore()
            self._init_params()
            self._bind()

    def _bind(self):
        for buckets in self._buckets:
            buckets.bind(self.optimizer)

    @property
    def loss_scale(self) -> float:
        """The factor in the gradients that ``step`` divides out."""
        return self.loss_scaler.scale if self.loss_scaler else 1.0

    def scaled(self, loss: mx.nd.NDArray) -> mx.nd.NDArray:
        """The loss times the loss scale. Compute it while recording, and call ``backward`` on it."""
        return loss * self.loss_scale if self.loss_scaler else loss

    def _check_and_rescale_grad(self, scale):
        super()._check_and_rescale_grad(scale / self.loss_scale)

    def step(self, batch_size, ignore_stale_grad=False):
        """One step as in gluon.Trainer, with small parameters summed over devices and workers in buckets.

        A few large messages replace one message per parameter, so ``p.grad()`` of a small parameter remains the
        gradient of its own device. Call ``allreduce_grads`` and ``update`` instead to see or change the sums.
        """
        self._stepping = bool(self._buckets) and not ignore_stale_grad
        try:
            super().step(batch_size, ignore_stale_grad)
        finally:
            self._stepping = self._gathered = False

    def _allreduce_grads(self):
        if not self._stepping or self._update_on_kvstore:
            super()._allreduce_grads()
        elif self._kvstore:
            self._gather()
            if self._all_fresh():
                for key, arrays in self.messages().items():
                    self._kvstore.pushpull(key, arrays, priority=-key)

    def messages(self) -> Dict[int, List[mx.nd.NDArray]]:
        """{store key: the arrays of all devices} that ``step`` sums over devices and workers."""
        self._bind()
        found = {}
        for position, copies in enumerate(zip(*(buckets.buckets for buckets in self._buckets))):
            arrays = [bucket.grad for bucket in copies]
            name = position, arrays[0].size
            if name not in self._keys:
                self._keys[name] = len(self._params) + len(self._keys)
                if self._kvstore:
                    self._kvstore.broadcast(self._keys[name], mx.nd.zeros_like(arrays[0]), mx.nd.zeros_like(arrays[0]))
            found[self._keys[name]] = arrays
        served = set(self._buckets[0].served) if self._buckets else ()
        found.update((i, p.list_grad()) for i, p in self._trained() if i not in served)
        return found

    def _trained(self):
        return [(i, p) for i, p in enumerate(self._params) if p.grad_req != 'null']

    def _gather(self):
        self._bind()
        for buckets in self._buckets:
            buckets.gather()
        self._gathered = self._stepping

    def _all_fresh(self) -> bool:
        """Whether every gradient was computed since the last step."""
        return all_fresh(array for _, p in self._trained() for array in p._data)

    def _update(self, ignore_stale_grad=False):
        if hasattr(self, '_amp_loss_scaler'):
            raise SSSError('amp.init_trainer gives this trainer a loss scale that sees the gradients of one device and '
                           'one worker only; use make_trainer(loss_scaler=LossScaler()) and trainer.scaled(loss)')
        flat = bool(self._buckets) and not ignore_stale_grad and not self._update_on_kvstore
        if flat and not self._gathered:
            self._gather()
        if not ignore_stale_grad and not self._all_fresh():
            super()._update()       # raises the error that names the stale parameter
            return
        trained = self._trained()
        if self.loss_scaler:
            sums = self.messages() if flat else {i: p.list_grad() for i, p in trained}
            self.overflowed = overflow(array for arrays in sums.values() for array in arrays)
            self.loss_scaler.update(self.overflowed)
        if not flat and not self.overflowed:
            super()._update(ignore_stale_grad)
            return
        set_stale(array for _, p in trained for array in p._data)
        if self.overflowed:
            return
        for device, (updater, buckets) in enumerate(zip(self._updaters, self._buckets)):
            self.optimizer._set_current_context(self._contexts[device].device_id)
            served = set(buckets.served)
            buckets.update(self.optimizer)
            single = [(i, p._grad[device], p._data[device]) for i, p in trained if i not in served]
            if single:
                updater(*zip(*single))

    def states(self) -> Dict[str, np.ndarray]:
        """{structural name: momentum} of all trained parameters, ``num_update``, and the loss scale if any."""
        self._refuse_on_kvstore()
        mx.nd.waitall()
        arrays = {'num_update': np.asarray(self.optimizer.num_update)}
        for index, state in sorted(self._updaters[0].states.items()):
            master, momentum = state if isinstance(state, tuple) else (None, state)
            arrays[self.names[index]] = momentum.asnumpy()
            if master is not None:
                arrays[self.names[index] + MASTER] = master.asnumpy()
        if self.loss_scaler:
            arrays[LOSS_SCALE] = self.loss_scaler.state()
        return arrays

    def set_states(self, arrays: Dict[str, np.ndarray], source: str = 'the states') -> None:
        """Restore ``states()`` of a trainer of the same network; anything that does not fit is an error."""
        self._refuse_on_kvstore()
        arrays = dict(arrays)
        if 'num_update' not in arrays:
            raise SSSError(f'{source}: num_update is missing, so these are not the states of an apgnag trainer')
        updates, scale = int(arrays.pop('num_update')), arrays.pop(LOSS_SCALE, None)
        index = {name: i for i, name in enumerate(self.names)}
        for name, array in arrays.items():
            plain = name[:-len(MASTER)] if name.endswith(MASTER) else name
            if plain not in index:
                raise SSSError(f'{source}: there is no parameter {plain} in this network')
            shape = self._params[index[plain]].shape
            if array.shape != shape:
                raise SSSError(f'{source}: {name} has shape {array.shape}, the parameter {shape}')
        trained = [name for name, p in zip(self.names, self._params) if p.grad_req != 'null']
        missing = [name for name in trained if name not in arrays]
        if missing and arrays:
            raise SSSError(f'{source}: the state of {missing[0]} is missing ({len(missing)} in all)')
        if self.loss_scaler and scale is not None:
            self.loss_scaler.set_state(scale, source)
        for updater, context in zip(self._updaters, self._contexts):
            updater.states.clear()
            for name in trained if arrays else ():
                momentum = mx.nd.array(arrays[name], ctx=context, dtype=arrays[name].dtype)
                master = arrays.get(name + MASTER)
                state = momentum if master is None else (mx.nd.array(master, ctx=context), momentum)
                updater.states[index[name]] = state
                updater.states_synced[index[name]] = True
        optimizer = self.optimizer
        optimizer.begin_num_update = optimizer.num_update = updates
        for counts in optimizer._all_index_update_counts.values():
            counts.clear()

    def save_states(self, fname):
        """Write ``states()`` to an .npz file."""
        write_npz(fname, self.states())

    def load_states(self, fname):
        """Read what ``save_states`` wrote."""
        self.set_states(read_npz(fname), str(fname))

    def _refuse_on_kvstore(self):
        if self._kvstore_params['update_on_kvstore']:
            raise SSSError('the states of a trainer with update_on_kvstore=True live on the store and cannot be '
                           'saved or loaded; use update_on_kvstore=False')


def named_parameters(net: gluon.Block) -> List[Tuple[str, gluon.Parameter]]:
    """(structural name, parameter) pairs in structural order; a shared parameter appears once.

    gluon.Trainer would sort a ParameterDict by name, and dense10 comes before dense6.
    """
    if isinstance(net, gluon.SymbolBlock):
        return list(net.collect_params().items())
    seen, named = set(), []
    for name, parameter in net._collect_params_with_prefix().items():
        if id(parameter) not in seen:
            seen.add(id(parameter))
            named.append((name, parameter))
    return named


def make_trainer(net: gluon.Block, gamma: float = 0.01, learning_rate: Optional[float] = None, momentum: float = 0.9,
                 wd: float = 0.0, kvstore='device', gamma_mult: Optional[Dict[str, float]] = None,
                 gamma_weighting: str = 'uniform', input_shape: Optional[Sequence[int]] = None, lr_scheduler=None,
                 update_on_kvstore: bool = False, non_negative: bool = True, clip_gradient: Optional[float] = None,
                 multi_precision: bool = False, no_decay: str = NO_DECAY, aggregate: bool = True,
                 loss_scaler: Optional[LossScaler] = None) -> FactorTrainer:
    """A gluon.Trainer that trains weights with NAG and scaling factors with APG.

    Parameters
    ----------
    net : mxnet.gluon.Block
        Initialised. A network without factors is trained with NAG alone.
    gamma : float
        Sparsity strength γ.
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
        Update all small parameters at once: the same numbers in a fraction of the time (``train/buckets.py``). In
        networks of ``get_model`` that have not run yet, gradients and the parameters of BatchNorm, biases and factors
        move into common buckets, so fetch ``p.data()`` and ``p.grad()`` after this call.
    loss_scaler : LossScaler, optional
        For float16 (``train/precision.py``): call ``backward`` on ``trainer.scaled(loss)``. An update whose gradients
        are not all finite is skipped on all devices and workers, for weights and factors.

    Returns
    -------
    FactorTrainer
    """
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
    index = {factor.name: position[id(factor.parameter)] for factor in scaling_factors(net)}
    optimizer = mx.optimizer.create(
        'apgnag', factors=index.values(), gamma=gamma, gamma_mult={index[n]: m for n, m in multipliers.items()},
        momentum=momentum, non_negative=non_negative, learning_rate=learning_rate, wd=wd,
        clip_gradient=clip_gradient, lr_scheduler=lr_scheduler, multi_precision=multi_precision,
        param_dict={i: parameter for i, (_, parameter) in enumerate(named)})
    views = hasattr(net, 'spec') and not _has_run(net)
    return FactorTrainer(named, optimizer, multipliers, aggregate, views, _grouped(net, position), loss_scaler,
                         kvstore=kvstore, update_on_kvstore=update_on_kvstore)


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


def exempt_from_decay(net: gluon.Block, no_decay: str = NO_DECAY) -> None:
    """Set ``wd_mult`` to 0 where a regular expression matches the structural name of a parameter."""
    for name, parameter in named_parameters(net):
        if re.search(no_decay, name):
            parameter.wd_mult = 0.0


def gamma_multipliers(net, gamma_mult=None, gamma_weighting='uniform', input_shape=None) -> Dict[str, float]:
    """{factor name: multiplier of γ}."""
    names = [factor.name for factor in scaling_factors(net)]
    multipliers = dict.fromkeys(names, 1.0)
    if gamma_weighting == 'macs':
        if input_shape is None:
            raise SSSError("gamma_weighting='macs' needs input_shape, e.g. (1, 3, 32, 32)")
        multipliers = mac_weights(net, input_shape)
    elif gamma_weighting != 'uniform':
        raise SSSError(f"gamma_weighting={gamma_weighting!r} must be 'uniform' or 'macs'")
    for pattern, multiplier in (gamma_mult or {}).items():
        try:
            matched = [name for name in names if re.search(pattern, name)]
        except re.error as error:
            raise SSSError(f'gamma_mult: {pattern!r} is not a regular expression: {error}') from error
        if not matched:
            raise SSSError(f'gamma_mult: {pattern!r} matches no factor; factors: {", ".join(names[:5])}, ...')
        if not 0 <= multiplier < float('inf'):
            raise SSSError(f'gamma_mult: the multiplier {multiplier} of {pattern!r} must be a finite number >= 0')
        for name in matched:
            multipliers[name] = multiplier * (multipliers[name] if gamma_weighting == 'macs' else 1.0)
    return multipliers
