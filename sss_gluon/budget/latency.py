"""The latency of what is left of a network, as a share of that of the dense network, measured on a device."""
from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Callable, Dict, Mapping, Sequence

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..graph.alignment import Widths, compact_forms, widths
from ..graph.fold import fold
from ..graph.inference import inference_block
from ..graph.ir import Program
from ..graph.trace import trace
from ..structures.factor_values import factor_variable, fill_nonzero, traced_factors
from ..timing import latencies, quiet_seconds

DENSE: Widths = frozenset()     # key of the dense network beside others


class LatencyShare:
    """Measures compact networks against the dense one as ``export`` and ``evaluate`` do.

    Networks are prepared for inference, with BatchNorm in the convolutions, because that is how they are deployed, and
    run in interleaved rounds. What counts is the fastest alignment, which is the one that ``export`` writes: without
    it, the first neuron to go makes a layer slower. Networks of the same widths are measured once, so that noise cannot
    contradict what was decided.

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
        folded = fold(self._program)
        self._dense = inference_block(folded, device)
        self._measured: Dict[Widths, float] = {widths(form): 1.0 for form in compact_forms(folded).values()}
        self._known: Dict[bytes, float] = {}

    def __call__(self, masks: Mapping[str, np.ndarray]) -> float:
        """Latency without the structures whose mask is False, over that of the dense network."""
        key = b''.join(np.packbits(np.asarray(mask, bool)).tobytes() for _, mask in sorted(masks.items()))
        if key not in self._known:
            values = {self._variables[name]: np.asarray(mask, 'float32') for name, mask in masks.items()}
            program = replace(self._program, values={**self._program.values, **values})
            forms = {widths(form): form for form in compact_forms(fold(program)).values()}
            self._measure({known: form for known, form in forms.items() if known not in self._measured})
            self._known[key] = min(self._measured[known] for known in forms)
        return self._known[key]

    def _measure(self, forms: Mapping[Widths, Program]) -> None:
        """Measure networks of new widths, beside the dense one."""
        if not forms:
            return
        nets = {known: inference_block(form, self._device) for known, form in forms.items()}
        calls: Dict[Widths, Callable[[], object]] = {known: partial(net, self._images)
                                                     for known, net in {**nets, DENSE: self._dense}.items()}
        seconds = quiet_seconds(latencies(calls))
        self._measured.update({known: seconds[known] / seconds[DENSE] for known in forms})
