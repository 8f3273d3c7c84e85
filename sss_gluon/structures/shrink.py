"""A network without the structures that are held at zero, which trains in place of the whole network."""
from __future__ import annotations

from dataclasses import replace
from typing import Dict, Mapping, Tuple

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..errors import SSSError
from ..graph.block import to_block
from ..graph.fold import fold
from ..graph.prune import prune_graph
from ..graph.trace import Shapes, structural_names, trace
from ..graph.unfold import unfold
from .factor_values import factor_variable, fill_nonzero, traced_factors

Index = Tuple[np.ndarray, ...]      # what np.ix_ returns: the part of an array that remains


class Shrunk:
    """The network that is left while structures are held at zero; it trains exactly as the whole network would.

    It returns what the whole network returns while it trains, auxiliary heads included, in inference too.

    In training mode a BatchNorm of a channel that is always 0 returns β and learns β, so that channel stays until
    ``compact`` removes it. Everything else that ``compact`` would remove is removed.

    Parameters
    ----------
    whole : mxnet.gluon.HybridBlock
        Initialised, with scaling factors. It keeps all its arrays.
    input_shape : sequence of int
        Batch first.
    removed : dict of str to numpy.ndarray
        {factor name: booleans, shape (size,)}; True where the factor is 0 and stays 0. Absent factors lose nothing.
    align : int
        Keep as many of these zeros as make the width of each layer a multiple of it, or the width before.

    Attributes
    ----------
    net : mxnet.gluon.HybridBlock
        Trains on the devices of ``whole``, factors included; ``whole`` itself while nothing is removed.
    whole : mxnet.gluon.HybridBlock
        As ``restore`` left it last.
    removed : dict of str to numpy.ndarray
        Masks of the factors that lose something.
    parameters : dict of str to mxnet.gluon.Parameter
        Those of ``net`` under the structural names of ``whole``; empty while nothing is removed.
    kept : dict of str to tuple
        For each of them, the index (``numpy.ix_``) of its values in the array of ``whole``.

    Raises
    ------
    SSSError
        A factor that is to be removed is not 0, or the network computes a weight in a way that cannot be cut.
    """

    def __init__(self, whole: gluon.HybridBlock, input_shape: Shapes, removed: Mapping[str, np.ndarray],
                 align: int = 1):
        self.whole, self.net, self.align = whole, whole, align
        self.input_shape, self.removed = input_shape, _masks(removed)
        self.parameters: Dict[str, gluon.Parameter] = {}
        self.kept: Dict[str, Index] = {}
        if self.removed:
            self._cut()

    def _cut(self) -> None:
        whole = self.whole
        program = trace(whole, self.input_shape, training=True)
        filled = replace(program, values=dict(program.values))
        fill_nonzero(filled, whole)     # a weight that happens to be 0 may train to another value
        for factor in traced_factors(program, whole):
            mask = self.removed.get(factor.name, np.zeros(factor.parameter.shape, bool))
            if factor.values()[mask].any():
                raise SSSError(f'factor {factor.name} is not 0 where its structures are to be removed; hold it at 0 '
                               f'first')
            filled.values[factor_variable(program, factor)] = (~mask).astype('float32')
        folded = fold(filled)
        smaller = unfold(prune_graph(folded, self.align, training=True)[0], folded, filled.values, program)
        origin = {variable: name for name, variable in program.variables.items()}
        mine = {structural: parameter for parameter, structural in _structural(whole)}
        self.net = to_block(smaller, next(iter(mine.values())).list_ctx())
        for variable, parameter in self.net.collect_params().items():
            name = origin[variable]
            parameter.grad_req = mine[name].grad_req
            self.parameters[name] = parameter
            cut = smaller.kept_indices[variable]
            self.kept[name] = np.ix_(*(cut.get(axis, np.arange(size)) for axis, size in enumerate(mine[name].shape)))

    def without(self, removed: Mapping[str, np.ndarray], align: int = 1) -> 'Shrunk':
        """The same network without other structures, with the present values; itself if nothing is to change."""
        same = align == self.align and self.removed.keys() == _masks(removed).keys() and \
            all(np.array_equal(mask, removed[name]) for name, mask in self.removed.items())
        return self if same else Shrunk(self.restore(), self.input_shape, removed, align)

    def restore(self) -> gluon.HybridBlock:
        """Copy the parameters and running statistics back into the whole network, on every device; return it."""
        mx.nd.waitall()     # with static_shape, parameters could otherwise be read as an earlier step left them
        for parameter, name in _structural(self.whole):
            if name in self.parameters:
                for array, part in zip(parameter.list_data(), self.parameters[name].list_data()):
                    value = array.asnumpy()
                    value[self.kept[name]] = part.asnumpy()
                    mx.nd.array(value, dtype=value.dtype).copyto(array)     # whatever its layout
        mx.nd.waitall()
        return self.whole


def _masks(removed: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """The masks that remove anything."""
    return {name: np.array(mask, bool) for name, mask in removed.items() if np.any(mask)}


def _structural(net: gluon.HybridBlock):
    """(parameter, structural name) pairs."""
    names = structural_names(net)
    return [(parameter, names[name]) for name, parameter in net.collect_params().items()]
