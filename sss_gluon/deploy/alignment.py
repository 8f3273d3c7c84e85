"""The alignment of an exported network: measured for the runtime that it is written for."""
from __future__ import annotations

from functools import partial
from typing import Callable, Dict, Mapping, NamedTuple, Optional

import mxnet as mx
import numpy as np

from ..graph.alignment import compact_forms, widths
from ..graph.fold import fold
from ..graph.inference import for_inference, inference_block
from ..graph.ir import Program
from ..graph.onnx import to_onnx
from ..graph.onnx_runtime import open_onnx
from ..graph.trace import trace
from ..timing import PAUSE, latencies, quiet_seconds

TIE = 0.02      # networks that differ by less are equally fast, and by what the rounds scatter
DENSE = 0       # key of the unpruned network among alignments


class Alignment(NamedTuple):
    """The alignment that was chosen, and what it was chosen from.

    Attributes
    ----------
    align : int
    seconds : dict of int to float
        {alignment: latency}; empty if all have the same widths, and so nothing was measured.
    dense : float, optional
        Latency of the unpruned network.
    tied : tuple of int
        Alignments that are as fast within noise, and larger.
    """
    align: int
    seconds: Dict[int, float]
    dense: Optional[float] = None
    tied: tuple = ()

    def describe(self, runtime: str, batch: int) -> str:
        """What was chosen, and how much faster it is than the others."""
        where = f'measured in {runtime} at batch {batch}'
        best = self.seconds[self.align]
        others = ', '.join(f'{seconds / best:.2f} x as fast as align {other}'
                           for other, seconds in self.seconds.items() if other != self.align)
        said = f'align {self.align}, {where}: {others}'
        if self.tied:
            said += f' (as fast as {" and ".join(map(str, self.tied))} within noise, and smaller)'
        if self.dense is None:
            return said
        if self.dense < min(self.seconds.values()):
            return (f'{said}. The unpruned network is {best / self.dense:.2f} x as fast: pruning makes this network '
                    f'smaller, but no alignment makes it faster here')
        return f'{said}; {self.dense / best:.2f} x as fast as the unpruned network'


def fastest_alignment(net, input_shape, runtime: str, images: np.ndarray, context=None) -> Alignment:
    """Measure the compact network with widths filled up to multiples of 1, 8, 16 and 32, and the unpruned network.

    Parameters
    ----------
    net : HybridBlock
    input_shape : sequence of int
    runtime : {'MXNet', 'ONNX Runtime'}
    images : numpy.ndarray
        A batch.
    context : mxnet.Context, optional
        Device for MXNet; the default is the CPU, which ONNX Runtime runs on here.

    Returns
    -------
    Alignment
        Of those that are equally fast within noise, the smallest. Where all have the same widths, as in a network
        without neurons, nothing is measured.
    """
    folded = fold(trace(net, input_shape))
    forms: Dict[int, Program] = compact_forms(folded)
    first, *more = forms
    if not more:
        return Alignment(first, {})
    dense = for_inference(folded)
    known = {widths(form) for form in forms.values()}
    if widths(dense) not in known:
        forms = {**forms, DENSE: dense}
    calls: Dict[int, Callable[[], object]]
    if runtime == 'MXNet':
        batch = mx.nd.array(images, ctx=context or mx.cpu())
        calls = {align: partial(inference_block(form, context), batch) for align, form in forms.items()}
        return _chosen(latencies(calls))
    calls = {align: partial(open_onnx(to_onnx(form).SerializeToString()), images) for align, form in forms.items()}
    return _chosen(latencies(calls, PAUSE))


def _chosen(rounds: Mapping[int, np.ndarray]) -> Alignment:
    """The smallest alignment of those that are as fast as the fastest one, within noise."""
    seconds = quiet_seconds(dict(rounds))
    dense = seconds.pop(DENSE, None)
    best = min(seconds, key=lambda align: seconds[align])
    tied = [align for align in sorted(seconds)
            if seconds[align] <= seconds[best] * (1 + max(TIE, _noise(rounds[align] / rounds[best])))]
    return Alignment(tied[0], seconds, dense, tuple(tied[1:]))


def _noise(ratios: np.ndarray) -> float:
    """Two standard errors of the median of the rounds' ratios."""
    low, high = np.percentile(ratios, (25, 75))
    return float(2 * 0.93 * (high - low) / np.sqrt(len(ratios)))

