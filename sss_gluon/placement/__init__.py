"""``add_factors``: scaling factors for a network of one's own, placed where structures can go."""
from __future__ import annotations

from typing import Callable, Optional, Sequence, Tuple

from mxnet import gluon

from ..errors import SSSError
from ..factors import KINDS
from ..graph.trace import Shapes
from .attach import attach
from .plan import Plan
from .table import FactorTable, Row

__all__ = ['FactorTable', 'Row', 'add_factors']


def add_factors(net: gluon.HybridBlock, kinds: Sequence[str] = KINDS, input_shape: Optional[Shapes] = None,
                ignore: Sequence[str] = (), share: bool = False, neuron_block: int = 1,
                log: Optional[Callable[[object], None]] = print) -> FactorTable:
    """Give a network scaling factors, in place, where structures can be removed.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
        Any network that can be traced, or what ``SymbolBlock.imports`` gives; initialised or not, hybridized or not.
        Its outputs, its parameters and their names stay as they are. Call it on the whole network, before
        ``make_trainer``.
    kinds : sequence of {'neuron', 'group', 'block'}
        ``neuron``: channels of convolutions and dense layers. ``group``: paths of grouped convolutions.
        ``block``: branches that are added to a shortcut.
    input_shape : sequence of int
        Of a batch, e.g. (1, 3, 224, 224); for several inputs as in ``compact``. Layers that wait for the first batch to
        learn their number of inputs learn it from this shape, if they get a factor.
    ignore : str or sequence of str
        Patterns (as in ``fnmatch``) of structural names of layers that get no factor, e.g. ``'features.0*'``.
    share : bool
        Where several layers write the same channels, as the stages of a ResNet do, give all of them one factor.
    neuron_block : int
        Adjacent channels that share a factor of kind ``neuron``, so that they go together and widths stay multiples of
        it: 8 or 16 make pruned convolutions fast. See ``factors.neurons``.
    log : callable, optional
        Gets the table; None for silence.

    Returns
    -------
    FactorTable
        The factors, and the layers without one, with the reason. ``str`` makes it readable.

    Raises
    ------
    SSSError
        The network cannot be traced with this shape, or a kind or pattern is wrong.

    Notes
    -----
    A factor starts at 1 and is multiplied into the parameters of a layer, which becomes an instance of its own class
    and of ``sss_gluon.factors.Scaled``. Every place is tried on the graph first: a layer gets a factor only if a zero
    there removes something. A second call adds what is missing.
    """
    if not isinstance(net, gluon.HybridBlock):
        raise SSSError(f'add_factors needs a HybridBlock or SymbolBlock, not {type(net).__name__}')
    if input_shape is None:
        raise SSSError('add_factors needs input_shape=(batch, channels, height, width) to trace the network, e.g. '
                       'input_shape=(1, 3, 224, 224)')
    kinds, ignore = _several(kinds), _several(ignore)
    wrong = [kind for kind in kinds if kind not in KINDS]
    if wrong or not kinds:
        raise SSSError(f'kinds={kinds!r}: use some of {", ".join(KINDS)}')
    plan = Plan(net, input_shape, kinds, ignore, share, neuron_block)
    attach(net, plan.traced, plan.placements)
    table = FactorTable(plan.rows)
    if log:
        log(table)
    return table


def _several(names) -> Tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)
