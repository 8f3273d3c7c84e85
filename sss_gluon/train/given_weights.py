"""``init=``: the weights that a network starts from, from a file, a checkpoint, or GluonCV."""
from __future__ import annotations

import os
import re
from typing import Dict, Iterable, List, NamedTuple, Optional, Set

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..errors import SSSError
from ..factors import scaling_factors
from ..files import read_npz
from ..graph.block import load_arrays
from ..models import zoo
from .config import PRETRAINED, Config
from .parameters import named_parameters

KINDS = ('weight', 'bias', 'gamma', 'beta', 'running_mean', 'running_var')
FACTOR = re.compile(r'((?:.*\.)|(?:[^.]*?_))?(?:(?:neuron|group|block)_)?factor')       # its layer, and its attribute


class Pair(NamedTuple):
    """A parameter, and the array that it is to start from."""
    name: str
    parameter: gluon.Parameter
    other: str
    array: np.ndarray


def start_from_init(net: gluon.Block, config: Config) -> List[str]:
    """``start_from`` for the setting ``init``; ``gluoncv`` means the weights that GluonCV publishes for the model."""
    if config.init != PRETRAINED:
        return start_from(net, str(config.init))
    if not zoo.is_zoo(config.model):
        raise SSSError(f'init={PRETRAINED} needs a network of GluonCV, such as model=gluoncv:resnet50_v1b, but '
                       f'model={config.model}')
    return _start(net, zoo.pretrained(config.model, config.model_options), f'init={PRETRAINED}')


def start_from(net: gluon.Block, path: str) -> List[str]:
    """Copy given weights into a network. Its factors stay at 1; factors in the file are folded into the weights.

    The file is a Gluon ``.params`` file (from this package's or GluonCV's network of the same architecture) or a
    checkpoint of this package. Parameters are matched by name, up to a prefix that all names of the network or of the
    file have; where the names differ, order, kind and shape must agree one by one.

    Returns
    -------
    list of str
        What does not come as it is from the file, in words. Only the layer that says the classes may differ, which
        keeps its own values, and the number of input channels: weights for colour images are added up for grey ones.

    Raises
    ------
    SSSError
        The weights are those of another network; nothing has changed then.
    """
    return _start(net, _given(path), path)


def _start(net: gluon.Block, arrays: Dict[str, np.ndarray], source: str) -> List[str]:
    factors = {id(factor.parameter) for factor in scaling_factors(net)}
    mine = [(name, parameter) for name, parameter in named_parameters(net) if id(parameter) not in factors]
    given = _folded(arrays, {name for name, _ in mine})
    pairs = _by_name(mine, given) or _by_order(mine, given, source)
    head = _head(pairs, source)
    notes = [f'{pair.name} starts anew with the shape {pair.parameter.shape}: {source} has {pair.array.shape}'
             for pair in head]
    for pair in pairs:
        if pair in head:
            continue
        array = pair.array
        if array.shape != tuple(pair.parameter.shape):
            array = array.sum(axis=1, keepdims=True)
            notes.append(f'{pair.name} adds up the {pair.array.shape[1]} input channels of {source}')
        pair.parameter.set_data(mx.nd.array(array, dtype=array.dtype))
    return notes


def _given(path: str) -> Dict[str, np.ndarray]:
    if str(path).endswith('.npz'):
        arrays = {name[len('param:'):]: array for name, array in read_npz(path).items() if name.startswith('param:')}
        if not arrays:
            raise SSSError(f'{path} holds no parameters; init takes a .params file or a checkpoint')
        return arrays
    return load_arrays(path)


def _folded(arrays: Dict[str, np.ndarray], mine: Set[str]) -> Dict[str, np.ndarray]:
    """Replace W by λ·W, as factors.py does: the same function with λ = 1."""
    matches = {name: FACTOR.fullmatch(name) for name in arrays if name not in mine}
    layers = {name: match[1] or '' for name, match in matches.items() if match}
    folded = {name: array for name, array in arrays.items() if name not in layers}
    for name, layer in layers.items():
        for key in (f'{layer}{kind}' for kind in ('weight', 'bias', 'gamma', 'beta')):
            if key in folded:
                value = folded[key]
                scale = np.repeat(arrays[name], len(value) // arrays[name].size)
                folded[key] = value * scale.reshape((-1,) + (1,) * (value.ndim - 1))
    return folded


def _by_name(mine, given: Dict[str, np.ndarray]) -> Optional[List[Pair]]:
    """Pairs of equal names without their common prefix, structural or Gluon's; None if the names are others."""
    theirs = _short(given)
    for names in ([name for name, _ in mine], [parameter.name for _, parameter in mine]):
        own = _short(names)
        if own.keys() == theirs.keys():
            return [Pair(name, parameter, theirs[short], given[theirs[short]])
                    for (name, parameter), short in zip(mine, own)]
    return None


def _short(names: Iterable[str]) -> Dict[str, str]:
    """{name without the prefix that all names have: name}; a prefix ends at a dot or underscore."""
    names = list(names)
    prefix = re.sub('[^._]*$', '', os.path.commonprefix(names))
    return {name[len(prefix):]: name for name in names}


def _by_order(mine, given: Dict[str, np.ndarray], source: str) -> List[Pair]:
    pairs = [Pair(name, parameter, other, array) for (name, parameter), (other, array) in zip(mine, given.items())]
    _head(pairs, source)
    if len(mine) != len(given):
        raise SSSError(f'{source} belongs to another network: it holds {len(given)} arrays, and {len(mine)} are '
                       f'expected')
    return pairs


def _head(pairs: List[Pair], source: str) -> List[Pair]:
    """The pairs of the one layer whose first axis, the classes, differs; any other difference is an error."""
    head: List[Pair] = []
    images = next((pair for pair in pairs if len(pair.parameter.shape) == 4), None)
    for pair in pairs:
        mine, given = tuple(pair.parameter.shape), pair.array.shape
        layer = re.sub('[^._]*$', '', pair.name)
        if _kind(pair.name) == _kind(pair.other):
            if mine == given or pair is images and mine == given[:1] + (1,) + given[2:]:
                continue
            if given and mine[1:] == given[1:] and all(other.name.startswith(layer) for other in head):
                head.append(pair)
                continue
        wrong = (head + [pair])[0]
        raise SSSError(f'{source} belongs to another network: after {pairs.index(wrong)} matching arrays it holds '
                       f'{wrong.other} {wrong.array.shape} where {wrong.name} {wrong.parameter.shape} is expected')
    return head


def _kind(name: str) -> str:
    return next((kind for kind in KINDS if name.endswith(kind)), name)
