"""Time of one prediction, of several networks in turn, so that a drift of the machine hits all alike."""
from __future__ import annotations

import time
from typing import Dict, Sequence

import mxnet as mx
import numpy as np
from mxnet import gluon


def latencies(nets: Dict[str, gluon.HybridBlock], shape: Sequence[int], context, runs: int = 30) -> Dict[str, float]:
    """{name: median seconds} of a batch of the given shape; three runs of each before are not counted."""
    batch = mx.nd.random.normal(shape=tuple(shape), ctx=context)
    for net in nets.values():
        net.hybridize(static_alloc=True, static_shape=True)
        for _ in range(3):
            net(batch).wait_to_read()
    times = {name: [] for name in nets}
    for _ in range(runs):
        for name, net in nets.items():
            begin = time.perf_counter()
            net(batch).wait_to_read()
            times[name].append(time.perf_counter() - begin)
    return {name: float(np.median(values)) for name, values in times.items()}
