"""The one training loop: configuration in, run folder out; an interrupted run resumes bit for bit."""
from __future__ import annotations

import math
import os
import signal
import time
from collections import deque
from contextlib import nullcontext
from dataclasses import replace
from typing import Callable, Deque, List, Mapping, Tuple

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon
from tqdm import tqdm

from ..data import Augmentation, train_batches
from ..errors import SSSError
from ..factors import scaling_factors
from ..files import write_text
from ..graph.trace import trace
from ..signals import Interrupted, catch_signals
from ..structures import Shrunk
from ..terminal import BAR, time_left
from . import precision
from .accuracy import Accuracy, evaluate_images, heads
from .checkpoint import Position, checkpoints, load_latest, recovery_hint, save_checkpoint
from .config import PATHS, PRETRAINED, Config, check
from .cut_network import shrink
from .devices import contexts
from .method import Method
from .metrics import MetricsLogger
from .network import load_data, network_of
from .resuming import check_resumable
from .run_folder import RunFolder
from .schedules import make_schedule
from .statistics import settle_statistics
from .trainer import make_trainer
from .workers import ALONE, Workers, init_workers

ENDING = 30.0       # seconds that workers of an earlier job may need to end, if its launcher could not wait
AUXILIARY = 0.3     # weight of the loss of auxiliary heads: Szegedy et al., "Going deeper with convolutions", section 5
IN_FLIGHT = 2       # steps that may be queued before their results are read


def run_training(config: Config, method: Method, log: Callable[[str], None] = print) -> RunFolder:
    """Train the network of a configuration with a method; resume an interrupted run; leave a finished one alone.

    ``sss_gluon.methods.train`` calls it with the method that the configuration names.

    Returns
    -------
    RunFolder
        With config.yaml, metrics.csv, timing.csv, factors.csv and checkpoints.

    Raises
    ------
    SSSError
        For wrong settings or files, or a loss that is not finite.
    Interrupted
        After SIGINT, SIGTERM or SIGUSR1, with everything saved.
    """
    check(config)
    precision.check_process(config.precision)
    run = RunFolder.for_writing(config.run)
    workers = init_workers(config.kvstore)
    run.chief = workers.chief
    try:
        _train(config, method, run, workers, log if workers.chief else _silent)
        workers.barrier()   # all workers end together
    except Interrupted as stopped:      # all workers stop after the same step
        workers.status = 128 + stopped.signal_number
        raise
    except BaseException:
        workers.abort()
        raise
    return run


def _silent(text: str) -> None:
    """The log of all workers except the first."""


def _train(config: Config, method: Method, run: RunFolder, workers: Workers, log) -> None:
    devices = workers.devices(contexts(config.devices))
    for key in PATHS:       # the run may be resumed from another folder
        value = getattr(config, key)
        if value not in (None, PRETRAINED) and os.path.exists(value):
            config = replace(config, **{key: os.path.abspath(value)})
    with run.locked(ENDING if workers.size > 1 else 0) if workers.chief else nullcontext():
        given = config
        if workers.chief:
            check_resumable(run, config, log)
        for turn in (True, False):          # the other workers read what the first one writes
            if workers.chief is turn:
                config = method.prepare(config, run, log)
            workers.barrier()
        precision.enable(config.precision)          # after prepare: methods select structures in float32
        training = Training(config, method, run, devices, log, workers)
        training.resume()
        workers.barrier()                   # all have read the checkpoint
        if workers.chief:
            run.save_config(given)
        if training.position.epoch >= config.epochs:
            log(f'{run} is finished ({config.epochs} epochs); nothing to do')
            if not (run.path / 'diagnosis.txt').exists():   # it was stopped just before
                training.finish()
            return
        if workers.chief:
            run.discard_results()
            log(training.metrics.header(training.data, devices, workers.size))
        with catch_signals('SIGINT', 'SIGTERM', 'SIGUSR1', once=True) as stop:
            training.stop = stop
            for epoch in range(training.position.epoch, config.epochs):
                training.run_epoch(epoch)
                training.finish_epoch(epoch)
        training.finish()


class Training:
    """The state of one run between its steps."""

    def __init__(self, config: Config, method: Method, run: RunFolder, devices, log, workers: Workers = ALONE):
        self.config, self.run, self.devices, self.log, self.workers = config, run, devices, log, workers
        self.stop: List[int] = []       # signals that reached this process
        self.stopping = False           # whether any worker was signalled; agreed on after the same step
        self.position = Position()
        self.evaluation_seconds = 0.0   # of the last epoch
        self.data = load_data(config)
        self.input_shape = (1,) + tuple(self.data.shape)
        begun = replace(config, init=None) if checkpoints(run.checkpoints) else config
        whole = precision.mixed(network_of(run, begun, self.data, log), config.precision)
        self.regularizer = method.regularizer(begun, whole, self.input_shape)
        whole.hybridize(static_alloc=True, static_shape=True)
        self.network = Shrunk(whole, self.input_shape, {})
        self.loss = gluon.loss.SoftmaxCrossEntropyLoss()
        self.loss.hybridize(static_alloc=True, static_shape=True)
        augmentation = Augmentation(pad=config.augment_pad, flip=config.augment_flip, mean=self.data.mean,
                                    std=self.data.std, kind=config.augmentation)
        self.batches = train_batches(self.data.train, config.batch_size, augmentation, config.seed,
                                     (self.workers.rank, self.workers.size))
        self.share = config.batch_size // self.workers.size         # images of the global batch for this worker
        parts = len(devices) * config.grad_accumulation
        if self.share % parts:
            raise SSSError(f'batch_size={config.batch_size} gives each of {self.workers.size} workers {self.share} '
                           f'images, which cannot be split over {len(devices)} devices x {config.grad_accumulation} '
                           f'accumulated micro-batches; make it a multiple of {self.workers.size * parts}')
        self.augmentation = augmentation
        self.factors = scaling_factors(whole)
        self.trainer = make_trainer(
            whole, gamma=config.gamma if self.factors else 0.0, learning_rate=config.learning_rate,
            momentum=config.momentum, wd=config.weight_decay, kvstore=self.workers.store or config.kvstore,
            gamma_mult=config.gamma_mult, gamma_weighting=config.gamma_weighting, input_shape=self.input_shape,
            lr_scheduler=make_schedule(config, len(self.batches)), non_negative=config.non_negative,
            clip_gradient=config.clip_gradient, loss_scaler=precision.loss_scaler(config.precision))
        self.random_operators = self._look_at(whole)
        if config.grad_accumulation > 1:
            for parameter in whole.collect_params().values():
                if parameter.grad_req != 'null':
                    parameter.grad_req = 'add'
        self.metrics = MetricsLogger(run, config, whole, self.factors, self.input_shape, self.regularizer,
                                     self.trainer.loss_scaler)
        self.regularizer.start(self)

    def _look_at(self, net: gluon.HybridBlock) -> bool:
        """Does a network draw random numbers while it trains? It is an error if it gives anything but classes."""
        program = trace(net, self.input_shape, values=False, training=True)
        wrong = [shape for shape in program.output_shapes() if shape != (1, self.data.classes)]
        if wrong:
            raise SSSError(f'{self.config.model} gives an output of shape {wrong[0]} for an image of {self.data.name}, '
                           f'which has {self.data.classes} classes; all outputs must be of shape '
                           f'(1, {self.data.classes})')
        return any(word in node.op for node in program.nodes() for word in ('Dropout', 'random', 'sample', 'shuffle'))

    @property
    def net(self) -> gluon.HybridBlock:
        """The network that computes, which may be smaller than the whole."""
        return self.network.net

    def shrink(self, removed: Mapping[str, np.ndarray]) -> None:
        """Go on without some structures, which are held at zero."""
        self.network = shrink(self.network.whole, self.trainer, self.input_shape, removed, self.config.shrink_align)

    # Resuming and saving

    def resume(self) -> None:
        """Restore the newest checkpoint and drop what was logged after it."""
        position = load_latest(self.run.checkpoints, self.network.whole, self.trainer, self.log, self.workers,
                               self.regularizer)
        if position is not None:
            if self.trainer.removed:
                self.shrink(self.trainer.removed)
            if position.step >= len(self.batches):
                raise SSSError(f'{checkpoints(self.run.checkpoints)[-1]} was written at step {position.step}, but an '
                               f'epoch has {len(self.batches)} steps: it belongs to other data')
            self.position = position
            if position.epoch < self.config.epochs:
                step = f', step {position.step}' if position.step else ''
                self.log(f'{self.run}: continuing after epoch {position.epoch}{step}')
        if self.workers.chief:
            self.metrics.keep_epochs(self.position.epoch)
            self.metrics.measure(self.regularizer.values())

    def save(self) -> None:
        save_checkpoint(self.run.checkpoints, self.network.whole, self.trainer, self.position, self.config,
                        self.config.keep_checkpoints, self.workers, self.regularizer)

    # One epoch

    def run_epoch(self, epoch: int) -> None:
        """Run the remaining steps of an epoch, with a progress bar."""
        steps, first, begin = len(self.batches), self.position.step, time.monotonic()
        self.images = before = first * self.config.batch_size       # of this epoch so far
        pending: Deque[Tuple[int, list]] = deque()
        batches = self.batches.epoch(epoch, first)
        with tqdm(total=steps, initial=first, disable=None if self.workers.chief else True, leave=False,
                  desc=f'epoch {epoch + 1}/{self.config.epochs}', bar_format=BAR, dynamic_ncols=True) as bar:
            try:
                for step in range(first, steps):
                    pending.append((step, self.step(epoch, step, *next(batches))))
                    if len(pending) > IN_FLIGHT:
                        self.collect(epoch, *pending.popleft())
                        bar.set_description_str(self.progress(epoch, self.images - before, begin), refresh=False)
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
        """Make one update from a global batch; return arrays of [loss sum, correct, stop], still being computed."""
        self.seed_operators(epoch, step)
        share = len(self.devices) * self.config.grad_accumulation
        results = []
        parts = list(zip(np.split(x, share), np.split(y, share)))
        for first in range(0, share, len(self.devices)):
            for device, (images, labels) in zip(self.devices, parts[first:first + len(self.devices)]):
                images, labels = mx.nd.array(images, ctx=device), mx.nd.array(labels, ctx=device)
                with autograd.record():
                    output, *others = heads(self.net(images))
                    loss = self.loss(output, labels)
                    for other in others:
                        loss = loss + AUXILIARY * self.loss(other, labels)
                    scaled = self.trainer.scaled(loss)
                scaled.backward()
                guesses = precision.as_float32(output).argmax(axis=1)
                results.append(mx.nd.concat(loss.sum(), (guesses == labels).sum(), dim=0))
        if self.workers.size > 1:
            sums = [result.as_in_context(mx.cpu()) for result in results]
            signal_number = mx.nd.array([self.stop[0] if self.stop else 0])
            results = [self.workers.allreduce('step', mx.nd.concat(mx.nd.add_n(*sums), signal_number, dim=0))]
        self.regularizer.before_update(self.share * self.trainer.loss_scale)
        self.trainer.step(self.config.batch_size)
        if not self.trainer.overflowed:
            self.regularizer.after_update(self.trainer.learning_rate)
        if self.config.grad_accumulation > 1:
            self.net.collect_params().zero_grad()
        return results

    def seed_operators(self, epoch: int, step: int) -> None:
        """Make random operators draw what belongs to a step, so that a resumed run has the same masks."""
        if self.random_operators:
            rank = (self.workers.rank,) if self.workers.rank else ()
            entropy = np.random.SeedSequence((self.config.seed, epoch, step + 1) + rank)
            mx.random.seed(int(entropy.generate_state(1)[0] % 2 ** 31))

    def collect(self, epoch: int, step: int, results) -> None:
        """Add up the results of a step; refuse a loss that is not finite."""
        for loss_sum, correct, *signals in (result.asnumpy() for result in results):
            self.stopping = self.stopping or any(signals)
            if not math.isfinite(loss_sum):
                raise SSSError(f'the loss is {loss_sum} in epoch {epoch + 1}, step {step + 1}; '
                               f'{recovery_hint(self.run.checkpoints)}')
            self.position.loss_sum += float(loss_sum)
            self.position.correct += float(correct)
        self.position.step = step + 1
        self.images += self.config.batch_size

    def interrupted(self, epoch: int, step: int, pending) -> None:
        for item in pending:
            self.collect(epoch, *item)
        self.save()
        raise self.interruption(f'in epoch {epoch + 1} after step {step}')

    @property
    def must_stop(self) -> bool:
        """Whether to stop now: after a signal, and with several workers once all of them know."""
        return bool(self.stop) if self.workers.size == 1 else self.stopping

    def interruption(self, where: str) -> Interrupted:
        self.workers.barrier()      # launchers end all workers when one ends, so wait until the first has saved
        number = self.stop[0] if self.stop else signal.SIGTERM
        return Interrupted(f'stopped by {signal.Signals(number).name} {where}, everything is saved; continue with: '
                           f'sss-gluon train {self.run}', number)

    def progress(self, epoch: int, images: int, begin: float) -> str:
        """'epoch 3/60  loss 0.123  54.3% MACs  812 images/s  4 min left': of the whole run."""
        rate, epochs = images / (time.monotonic() - begin), self.config.epochs - epoch
        images_left = epochs * len(self.batches) * self.config.batch_size - self.images
        seconds = images_left / rate + epochs * self.evaluation_seconds
        return '  '.join(filter(None, (
            f'epoch {epoch + 1}/{self.config.epochs}', f'loss {self.position.loss_sum / self.images:.3f}',
            self.metrics.left, f'{rate:.0f} images/s', time_left(seconds))))

    # After an epoch

    def finish_epoch(self, epoch: int) -> None:
        """Evaluate, log and save."""
        mx.nd.waitall()     # with static_shape, parameters could otherwise be read as an earlier step left them
        begin = time.monotonic()
        removed = self.regularizer.to_remove() if epoch + 1 < self.config.epochs else None
        if removed:
            self.shrink(removed)
        settle_statistics(self)
        held = self.data.validation or self.data.test
        result = evaluate_images(self.net, held, self.augmentation, self.config.batch_size, self.devices,
                                 self.workers)
        self.evaluation_seconds = time.monotonic() - begin
        trained = Accuracy(self.position.loss_sum / self.images, self.position.correct / self.images, float('nan'),
                           self.images)
        if self.workers.chief:
            line = self.metrics.write(epoch + 1, self.trainer.learning_rate, trained,
                                       'validation' if self.data.validation else 'test', result,
                                       self.seconds, self.images_per_second, self.evaluation_seconds)
        self.position = Position(epoch + 1)
        if (epoch + 1) % self.config.checkpoint_every == 0 or epoch + 1 == self.config.epochs or self.must_stop:
            self.save()
        if self.workers.chief:
            self.log(line)
        if self.must_stop and epoch + 1 < self.config.epochs:
            raise self.interruption(f'after epoch {epoch + 1}')

    def finish(self) -> None:
        """Say why, if nothing became zero, or too much."""
        if not self.workers.chief:
            return
        self.metrics.close()
        text = self.regularizer.explain(self)
        if text:
            write_text(self.run.path / 'diagnosis.txt', text + '\n')
            self.log(text)
