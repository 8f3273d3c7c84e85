"""From a network with factors that are zero to the compact network, its size and its structure."""
from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import List, Optional, Sequence, Tuple

import mxnet as mx
from mxnet import gluon

from ..factors import scaling_factors
from ..files import sha256
from ..graph.block import export_program, to_block
from ..graph.count import Count, count_program
from ..graph.fold import fold
from ..graph.ir import Program
from ..graph.prune import prune_graph, verify
from ..graph.trace import trace
from .collapse import collapse
from .describe import describe, reasons
from .structure import Structure


@dataclass
class Compact:
    """A compact network, with its size and structure.

    Attributes
    ----------
    net : mxnet.gluon.SymbolBlock
        Plain operators, no factors. It can be trained like any block.
    before, after : Count
        Size of the network without its factors, and of the compact network.
    max_difference : float
        Largest difference between the outputs of both on the same batch, over the largest output.
    structure : Structure
    unhandled : list of str
        Operators that kept all their channels because the pass does not know them, as ``operator(name)``; see
        ``register_rule``.
    collapsed : str
        What has collapsed, where the output hardly depends on the input: all blocks are gone, or a layer without a
        way around it has nothing left. '' for a network that may be of use.
    stays : list of str
        Structures that are zero but whose channels remain, by factor, and why: another layer needs them, for instance.
    """
    net: gluon.SymbolBlock
    before: Count
    after: Count
    max_difference: float
    structure: Structure
    unhandled: List[str]
    program: Program
    collapsed: str = ''
    stays: List[str] = field(default_factory=list)

    def export(self, prefix) -> List[str]:
        """Write ``prefix-symbol.json``, ``prefix-0000.params`` and ``prefix-structure.json``; return the names.

        The weights are the present ones of ``net``, so that a fine-tuned network can be exported again.
        """
        names = export_program(self.program, self.net, prefix)
        self.structure.params_sha256 = sha256(f'{prefix}-0000.params')
        self.structure.save(f'{prefix}-structure.json')
        return names + [f'{prefix}-structure.json']


def compact(net: gluon.HybridBlock, input_shape: Sequence[int], ctx: Optional[mx.Context] = None,
            align: int = 1) -> Compact:
    """Remove all structures whose factor is exactly 0, and all else that contributes nothing to the outputs.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
        Initialised, with one input, with or without scaling factors. It is not changed.
    input_shape : sequence of int
        Shape of a batch, e.g. (1, 3, 32, 32); both networks are run on such a batch and compared.
    ctx : mxnet.Context, optional
        Device of the compact network; default the device of ``net``.
    align : int
        Keep as many zero channels as needed to make the width of each layer a multiple of this, or the width before.
        For inference: convolution kernels are up to twice as fast for multiples of 8 or 16. ``structure`` does not
        contain the channels that only fill up, so ``rebuild`` builds the network without them.

    Returns
    -------
    Compact

    Raises
    ------
    SSSError
        The outputs of both networks differ by more than rounding (1e-4 of the largest output), in float32 and
        inference mode.

    Warns
    -----
    UserWarning
        So much is gone that the output hardly depends on the input (``Compact.collapsed``).
    """
    traced = trace(net, input_shape)
    folded = fold(traced)
    reduced, unhandled = prune_graph(folded, align)
    difference = verify(traced, reduced)
    if ctx is None:
        ctx = next((parameter.list_ctx()[0] for parameter in net.collect_params().values()), mx.cpu())
    collapsed = collapse(net, folded, {factor.name: factor.values() for factor in scaling_factors(net)})
    if collapsed:
        warnings.warn(f'this compact network is of little use: {collapsed}', stacklevel=2)
    structure = describe(net, folded, reduced)
    return Compact(to_block(reduced, ctx), count_program(folded), count_program(reduced), difference, structure,
                   unhandled, reduced, collapsed, reasons(structure, folded, reduced))


def remaining(net: gluon.HybridBlock, input_shape: Sequence[int]) -> Tuple[Count, Count]:
    """Sizes of a network and of the compact network that ``compact`` would give, without building or comparing it."""
    folded = fold(trace(net, input_shape))
    return count_program(folded), count_program(prune_graph(folded)[0])
