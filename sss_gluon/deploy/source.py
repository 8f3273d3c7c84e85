"""A network to export, from a run folder or a symbol file, with the images that check and calibrate it."""
from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, NamedTuple, Optional, Tuple, Union

import numpy as np
from mxnet import gluon

from ..data import DataSet
from ..data import load as load_data_set
from ..errors import SSSError
from ..graph import load
from ..graph.trace import trace
from ..structures import Structure
from ..train.network import load_data
from ..train.run_folder import RunFolder
from .trained_run import check_images, load_run, normalise_only


class Source(NamedTuple):
    """A network, and what is known about it.

    Attributes
    ----------
    net : HybridBlock
    input_shape : tuple of int
        Shape of one image with a batch of 1.
    data : DataSet, optional
        Images that are normalised by its ``mean`` and ``std``.
    classifies : bool
        Whether the outputs are scores of the classes of ``data``, so that accuracy can be measured.
    name : str
        Of the network.
    target : Path
        Prefix of the files to write: they go into a folder of their own.
    """
    net: gluon.HybridBlock
    input_shape: Tuple[int, ...]
    data: Optional[DataSet]
    classifies: bool
    name: str
    target: Path

    def images(self, count: int = 32) -> np.ndarray:
        """Normalised test images, or random ones where there are no data."""
        return check_images(self.data, self.input_shape, count)

    def calibration_images(self, count: int) -> np.ndarray:
        """Random training images, the same ones every time; the first ones could all be of one class."""
        if self.data is None:
            raise SSSError(f'INT8 measures ranges on images, but {self.name} comes with none: name a run or a folder '
                           f'of images with --data')
        images = self.data.train.images
        return normalise_only(self.data).normalise(images[np.random.RandomState(0).permutation(len(images))[:count]])


@contextmanager
def opened(path: Union[str, Path], data: Optional[str] = None, params: Optional[str] = None,
           size: Optional[int] = None, channels: Optional[int] = None, log=print) -> Iterator[Source]:
    """The source that ``path`` names; a run folder is locked meanwhile. The parameters are those of ``export``."""
    if str(path).endswith('.json'):
        yield _of_file(str(path), data, params, size, channels, log)
        return
    given = [name for name, value in dict(data=data, params=params, size=size, channels=channels).items() if value]
    if given:
        raise SSSError(f'{path} is a run, which says these things itself: leave out {", ".join(given)}')
    run = RunFolder.open(path)
    with run.locked():
        trained = load_run(path, log=log)
        if trained.epochs < trained.config.epochs:
            log(f'note: {run} is at epoch {trained.epochs} of {trained.config.epochs}')
        yield Source(trained.net, trained.input_shape, trained.data, True, trained.config.model, run.deploy)


def _of_file(path: str, data: Optional[str], params: Optional[str], size: Optional[int], channels: Optional[int],
             log) -> Source:
    net, run = load(path, params=params), Path(path).resolve().parent.parent
    if data is None and (run / 'config.yaml').is_file():
        data = str(run)
    images = None
    if data is not None:
        images = _data(data, size or (_beside(path) or (0, 0))[-1] or None, log)
        if size or channels:
            _check_shape(images, size, channels)
    shape = (1, *images.shape) if images is not None else input_shape(path, size, channels)
    outputs = trace(net, shape, values=False).output_shapes()
    classifies = images is not None and set(outputs) == {(1, images.classes)}
    if images is not None and not classifies:
        log(f'note: the outputs of {path} have the shapes {outputs}: accuracy in the {images.classes} classes of '
            f'{data} is not measured')
    name = _name(path)
    return Source(net, shape, images, classifies, name, deploy_folder(path) / name)


def deploy_folder(path: Union[str, Path]) -> Path:
    """Where the files for inference go."""
    if str(path).endswith('.json'):
        return Path(path).parent / f'{_name(path)}-deploy'
    return RunFolder(path).deploy.parent


def _name(path: Union[str, Path]) -> str:
    return Path(path).name[:-len('-symbol.json')]


def _data(name: str, size: Optional[int], log) -> DataSet:
    """The data of a run, or those of a folder of images, with its own mean and standard deviation."""
    if (Path(name) / 'config.yaml').is_file():
        return load_data(RunFolder.open(name).config())
    images = load_data_set('folder', name, size=size)
    log(f'note: images are normalised with the mean ({_numbers(images.mean)}) and standard deviation '
        f'({_numbers(images.std)}) of the training images in {name}; the network must have been trained so')
    return images


def _numbers(values) -> str:
    return ', '.join(f'{value:.1f}' for value in values)


def _check_shape(images: DataSet, size: Optional[int], channels: Optional[int]) -> None:
    if images.shape[0] != (channels or images.shape[0]) or any(side != (size or side) for side in images.shape[1:]):
        raise SSSError(f'images of {images.name} have the shape {images.shape}, which does not fit '
                       f'size={size}, channels={channels}; leave them out')


def input_shape(path: str, size: Optional[int] = None, channels: Optional[int] = None) -> Tuple[int, ...]:
    """Shape of a batch of one image of a symbol file: of its structure.json, unless ``size`` or ``channels`` differ."""
    image = _beside(path) or (3,)
    if not size and not image[1:]:
        raise SSSError(f'{path}: give the height and width of the input: --size 224')
    sides = (size, size) if size else image[1:]
    return (1, channels or image[0], *sides)


def shape_beside(path: str):
    """The shape of the input, or {name: shape} of several, in the structure.json of a symbol file; None without one."""
    file = Path(path.replace('-symbol.json', '-structure.json'))
    return Structure.load(file).input_shape if file.is_file() else None


def _beside(path: str) -> Optional[Tuple[int, ...]]:
    shape = shape_beside(path)
    if isinstance(shape, dict):
        raise SSSError(f'{path} has the inputs {", ".join(shape)}; only networks with one input are exported')
    return None if shape is None else tuple(shape[1:])
