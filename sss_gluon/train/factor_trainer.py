"""One gluon.Trainer for weights and factors, whose states are saved by structural name."""
from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Sequence, Set, Tuple, Union

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..errors import SSSError
from ..files import read_npz, write_npz
from ..structures.shrink import Index, Shrunk
from .buckets import GradientBuckets, all_fresh, set_stale
from .factor_control import FactorControl
from .host_update import HostUpdate
from .precision import LOSS_SCALE, LossScaler, overflow

FOLDED = '@folded'              # is among the saved states after fold_factors
MASTER = '@float32'             # suffix of the float32 copy of a float16 weight in the saved states
HELD, REMOVED = '@held', '@removed'     # suffixes of the masks of a factor


class FactorTrainer(FactorControl, gluon.Trainer):
    """A gluon.Trainer that saves its states as arrays under structural names in an .npz file, without pickle.

    ``make_trainer`` makes it. Loading states keeps this trainer's optimizer: γ, learning rate and schedule come from
    the configuration, momenta and the number of updates from the file. ``gamma_multipliers`` maps factor names to
    multipliers of γ. ``aggregate`` updates small parameters through ``HostUpdate`` on one CPU, else through
    ``GradientBuckets``, which get ``views`` and ``grouped``. With a ``loss_scaler``, a step whose gradients overflow
    lowers the scale, sets ``overflowed`` and changes nothing else, neither momenta nor the schedule. ``held`` maps
    factor names to masks of the structures that ``hold`` pinned at zero, ``removed`` to masks of those that ``rebind``
    removed, and ``scales`` maps factor names to the names of the parameters that they multiply.
    """

    def __init__(self, named_parameters, optimizer, factors: Dict[str, int], gamma_multipliers: Dict[str, float],
                 aggregate: bool, views: bool, grouped: Optional[Set[int]] = None,
                 loss_scaler: Optional[LossScaler] = None, scales: Optional[Dict[str, List[str]]] = None, **kwargs):
        self.names = [name for name, _ in named_parameters]
        self.factors, self.gamma_multipliers, self._scales = factors, gamma_multipliers, scales or {}
        self.loss_scaler, self.overflowed = loss_scaler, False
        super().__init__([parameter for _, parameter in named_parameters], optimizer, **kwargs)
        self.held: Dict[str, np.ndarray] = {}
        self.pressure: Dict[str, np.ndarray] = {}
        self.removed: Dict[str, np.ndarray] = {}
        self.shrunk: Optional[Shrunk] = None    # the smaller network that ``shrink`` made, if any
        self._whole = [(p, p.grad_req != 'null') for p in self._params]
        self._aside: Dict[str, List] = {}
        self._found: Dict[str, np.ndarray] = {}
        self._kept: Dict[str, Index] = {}       # after rebind: the part of each parameter that remains
        self._buckets: Sequence[Union[GradientBuckets, HostUpdate]] = []
        self._keys: Dict[Tuple, int] = {}       # store keys of the buckets, and of parameters that replaced others
        self._stepping = self._gathered = False
        self._aggregate, self._views, self._grouped = aggregate, views, grouped
        store = kwargs['kvstore']
        # gluon.Trainer makes no store for one device unless it joins several workers
        self._alone = [context.device_type for context in self._contexts] == ['cpu'] and (
            store is None or isinstance(store, str) and store in ('device', 'local'))
        self._make_buckets()
        # The store copies all parameters of the first device to the others. gluon.Trainer would do so in its first
        # step: a race with running statistics that are being written, and a loss of those that a checkpoint restored.
        remote = kwargs.get('update_on_kvstore') and 'dist' in str(getattr(store, 'type', store))
        if not remote and not any(parameter._deferred_init for parameter in self._params):
            self._init_kvstore()
            self._init_params()
            self._bind()

    def _make_buckets(self):
        if self._aggregate and self._alone:
            self._buckets = [HostUpdate(dict(self._trained()), self._updaters[0])]
        elif self._aggregate:
            self._buckets = [GradientBuckets(dict(self._trained()), device, updater, self._views, self._grouped)
                             for device, updater in enumerate(self._updaters)]

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
        except UserWarning as error:        # MXNet's, of a gradient that is not fresh
            if not self._kept:
                raise
            raise SSSError('the loss of this step did not come from the network that was cut: since shrink, train the '
                           'net of what it returned') from error
        finally:
            self._stepping = self._gathered = False

    def _allreduce_grads(self):
        if self._update_on_kvstore or not (self._stepping or self._kept):
            super()._allreduce_grads()
        elif self._kvstore:
            if self._stepping:
                self._gather()
                sums = self.messages() if self._all_fresh() else {}
            else:
                sums = self._single(set())
            for key, arrays in sums.items():
                self._kvstore.pushpull(key, arrays, priority=-key)

    def messages(self) -> Dict[int, List[mx.nd.NDArray]]:
        """{store key: the arrays of all devices} that ``step`` sums over devices and workers."""
        self._bind()
        found = {}
        for position, copies in enumerate(zip(*(buckets.buckets for buckets in self._buckets))):
            arrays = [bucket.grad for bucket in copies]
            found[self._key(('bucket', position), arrays[0])] = arrays
        found.update(self._single({i for bucket in self._buckets[0].buckets for i in bucket.indices}
                                  if self._buckets else set()))
        return found

    def _single(self, served: Set[int]) -> Dict[int, List[mx.nd.NDArray]]:
        """The messages of the parameters that are in no bucket."""
        return {self._key(i, p.list_grad()[0]) if self._kept else i: p.list_grad()
                for i, p in self._trained() if i not in served}

    def _key(self, name, array: mx.nd.NDArray) -> int:
        """The key of the store for arrays of this name and shape; a store cannot change the shape of a key."""
        kind = name, array.shape
        if kind not in self._keys:
            self._keys[kind] = len(self._params) + len(self._keys)
            if self._kvstore:
                self._kvstore.broadcast(self._keys[kind], mx.nd.zeros_like(array), mx.nd.zeros_like(array))
        return self._keys[kind]

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
        self._update_all(ignore_stale_grad)
        self._end_probe()

    def _update_all(self, ignore_stale_grad: bool) -> None:
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

    def rebind(self, parameters: Mapping[str, gluon.Parameter], kept: Mapping[str, Index],
               removed: Mapping[str, np.ndarray]) -> None:
        """Go on with a smaller network: momenta, number of updates, schedule and multipliers carry over.

        Parameters
        ----------
        parameters : dict of str to mxnet.gluon.Parameter
            By structural name; those that are absent are trained no more.
        kept : dict of str to tuple
            For each of them, the index of its entries in the whole parameter.
        removed : dict of str to numpy.ndarray
            {factor name: mask of the structures that the smaller network lacks}; they are held at zero.
        """
        states = self.states()
        self.hold(removed)
        self.removed, self._kept = {name: np.array(mask) for name, mask in removed.items()}, dict(kept)
        for i, (name, (whole, _)) in enumerate(zip(self.names, self._whole)):
            new = parameters.get(name)
            if new is None:
                new = gluon.Parameter(whole.name, grad_req='null', shape=whole.shape)
            else:
                new.lr_mult, new.wd_mult = whole.lr_mult, whole.wd_mult
            new._set_trainer(self)
            self._params[i] = self.optimizer.param_dict[i] = new
        self._param2idx = {parameter.name: i for i, parameter in enumerate(self._params)}
        for updater in self._updaters:
            updater.states.clear()
        self.set_states(states)
        self._make_buckets()
        self._bind()

    def states(self) -> Dict[str, np.ndarray]:
        """{structural name: momentum} of all trained parameters, ``num_update``, and what else the next step needs.

        That is the loss scale if any, what is held and removed, and whether the factors are folded.
        """
        self._refuse_on_kvstore()
        mx.nd.waitall()
        arrays = {'num_update': np.asarray(self.optimizer.num_update)}
        if not self.optimizer.train_factors:
            arrays[FOLDED] = np.array(1, 'uint8')
        states = self._updaters[0].states
        for index, (name, (whole, trained)) in enumerate(zip(self.names, self._whole)):
            if index in states:
                master, momentum = states[index] if isinstance(states[index], tuple) else (None, states[index])
                arrays[name] = self._restored(index, momentum)
                if master is not None:
                    arrays[name + MASTER] = self._restored(index, master)
            elif trained and states:
                arrays[name] = np.zeros(whole.shape, 'float32')     # the smaller network lacks it
        for suffix, masks in ((HELD, self.held), (REMOVED, self.removed)):
            for name, mask in masks.items():
                arrays[self.names[self.factors[name]] + suffix] = mask.astype('uint8')
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
        folded = arrays.pop(FOLDED, None) is not None
        index = {name: i for i, name in enumerate(self.names)}
        held, removed = ({name: arrays.pop(self.names[i] + suffix).astype(bool) for name, i in self.factors.items()
                          if self.names[i] + suffix in arrays} for suffix in (HELD, REMOVED))
        for name, mask in (*held.items(), *removed.items()):
            if mask.shape != self._whole[self.factors[name]][0].shape:
                raise SSSError(f'{source}: the mask of the factor {name} has shape {mask.shape}, the factor '
                               f'{self._whole[self.factors[name]][0].shape}')
        for name, array in arrays.items():
            plain = name[:-len(MASTER)] if name.endswith(MASTER) else name
            if plain not in index:
                raise SSSError(f'{source}: there is no parameter {plain} in this network')
            shape = self._whole[index[plain]][0].shape
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
                momentum, master = (None if array is None else mx.nd.array(
                    self._part(index[name], array), ctx=context, dtype=array.dtype)
                    for array in (arrays[name], arrays.get(name + MASTER)))
                updater.states[index[name]] = momentum if master is None else (master, momentum)
                updater.states_synced[index[name]] = True
        optimizer = self.optimizer
        optimizer.begin_num_update = optimizer.num_update = updates
        optimizer.train_factors = not folded
        for counts in optimizer._all_index_update_counts.values():
            counts.clear()
        self.removed = self.removed or removed      # what its own network lacks goes before what the file says
        self.hold(held)

    def save_states(self, fname):
        """Write ``states()`` to an .npz file."""
        write_npz(fname, self.states())

    def load_states(self, fname):
        """Read what ``save_states`` wrote."""
        self.set_states(read_npz(fname), str(fname))
