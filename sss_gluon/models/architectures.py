"""The table of the paper's nine networks."""
from __future__ import annotations

from numbers import Integral
from typing import Callable, NamedTuple, Optional, Sequence, Tuple

import mxnet as mx
from mxnet import gluon

from ..errors import SSSError, nearest, reason
from . import peleenet, resnet, resnext, vgg
from .layers import Layers


class Architecture(NamedTuple):
    """One row of the table of networks."""
    build: Callable
    factors: Tuple[str, ...]        # the kinds that the paper prunes in this network: the default
    offered: Tuple[str, ...]        # all kinds of factors that the network can carry
    size: int                       # height and width that the network was published for
    minimum_size: int               # smaller images are zero-padded to this
    classes: int


ARCHITECTURES = {
    'cifar_vgg16': Architecture(vgg.cifar_vgg16, ('neuron',), ('neuron',), 32, 32, 10),
    'cifar_resnet20': Architecture(resnet.cifar_resnet20, ('block',), ('neuron', 'block'), 32, 1, 10),
    'cifar_resnet164': Architecture(resnet.cifar_resnet164, ('block',), ('neuron', 'block'), 32, 1, 10),
    'cifar_resnext20': Architecture(resnext.cifar_resnext20, ('group',), ('group', 'block'), 32, 1, 10),
    'cifar_resnext164': Architecture(resnext.cifar_resnext164, ('group', 'block'), ('group', 'block'), 32, 1, 10),
    'vgg16': Architecture(vgg.vgg16, ('neuron',), ('neuron',), 224, 224, 1000),
    'resnet50': Architecture(resnet.resnet50, ('block',), ('neuron', 'block'), 224, 32, 1000),
    'resnext50_32x4d': Architecture(resnext.resnext50_32x4d, ('group', 'block'), ('group', 'block'), 224, 32, 1000),
    'peleenet': Architecture(peleenet.peleenet, ('neuron',), ('neuron',), 224, 32, 1000),
}

# Options that are integers or lists of them, and their largest plausible values: networks are built block by block.
LARGEST = {'depths': 1000, 'widths': 2 ** 16, 'stages': 2 ** 16, 'groups': 2 ** 16}


def architecture(name: str) -> Architecture:
    """The row of a network; for an unknown name, an error that names the nearest one."""
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    raise SSSError(f'model {name!r} is unknown; did you mean {nearest(name, ARCHITECTURES)!r}? '
                   f'Models: {", ".join(ARCHITECTURES)}; gluoncv:NAME for a network of GluonCV; '
                   f'package.module:function for your own')


def largest_kind(name: str) -> str:
    """The largest structures that a network can lose; blocks where it is not one of the table."""
    return ARCHITECTURES[name].offered[-1] if name in ARCHITECTURES else 'block'


def build(name: str, classes: Optional[int], factors: Optional[Sequence[str]], in_channels: int,
          neuron_block: int, options) -> gluon.HybridBlock:
    """A network of the table; see ``get_model``."""
    row = architecture(name)
    factors = tuple(row.factors if factors is None else factors)
    for kind in factors:
        if kind not in row.offered:
            raise SSSError(f'{name} has no {kind!r} structures, only {", ".join(row.offered)}; factors=[] gives '
                           f'none')
    classes = row.classes if classes is None else classes
    for key, value in (('classes', classes), ('in_channels', in_channels)):
        if not isinstance(value, Integral) or value < 1:
            raise SSSError(f'{name}: {key}={value!r} is not a positive whole number')
    _check_sizes(name, options)
    try:
        net = row.build(Layers(factors, neuron_block), classes, in_channels, **options)
    except (TypeError, ValueError, ZeroDivisionError, IndexError, mx.base.MXNetError) as error:
        raise SSSError(f'{name} cannot be built with {options or "these settings"}: '
                       f'{reason(error)}') from error
    net.spec = dict(name=name, classes=classes, in_channels=in_channels, factors=list(factors), options=options)
    return net


def _check_sizes(name: str, options) -> None:
    def numbers(value):
        return [n for part in value for n in numbers(part)] if isinstance(value, (list, tuple)) else [value]

    for key, largest in LARGEST.items():
        if key != 'groups' and not isinstance(options.get(key, []), (list, tuple)):
            raise SSSError(f'{name}: {key}={options[key]!r} should be a list')
        for number in numbers(options.get(key, [])):
            if not isinstance(number, Integral) or not 1 <= int(number) <= largest:
                raise SSSError(f'{name}: {key}={options[key]} should hold whole numbers from 1 to {largest}, not '
                               f'{number!r}')
