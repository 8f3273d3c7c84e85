"""Scaling factors inside a traced program: the variable that holds one, and weights that stand in for trained ones."""
from __future__ import annotations

import numpy as np
from mxnet import gluon

from ..factors import ScalingFactor, scaling_factors
from ..graph.ir import Program


def fill_nonzero(program: Program, net: gluon.HybridBlock) -> None:
    """Make all values of a traced program nonzero, except its factors, and its constant channels positive.

    A branch without inputs gives 0 in a new network, because biases start at 0, but a constant in a trained one.
    """
    factors = {factor_variable(program, factor) for factor in scaling_factors(net)}
    for name, value in program.values.items():
        if name not in factors:
            program.values[name] = np.full_like(value, -1 if name.endswith('mean') else 1)


def factor_variable(program: Program, factor: ScalingFactor) -> str:
    """Name of the variable of a traced program that holds a scaling factor."""
    return program.variables[f'{factor.name}.factor' if factor.name else 'factor']
