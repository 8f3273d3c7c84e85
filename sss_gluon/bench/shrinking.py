"""The gain of cutting a network while it trains: total time of a run, one cut, and the steps after it."""
from __future__ import annotations

import tempfile
import time
from typing import Any, Dict, List

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..errors import SSSError
from ..factors import factor_values
from ..methods import train
from ..structures import compact, rebuild
from ..timing import Measurement, interleaved, median, ratio, timed
from ..train import Config, shrink
from .deployment import REMOVED, zero_half
from .settings import Settings
from .training import Step

TRAINED = {         # the networks of whole runs, and their options
    'cifar_resnet20': dict(),
    'cifar_vgg16': dict(stages=((16, 16), (32, 32), (64, 64, 64), (128, 128, 128), (128, 128, 128))),
}
RUNS = 5            # one in so many rounds is a pair of whole runs, or a cut of a new network
TARGET = 0.5


def total_time(settings: Settings, name: str, neuron_block: int = 1) -> Dict[str, Measurement]:
    """Seconds of a run that meets a budget of half the MACs over those of a run without factors.

    Both are whole runs of ``methods.train`` on the digits at the network's own image size, with equal settings.
    Initialisation, search, cuts, compilation, evaluations and one checkpoint are included.

    Raises
    ------
    SSSError
        The run ended with more than the budget.
    """
    length: Dict[str, Any] = dict(epochs=5, batch_size=16, lr_mode='constant') if settings.quick else \
        dict(epochs=20, lr_mode='cosine')
    shared: Dict[str, Any] = dict(
        model=name, model_options=settings.options(name) or TRAINED[name], data='digits', augment_pad=2,
        augment_flip=False, image_size=settings.image_shape(name)[1], checkpoint_every=length['epochs'], **length)
    left: List[float] = []

    def seconds(**own) -> float:
        with tempfile.TemporaryDirectory() as folder:
            config = Config(run=folder, **shared, **own)
            begin = time.perf_counter()
            run = train(config, log=lambda line: None)
            mx.nd.waitall()
            found = time.perf_counter() - begin
            last = run.metrics.rows()[-1]
        if 'target_macs' in own:
            left.append(int(last['macs_left']) / int(last['macs']))
            if left[-1] > TARGET:
                raise SSSError(f'{name} ended with {left[-1]:.1%} of the MACs, but {TARGET:.0%} were asked for, so its '
                               f'time says nothing; train for more epochs')
        return found

    search = 0.5 if settings.quick else Config.search
    runs = {'budget': lambda: seconds(factors=[REMOVED[name]], target_macs=TARGET, search=search,
                                      neuron_block=settings.neuron_block(neuron_block)),
            'dense': lambda: seconds(factors=[])}
    measured = interleaved(runs, max(1, settings.rounds // RUNS), warm_up=0)
    return {'total': ratio(measured, 'budget', 'dense',
                           note=f'{length["epochs"]} epochs, {np.median(left):.1%} of the MACs left')}


class CutStep:
    """A network of which some structures are zero: steps before and after they are cut out.

    ``options`` are those of ``Step``. ``align=1`` gives the widths of the compact network.
    """

    def __init__(self, whole: gluon.HybridBlock, shape, align: int = 1, **options):
        self.whole, self._align = whole, align
        self.step = Step(whole, shape, **options)
        self._shrink({})        # the first call, at the start of a training, finds out whether it can be cut
        self.step.trainer.hold({factor: values == 0 for factor, values in factor_values(whole).items()})

    def _shrink(self, removed=None):
        return shrink(self.whole, self.step.trainer, (1,) + self.step.images.shape[1:], removed, align=self._align)

    def cut(self) -> None:
        self.step.net = self._shrink().net


def _half_cut(settings: Settings, name: str) -> CutStep:
    whole = settings.net(name)
    zero_half(whole, REMOVED[name])
    return CutStep(whole, (settings.batch,) + settings.image_shape(name))


def cut_seconds(settings: Settings, name: str) -> Dict[str, Measurement]:
    """Seconds to cut half of the structures out of a network in training, with the first step after it."""
    seconds, steps = [], []
    for _ in range(max(1, settings.rounds // RUNS)):
        cut = _half_cut(settings, name)
        for _ in range(2):
            timed(cut.step)()
        mx.nd.waitall()
        begin = time.perf_counter()
        cut.cut()
        cut.step()
        mx.nd.waitall()
        seconds.append(time.perf_counter() - begin)
        steps.append(timed(cut.step, 3)())
    return {'seconds': median(seconds, f'a later step takes {np.median(steps):.2f} s')}


def step_after_cut(settings: Settings, name: str) -> Dict[str, Measurement]:
    """A step of a network that was cut while it trained over one of the same compact network, built anew."""
    cut = _half_cut(settings, name)
    shape = cut.step.images.shape
    fresh = Step(rebuild(compact(cut.whole, (1,) + shape[1:]).structure), shape)
    cut.step()
    cut.cut()
    seconds = interleaved({'cut': timed(cut.step), 'rebuilt': timed(fresh)}, settings.rounds)
    return {'step': ratio(seconds, 'cut', 'rebuilt')}
