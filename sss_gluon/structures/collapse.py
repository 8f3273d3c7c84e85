"""Has so much gone that the output of a network hardly depends on its input? Told from its structure alone."""
from __future__ import annotations

from typing import Dict, List, Mapping

import numpy as np
from mxnet import gluon

from ..graph.channels import Channels
from ..graph.fold import fold
from ..graph.ir import Program
from ..graph.trace import trace
from .factor_values import traced_factors


def collapse(net: gluon.HybridBlock, program: Program, kept: Mapping[str, np.ndarray]) -> str:
    """One clause on what has collapsed; '' where the network may still be of use.

    It has collapsed where every structure of a kind is gone that has several, such as all blocks of all stages, or
    where the output is the same for every input, because a layer on the only way to it has nothing left.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
        With scaling factors.
    program : Program
        The network, folded, before anything is cut.
    kept : dict of str to numpy.ndarray
        {factor name: shape (size,), not 0 for what remains}, of some or all factors.
    """
    kinds: Dict[str, List[np.ndarray]] = {}
    factors = [factor for factor in traced_factors(program, net) if factor.name in kept]
    for factor in factors:
        kinds.setdefault(factor.kind, []).append(kept[factor.name] != 0)
    gone = [f'all {total} {kind}s are gone' for kind, masks in kinds.items() for total in [sum(map(np.size, masks))]
            if total > 1 and not any(mask.any() for mask in masks)]
    if not Channels(program).outputs_follow_input():
        empty = next((f' ({factor.name} has 0 of {kept[factor.name].size} {factor.kind}s left)'
                      for factor in factors if not kept[factor.name].any() and not gone), '')
        gone.append(f'the output is the same for every input{empty}')
    return ', and '.join(gone)


def collapse_now(net: gluon.HybridBlock, input_shape, kept: Mapping[str, np.ndarray]) -> str:
    """``collapse`` of a network that trains. It is traced only where a factor has nothing left."""
    if all(np.any(values) for values in kept.values()):
        return ''
    return collapse(net, fold(trace(net, input_shape)), kept)
