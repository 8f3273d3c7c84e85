"""The one training loop: configuration in, run folder out; what was interrupted is continued bit for bit."""
from __future__ import annotations

import math
import os
import shutil
import signal
import time
from collections import deque
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Callable, Dict, Iterator, List, Optional

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon
from tqdm import tqdm

from ..data import Augmentation, train_batches
from ..errors import SSSError
from ..factors import factor_values, scaling_factors
from ..files import write_text
from ..graph.trace import trace
from . import diagnosis, precision
from .accuracy import Accuracy, evaluate_images
from .checkpoint import Position, checkpoints, load_latest, save_checkpoint, way_back
from .config import Config, check, differences
from .devices import contexts
from .hook import Hook
from .network import load_data, network_of
from .record import Recorder
from .run import RunFolder
from .schedules import make_schedule
from .trainer import make_trainer
from .workers import Workers, join

REPEATED = getattr(signal, 'SIGUSR1', None)
STOPS = tuple(filter(None, (signal.SIGINT, signal.SIGTERM, REPEATED)))
ENDING = 30.0       # seconds that the workers of an earlier job may need to end, where its launcher could not wait
IN_FLIGHT = 2       # steps that may be queued while their results are not yet looked at


class Interrupted(SSSError):
    """The run was stopped by a signal, after its step was finished and saved."""

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.signal_number = signal_number


def train(config: Config, log: Callable[[str], None] = print, hook: Optional[Hook] = None) -> RunFolder:
    """Train the network of a configuration; continue where an earlier call stopped; do nothing when it is done.

    A ``method`` other than sss brings its ``hook``: ``sss_gluon.baselines.train`` knows them all.

    Returns
    -------
    RunFolder
        With config.yaml, metrics.csv, timing.csv, factors.csv and checkpoints.

    Raises
    ------
    SSSError
        Wrong settings or files, or a loss that is not finite.
    Interrupted
        After SIGINT, SIGTERM or SIGUSR1, with everything saved.
    """
    check(config)
    precision.check_process(config.precision)
    if config.method != 'sss' and hook is None:
        raise SSSError(f'method={config.method} is not of this function; call sss_gluon.baselines.train')
    run = RunFolder(config.run)
    if not config.run:
        raise SSSError('run= is empty; name the folder that the run should write')
    if os.path.lexists(run.path) and not os.path.isdir(run.path):
        raise SSSError(f'{run} is not a folder; name another run=')
    strange = run.path.is_dir() and [name for name in os.listdir(run.path)
                                     if name not in ('.lock', 'selection') and not name.startswith('.selection.')]
    if not run.config_file.exists() and strange:
        raise SSSError(f'{run} is not empty and not a run folder; name another run=')
    workers = join(config.kvstore)
    run.chief = workers.chief
    try:
        _train(config, run, workers, log if workers.chief else _silent, hook)
        workers.barrier()   # they end together
    except Interrupted as stopped:      # all workers after the same step
        workers.status = 128 + stopped.signal_number
        raise
    except BaseException:
        workers.give_up()
        raise
    return run


def _silent(text: str) -> None:
    """The log of workers other than the first."""


def _train(config: Config, run: RunFolder, workers: Workers, log, hook: Optional[Hook]) -> None:
    devices = workers.devices(contexts(config.devices))
    for key in ('data_root', 'init', 'structure', 'source', 'match'):     # the run may be continued from another folder
        value = getattr(config, key)
        if value is not None and os.path.exists(value):
            config = replace(config, **{key: os.path.abspath(value)})
    with run.locked(ENDING if workers.size > 1 else 0) if workers.chief else nullcontext():
        given = config
        if workers.chief:
            _check_folder(run, config, log)
            if config.source is None:       # what an earlier attempt with other settings left
                shutil.rmtree(run.selection.parent, ignore_errors=True)
        for turn in (True, False):          # what the first worker selects and writes is there for the others
            if hook is not None and workers.chief is turn:
                config = hook.prepare(config, run, log)
            workers.barrier()
        precision.switch_on(config.precision)       # not before: methods select in float32
        training = Training(config, run, devices, log, hook, workers)
        training.resume()
        workers.barrier()                   # all have read what was there
        if workers.chief:
            run.save_config(given)
        if training.position.epoch >= config.epochs:
            log(f'{run} is finished ({config.epochs} epochs); nothing to do')
            if not (run.path / 'diagnosis.txt').exists():       # it may have been stopped just before
                training.finish()
            return
        if workers.chief:
            run.discard_results()
        with _signals() as stop:
            training.stop = stop
            for epoch in range(training.position.epoch, config.epochs):
                training.run_epoch(epoch)
                training.finish_epoch(epoch)
        training.finish()


def _check_folder(run: RunFolder, config: Config, log) -> None:
    """A folder with checkpoints is continued with the settings it was begun with."""
    if run.config_file.exists():
        try:
            run.config()
        except SSSError as error:
            raise SSSError(f'{run} holds a config.yaml that is not of a run; name another run= ({error})') from error
    if checkpoints(run.checkpoints) and run.config_file.exists():
        old = run.config()
        changed = [d for d in differences(old, config) if not _longer(d, old, config)]
        if changed:
            raise SSSError(f'{run} was begun with other settings ({"; ".join(changed)}); name another run=, or delete '
                           f'the folder')
        if old.epochs != config.epochs:
            log(f'{run}: epochs raised from {old.epochs} to {config.epochs}')


def _longer(difference: str, old: Config, new: Config) -> bool:
    """More epochs are the same run, except where the schedule stretches with them."""
    return difference.startswith('epochs:') and new.epochs > old.epochs and new.schedule != 'cosine'


@contextmanager
def _signals() -> Iterator[List[int]]:
    """A list that gets the number of a signal when one arrives; a second one acts as it always does.

    But for SIGUSR1, which launchers repeat.
    """
    arrived: List[int] = []
    previous = {}

    def note(number, frame):
        arrived.append(number)
        signal.signal(number, signal.SIG_IGN if number == REPEATED else previous[number])

    for number in STOPS:
        try:
            previous[number] = signal.signal(number, note)
        except ValueError:      # not the main thread: signals are its caller's business
            break
    try:
        yield arrived
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class Training:
    """The state of one run between its steps."""

    def __init__(self, config: Config, run: RunFolder, devices, log, hook: Optional[Hook] = None,
                 workers: Optional[Workers] = None):
        self.config, self.run, self.devices, self.log = config, run, devices, log
        self.workers = workers or Workers()
        self.stop: List[int] = []       # signals of this process
        self.stopping = False           # what all workers know of each other's, after the same step
        self.position = Position()
        self.data = load_data(config)
        self.input_shape = (1,) + tuple(self.data.shape)
        begun = replace(config, init=None) if checkpoints(run.checkpoints) else config
        self.net = precision.mixed(network_of(run, begun, self.data), config.precision)
        self.penalty = hook.penalty(begun, self.net, self.input_shape) if hook else None
        self.net.hybridize(static_alloc=True, static_shape=True)
        self.loss = gluon.loss.SoftmaxCrossEntropyLoss()
        self.loss.hybridize(static_alloc=True, static_shape=True)
        augmentation = Augmentation(pad=config.augment_pad, flip=config.augment_flip, mean=self.data.mean,
                                    std=self.data.std, kind=config.augmentation)
        self.batches = train_batches(self.data.train, config.batch_size, augmentation, config.seed,
                                     (self.workers.rank, self.workers.size))
        self.share = config.batch_size // self.workers.size         # of the global batch
        parts = len(devices) * config.accumulation
        if self.share % parts:
            raise SSSError(f'batch_size={config.batch_size} gives each of {self.workers.size} workers {self.share} '
                           f'images, which cannot be split over {len(devices)} devices x {config.accumulation} '
                           f'accumulated micro-batches; make it a multiple of {self.workers.size * parts}')
        self.augmentation = augmentation
        self.factors = scaling_factors(self.net)
        self.trainer = make_trainer(
            self.net, gamma=config.gamma, learning_rate=config.learning_rate, momentum=config.momentum,
            wd=config.weight_decay, kvstore=self.workers.store or config.kvstore, gamma_mult=config.gamma_mult,
            gamma_weighting=config.gamma_weighting, input_shape=self.input_shape,
            lr_scheduler=make_schedule(config, len(self.batches)), non_negative=config.non_negative,
            clip_gradient=config.clip_gradient, loss_scaler=precision.loss_scaler(config.precision))
        self.random_operators = _draws_random_numbers(self.net, self.input_shape)
        if config.accumulation > 1:
            for parameter in self.net.collect_params().values():
                if parameter.grad_req != 'null':
                    parameter.grad_req = 'add'
        self.recorder = Recorder(run, config, self.net, self.factors, self.input_shape, self.values,
                                 self.trainer.loss_scaler)

    # Where the run stands

    def values(self) -> Dict[str, np.ndarray]:
        """{factor name: values}; 0 is what prune removes."""
        return factor_values(self.net) if self.penalty is None else self.penalty.values()

    def resume(self) -> None:
        """Take over the newest checkpoint, and drop what was logged after it."""
        position = load_latest(self.run.checkpoints, self.net, self.trainer, self.log, self.workers)
        if position is not None:
            if position.step >= len(self.batches):
                raise SSSError(f'{checkpoints(self.run.checkpoints)[-1]} is of step {position.step}, but an epoch has '
                               f'{len(self.batches)}: it is of other data')
            self.position = position
            if position.epoch < self.config.epochs:
                step = f', step {position.step}' if position.step else ''
                self.log(f'{self.run}: continuing after epoch {position.epoch}{step}')
        if self.workers.chief:
            self.recorder.keep_epochs(self.position.epoch)
            self.recorder.measure(self.values())

    def save(self) -> None:
        save_checkpoint(self.run.checkpoints, self.net, self.trainer, self.position, self.config,
                        self.config.keep_checkpoints, self.workers)

    # One epoch

    def run_epoch(self, epoch: int) -> None:
        """All steps of an epoch that are left, with the progress bar."""
        steps, first, begin = len(self.batches), self.position.step, time.monotonic()
        self.images = before = sum(map(self.batches.images_in, range(first)))       # that count, of this epoch
        pending = deque()
        batches = self.batches.epoch(epoch, first)
        with tqdm(total=steps, initial=first, disable=None if self.workers.chief else True, leave=False, unit='step',
                  desc=f'epoch {epoch + 1}/{self.config.epochs}') as bar:
            try:
                for step in range(first, steps):
                    pending.append((step, self.step(epoch, step, *next(batches))))
                    if len(pending) > IN_FLIGHT:
                        self.collect(epoch, *pending.popleft())
                        bar.set_postfix_str(self.progress(self.images - before, begin), refresh=False)
                    bar.update()
                    if self.must_stop and step + 1 < steps:
                        self.interrupted(epoch, step + 1, pending)
            finally:
                batches.close()
        for item in pending:
            self.collect(epoch, *item)
        self.seconds = time.monotonic() - begin
        self.images_per_second = (self.images - before) / self.seconds

    def step(self, epoch: int, step: int, x: np.ndarray, y: np.ndarray):
        """One update from one global batch; returns arrays of [loss sum, correct, stop], still being computed."""
        if self.random_operators:   # so that a run continued in the middle of an epoch draws the same masks
            rank = (self.workers.rank,) if self.workers.rank else ()
            entropy = np.random.SeedSequence((self.config.seed, epoch, step + 1) + rank)
            mx.random.seed(int(entropy.generate_state(1)[0] % 2 ** 31))
        share = len(self.devices) * self.config.accumulation
        counting = self.batches.images_in(step)
        results = []
        parts = list(zip(np.split(x, share), np.split(y, share)))
        for first in range(0, share, len(self.devices)):
            for device, (images, labels) in zip(self.devices, parts[first:first + len(self.devices)]):
                images, labels = mx.nd.array(images, ctx=device), mx.nd.array(labels, ctx=device)
                with autograd.record():
                    output = self.net(images)
                    loss = self.loss(output, labels)
                    if counting < self.config.batch_size:       # some are there to fill the batch, with the label -1
                        loss = loss * (labels >= 0)
                    scaled = self.trainer.scaled(loss)
                scaled.backward()
                guesses = precision.widened(output).argmax(axis=1)
                results.append(mx.nd.concat(loss.sum(), (guesses == labels).sum(), dim=0))
        if self.workers.size > 1:
            sums = [result.as_in_context(mx.cpu()) for result in results]
            signal_number = mx.nd.array([self.stop[0] if self.stop else 0])
            results = [self.workers.sum('step', mx.nd.concat(mx.nd.add_n(*sums), signal_number, dim=0))]
        if self.penalty:
            self.penalty.before_update(int((y >= 0).sum()) * self.trainer.loss_scale)
        self.trainer.step(counting)
        if self.penalty and not self.trainer.overflowed:
            self.penalty.after_update(self.trainer.learning_rate)
        if self.config.accumulation > 1:
            self.net.collect_params().zero_grad()
        return results

    def collect(self, epoch: int, step: int, results) -> None:
        """Add up what a step gave; stop at a loss that is not finite."""
        for loss_sum, correct, *signals in (result.asnumpy() for result in results):
            self.stopping = self.stopping or any(signals)
            if not math.isfinite(loss_sum):
                raise SSSError(f'the loss is {loss_sum} in epoch {epoch + 1}, step {step + 1}; '
                               f'{way_back(self.run.checkpoints)}')
            self.position.loss_sum += float(loss_sum)
            self.position.correct += float(correct)
        self.position.step = step + 1
        self.images += self.batches.images_in(step)

    def interrupted(self, epoch: int, step: int, pending) -> None:
        for item in pending:
            self.collect(epoch, *item)
        self.save()
        raise self.interruption(f'in epoch {epoch + 1} after step {step}')

    @property
    def must_stop(self) -> bool:
        """After a signal; of several workers, when all know of it."""
        return bool(self.stop) if self.workers.size == 1 else self.stopping

    def interruption(self, where: str) -> Interrupted:
        self.workers.barrier()      # launchers end the others when one has ended: not before the first has written
        number = self.stop[0] if self.stop else signal.SIGTERM
        return Interrupted(f'stopped by {signal.Signals(number).name} {where}, everything is saved; continue with: '
                           f'sss-gluon train {self.run}', number)

    def progress(self, images: int, begin: float) -> str:
        rate = images / (time.monotonic() - begin)
        text = (f'loss {self.position.loss_sum / self.images:.3f}, '
                f'accuracy {self.position.correct / self.images:.1%}, {rate:.0f} images/s')
        return f'{text}, {self.recorder.text}' if self.recorder.text else text

    # After an epoch

    def finish_epoch(self, epoch: int) -> None:
        """Evaluate, log, save."""
        mx.nd.waitall()     # with static_shape, parameters read without it can be those of an earlier step
        begin = time.monotonic()
        held = self.data.validation or self.data.test
        result = evaluate_images(self.net, held, self.augmentation, self.config.batch_size, self.devices,
                                 self.workers)
        evaluation_seconds = time.monotonic() - begin
        trained = Accuracy(self.position.loss_sum / self.images, self.position.correct / self.images, float('nan'),
                           self.images)
        if self.workers.chief:
            line = self.recorder.write(epoch + 1, self.trainer.learning_rate, trained,
                                       'validation' if self.data.validation else 'test', result,
                                       self.seconds, self.images_per_second, evaluation_seconds)
        self.position = Position(epoch + 1)
        if (epoch + 1) % self.config.checkpoint_every == 0 or epoch + 1 == self.config.epochs or self.must_stop:
            self.save()
        if self.workers.chief:
            self.log(line)
        if self.must_stop and epoch + 1 < self.config.epochs:
            raise self.interruption(f'after epoch {epoch + 1}')

    def finish(self) -> None:
        """Say why, when nothing became zero."""
        if not self.workers.chief:
            return
        self.recorder.close()
        text = self.penalty.explain() if self.penalty else None
        if text:
            write_text(self.run.path / 'diagnosis.txt', text + '\n')
            self.log(text)
        if not self.penalty and self.factors and all((f.values() != 0).all() for f in self.factors):
            batches = self.batches.epoch(self.config.epochs)
            few = [next(batches) for _ in range(min(20, len(self.batches)))]
            batches.close()
            gradients = diagnosis.mean_gradients(self.net, self.loss, few, self.devices[0], self.trainer.loss_scale)
            entries = diagnosis.smallest(self.net, gradients, self.config.gamma,
                                         self.trainer.gamma_multipliers)
            schedule = make_schedule(self.config, len(self.batches))    # a new one: schedulers only run forwards
            updates = range(1, len(self.batches) * self.config.epochs + 1)
            rates = [schedule(update) if schedule else self.config.learning_rate for update in updates]
            text = diagnosis.explain(entries, max(rates), sum(rates), self.config.momentum)
            write_text(self.run.path / 'diagnosis.txt', text + '\n')
            self.log(text)


def _draws_random_numbers(net: gluon.HybridBlock, input_shape) -> bool:
    operators = {node.op for node in trace(net, input_shape, values=False).nodes()}
    return any(word in op for op in operators for word in ('Dropout', 'random', 'sample', 'shuffle'))
