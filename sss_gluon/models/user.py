"""Networks from functions of the user: ``package.module:function``, called with what the function takes."""
from __future__ import annotations

import importlib
import inspect
import re
from typing import Any, Callable, Dict, Optional, Sequence

from mxnet import gluon

from ..errors import SSSError

REFUSED = re.compile(r"unexpected keyword argument '(\w+)'")


def build(name: str, classes: Optional[int], factors: Optional[Sequence[str]], in_channels: int,
          neuron_block: int, options: Dict[str, Any]) -> gluon.HybridBlock:
    """The network of a function, which is passed those of the other arguments that it takes."""
    given = dict(in_channels=in_channels, classes=classes, factors=factors,
                 neuron_block=None if neuron_block == 1 else neuron_block)
    offered = {key: value for key, value in given.items() if value is not None}
    try:
        net = call(_function(name), options, offered)
    except TypeError as error:
        raise SSSError(f'model {name!r}: {error}; it is called with those of {", ".join(offered)} that it takes, and '
                       f'with all model_options ({", ".join(options) or "none"})') from error
    if not isinstance(net, gluon.HybridBlock):
        raise SSSError(f'model {name!r} returned {type(net).__name__}, not a HybridBlock')
    return net


def takes(name: str, argument: str) -> bool:
    """Whether the function has an argument: one that takes ``factors`` has a default of its own."""
    return argument in _parameters(_function(name))


def call(function: Callable, options: Dict[str, Any], offered: Dict[str, Any]) -> Any:
    """Call a function with all options, and with those of the offered keywords that it takes.

    A function with ``**`` in its signature passes on what it gets: there the error of the function inside says which
    of the offered keywords it does not take, and the call is repeated without it.
    """
    parameters = _parameters(function)
    passes_on = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    taken = {key: value for key, value in offered.items() if passes_on or key in parameters}
    while True:
        try:
            return function(**options, **taken)
        except TypeError as error:
            refused = REFUSED.search(str(error))
            if not passes_on or not refused or refused[1] not in taken or refused[1] in parameters:
                raise
            del taken[refused[1]]


def _function(name: str) -> Callable:
    module_name, _, function_name = name.partition(':')
    try:
        return getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError, ValueError, TypeError, SyntaxError) as error:
        raise SSSError(f'model {name!r}: {error}; modules are imported from PYTHONPATH and the current '
                       f'folder') from error


def _parameters(function: Callable) -> Dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):     # not callable, or written in C: the call will say so
        return {}
