"""The controller of a budget: it steers γ while a network trains, until what is left meets the budget."""
from __future__ import annotations

from copy import deepcopy
from typing import Dict, List, Optional, Sequence

import numpy as np
from mxnet import gluon

from ..errors import SSSError
from .holder import Holder, Measure, restore
from .probes import Probes

POINTS = 200        # control points of a search
PRESSES = 40        # a structure is pressed to zero within this part of the search,
SETTLE = 5.0        # and within at least so many steps
LARGE = 1.5         # a block that removes this many times what is missing waits for neurons and groups
STILL = 0.005       # below this part of the highest learning rate, no factor would move any more


class Budget(Holder):
    """Steers γ until what is left of a network meets a budget; step it after every step of the trainer.

    All structures feel a γ that brings as many of them to zero by the end of the search as the budget asks for. So γ
    chooses among neurons and groups, as in the paper, and only those that are late are pressed with a γ of their own.
    Where there are blocks, it is at most the γ that the trainer starts with, because a network collapses when several
    blocks go at once, and the search removes them one after the other, evenly over its steps: when the next is due, the
    one whose removal costs the least loss for what it saves (``Probes``) is pressed, as far as that is known: nothing
    is, where the network is never called itself, but only as a part of another one. Where even the largest γ is too
    small for neurons and groups, they are pressed in the same way, that first which needs the least. What is exactly
    zero is held. When the budget is met, γ becomes 0 and all factors stop; those of blocks are folded into the weights.
    The structure is fixed, and the rest of the training trains it.

    The force that a structure needs follows from how it moves. With momentum μ and rate η, equations 10 to 12 move a
    factor by −η(γ + g)/(1 − μ) a step once its velocity has settled; so its movement shows the resistance −g of the
    loss, and γ = −g + λ(1 − μ)/(ηT) brings it to zero within T steps. This is computed anew at every control point.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
        With scaling factors, initialised.
    trainer : FactorTrainer
        Of ``make_trainer``. ``gamma_mult`` and ``gamma_weighting`` keep their effect.
    input_shape : sequence of int
        Batch first.
    target : float
        In (0, 1]: the share that may be left, of the MACs or of what ``measure`` measures.
    steps : int
        Length of the search. A search that is continued by ``set_states`` keeps the length that it began with.
    wait : int
        Steps before the search begins, such as those of a warm-up, whose small rates tell little. γ is 0 until then.
    measure : callable, optional
        As for ``Holder``.
    what : str
        What ``measure`` measures, for messages.

    Attributes
    ----------
    met : bool
    planned : float
        The share that should be left by now.

    Raises
    ------
    SSSError
        The budget is smaller than what remains without all structures that can go, or the schedule of the trainer
        lowers the rate to almost 0 before the search ends.
    """
    SCALARS: List[str] = [*Holder.SCALARS, 'steps', 'passed', 'weight', 'due', 'deadline', 'met', 'highest', 'strength',
                          'base']
    VECTORS: List[str] = [*Holder.VECTORS, 'values', 'moved', 'chosen', 'pressure']

    def __init__(self, net: gluon.HybridBlock, trainer, input_shape: Sequence[int], target: float, steps: int,
                 measure: Optional[Measure] = None, what: str = 'MACs', wait: int = 0):
        super().__init__(net, trainer, input_shape, measure)
        if not isinstance(target, (int, float, np.number)) or not 0 < target <= 1:
            raise SSSError(f'a budget of {target!r} is impossible: it is the share of the {what} to keep, above 0 and '
                           f'at most 1')
        if measure is None and what != 'MACs':
            raise SSSError(f'a budget is one of MACs unless measure= measures something else, so {what!r} would be a '
                           f'wrong name; give measure= too')
        for name, number, least in (('search', steps, 1), ('wait', wait, 0)):
            if not isinstance(number, (int, np.integer)) or number < least:
                raise SSSError(f'a {name} of {number} steps is impossible; give it a whole number of at least {least}')
        self.target, self.steps, self.what, self.wait = target, steps, what, wait
        self._refuse_rates_of_almost_zero(trainer.optimizer)
        self._set_pace()
        self.multiplier = np.concatenate([np.full(part.size, trainer.gamma_multipliers[name])
                                          for name, part in self.split(self.held).items()])
        self.cost = self._costs()
        driven = self.multiplier > 0
        stay = np.append(True, self.layer[1:] != self.layer[:-1]) & ~self.may_vanish       # one of each layer,
        if self.may_vanish.sum() > 1 and driven[self.may_vanish].all():
            stay[np.argmin(np.where(self.may_vanish, self.cost, np.inf))] = True            # and one block
        floor = self.left(driven & ~stay)
        if floor > target:
            raise SSSError(f'a budget of {target:g} of the {what} cannot be met: when everything that can go has gone, '
                           f'{np.ceil(1000 * floor) / 1000:.3f} remain; raise it, or give more kinds of '
                           f'structures a factor')
        self.first = self.base = trainer.gamma
        self.values = self.read()
        self.moved, self.pressure = np.zeros(self.held.size), np.ones(self.held.size)
        self.passed = self.weight = 0.0         # sums of learning rates: since the last control point, and remembered
        self.chosen = np.zeros(self.held.size, bool)
        self.probes = Probes(self, net, self._to_probe)
        self.due = self.deadline = -1.0
        self.met = target == 1
        self.highest = self.strength = 0.0 if self.met or self.wait else self.base
        if self.met:
            self._finish()
        elif self.wait:
            self._apply()

    def _refuse_rates_of_almost_zero(self, optimizer) -> None:
        schedule = deepcopy(optimizer.lr_scheduler)     # schedulers only run forwards
        if schedule is None:
            return
        first = optimizer.num_update + 1
        rates = [schedule(update) for update in range(first, first + self.wait + self.steps)]
        if rates[-1] < STILL * max(rates):
            after, shorten = ('', '') if not self.wait else (f' after a wait of {self.wait}',
                                                             ' or the wait (warmup_epochs:)')
            raise SSSError(f'a search of {self.steps} steps{after} ends at a learning rate of {rates[-1]:.2g} (the '
                           f'highest is {max(rates):.2g}), where no factor moves any more; shorten it (search: in a '
                           f'configuration){shorten}, or let the rate fall later')

    def _set_pace(self) -> None:
        self.interval = max(1, self.steps // POINTS)
        self.press_steps = max(SETTLE, self.steps / PRESSES)
        self.memory = float(np.exp(-self.interval / max(20.0, self.press_steps)))

    @property
    def done(self) -> bool:
        return bool(self.met)

    @property
    def planned(self) -> float:
        return 1 - (1 - self.target) * min(1.0, max(0, self.steps_done - self.wait) / self.steps)

    def step(self) -> None:
        if self.met:
            return
        if not self.trainer.optimizer.train_factors:
            raise SSSError('the factors of this trainer have stopped, because another budget was met with it; compact '
                           'the network and give what is left new factors and a trainer, or ask for the smaller size '
                           'at once')
        self.steps_done += 1
        if self.steps_done <= self.wait:
            if self.steps_done == self.wait:
                self.values, self.strength = self.read(), self.base
                self._apply()
            return
        self.probes.step()
        self.passed += self.trainer.learning_rate
        if self.steps_done % self.interval == 0:
            self._control()

    def _count(self, order: np.ndarray) -> int:
        """How many structures have to go in this order to meet the budget."""
        return 1 + int(np.searchsorted(np.cumsum(self.cost[order]) + 1e-9, self.share - self.target))

    def _balance(self, needed: np.ndarray, largest: float) -> float:
        """γ for all structures: the largest, or that which brings as many to zero as the budget asks for."""
        order = np.argsort(needed, kind='stable')[:np.isfinite(needed).sum()]
        enough = needed[order[:self._count(order)][-1:]]
        return float(np.clip(enough, 0, largest).min(initial=largest))

    def _order(self, candidates: np.ndarray, force: np.ndarray) -> np.ndarray:
        """The candidates, that first which needs the least γ; among blocks, that whose removal costs the least loss for
        what it saves, and last those that are too large."""
        order = np.argsort(np.where(candidates, force, np.inf), kind='stable')[:candidates.sum()]
        turns = self.may_vanish[order]
        blocks = order[turns]
        saved = np.clip(self.cost[blocks], 1e-12, max(self.share - self.target, 1e-9))
        order[turns] = blocks[np.argsort(self.probes.loss(self.values)[blocks] / saved, kind='stable')]
        large = self._too_large(candidates)[order]
        return np.concatenate([order[~large], order[large]])

    def _too_large(self, candidates: np.ndarray) -> np.ndarray:
        """Booleans: blocks that would remove much more than is missing, while neurons and groups can do with less."""
        missing = self.share - self.target
        enough = self.cost[candidates & ~self.may_vanish].sum() > missing
        return self.may_vanish & (self.cost > LARGE * missing) & enough

    def needed(self, alive: np.ndarray, size: Optional[np.ndarray] = None) -> np.ndarray:
        """Also the last block: without any, hardly more than shortcuts is left of a network."""
        result = super().needed(alive, size)
        blocks = np.flatnonzero(self.may_vanish)
        if blocks.size > 1 and alive[blocks].sum() <= 1:
            order = alive if size is None or alive[blocks].any() else size
            result[blocks[np.argmax(order[blocks])]] = True
        return result

    def _may_go(self) -> np.ndarray:
        """Booleans: there, driven by γ, and not the last of its layer."""
        return ~self.held & ~self.inside & (self.multiplier > 0) & ~self.needed(~self.held)

    def _to_probe(self) -> np.ndarray:
        """Booleans: what may be chosen next."""
        return self._may_go() & ~self.chosen & (self.steps_done >= max(1, self.wait))   # not before it is stepped

    def _costs(self) -> np.ndarray:
        """The share that each structure costs while all others are there; those of a layer cost the same."""
        cost = np.zeros(self.held.size)
        for layer in range(len(self.names)):
            inside = self.layer == layer
            without = np.zeros(self.held.size, bool)
            without[np.flatnonzero(inside)[:max(1, inside.sum() // 2)]] = True      # one alone may save no latency
            cost[inside] = max(0.0, 1 - self.left(without)) / without.sum()
        return cost

    def _control(self) -> None:
        now, trainer = self.read(), self.trainer
        friction = 1 - trainer.optimizer.momentum
        self.moved = self.memory * self.moved + (np.abs(now) - np.abs(self.values)) * friction + \
            self.strength * self.multiplier * self.pressure * self.passed
        self.weight = self.memory * self.weight + self.passed
        self.passed = 0.0
        resistance = self.moved / self.weight if self.weight else self.moved
        held = self._hold_zeros(now, resistance)
        if self.met:
            self._finish()
            return
        candidates = self._may_go()
        rate = max(trainer.learning_rate, 1e-12)

        def force(steps: float) -> np.ndarray:
            """γ that brings each structure to zero within some steps."""
            needed = (resistance + np.abs(now) * friction / (rate * steps)) / np.maximum(self.multiplier, 1e-12)
            return np.where(candidates, needed, np.inf)

        left = max(self.wait + self.steps - self.steps_done, self.press_steps)
        needed = force(left)
        # Without blocks, γ may be twice what brings λ = 1 to zero in the search.
        largest = self.first if self.may_vanish.any() else max(self.first, 2 * friction / (rate * self.steps))
        self.base = self._balance(needed, largest)
        order = self._order(candidates, needed)
        going = order[:self._count(order)]
        if self.base < largest and left > self.press_steps:
            going = going[self.may_vanish[going]]       # γ alone brings the others to zero in time
        if not going.size:
            self.due = -1.0
        elif held or self.due < 0:
            self.due = self.steps_done + left / going.size
        self.chosen &= candidates & ~self._too_large(candidates)
        if not going.size or self.due - self.steps_done > self.press_steps:       # too early for the next
            self.chosen[:] = False
        else:
            self._choose(going, max(1, int(round(going.size * self.press_steps / left))))
        self.strength = self.base
        if self.chosen.any():
            time = self.deadline - self.steps_done
            wanted = force(max(time, 2.0 * self.interval))[self.chosen].max()
            rise = float(np.exp(self.interval / self.press_steps)) * trainer.gamma
            if time < 0:
                wanted = max(wanted, rise)      # late: the resistance grew as the factor shrank
            most = rise + friction / (rate * self.press_steps)
            self.strength = float(np.clip(wanted, self.base, max(self.base, most)))
        self.highest = max(self.highest, self.strength)
        self.pressure = np.where(self.chosen, 1.0, self.base / self.strength if self.strength else 1.0)
        self._apply()

    def _apply(self) -> None:
        self.trainer.gamma = self.strength
        self.trainer.press({**self.split(self.pressure), **self._calm()})

    def _calm(self) -> Dict[str, np.ndarray]:
        """The first γ, as a pressure, for factors that take no part in inference and so in no budget."""
        if len(self.trainer.factors) == len(self.names):
            return {}
        calm = self.first / self.strength if self.strength else 1.0
        return {name: np.full(values.shape, calm) for name, values in self.trainer.factor_values().items()
                if name not in self.names}

    def _hold_zeros(self, now: np.ndarray, resistance: np.ndarray) -> bool:
        """Hold what has become zero, as long as the budget asks for it; the rest gets its last values back."""
        new = np.flatnonzero((now == 0) & ~self.held & ~self.inside)
        new = new[np.argsort(resistance[new], kind='stable')]
        last = self.needed(~self.held & (now != 0), np.where(self.held, -1.0, np.abs(self.values)))
        spared = [i for i in new if last[i]]
        new = np.array([i for i in new if not last[i]], int)

        def left(count: int) -> float:
            held = self.held.copy()
            held[new[:count]] = True
            return self.left(held)

        count = new.size
        if count and left(count) <= self.target:
            low, count = 0, new.size            # the fewest that meet the budget
            while count - low > 1:
                middle = (low + count) // 2
                low, count = (low, middle) if left(middle) <= self.target else (middle, count)
            self.met = True
        spared += list(new[count:])
        self.revive(spared, self.values)
        now[spared] = self.values[spared]
        self.hold(new[:count])
        self.values = now
        return bool(count)

    def _choose(self, order: np.ndarray, count: int) -> None:
        """Press that many structures, those chosen before first: near zero, noise would have others chosen again and
        again."""
        missing = count - self.chosen.sum()
        if missing > 0:
            self.chosen[order[~self.chosen[order]][:missing]] = True
            self.deadline = self.steps_done + self.press_steps

    def _finish(self) -> None:
        self.strength, self.pressure = 0.0, np.ones(self.held.size)
        self.chosen[:] = False
        self.probes.stop()
        self._apply()
        # The layer behind neurons or groups can make up for any scale of them, and BatchNorm there ignores it. So small
        # weights would only move faster than those of a network that was built like this. A shortcut fixes the scale.
        self.trainer.fold_factors(name for name, kind in self.kinds.items() if kind == 'block')

    def states(self) -> Dict[str, np.ndarray]:
        return {**super().states(), **self.probes.states()}

    def set_states(self, states, source: str = 'the state') -> None:
        super().set_states({'steps': np.array(self.steps), 'base': np.array(self.base), **states}, source)
        restore(self.probes, Probes.VECTORS, {**self.probes.states(), **states}, source)
        self._set_pace()
        self._apply()
        self.trainer.optimizer.train_factors = not self.met
        if self.met:
            self.probes.stop()

    def columns(self):
        """Also γ, the highest since the last call, and what was planned."""
        found = dict(gamma=f'{self.highest:.9g}', planned_left=f'{self.planned:.6f}', **super().columns())
        self.highest = self.strength
        return found

    def summary(self) -> str:
        verb = 'is' if self.what == 'latency' else 'are'
        kept = f'{self.share:.1%} of the {self.what} {verb} left of the {self.target:.1%} asked for'
        if not self.met:
            if self.steps_done < self.wait + self.steps:
                return f'the budget is not met yet: {kept} after {self.steps_done} of {self.wait + self.steps} steps'
            return (f'the budget is not met yet: {kept} after {self.steps_done} steps; {self.steps} were planned for '
                    f'the search, which goes on as long as the training does. If that ends here, train for more '
                    f'epochs, or with a higher learning_rate')
        back = self.would_fit()
        return f'budget met after {self.steps_done} steps: {kept}' + (
            f'; one {self.kinds[back]} of layer {back!r} would still fit' if back else '')

    def would_fit(self) -> Optional[str]:
        """Name of the factor with the largest removed structure that could come back within the budget; None if none.

        Counted in the network that is left.
        """
        found = []
        for layer, name in enumerate(self.names):
            inside = np.flatnonzero(self.held & (self.layer == layer))
            if inside.size:
                without = self.held.copy()
                without[inside[0]] = False
                found.append((self.left(without), name, without))
        fits = sorted((one for one in found if one[0] <= self.target), key=lambda one: -one[0])
        return next((name for _, name, without in fits      # not inside of something that is gone
                     if name in self._counter.present(self.split(~without))), None)
