"""Scaling factors inside a traced program: which variable holds one, and values that stand in for training."""
from __future__ import annotations

import numpy as np
from mxnet import gluon

from ..factors import ScalingFactor, scaling_factors
from ..graph.ir import Program


def fill_typical(program: Program, net: gluon.HybridBlock) -> None:
    """Give a traced program values among which only factors are zero, and whose constant channels are positive.

    In a new network a branch without inputs gives 0, because biases start at 0; in a trained one it gives a constant.
    """
    factors = {factor_variable(program, factor) for factor in scaling_factors(net)}
    for name, value in program.values.items():
        if name not in factors:
            program.values[name] = np.full_like(value, -1 if name.endswith('mean') else 1)


def factor_variable(program: Program, factor: ScalingFactor) -> str:
    """Name of the variable of a traced program that holds a scaling factor."""
    return program.names[f'{factor.name}.factor' if factor.name else 'factor']
