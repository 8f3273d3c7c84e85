"""All structures of a network as one vector, and those among them that are held at zero while it trains."""
from __future__ import annotations

from typing import Callable, Dict, List, Optional, Sequence

import numpy as np
from mxnet import gluon

from ..errors import SSSError
from ..factors import scaling_factors
from ..structures import MaskedCounter

CUT = 0.95      # cutting the network again pays off once this part of what it computed is left

Measure = Callable[[Dict[str, np.ndarray]], float]      # masks of what is alive -> share of the dense network


class Holder:
    """Holds structures at zero; ``Budget`` and ``Patience`` decide which.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
        The whole network, initialised, with scaling factors.
    trainer : FactorTrainer
        Of ``make_trainer``; it may go on with a smaller network meanwhile.
    input_shape : sequence of int
        Batch first.
    measure : callable, optional
        ``measure(masks)``, with {factor name: booleans} of what is alive, returns the share of the dense network that
        is left; default the share of the MACs.

    Attributes
    ----------
    held : numpy.ndarray
        (number of structures,) booleans.
    share : float
        What is left without the held structures.
    """

    def __init__(self, net: gluon.HybridBlock, trainer, input_shape: Sequence[int], measure: Optional[Measure] = None):
        if not scaling_factors(net):
            raise SSSError('the network has no scaling factors, so no structure can become zero; build it with '
                           'factors, or call add_factors before make_trainer')
        if not hasattr(trainer, 'gamma_multipliers'):
            raise SSSError(f'{type(trainer).__name__} cannot drive factors to zero; use the trainer of make_trainer')
        self._counter = counter = MaskedCounter(net, input_shape, weights='nonzero')
        factors = counter.factors
        if not all(trainer.trains(factor.parameter) for factor in factors):
            raise SSSError('the trainer does not know the factors of this network; call make_trainer after '
                           'add_factors, and give both the same network')
        self.trainer, self.names = trainer, [factor.name for factor in factors]
        self.kinds = {factor.name: factor.kind for factor in factors}
        self.measure: Measure = measure or (lambda masks: counter.share(masks).macs)
        sizes = [factor.parameter.shape[0] for factor in factors]
        self.ends = np.cumsum(sizes)
        self.layer = np.repeat(np.arange(len(sizes)), sizes)
        self.may_vanish = np.repeat([factor.kind == 'block' for factor in factors], sizes)
        self.held = np.zeros(self.ends[-1], bool)
        self.inside = np.zeros(self.ends[-1], bool)     # of what is held, such as the neurons of a block
        self.steps_done, self.share, self.cut_share = 0, 1.0, 1.0

    def split(self, vector: np.ndarray) -> Dict[str, np.ndarray]:
        """{factor name: its part of a vector}."""
        return dict(zip(self.names, np.split(vector, self.ends[:-1])))

    def read(self) -> np.ndarray:
        """λ of all structures, float64."""
        values = self.trainer.factor_values()
        return np.concatenate([values[name] for name in self.names]).astype('float64')

    def left(self, held: np.ndarray) -> float:
        """Share of the dense network that is left without some structures."""
        return self.measure(self.split(~held))

    def needed(self, alive: np.ndarray, size: Optional[np.ndarray] = None) -> np.ndarray:
        """Booleans: the last structure of each layer that is alive, or if none is, that of the largest ``size``.

        Without it the network would not depend on its input. Blocks may all go: their shortcuts remain.
        """
        result = np.zeros(alive.size, bool)
        for layer in np.flatnonzero(np.bincount(self.layer, weights=alive) <= 1):
            inside = np.flatnonzero(self.layer == layer)
            order = alive if size is None or alive[inside].any() else size
            result[inside[np.argmax(order[inside])]] = True
        return result & ~self.may_vanish

    def hold(self, indices: np.ndarray) -> None:
        """Hold structures at zero, and measure what is left."""
        if indices.size:
            self.held[indices] = True
            self.trainer.hold(self.split(self.held))
            self.share = self.left(self.held)
            self._find_inside()

    def _find_inside(self) -> None:
        if (self.held & self.may_vanish).any() and not self.may_vanish.all():
            present = self._counter.present(self.split(~self.held))
            self.inside = np.array([name not in present for name in self.names])[self.layer] & ~self.held

    def revive(self, indices: Sequence[int], values: np.ndarray) -> None:
        """Give structures that must not go the values that they had before they became zero."""
        if len(indices):
            now = self.read()
            now[indices] = np.where(values[indices] == 0, 1e-3, values[indices])
            touched = {self.names[layer] for layer in self.layer[indices]}
            self.trainer.set_factor_values({name: part for name, part in self.split(now).items() if name in touched})

    def to_remove(self) -> Optional[Dict[str, np.ndarray]]:
        """Masks of all that is held, if it pays off to cut the network now; None otherwise."""
        if self.share > CUT * self.cut_share and not (self.done and self.share < self.cut_share):
            return None
        self.cut_share = self.share
        return self.split(self.held)

    def columns(self) -> Dict[str, str]:
        """What it did, as columns of a table with one row per epoch."""
        return dict(held=str(int(self.held.sum())), held_left=f'{self.share:.6f}')

    def summary(self) -> str:
        """One sentence on what it achieved."""
        return f'{int(self.held.sum())} of {self.held.size} structures are held at zero; {self.share:.1%} are left'

    @property
    def done(self) -> bool:
        """Whether nothing more will be held."""
        return False

    def step(self) -> None:
        """To be called after every step of the trainer."""
        raise NotImplementedError

    # What a checkpoint needs

    SCALARS: List[str] = ['steps_done', 'share', 'cut_share']
    VECTORS: List[str] = ['held']

    def states(self) -> Dict[str, np.ndarray]:
        """The state as arrays, for a checkpoint; that of the trainer is saved by the trainer."""
        found = {name: np.array(getattr(self, name), 'float64') for name in self.SCALARS}
        for name in self.VECTORS:
            value = np.array(getattr(self, name))
            found[name] = value.astype('uint8') if value.dtype == bool else value
        return found

    def set_states(self, states: Dict[str, np.ndarray], source: str = 'the state') -> None:
        """Restore ``states()``; anything that does not fit is an error."""
        restore(self, self.SCALARS + self.VECTORS, states, source)
        self._find_inside()


def restore(of, names: Sequence[str], states: Dict[str, np.ndarray], source: str) -> None:
    """Set attributes from saved arrays of the same shapes, each in its own type."""
    for name in names:
        own = getattr(of, name)
        if name not in states or np.shape(states[name]) != np.shape(own):
            raise SSSError(f'{source} has no {name} that fits this network: it belongs to a run without this '
                           f'budget; name another run=')
        value = np.asarray(states[name]).astype(np.asarray(own).dtype)
        setattr(of, name, value.item() if np.ndim(own) == 0 else value)
