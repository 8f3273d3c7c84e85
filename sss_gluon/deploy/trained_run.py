"""A finished run, read back: its network in float32 with the newest checkpoint, and its data."""
from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Optional, Tuple, Union

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..data import Augmentation, DataSet
from ..errors import SSSError
from ..graph import Count, count, load
from ..graph.verify import TOLERANCE
from ..structures import Structure
from ..train.accuracy import heads
from ..train.checkpoint import load_latest
from ..train.config import Config
from ..train.network import load_data, network_of
from ..train.precision import require_float32
from ..train.run_folder import RunFolder


class TrainedRun(NamedTuple):
    """The network of a run with the weights of its newest checkpoint, and the data it was trained on."""
    net: gluon.HybridBlock
    config: Config
    data: DataSet
    epochs: int

    @property
    def input_shape(self):
        return (1,) + tuple(self.data.shape)


def load_run(path: Union[str, Path], device: str = 'cpu', log=print) -> TrainedRun:
    """Load the network and the data of a run, on one device and in float32, whatever it was trained with."""
    require_float32(f'loading the network of {path}')
    run = RunFolder.open(path)
    config = run.config()
    config.devices = [device]
    data = load_data(config)
    config.init = None      # the checkpoint holds all weights
    net = network_of(run, config, data)
    position = load_latest(run.checkpoints, net, None, log)
    if position is None:
        raise SSSError(f'{run} has no checkpoint yet; train it first: sss-gluon train {run}')
    return TrainedRun(net, config, data, position.epoch)


def dense_size(run: RunFolder) -> Optional[Count]:
    """Size of the dense network that the method of this run pruned before training; None if it pruned nothing."""
    if not run.has_selection():
        return None
    return count(load(run.source), Structure.load(f'{run.selection}-structure.json').input_shape)


def check_on_images(trained: TrainedRun, net) -> float:
    """Compare an exported network with the network of the run on test images; return the largest difference.

    It is an error if the difference is more than rounding.
    """
    difference = differences(trained, net)[0]
    if not difference <= TOLERANCE:
        raise SSSError(f'on test images the exported network differs by {difference:.1e} of the largest output, more '
                       f'than rounding ({TOLERANCE:.0e}); no file was written')
    return difference


def differences(trained: TrainedRun, net) -> Tuple[float, float]:
    """Errors of the outputs on test images: (largest error / largest output, RMS error / RMS output)."""
    images = mx.nd.array(normalise_only(trained.data).normalise(trained.data.test.images[:32]))
    expected, found = (heads(each(images))[0].asnumpy() for each in (trained.net, net))
    error, size = np.abs(expected - found), np.abs(expected)
    return (float(error.max() / max(size.max(), 1e-30)),
            float(np.sqrt(np.square(error).mean() / max(np.square(size).mean(), 1e-30))))


def normalise_only(data: DataSet) -> Augmentation:
    """The preprocessing of inference: normalisation without random augmentation."""
    return Augmentation(pad=0, flip=False, mean=data.mean, std=data.std)
