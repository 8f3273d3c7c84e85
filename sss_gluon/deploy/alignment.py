"""The alignment of an exported network: measured for the runtime that it is written for."""
from __future__ import annotations

from functools import partial
from typing import Callable, Dict, Mapping, NamedTuple, Optional, Tuple

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
BUSY = 0.1      # more than this is no quiet machine
PARTS = 4
DENSE = 0       # key of the unpruned network among alignments


class Alignment(NamedTuple):
    """The alignment that was chosen, and what it was chosen from.

    Attributes
    ----------
    align : int
    gains : dict of int to float
        {another alignment: how many times as fast the chosen one is}; empty if all have the same widths, and so nothing
        was measured.
    dense : float, optional
        The same of the unpruned network.
    tied : tuple of int
        Alignments that are as fast within noise, and larger.
    noise : float
        Two standard errors of the least certain of these numbers.
    """
    align: int
    gains: Dict[int, float]
    dense: Optional[float] = None
    tied: Tuple[int, ...] = ()
    noise: float = 0.0

    def describe(self, runtime: str, batch: int) -> str:
        """What was chosen, and how much faster it is than the others."""
        said = f'align {self.align}, measured in {runtime} at batch {batch}: ' + ', '.join(
            f'{gain:.2f} x as fast as {"align " * (number == 0)}{other}'
            for number, (other, gain) in enumerate(self.gains.items()))
        if self.tied:
            said += f' ({" and ".join(map(str, self.tied))}: as fast within noise, and larger)'
        if self.dense is not None and self.dense < 1:
            said += (f'. The unpruned network is {1 / self.dense:.2f} x as fast: pruning makes this network smaller, '
                     f'but no alignment makes it faster here')
        elif self.dense is not None:
            said += f'; {self.dense:.2f} x as fast as the unpruned network'
        if self.noise > BUSY:
            uncertain = min(100, 100 * self.noise)
            said += f'. This machine is busy, and these numbers are uncertain by {uncertain:.0f} % or more'
        return said


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
    """The smallest alignment of those that are as fast as the fastest one, within noise; see ``timing.latencies``."""
    seconds = quiet_seconds(dict(rounds))
    forms = sorted(key for key in rounds if key != DENSE)
    best = min(forms, key=lambda align: seconds[align])
    noise = {align: _noise(rounds[align], rounds[best]) for align in forms}
    tied = [align for align in forms if seconds[align] <= seconds[best] * (1 + max(TIE, noise[align]))]
    gains = {align: seconds[align] / seconds[tied[0]] for align in forms if align != tied[0]}
    dense = seconds[DENSE] / seconds[tied[0]] if DENSE in rounds else None
    return Alignment(tied[0], gains, dense, tuple(tied[1:]), max(noise.values()))


def _noise(these: np.ndarray, those: np.ndarray) -> float:
    """Two standard errors of the ratio, from parts of the rounds that are measured like the whole."""
    parts = [quiet_seconds({'these': these[start::PARTS], 'those': those[start::PARTS]})
             for start in range(min(PARTS, len(these)))]
    return float(2 * np.std([np.log(part['these'] / part['those']) for part in parts], ddof=1) / np.sqrt(len(parts)))
