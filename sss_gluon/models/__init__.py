"""The nine networks of the paper as plain Gluon blocks, with or without scaling factors."""
from __future__ import annotations

import importlib
from numbers import Integral
from typing import Callable, NamedTuple, Optional, Sequence, Tuple, Union

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


def architecture(name: str) -> Architecture:
    """The row of a network; for an unknown name, an error that names the nearest one."""
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    raise SSSError(f'model {name!r} is unknown; did you mean {nearest(name, ARCHITECTURES)!r}? '
                   f'Models: {", ".join(ARCHITECTURES)}')


# Options that are integers or lists of them, and their largest plausible values: networks are built block by block.
LARGEST = {'depths': 1000, 'widths': 2 ** 16, 'stages': 2 ** 16, 'groups': 2 ** 16}


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


def _user_model(name: str, classes, factors, in_channels, options) -> gluon.HybridBlock:
    """The user's network ``package.module:function``, called with classes= and in_channels=."""
    module_name, _, function_name = name.partition(':')
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError, ValueError, TypeError, SyntaxError) as error:
        raise SSSError(f'model {name!r}: {error}; modules are imported from PYTHONPATH and the current '
                       f'folder') from error
    arguments = dict(options, in_channels=in_channels)
    if classes is not None:
        arguments['classes'] = classes
    if factors is not None:
        arguments['factors'] = factors
    try:
        net = function(**arguments)
    except TypeError as error:
        hint = ' (factors=null leaves factors out)' if factors is not None else ''
        raise SSSError(f'model {name!r}: {error}; it is called with {", ".join(sorted(arguments))}{hint}') from error
    if not isinstance(net, gluon.HybridBlock):
        raise SSSError(f'model {name!r} returned {type(net).__name__}, not a HybridBlock')
    return net


def get_model(name: str, classes: Optional[int] = None, factors: Union[None, str, Sequence[str]] = None,
              in_channels: int = 3, **options) -> gluon.HybridBlock:
    """Build one of the paper's networks, uninitialised.

    Parameters
    ----------
    name : str
        A key of ``ARCHITECTURES``, e.g. ``cifar_resnet20``; or ``package.module:function`` for your own network, built
        from ``ScaledConv2D`` and ``ScaledBatchNorm``. The function is called with ``classes``, ``in_channels``, the
        options, and ``factors`` if given.
    classes : int, optional
        Default 10 for the CIFAR networks, 1000 for the ImageNet ones.
    factors : sequence of {'neuron', 'group', 'block'}, optional
        Kinds of structures that carry scaling factors; default those that the paper prunes in this network; () for
        none.
    in_channels : int
    **options
        Further arguments of the network: ``depths``, ``widths`` (residual networks), ``groups``, ``inner_ratio``
        (ResNeXt), ``stages`` (VGG).

    Returns
    -------
    mxnet.gluon.HybridBlock
        Maps (N, in_channels, H, W) to (N, classes). ``net.spec`` holds the arguments that rebuild it.
    """
    if isinstance(factors, str):
        factors = (factors,)
    if ':' in name:
        net = _user_model(name, classes, factors, in_channels, options)
        net.spec = dict(name=name, classes=classes, in_channels=in_channels, factors=factors, options=options)
        return net
    row = architecture(name)
    factors = tuple(row.factors if factors is None else factors)
    for kind in factors:
        if kind not in row.offered:
            raise SSSError(f'{name} has no {kind!r} structures; factors may be any of {", ".join(row.offered)}, '
                           f'or [] for none')
    classes = row.classes if classes is None else classes
    for key, value in (('classes', classes), ('in_channels', in_channels)):
        if not isinstance(value, Integral) or value < 1:
            raise SSSError(f'{name}: {key}={value!r} is not a positive whole number')
    _check_sizes(name, options)
    try:
        net = row.build(Layers(factors), classes, in_channels, **options)
    except (TypeError, ValueError, ZeroDivisionError, IndexError, mx.base.MXNetError) as error:
        raise SSSError(f'{name} cannot be built with {options or "these settings"}: '
                       f'{reason(error)}') from error
    net.spec = dict(name=name, classes=classes, in_channels=in_channels, factors=list(factors), options=options)
    return net
