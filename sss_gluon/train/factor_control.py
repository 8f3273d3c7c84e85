"""What a controller may do with the factors of a trainer between steps: steer γ, hold, fold, and remove structures."""
from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..errors import SSSError
from ..structures.shrink import Index


class FactorControl:
    """The part of ``FactorTrainer`` that acts on factors; all its arrays are in the shapes of the whole network."""
    names: List[str]
    factors: Dict[str, int]
    gamma_multipliers: Dict[str, float]
    _scales: Dict[str, List[str]]
    held: Dict[str, np.ndarray]
    pressure: Dict[str, np.ndarray]
    removed: Dict[str, np.ndarray]
    optimizer: Any
    _params: List[gluon.Parameter]
    _updaters: List[Any]
    _kvstore_params: Dict[str, Any]
    _whole: List[Tuple[gluon.Parameter, bool]]    # before rebind, and whether they are trained
    _kept: Dict[str, Index]
    _aside: Dict[str, List[Any]]        # what ``probe`` took away
    _found: Dict[str, np.ndarray]       # and what it showed

    @property
    def gamma(self) -> float:
        """The sparsity strength γ; it may be set between steps."""
        return self.optimizer.gamma

    @gamma.setter
    def gamma(self, value: float) -> None:
        self._refuse_on_kvstore('γ cannot be set')
        self.optimizer.gamma = value

    def hold(self, masks: Mapping[str, np.ndarray]) -> None:
        """Hold structures at zero from now on, whatever their gradient.

        Parameters
        ----------
        masks : dict of str to numpy.ndarray
            {factor name: booleans, shape (size,)}; True sets a factor to 0 and holds it. What is held stays held.
        """
        self._refuse_on_kvstore('no structure can be held at zero')
        for name, mask in masks.items():
            index = self.factors[name]
            self.held[name] = np.asarray(mask, bool) | self.held.get(name, False)
            if not self._present(name):
                continue
            held = self._part(index, self.held[name])
            for device in range(len(self._updaters)):
                arrays = self._value_and_momentum(index, device)
                keep = mx.nd.array(~held, ctx=arrays[0].context)
                for values in arrays:
                    if values is not None:
                        values *= keep
        self._instruct()

    def trains(self, parameter: gluon.Parameter) -> bool:
        """Whether this is one of the parameters that the trainer was made for."""
        return any(whole is parameter for whole, _ in self._whole)

    def probe(self, masks: Mapping[str, np.ndarray]) -> None:
        """Set structures to zero for the next step alone, and learn what ``probed`` tells; they have their values and
        momenta back after it.

        Parameters
        ----------
        masks : dict of str to numpy.ndarray
            {factor name: booleans, shape (size,)}.
        """
        self._refuse_on_kvstore('no structure can be probed')
        for name, mask in masks.items():
            index = self.factors[name]
            if not self._present(name) or not self._part(index, mask).any():
                continue
            for device in range(len(self._updaters)):
                arrays = self._value_and_momentum(index, device)
                if arrays[1] is None:       # before the first step
                    continue
                there = mx.nd.array(self._part(index, mask), ctx=arrays[0].context)
                self._aside.setdefault(name, []).append((there, [array * there for array in arrays]))
                for array in arrays:
                    array *= 1 - there

    @property
    def probing(self) -> bool:
        """Whether structures are zero for the next step."""
        return bool(self._aside)

    def probed(self) -> Dict[str, np.ndarray]:
        """How much the loss wanted each structure back in the last step, at zero.

        Returns
        -------
        dict of str to numpy.ndarray
            {factor name: the resistance −∂L/∂λ at λ = 0, shape (size,)} of the factors that were probed: NaN where
            nothing was probed, and 0 where it is less than γ, so that equation 10 leaves the factor at zero.
        """
        found, self._found = self._found, {}
        return found

    def _end_probe(self) -> None:
        """After the step: learn the resistances, and give back what ``probe`` took away."""
        self._found = {}
        for name, devices in self._aside.items():
            index = self.factors[name]
            rate = self.optimizer._get_lr(index)
            there = devices[0][0].asnumpy().astype(bool)
            velocity = self._value_and_momentum(index, 0)[1].asnumpy()[there].astype('float64')
            threshold = np.broadcast_to(self.optimizer.threshold(index, rate), there.shape)[there]
            resistance = np.full(there.shape, np.nan)
            resistance[there] = (velocity + np.sign(velocity) * threshold) / max(rate, 1e-12)
            for device, (mask, before) in enumerate(devices):
                for array, part in zip(self._value_and_momentum(index, device), before):   # perhaps others by now
                    array *= 1 - mask
                    array += part
            whole = np.full(self._whole[index][0].shape, np.nan)
            whole[self._kept[self.names[index]] if self._kept else ...] = resistance
            self._found[name] = whole
        self._aside.clear()

    def _value_and_momentum(self, index: int, device: int) -> Tuple[Any, Any]:
        return self._params[index]._data[device], self._updaters[device].states.get(index)

    def press(self, pressure: Mapping[str, np.ndarray]) -> None:
        """Multiply γ for single structures, on top of ``gamma_multipliers``.

        Parameters
        ----------
        pressure : dict of str to numpy.ndarray
            {factor name: multiplier of each structure, shape (size,)}.
        """
        self._refuse_on_kvstore('γ cannot be set')
        self.pressure.update((name, np.array(array)) for name, array in pressure.items())
        self._instruct()

    def _instruct(self) -> None:
        """Tell the optimizer what is held and pressed, in the shapes of the present network."""
        for name, index in self.factors.items():
            if not self._present(name):
                continue
            if name in self.held:
                self.optimizer.held[index] = self._part(index, self.held[name])
            if name in self.pressure:
                self.optimizer.gamma_mult[index] = self.gamma_multipliers[name] * \
                    self._part(index, self.pressure[name])
        self.optimizer.changes += 1

    def factor_values(self) -> Dict[str, np.ndarray]:
        """{factor name: float32 array, shape (size,)}; 0 where a smaller network lacks the structure."""
        mx.nd.waitall()
        return {name: self._restored(i, self._params[i].list_data()[0]) if self._present(name)
                else np.zeros(self._whole[i][0].shape, 'float32') for name, i in self.factors.items()}

    def set_factor_values(self, values: Mapping[str, np.ndarray]) -> None:
        """Set factors, {factor name: array, shape (size,)}, on all devices; their momenta become 0."""
        for name, array in values.items():
            if self._present(name):
                self._restart(self.factors[name], self._part(self.factors[name], array))

    def fold_factors(self, names: Optional[Iterable[str]] = None) -> None:
        """Train no factor any more, and multiply them into the parameters that they scale.

        The function stays the same. A weight W behind a small λ learns λ² times as slowly as λ·W does, and pruning
        multiplies the two anyway. Factors that are 0 stay 0, and their weights stay as they are. A factor of a layer of
        one's own, or of a weight that is used without the factor too, keeps its value.

        Parameters
        ----------
        names : iterable of str, optional
            Of the factors to be multiplied into their parameters, and to be 1 afterwards; default all. The others keep
            their values.
        """
        self._refuse_on_kvstore('factors cannot be folded')
        mx.nd.waitall()
        chosen = set(self._scales if names is None else names)
        for name, scaled in self._scales.items():
            if name not in chosen or not self._present(name):
                continue
            i = self.factors[name]
            scale = self._value(i)
            for other in (self.names.index(own) for own in scaled if not self._kept or own in self._kept):
                value = self._value(other)
                each = np.repeat(np.where(scale == 0, 1, scale), len(value) // scale.size)
                self._restart(other, value * each.reshape((-1,) + (1,) * (value.ndim - 1)))
            self._restart(i, scale != 0)
        self.optimizer.train_factors = False

    def _value(self, index: int) -> np.ndarray:
        """A parameter, in float32 if there is a float32 copy of it."""
        state = self._updaters[0].states.get(index)
        return (state[0] if isinstance(state, tuple) else self._params[index].list_data()[0]).asnumpy()

    def _restart(self, index: int, value: np.ndarray) -> None:
        """Set a parameter on all devices, and its momentum to 0."""
        self._params[index].set_data(mx.nd.array(value, dtype=self._params[index].dtype))
        for updater in self._updaters:
            state = updater.states.get(index)
            master, momentum = state if isinstance(state, tuple) else (None, state)
            if master is not None:
                master[:] = value
            if momentum is not None:
                momentum[:] = 0

    def _present(self, name: str) -> bool:
        """Whether the network still has any of the structures of a factor."""
        return not self._kept or self.names[self.factors[name]] in self._kept

    def _part(self, index: int, array: np.ndarray) -> np.ndarray:
        """The entries of a whole parameter that its present form holds."""
        return array[self._kept[self.names[index]]] if self._kept else array

    def _restored(self, index: int, array: mx.nd.NDArray) -> np.ndarray:
        """An array in the shape of the whole parameter, with zeros where the smaller network lacks it."""
        if not self._kept:
            return array.asnumpy()
        whole = np.zeros(self._whole[index][0].shape, array.dtype)
        whole[self._kept[self.names[index]]] = array.asnumpy()
        return whole

    def _refuse_on_kvstore(self, what: str = 'its states cannot be saved or loaded'):
        if self._kvstore_params['update_on_kvstore']:
            raise SSSError(f'with update_on_kvstore=True the optimizer and its states live on the store, so {what}; '
                           f'use update_on_kvstore=False')
