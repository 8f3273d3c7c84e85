"""Networks by name: the paper's nine as plain Gluon blocks, GluonCV's, and your own."""
from __future__ import annotations

from typing import Optional, Sequence, Union

from mxnet import gluon

from ..errors import SSSError
from ..factors import KINDS, scaling_factors
from ..graph.trace import Shapes, settle_shapes
from ..placement import add_factors
from . import architectures, user, zoo
from .architectures import ARCHITECTURES, Architecture, architecture, largest_kind

__all__ = ['ARCHITECTURES', 'Architecture', 'architecture', 'get_model', 'largest_kind']


def get_model(name: str, classes: Optional[int] = None, factors: Union[None, str, Sequence[str]] = None,
              in_channels: int = 3, input_shape: Optional[Shapes] = None, neuron_block: int = 1,
              **options) -> gluon.HybridBlock:
    """Build a network by its name, uninitialised.

    Parameters
    ----------
    name : str
        A key of ``ARCHITECTURES``, e.g. ``cifar_resnet20``; ``gluoncv:NAME`` for a network of GluonCV's model zoo,
        e.g. ``gluoncv:resnet50_v1b``; or ``package.module:function`` for your own network. That function is called
        with the options, and with those of ``classes``, ``in_channels`` and ``factors`` that it takes.
    classes : int, optional
        Default 10 for the CIFAR networks, 1000 for the ImageNet ones, GluonCV's own number for its networks.
    factors : sequence of {'neuron', 'group', 'block'}, optional
        Kinds of structures that carry scaling factors; () for none. The default is what the paper prunes in its
        networks, and the factors that your network has. A network that has none, as those of GluonCV, gets them by
        ``add_factors``: all kinds by default, if ``input_shape`` is given.
    in_channels : int
    input_shape : sequence of int, optional
        Shape of a batch, e.g. (1, 3, 224, 224): tells layers without ``in_channels`` how many they have, and
        ``add_factors`` how to trace the network.
    neuron_block : int
        Adjacent channels that share a factor of kind ``neuron``, so that they go together and the widths of layers stay
        multiples of it: 8 or 16 make pruned convolutions fast. See ``factors.neurons``.
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
        net = _others(name, classes, factors, in_channels, input_shape, neuron_block, options)
    else:
        net = architectures.build(name, classes, factors, in_channels, neuron_block, options)
    if neuron_block != 1:
        if not any(factor.kind == 'neuron' for factor in scaling_factors(net)):
            raise SSSError(f'neuron_block={neuron_block} does nothing for {name}, which has no factors of neurons '
                           f'here; add neuron to factors, or leave it out')
        net.spec['options'] = dict(options, neuron_block=neuron_block)
    return net


def _others(name: str, classes: Optional[int], factors: Optional[Sequence[str]], in_channels: int,
            input_shape: Optional[Shapes], neuron_block: int, options) -> gluon.HybridBlock:
    """A network of GluonCV or of the user, with its own factors or with those that it gets here."""
    for kind in factors or ():
        if kind not in KINDS:
            raise SSSError(f'{name}: there are no {kind!r} structures, only {", ".join(KINDS)}; factors=[] gives none')
    net = zoo.build(name, classes, options) if zoo.is_zoo(name) else \
        user.build(name, classes, factors, in_channels, neuron_block, options)
    if input_shape is not None:
        settle_shapes(net, input_shape)
    present = {factor.kind for factor in scaling_factors(net)}
    if present - set(factors if factors is not None else KINDS):
        raise SSSError(f'{name} has factors of its own ({", ".join(sorted(present))}), but '
                       f'factors={list(factors or ())}; leave factors out, or let the function take them')
    if not present and (factors or factors is None and input_shape is not None):
        if input_shape is None:
            raise SSSError(f'{name} has no factors yet; give it input_shape=(1, {in_channels}, height, width), by '
                           f'which it is traced to find their places')
        add_factors(net, KINDS if factors is None else factors, input_shape, neuron_block=neuron_block, log=None)
    elif neuron_block != 1 and present and not user.takes(name, 'neuron_block'):
        raise SSSError(f'{name} has factors of its own, and does not take neuron_block; leave it out')
    net.spec = dict(name=name, classes=classes, in_channels=in_channels,
                    factors=None if factors is None else list(factors), options=options)
    return net
