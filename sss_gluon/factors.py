"""Scaling factors: the layers that carry them, and how to list those of a network.

A scaling factor λ multiplies the output of a *structure*: a neuron (channel), a group (one path of a grouped
convolution) or a whole residual block. It is folded into the parameters that produce the structure:

    λ·conv(x; W, b) = conv(x; λW, λb)          λ·BN(x; γ, β) = BN(x; λγ, λβ),

Function and gradients stay the same, without a multiplication, or a saved tensor, of the size of the activation.
``ScaledConv2D`` and ``ScaledBatchNorm`` are built with a factor; ``scale_layer`` gives one to any other layer.
"""
from __future__ import annotations

import ast
from functools import reduce
from math import gcd
from numbers import Integral
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from mxnet import gluon
from mxnet.gluon import nn

from .errors import SSSError

KINDS = ('neuron', 'group', 'block')
BLAS = ('float32', 'float64')       # types of matrix products on CPUs


class ScalingFactor(NamedTuple):
    """One factor array of a network.

    Attributes
    ----------
    name : str
        Structural name of the layer that owns it, e.g. ``stage1.0.conv2``, the same in every instance of the network;
        of a second factor of the layer, ``stage1.0.conv2.neuron``.
    kind : str
        ``neuron``, ``group`` or ``block``.
    parameter : mxnet.gluon.Parameter
        float32, shape (C,), (G,) or (1,).
    """
    name: str
    kind: str
    parameter: gluon.Parameter

    def values(self):
        """Current values as a float32 array of shape (size,)."""
        return self.parameter.list_data()[0].asnumpy()


class Fold(NamedTuple):
    """A factor of a layer: its kind, and the attributes that hold what it multiplies, along their first axis."""
    kind: str
    names: Tuple[str, ...]


class Scaled(gluon.HybridBlock):
    """Mixin of a Gluon layer with scaling factors, which are always float32, start at 1 and do not decay.

    The factors are multiplied into the parameters before the layer's own ``hybrid_forward`` sees them, so the output
    of the layer has to be linear in what they multiply.

    Attributes
    ----------
    folds : dict of str to Fold
        {attribute that holds a factor: what it multiplies}; the first factor is ``factor``.
    units : tuple of str
        Parameters that count as 1: gamma of a BatchNorm with ``scale=False``, whose place the factors take.
    """
    folds: Dict[str, Fold]
    units: Tuple[str, ...] = ()

    def _add_factor(self, kind: str, channels: int, groups: Optional[int], neuron_block: int = 1) -> None:
        layer = type(self).__name__
        if kind not in KINDS:
            raise SSSError(f"{layer}: kind {kind!r} is unknown; use one of {', '.join(KINDS)}")
        if not channels and (kind == 'group' or kind == 'neuron' and neuron_block != 1):
            raise SSSError(f'{layer}: give in_channels; it cannot be inferred through factors of several channels')
        if kind == 'group' and (not groups or channels % groups):
            raise SSSError(f'{layer}: kind group needs a number of groups that divides {channels} channels, but '
                           f'groups={groups}')
        sizes = {'block': 1, 'group': groups or 0, 'neuron': neurons(channels, neuron_block)}
        self.fold(kind, sizes[kind], scalable(self))

    def fold(self, kind: str, size: int, names: Sequence[str], shared: Optional[gluon.Parameter] = None) -> str:
        """Give the layer a factor, or one that other layers have too; return the attribute that holds it."""
        self.folds = dict(getattr(self, 'folds', {}))
        attribute = 'factor' if not hasattr(self, 'factor') else f'{kind}_factor'
        if hasattr(self, attribute):
            raise SSSError(f'{type(self).__name__} {self.name} has a parameter {attribute} already; rename it')
        if shared is None:
            with self.name_scope():
                shared = self.params.get(attribute, shape=(size,), init='ones', wd_mult=0.0,
                                         allow_deferred_init=not size)
        else:
            self.params.update({shared.name: shared})
        setattr(self, attribute, shared)
        self.folds[attribute] = Fold(kind, tuple(names))
        return attribute

    def hybrid_forward(self, F, x, *args, **parameters):
        factors = {attribute: (parameters.pop(attribute), fold.names) for attribute, fold in self.folds.items()
                   if attribute in parameters}      # a subclass may have multiplied by the others
        parameters.update(multiplied(F, parameters, self._reg_params, factors, self.units))
        return super().hybrid_forward(F, x, *args, **parameters)

    def cast(self, dtype):
        """Cast the layer, but not its factors: they reach zero in small steps, which need float32."""
        factors = [self._reg_params[attribute] for attribute in self.folds]
        values = [None if factor._data is None else factor.list_data()[0].copy() for factor in factors]
        super().cast(dtype)
        for factor, value in zip(factors, values):
            factor.cast('float32')
            if value is not None:      # casting to a narrower type rounded them, some to zero
                factor.set_data(value)


def neurons(channels: int, block: int) -> int:
    """The number of neuron factors of so many channels, with one for each ``block`` of adjacent channels.

    Where ``block`` does not divide the channels, their greatest common divisor takes its place.
    """
    if not isinstance(block, Integral) or block < 1:
        raise SSSError(f'neuron_block={block!r} must be a number of channels, at least 1')
    return channels // gcd(channels, int(block))


def multiplied(F, values, parameters, factors, units: Sequence[str] = ()) -> dict:
    """The parameters of a layer times its factors.

    Parameters
    ----------
    F : module
        ``mxnet.nd`` or ``mxnet.sym``.
    values : dict of str to NDArray or Symbol
    parameters : dict of str to mxnet.gluon.Parameter
        Of the layer, factors included: their shapes and types.
    factors : dict of str to tuple
        {name of a factor: (its value, names of the parameters that it multiplies)}. A factor has one entry for each
        slice along the first axis, for so many slices in a row, or for all.
    units : sequence of str
        Parameters that count as 1.

    Returns
    -------
    dict of str to NDArray or Symbol
        Of what is multiplied.
    """
    result, scales = {}, {}
    for name in dict.fromkeys(name for _, names in factors.values() for name in names):
        parameter, value = parameters[name], values[name]
        dtype, known = np.dtype(parameter.dtype).name, _is_known(value)
        mine = {key: factor for key, (factor, names) in factors.items() if name in names}
        if name in units:
            value = F.ones_like(value)
        if not known:       # a BatchNorm of which the first batch gives the shape: it passes elemwise_mul both ways
            for key, factor in mine.items():
                like = F.broadcast_like(factor, value) if parameters[key].shape[0] == 1 else factor
                value = F.elemwise_mul(value, like)
            result[name] = value
            continue
        axes = len(parameter.shape)
        if axes > 1 and [parameters[key].shape for key in mine] == [(1,)] and dtype in BLAS:
            # for the gradient of λ, which broadcast_mul would add up element by element
            factor, = mine.values()
            result[name] = F.dot(per_channel(F, factor, 1, 1, dtype), F.expand_dims(value, axis=0))
            continue
        row = tuple((key, parameter.shape[0] // parameters[key].shape[0]) for key in mine), dtype
        if row not in scales:
            scales[row] = reduce(F.broadcast_mul, [per_channel(F, mine[key], parameters[key].shape[0], repeats, dtype)
                                                   for key, repeats in row[0]])
        scale = scales[row] if axes == 1 else F.reshape(scales[row], (-1,) + (1,) * (axes - 1))
        result[name] = F.broadcast_mul(value, scale)
    return result


def _is_known(value) -> bool:
    """Whether the shape of a parameter is known: of a Symbol, to those who infer shapes in its graph."""
    return not hasattr(value, 'attr') or 0 not in ast.literal_eval(value.attr('__shape__') or '()')


def per_channel(F, factor, size: int, repeats: int, dtype: str):
    """λ as one value per channel (or one for all), in the type of what it multiplies."""
    if size > 1 and repeats > 1:
        factor = F.repeat(factor, repeats=repeats, axis=0)
    return factor if dtype == 'float32' else F.cast(factor, dtype=dtype)


class ScaledConv2D(Scaled, nn.Conv2D):
    """A convolution whose output is multiplied by scaling factors, folded into weight and bias.

    Parameters
    ----------
    channels, kernel_size, strides, padding, dilation, groups, in_channels, use_bias, activation, ... :
        As in ``mxnet.gluon.nn.Conv2D``. ``in_channels`` is required, because shapes are not inferred through a
        computed weight. An activation is applied after the factor.
    kind : {'block', 'neuron', 'group'}
        ``block`` has one factor, ``neuron`` one per output channel, ``group`` one per group of the convolution.
    neuron_block : int
        Adjacent channels that share a factor of kind ``neuron``; see ``neurons``.

    Inputs: (N, in_channels, H, W) float32. Outputs: (N, channels, H', W').
    """

    def __init__(self, channels, kernel_size, *args, kind='block', in_channels=0, groups=1, neuron_block=1,
                 **kwargs):
        if not in_channels:
            raise SSSError('ScaledConv2D: give in_channels; it cannot be inferred through a scaled weight')
        super().__init__(channels, kernel_size, *args, in_channels=in_channels, groups=groups, **kwargs)
        self._add_factor(kind, channels, groups, neuron_block)

    def hybrid_forward(self, F, x, weight, factor, bias=None, **others):
        given = others if bias is None else dict(others, bias=bias)
        return super().hybrid_forward(F, x, weight=weight, factor=factor, **given)


class ScaledBatchNorm(Scaled, nn.BatchNorm):
    """Batch normalisation whose output is multiplied by scaling factors, folded into BatchNorm.gamma and beta.

    Parameters
    ----------
    in_channels : int
        Number of channels C. If it is not given, the first batch gives it.
    kind : {'neuron', 'group', 'block'}
    groups : int, optional
        Number of factors for kind ``group``, each repeated over C/groups channels.
    neuron_block : int
        Adjacent channels that share a factor of kind ``neuron``; see ``neurons``.
    axis, momentum, epsilon, center, scale, ... :
        As in ``mxnet.gluon.nn.BatchNorm``. With ``scale=False`` the factors take the place of gamma.

    Inputs and outputs: (N, C, ...).
    """

    def __init__(self, in_channels=0, kind='neuron', groups=None, neuron_block=1, **kwargs):
        super().__init__(in_channels=in_channels, **kwargs)
        _free_gamma(self)
        self._add_factor(kind, in_channels, groups, neuron_block)

    def hybrid_forward(self, F, x, gamma, beta, running_mean, running_var, factor, **others):
        return super().hybrid_forward(F, x, gamma=gamma, beta=beta, running_mean=running_mean, running_var=running_var,
                                      factor=factor, **others)


CLASSES: Dict[type, type] = {nn.Conv2D: ScaledConv2D, nn.BatchNorm: ScaledBatchNorm}


def scaled_class(layer: type) -> type:
    """The class of layers like ``layer`` that carry factors."""
    if issubclass(layer, Scaled):
        return layer
    if layer not in CLASSES:
        CLASSES[layer] = type(f'Scaled{layer.__name__}', (Scaled, layer),
                              {'__module__': layer.__module__, '__doc__': layer.__doc__})
    return CLASSES[layer]


def scale_layer(layer: gluon.HybridBlock, kind: str, size: int, names: Sequence[str],
                shared: Optional[gluon.Parameter] = None) -> gluon.Parameter:
    """Give a layer a factor in place: it becomes an instance of ``Scaled`` and of its own class.

    Parameters
    ----------
    layer : mxnet.gluon.HybridBlock
        Its output is linear in the parameters that are multiplied, and their shapes are known.
    kind : {'neuron', 'group', 'block'}
    size : int
        Number of factors.
    names : sequence of str
        The attributes of the layer that hold what is multiplied, along its first axis.
    shared : mxnet.gluon.Parameter, optional
        The factor of another layer, for both.

    Returns
    -------
    mxnet.gluon.Parameter
        The factor, on the devices of the layer if that is initialised.
    """
    layer.__class__ = scaled_class(type(layer))
    _free_gamma(layer)
    factor = layer._reg_params[layer.fold(kind, size, names, shared)]
    for name in names:
        layer._reg_params[name]._var = None     # it may declare the shape that it had before the first batch
    if factor._data is None:
        try:
            factor.initialize(ctx=layer._reg_params[names[0]].list_ctx())
        except RuntimeError:        # the layer waits for net.initialize()
            pass
    layer._clear_cached_op()
    return factor


def _free_gamma(layer) -> None:
    """Let a BatchNorm with ``scale=False`` use what is given as gamma, which is 1 times its factors from now on."""
    if getattr(layer, '_kwargs', {}).get('fix_gamma', False):
        layer._kwargs, layer.units = dict(layer._kwargs, fix_gamma=False), ('gamma',)


def scalable(layer: gluon.HybridBlock) -> Tuple[str, ...]:
    """What of weight, bias, gamma and beta a layer has."""
    return tuple(name for name in ('weight', 'bias', 'gamma', 'beta') if name in layer._reg_params)


def scaling_factors(net: gluon.Block) -> List[ScalingFactor]:
    """All scaling factors of a network, in the order in which its layers were registered (forward order).

    A layer that is used several times is listed once, and so is a factor that several layers share.
    """
    found, seen = [], set()

    def visit(block, path):
        if id(block) in seen:
            return
        seen.add(id(block))
        for attribute, fold in block.folds.items() if isinstance(block, Scaled) else ():
            parameter = block._reg_params[attribute]
            if id(parameter) not in seen:
                seen.add(id(parameter))
                name = '.'.join((*path, attribute))
                found.append(ScalingFactor(name[:-len('.factor')], fold.kind, parameter))
        for name, child in block._children.items():
            visit(child, path + (name,))

    visit(net, ())
    return found


def factor_values(net: gluon.Block):
    """{factor name: float32 array} of all factors, copied to the host."""
    return {factor.name: factor.values() for factor in scaling_factors(net)}
