"""``shrink``: a training goes on with a network from which everything that is held at zero is cut out."""
from __future__ import annotations

from typing import Mapping, Optional, Sequence

import numpy as np
from mxnet import gluon

from ..structures.shrink import Shrunk, refuse_uncuttable
from . import precision
from .compiling import compile_for_cpu
from .config import Config
from .factor_trainer import FactorTrainer


def shrink(net: gluon.HybridBlock, trainer: FactorTrainer, input_shape: Sequence[int],
           removed: Optional[Mapping[str, np.ndarray]] = None, align: int = Config.shrink_align) -> Shrunk:
    """Cut what is held at zero out of a network in training; ``trainer`` goes on with what is left.

    Weights, running statistics, momenta, the number of updates and the schedule carry over, so the smaller network
    trains exactly as the whole one would, only faster. Call it between two steps, as often as you like: it always
    starts from ``net``, and does nothing while there is nothing new to cut.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
        The whole network, of which ``trainer`` was made.
    trainer : FactorTrainer
    input_shape : sequence of int
        Batch first.
    removed : dict of str to numpy.ndarray, optional
        {factor name: booleans, shape (size,)}; default everything that ``trainer`` holds at zero (``trainer.held``),
        which ``Budget`` decides.
    align : int
        Keep as many zeros as make the width of each layer a multiple of it: a VGG-16 of 16 to 128 channels without 30 %
        of its neurons trained 1.4 times as slowly as the whole network with widths as they came, and 1.3 times as fast
        with multiples of 16, the channels in a block of oneDNN's layout (CPU with AVX-512).

    Returns
    -------
    Shrunk
        Train with its ``net``, hybridized like the network before. ``net`` itself follows: ``compact``,
        ``save_parameters`` and whatever else reads its parameters gets what the smaller network has learnt by then.
        Hooks of ``net`` itself are called for both.

    Raises
    ------
    SSSError
        A factor that is to be removed is not 0, or the network computes a weight in a way that cannot be cut. The
        first call finds that out for all structures that γ can remove.

    Examples
    --------
    >>> shrunk = sss.shrink(net, trainer, (1, 3, 32, 32))
    >>> output = shrunk.net(images)
    >>> small = sss.compact(net, (1, 3, 32, 32))
    """
    if trainer.shrunk is None:
        refuse_uncuttable(net, input_shape, trainer.gamma_multipliers, align)
        trainer.shrunk = Shrunk(net, input_shape, {}, align)
    before = trainer.shrunk
    shrunk = before.without(trainer.held if removed is None else removed, align)
    if shrunk is not before:
        trainer.rebind(shrunk.parameters, shrunk.kept, shrunk.removed)
        shrunk.net = compile_for_cpu(precision.mixed(shrunk.net, precision.active()))
        if before.net._active:
            shrunk.net.hybridize(**dict(before.net._flags))
        shrunk.net._forward_pre_hooks, shrunk.net._forward_hooks = net._forward_pre_hooks, net._forward_hooks
        before.net.apply(lambda block: block._clear_cached_op())        # frees what was compiled
        trainer.shrunk = shrunk
    return shrunk
