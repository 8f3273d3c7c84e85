"""A trainer without a network: equations 10 to 12 with gradients that a test chooses, in float64."""
from types import SimpleNamespace

import numpy as np
from mxnet.gluon import nn

import sss_gluon as sss


class Names(nn.HybridSequential):
    """Carries factors of given kinds and sizes side by side; only their names and sizes are used."""

    def __init__(self, kinds):
        super().__init__()
        with self.name_scope():
            for kind, size in kinds:
                self.add(sss.ScaledConv2D(size if kind == 'neuron' else 2, 1, in_channels=2, kind=kind))

    def hybrid_forward(self, F, x):
        return F.concat(*[layer(x) for layer in self._children.values()], dim=1)


class SimulatedTrainer:
    """What Budget and Patience use of a FactorTrainer.

    Parameters
    ----------
    net : Names
    values, resistance : numpy.ndarray
        λ at the start, and −∂L/∂λ, constant, of all structures.
    """

    def __init__(self, net, values, resistance=0.0, gamma=0.01, rate=0.01, momentum=0.9, multipliers=None,
                 schedule=None):
        self.factors = factors = sss.scaling_factors(net)
        self.sizes = [factor.parameter.shape[0] for factor in factors]
        self.names = [factor.name for factor in factors]
        self.gamma_multipliers = {name: (multipliers or {}).get(name, 1.0) for name in self.names}
        self.gamma, self.learning_rate = gamma, rate
        self.optimizer = SimpleNamespace(momentum=momentum, train_factors=True, lr_scheduler=schedule, num_update=0)
        self.values, self.velocity = np.array(values, float), np.zeros(sum(self.sizes))
        self.resistance = np.broadcast_to(resistance, self.values.shape)
        self.held, self.pressure = np.zeros(self.values.size, bool), np.ones(self.values.size)
        self.multiplier = self.flat({name: np.full(size, self.gamma_multipliers[name])
                                     for name, size in zip(self.names, self.sizes)})
        self.folded = None

    def trains(self, parameter):
        return any(factor.parameter is parameter for factor in self.factors)

    def flat(self, table):
        return np.concatenate([table[name] for name in self.names])

    def split(self, vector):
        return dict(zip(self.names, np.split(vector, np.cumsum(self.sizes)[:-1])))

    def step(self):
        threshold = self.learning_rate * self.gamma * self.multiplier * self.pressure
        z = self.values + self.learning_rate * self.resistance
        soft = np.sign(z) * np.maximum(np.abs(z) - threshold, 0)
        self.velocity = soft - self.values + self.optimizer.momentum * self.velocity
        self.values = np.maximum(soft + self.optimizer.momentum * self.velocity, 0)
        self.values[self.held] = self.velocity[self.held] = 0

    def factor_values(self):
        return self.split(self.values.copy())

    def hold(self, masks):
        self.held |= self.flat(masks)
        self.values[self.held] = self.velocity[self.held] = 0

    def probed(self):
        return {}           # a network without gradients is never computed, so nothing is probed

    def press(self, pressure):
        self.pressure = self.flat(pressure)

    def set_factor_values(self, values):
        new = {**self.factor_values(), **values}
        touched = self.flat({name: np.full(size, name in values) for name, size in zip(self.names, self.sizes)})
        self.values = self.flat(new)
        self.velocity[touched] = 0

    def fold_factors(self, names):
        self.folded = set(names)


def named(*kinds):
    """An initialised network with these factors, as (kind, size)."""
    net = Names(kinds)
    net.initialize()
    return net


def equal_costs(masks):
    """What is left if all structures cost the same."""
    alive = np.concatenate(list(masks.values()))
    return alive.mean()
