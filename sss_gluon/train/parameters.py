"""Parameters under their structural names, and their multipliers of weight decay and of γ."""
from __future__ import annotations

import re
from typing import Dict, List, Tuple

from mxnet import gluon

from ..errors import SSSError
from ..factors import Scaled, ScaledBatchNorm, ScaledConv2D, scaling_factors
from ..structures.masked_count import mac_weights

NO_DECAY = r'(bias|beta)$'      # authors' code: weight decay on weights and BatchNorm.gamma only


def named_parameters(net: gluon.Block) -> List[Tuple[str, gluon.Parameter]]:
    """(structural name, parameter) pairs in structural order; a shared parameter appears once.

    gluon.Trainer would sort a ParameterDict by name, and dense10 comes before dense6.
    """
    if isinstance(net, gluon.SymbolBlock):
        return list(net.collect_params().items())
    seen, named = set(), []
    for name, parameter in net._collect_params_with_prefix().items():
        if id(parameter) not in seen:
            seen.add(id(parameter))
            named.append((name, parameter))
    return named


def exempt_from_decay(net: gluon.Block, no_decay: str = NO_DECAY) -> None:
    """Set ``wd_mult`` to 0 where a regular expression matches the structural name of a parameter."""
    for name, parameter in named_parameters(net):
        if re.search(no_decay, name):
            parameter.wd_mult = 0.0


def gamma_multipliers(net, gamma_mult=None, gamma_weighting='uniform', input_shape=None) -> Dict[str, float]:
    """{factor name: multiplier of γ}."""
    names = [factor.name for factor in scaling_factors(net)]
    multipliers = dict.fromkeys(names, 1.0)
    if gamma_weighting == 'macs':
        if input_shape is None:
            raise SSSError("gamma_weighting='macs' needs input_shape, e.g. (1, 3, 32, 32)")
        multipliers = mac_weights(net, input_shape)
    elif gamma_weighting != 'uniform':
        raise SSSError(f"gamma_weighting={gamma_weighting!r} must be 'uniform' or 'macs'")
    for pattern, multiplier in (gamma_mult or {}).items():
        try:
            matched = [name for name in names if re.search(pattern, name)]
        except re.error as error:
            raise SSSError(f'gamma_mult: {pattern!r} is not a regular expression: {error}') from error
        if not matched:
            raise SSSError(f'gamma_mult: {pattern!r} matches no factor; factors: {", ".join(names[:5])}, ...')
        if not 0 <= multiplier < float('inf'):
            raise SSSError(f'gamma_mult: the multiplier {multiplier} of {pattern!r} must be a finite number >= 0')
        for name in matched:
            multipliers[name] = multiplier * (multipliers[name] if gamma_weighting == 'macs' else 1.0)
    return multipliers


# What multiplies parameters by factors as ``fold_factors`` does; a layer of one's own may do something else.
MULTIPLIERS = (Scaled.hybrid_forward, ScaledBatchNorm.hybrid_forward, ScaledConv2D.hybrid_forward)


def scaled_parameters(net: gluon.Block) -> Dict[str, List[str]]:
    """{factor name: structural names of the parameters that it multiplies}.

    A factor is absent if these are not known, or are used without it too: it cannot be multiplied into them.
    """
    names = {id(parameter): name for name, parameter in named_parameters(net)}
    used: Dict[int, set] = {}       # {parameter: the factors of each layer that uses it}
    scaled: Dict[int, Dict[int, None]] = {}
    unknown = set()

    def visit(block):
        own = getattr(block, '_reg_params', {})
        folds = block.folds if isinstance(block, Scaled) else {}
        folds = {id(own[attribute]): fold for attribute, fold in folds.items()}
        if folds and (block.units or not isinstance(block, gluon.SymbolBlock)
                      and type(block).hybrid_forward not in MULTIPLIERS):
            unknown.update(folds)
        for name, parameter in own.items():
            if id(parameter) not in folds:
                mine = [factor for factor, fold in folds.items() if name in fold.names]
                used.setdefault(id(parameter), set()).add(frozenset(mine))
                for factor in mine:
                    scaled.setdefault(factor, {})[id(parameter)] = None
    net.apply(visit)
    return {name: [names[parameter] for parameter in scaled[id(factor)]] for name, _, factor in scaling_factors(net)
            if id(factor) not in unknown and all(len(used[parameter]) == 1 for parameter in scaled[id(factor)])}
