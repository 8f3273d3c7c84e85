"""Latency of several networks, measured interleaved, as they would be deployed."""
from __future__ import annotations

from functools import partial
from typing import Dict, Sequence

import mxnet as mx
from mxnet import gluon

from ..timing import latencies as interleaved_latencies
from ..timing import quiet_seconds


def latencies(nets: Dict[str, gluon.HybridBlock], shape: Sequence[int], context) -> Dict[str, float]:
    """{name: seconds} of a prediction for a batch of the given shape; see ``timing.latencies``.

    The networks should come from ``graph.inference.inference_block``.
    """
    batch = mx.nd.random.normal(shape=tuple(shape), ctx=context)
    return quiet_seconds(interleaved_latencies({name: partial(net, batch) for name, net in nets.items()}))
