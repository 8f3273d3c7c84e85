"""A network without the structures that are held at zero, which trains in place of the whole network."""
from __future__ import annotations

from dataclasses import replace
from typing import Dict, Mapping

import numpy as np
from mxnet import gluon

from ..errors import SSSError
from ..factors import scaling_factors
from ..graph.block import to_block
from ..graph.fold import fold
from ..graph.ir import Program
from ..graph.prune import prune_graph
from ..graph.trace import Shapes, structural_names, trace
from ..graph.unfold import unfold
from .factor_values import factor_runs, factor_variable, fill_nonzero, traced_factors
from .mirror import Index, follow


class Shrunk:
    """The network that is left while structures are held at zero; it trains exactly as the whole network would.

    It returns what the whole network returns while it trains, auxiliary heads included, in inference too.

    In training mode a BatchNorm of a channel that is always 0 returns β and learns β, so that channel stays until
    ``compact`` removes it. Everything else that ``compact`` would remove is removed.

    Parameters
    ----------
    whole : mxnet.gluon.HybridBlock
        Initialised, with scaling factors. It keeps all its arrays, and follows ``net``: whoever reads its parameters,
        to save, predict or ``compact``, gets what ``net`` has learnt by now.
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
        The network that was given.
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
        mine = {structural: parameter for parameter, structural in _structural(whole)}
        if self.removed:
            self._cut(mine)
        for name, parameter in mine.items():
            follow(parameter, self.parameters.get(name), self.kept.get(name, ()))

    def _cut(self, mine: Dict[str, gluon.Parameter]) -> None:
        for factor in scaling_factors(self.whole):
            if factor.name in self.removed and factor.values()[self.removed[factor.name]].any():
                raise SSSError(f'factor {factor.name} is not 0 where its structures are to be removed; hold it at 0 '
                               f'first')
        smaller = _smaller(self.whole, self.input_shape, self.removed, self.align)
        origin = {variable: name for name, variable in smaller.variables.items()}
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
        return self if same else Shrunk(self.whole, self.input_shape, removed, align)

    def restore(self) -> gluon.HybridBlock:
        """Bring all arrays of the whole network up to date, those too that were fetched before; return it."""
        for parameter in self.whole.collect_params().values():
            parameter.list_data()
        return self.whole


def refuse_uncuttable(whole: gluon.HybridBlock, input_shape: Shapes, multipliers: Mapping[str, float],
                      align: int) -> None:
    """Raise what a later cut would raise, which removes as much as it can of a kind, wherever γ acts.

    ``multipliers`` of γ are those of a trainer, {factor name: number}.
    """
    for kinds in (('neuron', 'group'), ('block',)):
        removed = {}
        for factor in scaling_factors(whole):
            if factor.kind in kinds and multipliers[factor.name]:
                removed[factor.name] = np.ones(factor.parameter.shape, bool)
                removed[factor.name][0] = factor.kind == 'block'        # one of each layer stays
        if _masks(removed):
            _smaller(whole, input_shape, removed, align)


def _smaller(whole: gluon.HybridBlock, input_shape: Shapes, removed: Mapping[str, np.ndarray],
             align: int) -> Program:
    """The network without some structures, with its factors and its present values."""
    program = trace(whole, input_shape, training=True)
    filled = replace(program, values=dict(program.values))
    fill_nonzero(filled, whole)     # a weight that happens to be 0 may train to another value
    for factor in traced_factors(program, whole):
        mask = removed.get(factor.name, np.zeros(factor.parameter.shape, bool))
        filled.values[factor_variable(program, factor)] = (~mask).astype('float32')
    folded = fold(filled)
    reduced, _ = prune_graph(folded, align, training=True, runs=factor_runs(program, folded, whole))
    return unfold(reduced, folded, filled.values, program)


def _masks(removed: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """The masks that remove anything."""
    return {name: np.array(mask, bool) for name, mask in removed.items() if np.any(mask)}


def _structural(net: gluon.HybridBlock):
    """(parameter, structural name) pairs."""
    names = structural_names(net)
    return [(parameter, names[name]) for name, parameter in net.collect_params().items()]
