"""The latency of what is left of a network, as a share of that of the dense network, measured on a device."""
from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Dict, Mapping, Sequence

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..graph.block import to_block
from ..graph.fold import fold
from ..graph.inference import for_inference
from ..graph.ir import Program
from ..graph.prune import prune_graph
from ..graph.trace import trace
from ..structures.factor_values import factor_variable, fill_nonzero, traced_factors
from ..timing import interleaved, timed

ROUNDS, LASTING = 15, 0.2        # at least so many, and so many seconds of a machine that does nothing else
QUIET = 10      # percentile of the rounds that counts: whatever else the machine does only adds to the others


class LatencyShare:
    """Measures compact networks against the dense one: interleaved, prepared for inference as for a user.

    Each choice of structures is measured once, so that noise cannot contradict what was decided.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
        With scaling factors, initialised. Later changes of its weights have no effect.
    input_shape : sequence of int
        Batch first; the batch is replaced.
    batch : int
        Number of images.
    device : mxnet.Context
    """

    def __init__(self, net: gluon.HybridBlock, input_shape: Sequence[int], batch: int, device: mx.Context):
        self._program = trace(net, input_shape)
        fill_nonzero(self._program, net)
        self._variables = {factor.name: factor_variable(self._program, factor)
                           for factor in traced_factors(self._program, net)}
        self._device = device
        self._images = mx.nd.random.normal(shape=(batch, *input_shape[1:]), ctx=device)
        self._dense = self._prepared(fold(self._program))
        self._known: Dict[bytes, float] = {}

    def _prepared(self, program: Program) -> gluon.SymbolBlock:
        net = to_block(for_inference(program), self._device)
        net.hybridize(static_alloc=True, static_shape=True)
        return net

    def __call__(self, masks: Mapping[str, np.ndarray]) -> float:
        """Latency without the structures whose mask is False, over that of the dense network."""
        key = b''.join(np.packbits(np.asarray(mask, bool)).tobytes() for _, mask in sorted(masks.items()))
        if key not in self._known:
            self._known[key] = self._measured(masks)
        return self._known[key]

    def _measured(self, masks: Mapping[str, np.ndarray]) -> float:
        values = {self._variables[name]: np.asarray(mask, 'float32') for name, mask in masks.items()}
        program = replace(self._program, values={**self._program.values, **values})
        compact = self._prepared(prune_graph(fold(program))[0])
        seconds = interleaved({name: timed(partial(net, self._images))
                               for name, net in (('dense', self._dense), ('compact', compact))}, ROUNDS, pause=0.0,
                              lasting=LASTING)
        return float(np.percentile(seconds['compact'], QUIET) / np.percentile(seconds['dense'], QUIET))
