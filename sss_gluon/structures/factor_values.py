"""Scaling factors inside a traced program: the variable that holds one, and weights that stand in for trained ones."""
from __future__ import annotations

from typing import Dict, List, Optional

import numpy as np
from mxnet import gluon

from ..factors import ScalingFactor, scaling_factors
from ..graph.ir import Entry, Program


def fill_nonzero(program: Program, net: gluon.HybridBlock) -> None:
    """Make all values of a traced program nonzero, except its factors, and its constant channels positive.

    A branch without inputs gives 0 in a new network, because biases start at 0, but a constant in a trained one. The
    values differ, so that nothing cancels where a weight is computed, from W − mean(W) for instance.
    """
    drawn = np.random.RandomState(0).uniform(0.5, 1, 10007).astype('float32')      # a prime, where it repeats
    factors = {factor_variable(program, factor) for factor in traced_factors(program, net)}
    for name, value in program.values.items():
        if name not in factors:
            sign = -1 if name.endswith('mean') else 1
            program.values[name] = np.resize(sign * drawn, value.shape).astype(value.dtype)


def traced_factors(program: Program, net: gluon.Block) -> List[ScalingFactor]:
    """The scaling factors that take part in what was traced; others belong to heads that exist in training only."""
    return [factor for factor in scaling_factors(net) if _variable(program, factor)]


def _variable(program: Program, factor: ScalingFactor) -> Optional[str]:
    names = (f'{factor.name}.factor', f'{factor.name}_factor') if factor.name else ('factor',)
    return next((program.variables[name] for name in names if name in program.variables), None)


def factor_variable(program: Program, factor: ScalingFactor) -> str:
    """Name of the variable of a traced program that holds a scaling factor."""
    return str(_variable(program, factor))


def factor_runs(program: Program, folded: Program, net: gluon.Block) -> Dict[str, int]:
    """{parameter of the folded program: how many adjacent outputs of its layer share one entry of a factor}.

    A factor with a single entry for all outputs ties none together.
    """
    sizes = {factor_variable(program, factor): factor.parameter.shape[0] for factor in traced_factors(program, net)}
    several = {name: sizes[node.name] for name, entry in folded.origins.items()
               for node in Program([entry], {}, {}).nodes() if sizes.get(node.name, 1) > 1}
    shapes, runs = folded.shapes(), {}
    for node in folded.nodes():
        for entry in node.inputs:
            size = several.get(entry.node.name)
            if size and len(shapes[Entry(node)]) > 1 and shapes[Entry(node)][1] % size == 0:
                runs[entry.node.name] = shapes[Entry(node)][1] // size
    return runs
