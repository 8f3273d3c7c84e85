"""A finished run, read back: its network in float32 with the newest checkpoint, and its data."""
from __future__ import annotations

from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence, Tuple, Union

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

    def images(self, count: int = 32) -> np.ndarray:
        """Normalised test images."""
        return check_images(self.data, self.input_shape, count)


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


def check_on_images(source, net) -> float:
    """Compare an exported network with the network of a run or another source; return the largest difference.

    It is an error if the difference is more than rounding.
    """
    difference = differences(source, net)[0]
    if not difference <= TOLERANCE:
        raise SSSError(f'on {"random" if source.data is None else "test"} images the exported network differs by '
                       f'{difference:.1e} of the largest output, more than rounding ({TOLERANCE:.0e}); no file was '
                       f'written')
    return difference


def differences(source, net) -> Tuple[float, float]:
    """Errors of the outputs on images of a source: (largest error / largest output, RMS error / RMS output)."""
    images, worst = mx.nd.array(source.images()), np.zeros(2)
    for expected, found in zip(_outputs(source.net, images), _outputs(net, images)):
        error, size = np.abs(expected - found), np.abs(expected)
        worst = np.maximum(worst, (error.max() / max(size.max(), 1e-30),
                                   np.sqrt(np.square(error).mean() / max(np.square(size).mean(), 1e-30))))
    return float(worst[0]), float(worst[1])


def _outputs(net, images) -> List[np.ndarray]:
    return [output.asnumpy() for output in heads(net(images))]


def check_images(data: Optional[DataSet], input_shape: Sequence[int], count: int) -> np.ndarray:
    """float32 (count, C, H, W): the first test images, normalised and repeated if they are few; random without data."""
    if data is None:
        return np.random.RandomState(0).standard_normal((count, *input_shape[1:])).astype('float32')
    images = data.test.images[:count]
    return normalise_only(data).normalise(np.resize(images, (count, *images.shape[1:])))


def normalise_only(data: DataSet) -> Augmentation:
    """The preprocessing of inference: normalisation without random augmentation."""
    return Augmentation(pad=0, flip=False, mean=data.mean, std=data.std)
