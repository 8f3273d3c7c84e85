"""Latency of several networks, measured interleaved."""
from __future__ import annotations

from functools import partial
from typing import Callable, Dict, Sequence

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..timing import Key, interleaved, timed

RUNS, LASTING = 30, 0.3      # at least so many, and so many seconds


def latencies(nets: Dict[str, gluon.HybridBlock], shape: Sequence[int], context) -> Dict[str, float]:
    """{name: median seconds} of a prediction for a batch of the given shape."""
    batch = mx.nd.random.normal(shape=tuple(shape), ctx=context)
    for net in nets.values():
        net.hybridize(static_alloc=True, static_shape=True)
    return median_seconds({name: partial(net, batch) for name, net in nets.items()})


def median_seconds(calls: Dict[Key, Callable[[], object]]) -> Dict[Key, float]:
    """{name: median seconds} of functions that start MXNet operations, after warm-up calls of each."""
    seconds = interleaved({name: timed(call) for name, call in calls.items()}, RUNS, pause=0.0,
                          lasting=LASTING)
    return {name: float(np.median(values)) for name, values in seconds.items()}
