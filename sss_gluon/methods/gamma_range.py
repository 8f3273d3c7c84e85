"""A range finder for the sparsity strength: γ rises in a short run, and the γ worth sweeping in the whole run follow.

Like the range finders for learning rates: γ rises exponentially, once per step of the optimizer, from a value that
cannot bring a factor to zero in so few steps to one that can within a step. Structures go at a larger γ than in the
whole run, which has more steps; ``resistance.py`` translates. A run that warms up does so before the ramp too, in a
sixth of its steps at most: a network that does not learn yet resists nothing.

γ that leaves half of the MACs, predicted from 300 steps / interpolated between whole runs: ResNet-20 blocks on the
digits 0.18 / 0.16 for 30 epochs and 0.18 / 0.14 for 60; on Fashion-MNIST, in 3 epochs, ResNet-20 blocks 0.22 / 0.14,
neurons of the narrow VGG-16 0.0016 / 0.0017, and groups of the narrow ResNeXt-20 0.032 / 0.009; on CIFAR-10 with a
warm-up, ResNet-20 blocks in 30 epochs 0.17 / 0.09. All of them lie inside the values that were named. The ramp is one
run with one seed: it finds the range, a sweep finds γ.
"""
from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass, replace
from typing import Dict, Generator, List, NamedTuple, Optional, Tuple

import mxnet as mx
import numpy as np
from tqdm import tqdm

from ..errors import SSSError
from ..factors import scaling_factors
from ..models import largest_kind
from ..structures import MaskedCounter
from ..train import precision
from ..train.config import Config
from ..train.devices import contexts
from ..train.loop import Training
from ..train.method import Method, Regularizer
from ..train.metrics import alive
from ..train.run_folder import RunFolder
from ..train.schedules import learning_rates, make_schedule
from .resistance import least_gammas, resistances

STEPS, FEWEST, MOST = 300, 20, 10 ** 5      # of a ramp: default, least, most
WARMUP = 1 / 6      # the longest warm-up, over the steps of the ramp
DECADES = 4         # that γ rises by
BELOW = 0.1         # the first γ, over the one that moves a factor by 1 in the whole ramp
LEFT = 0.1          # share of the MACs at which the ramp stops
SHARES = (0.8, 0.65, 0.5, 0.35, 0.2)        # of the MACs, whose γ are looked up
CURVE = 24          # further points of the predicted curve, at most
VALUES, FIRST, LAST, MARGIN = 5, 0.8, 0.35, 1.4     # the sweep: from γ of 80 % / 1.4 to γ of 35 % · 1.4


class Size(NamedTuple):
    """What is left of the network at a γ: shares of its parameters and MACs, and {kind: (structures alive, all)}."""
    gamma: float
    params: float
    macs: float
    alive: Dict[str, Tuple[int, int]]


@dataclass(frozen=True)
class GammaRange:
    """What a ramp of γ showed, and what it predicts.

    Attributes
    ----------
    epochs : int
        Length of the run that is predicted.
    ramp : list of Size
        What was left after every step of the ramp.
    losses : list of float
        Mean loss of the batch of every step.
    predicted : list of Size
        What a run with constant γ will leave, for rising γ, from the first that removes anything.
    sweep : list of float
        Values of γ worth sweeping: around those that leave between 80 and 35 % of the MACs.
    """
    epochs: int
    ramp: List[Size]
    losses: List[float]
    predicted: List[Size]
    sweep: List[float]

    def at(self, macs: float) -> Optional[Size]:
        """The first prediction with at most this share of the MACs; None if no γ gets there."""
        return next((size for size in self.predicted if size.macs <= macs), None)

    def steps_down(self) -> List[Size]:
        """The predictions for at most 80, 65, 50, 35 and 20 % of the MACs, each once; the last one if none is there."""
        found = {size.gamma: size for size in map(self.at, SHARES) if size}
        return list(found.values()) or self.predicted[-1:]


class Probe(Method, Regularizer):
    """Keeps factors and their gradients before every update of a training."""

    def regularizer(self, config, net, input_shape):
        self.parameters = [factor.parameter for factor in scaling_factors(net)]
        self.seen: List[Tuple[np.ndarray, np.ndarray]] = []     # factors and gradients of every step
        return self

    def before_update(self, batch_size: float) -> None:
        gradients = [mx.nd.add_n(*(g.as_in_context(mx.cpu()) for g in p.list_grad())) for p in self.parameters]
        self.seen.append((self.now(), _flat(gradients) / batch_size))

    def now(self) -> np.ndarray:
        """(structures,) present values of all factors."""
        return _flat([parameter.list_data()[0] for parameter in self.parameters])


def _flat(arrays) -> np.ndarray:
    return mx.nd.concat(*(array.reshape(-1) for array in arrays), dim=0).asnumpy()


def measure(config: Config, steps: int = STEPS, log=print) -> GammaRange:
    """Let γ rise for at most ``steps`` steps; ``sss_gluon.methods.find_gamma`` calls it."""
    if not FEWEST <= steps <= MOST:
        raise SSSError(f'steps={steps}: a ramp needs {FEWEST} to {MOST} steps')
    if not config.learning_rate:
        raise SSSError('learning_rate=0 moves no factor, whatever γ is; set the learning_rate of the run')
    if config.structure:
        raise SSSError(f'structure={config.structure} is a network whose structures are already chosen; leave it out '
                       f'to find γ')
    precision.check_process(config.precision)
    precision.enable(config.precision)
    ramp = replace(config, lr_mode='constant', kvstore='device', tensorboard=False)
    probe = Probe()
    with tempfile.TemporaryDirectory() as folder:       # a training wants one; the ramp leaves nothing in it
        training = Training(ramp, probe, RunFolder(folder), contexts(config.devices), log)
        return _Ramp(training, probe, config, log).climb(steps)


class _Ramp:
    """One ramp and its evaluation."""

    def __init__(self, training: Training, probe: Probe, config: Config, log):
        self.training, self.probe, self.config, self.log = training, probe, config, log
        if not training.factors:
            raise SSSError(f'factors={config.factors} leaves {config.model} without factors, so there is no γ to find; '
                           f'set factors={largest_kind(config.model)}')
        sizes = [factor.parameter.shape[0] for factor in training.factors]
        self.ends = np.cumsum(sizes)[:-1]
        each = [training.trainer.gamma_multipliers[factor.name] for factor in training.factors]
        self.multipliers = np.repeat(each, sizes)
        if not self.multipliers.any():
            raise SSSError('gamma_mult is 0 for all factors, so no γ moves any of them; leave out some of its entries')
        self.counter = MaskedCounter(training.net, training.input_shape, weights='nonzero')
        self.ramp: List[Size] = []
        self.losses: List[float] = []

    def size(self, gamma: float, values: np.ndarray) -> Size:
        """What is left where some values are 0."""
        parts = np.split(values, self.ends)
        masks = {factor.name: part for factor, part in zip(self.training.factors, parts)}
        share = self.counter.share(masks)
        return Size(float(gamma), share.params, share.macs, alive(self.training.factors, masks))

    def climb(self, steps: int) -> GammaRange:
        config, optimizer = self.config, self.training.trainer.optimizer
        first = BELOW * (1 - config.momentum) / (config.learning_rate * steps * self.multipliers.max())
        gammas = np.geomspace(first, first * 10 ** DECADES, steps)
        warmup = self._warm_up(steps)
        after = f', after a warm-up of {warmup}' if warmup else ''
        self.log(f'{config.model} on {config.data}: γ rises from {gammas[0]:.2g} to at most {gammas[-1]:.2g} in '
                 f'{steps} steps{after}')
        zeros, size = b'', self.size(gammas[0], self.probe.now())
        batches = self._batches()
        with tqdm(total=warmup + steps, disable=None, leave=False, unit='step', desc='find-gamma') as bar:
            for gamma, batch in zip(np.append(np.zeros(warmup), gammas), batches):
                optimizer.gamma = float(gamma)
                loss = sum(float(result.asnumpy()[0]) for result in self.training.step(*batch)) / config.batch_size
                values = self.probe.now()
                if not math.isfinite(loss) or not np.isfinite(values).all():
                    self._stopped(loss, gamma)
                    break
                if not gamma:
                    self.probe.seen.clear()
                    bar.update()
                    continue
                mask = np.packbits(values != 0).tobytes()
                size = size._replace(gamma=float(gamma)) if mask == zeros else self.size(gamma, values)
                zeros = mask
                self.ramp.append(size)
                self.losses.append(loss)
                bar.set_postfix_str(f'γ {gamma:.2g}, loss {loss:.3f}, {size.macs:.1%} of MACs', refresh=False)
                bar.update()
                if size.macs <= LEFT:
                    break
        batches.close()
        return self.result()

    def _warm_up(self, steps: int) -> int:
        """Have the rate rise as in the run, but within a few steps; return how many."""
        epoch = len(self.training.batches)
        warmup = min(round(self.config.warmup_epochs * epoch), int(WARMUP * steps))
        schedule = make_schedule(replace(self.training.config, warmup_epochs=warmup / epoch), epoch)
        self.training.trainer.optimizer.lr_scheduler = schedule
        return warmup

    def _batches(self) -> Generator[tuple, None, None]:
        epoch = 0
        while True:
            batches = self.training.batches.epoch(epoch)
            try:
                for step, (x, y) in enumerate(batches):
                    yield epoch, step, x, y
            finally:
                batches.close()
            epoch += 1

    def _stopped(self, loss: float, gamma: float) -> None:
        """A ramp may end in a loss that is not finite, but not before anything has moved."""
        if len(self.ramp) < FEWEST or self.ramp[-1].macs == 1:
            raise SSSError(f'the loss is {loss} after {len(self.ramp)} steps, at γ={gamma:.2g}, before any structure '
                           f'was zero; lower learning_rate, now {self.config.learning_rate:g}')
        self.log(f'the ramp ends at γ={gamma:.2g}, where the loss is {loss}')

    def result(self) -> GammaRange:
        config, used = self.config, len(self.ramp)
        values, gradients = (np.array(rows) for rows in zip(*self.probe.seen[:used]))
        finite = np.isfinite(gradients).all(axis=1)      # float16 skips steps while it looks for its loss scale
        if config.clip_gradient is not None:
            gradients = gradients.clip(-config.clip_gradient, config.clip_gradient)
        needed = least_gammas(resistances(values[finite], gradients[finite], config.momentum), self.multipliers,
                              sum(learning_rates(config, len(self.training.batches))), config.momentum)
        predicted = self._predicted(needed)
        found = GammaRange(config.epochs, self.ramp, self.losses, predicted, [])
        low, high = (found.at(FIRST) or predicted[0]).gamma, (found.at(LAST) or predicted[-1]).gamma
        sweep = [float(f'{gamma:.2g}') for gamma in np.geomspace(low / MARGIN, high * MARGIN, VALUES)]
        return replace(found, sweep=list(dict.fromkeys(sweep)))

    def _predicted(self, needed: np.ndarray) -> List[Size]:
        """What is left at those γ that remove something: some along the way, and the first of each of SHARES."""
        gammas = np.unique(needed[np.isfinite(needed)])
        sizes: Dict[int, Size] = {}

        def size(i: int) -> Size:
            if i not in sizes:
                sizes[i] = self.size(gammas[i], np.where(needed > gammas[i], 1, 0))
            return sizes[i]

        for i in np.unique(np.linspace(0, len(gammas) - 1, CURVE).round().astype(int)):
            size(int(i))
        for share in SHARES:
            low, high = 0, len(gammas) - 1
            while low < high:
                middle = (low + high) // 2
                low, high = (low, middle) if size(middle).macs <= share else (middle + 1, high)
            size(low)
        return [sizes[i] for i in sorted(sizes)]
