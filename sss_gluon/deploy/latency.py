"""Time of one prediction, of several networks in turn, so that a drift of the machine hits all alike."""
from __future__ import annotations

import time
from typing import Callable, Dict, Sequence

import mxnet as mx
import numpy as np
from mxnet import gluon


def latencies(nets: Dict[str, gluon.HybridBlock], shape: Sequence[int], context, runs: int = 30) -> Dict[str, float]:
    """{name: median seconds} of a batch of the given shape; three runs of each before are not counted."""
    batch = mx.nd.random.normal(shape=tuple(shape), ctx=context)
    for net in nets.values():
        net.hybridize(static_alloc=True, static_shape=True)
    return alternately({name: lambda net=net: net(batch).wait_to_read() for name, net in nets.items()}, runs)


def alternately(calls: Dict[str, Callable[[], object]], runs: int = 30) -> Dict[str, float]:
    """{name: median seconds} of functions called in turn, after three calls of each."""
    times = {name: [] for name in calls}
    for call in calls.values():
        for _ in range(3):
            call()
    for _ in range(runs):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - begin)
    return {name: float(np.median(values)) for name, values in times.items()}
