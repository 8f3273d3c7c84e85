"""Teach the graph pass an operator that it does not know.

An operator without a rule keeps all its channels; ``Compact.unhandled`` lists it, under the name to register. If each
of its output channels is a function of the same input channel, the rule is one line:

>>> sss.register_rule('softsign', sss.rules.Channelwise(lambda node, value: value / (1 + np.abs(value))))

The function maps constant channels to constant channels: it tells the pass that a channel of zeros stays a channel of
zeros. An operator with parameters, or one that treats channels in another way, takes a subclass:

>>> @sss.register_rule('InstanceNorm')
... class InstanceNorm(sss.rules.Channelwise):
...     # β + γ·(x − mean)/√(var + eps), mean and var over the positions: β where the channel is constant
...     def applies(self, node, view):
...         return all(view.is_parameter(entry) for entry in node.inputs[1:])
...
...     def constants(self, node, view):
...         gamma, beta = (view.value(entry) for entry in node.inputs[1:])
...         constant = (gamma == 0) | ~np.isnan(view.constant(node.inputs[0]))
...         return [np.where(constant, beta, np.nan)]
...
...     def rewrite(self, node, view):
...         for entry in node.inputs[1:]:
...             view.slice(entry, 0, view.kept(node.inputs[0]))
...         return {}

``sss_gluon.graph.rules`` documents the methods of a rule and those of ``view``; its classes cover convolutions,
normalisation, elementwise operators, concatenation, slices and reshapes. ``compact`` compares the outputs of both
networks on a batch, and raises SSSError if a wrong rule changed them.
"""
from __future__ import annotations

from typing import Callable, Optional, Union

from ..errors import SSSError
from .count import HANDLERS
from .operators import RULES
from .rules import Rule


def register_rule(operator: str, rule: Union[None, Rule, type] = None, replace: bool = False):
    """Say how an operator treats channels, so that the layers around it can be pruned.

    Parameters
    ----------
    operator : str
        Name of the operator in MXNet, as ``Compact.unhandled`` prints it; for an operator written in Python
        (``mx.operator.register``) the name that it is registered under.
    rule : Rule or subclass of Rule, optional
        Without it, the result is a decorator for such a subclass, which must have a constructor without arguments.
    replace : bool
        Replace the rule of an operator that has one.

    Raises
    ------
    SSSError
        The operator has a rule and ``replace`` is False, or ``rule`` is not a Rule.
    """
    return _register(RULES, 'rule', operator, rule, replace, _as_rule)


def register_macs(operator: str, macs: Optional[Callable] = None, replace: bool = False):
    """Say how many MACs an operator costs, so that ``count`` counts it.

    Parameters
    ----------
    operator : str
        As in ``register_rule``.
    macs : callable, optional
        ``macs(node, shapes)`` returns the multiply-accumulates per image; ``shapes`` maps ``node.inputs[i]`` and
        ``sss.rules.Entry(node)``, the output, to their shapes, batch first. Without it, the result is a decorator.
    replace : bool
        Replace the count of an operator that has one.

    Raises
    ------
    SSSError
        The operator is counted already and ``replace`` is False, or ``macs`` is not callable.

    Examples
    --------
    >>> sss.register_macs('batch_dot', lambda node, shapes: np.prod(shapes[node.inputs[0]][1:])
    ...                   * shapes[node.inputs[1]][-1])
    """
    return _register(HANDLERS, 'count of MACs', operator, macs, replace, _as_function)


def _register(table: dict, kind: str, operator: str, value, replace: bool, checked: Callable):
    if not isinstance(operator, str):
        raise SSSError(f'the first argument must be the name of an operator, not {operator!r}')
    if operator in table and not replace:
        raise SSSError(f'{operator} has a {kind} already; pass replace=True to replace it')

    def register(value):
        table[operator] = checked(operator, value)
        return value

    if value is None:
        return register
    register(value)


def _as_rule(operator: str, rule) -> Rule:
    if isinstance(rule, type) and issubclass(rule, Rule):
        try:
            return rule()
        except TypeError as error:
            raise SSSError(f'{operator}: pass an instance of {rule.__name__}, not the class ({error})') from error
    if not isinstance(rule, Rule):
        raise SSSError(f'{operator}: {rule!r} is not a Rule; pass an instance or a subclass of sss_gluon.rules.Rule')
    return rule


def _as_function(operator: str, macs) -> Callable:
    if not callable(macs):
        raise SSSError(f'{operator}: {macs!r} is not a function of (node, shapes)')
    return macs
