"""Predicts how training scales to many hosts, from the time of a step, the bytes of its gradients, and bandwidth."""
from __future__ import annotations

from typing import List, NamedTuple, Tuple

import numpy as np

from ..models import get_model

GPUS = 8                        # per host
STEP = 32 / 384                 # seconds: 32 images per GPU, and 384 images/s, which NVIDIA gives for MXNet's ResNet-50
                                # in float32 on a V100 (DeepLearningExamples, not measured by us)
HOSTS = (1, 2, 4, 8, 16, 32, 64)
GIGABITS = (10, 25, 100)        # per second


class Cluster(NamedTuple):
    """Equal hosts that train one network.

    Attributes
    ----------
    step : float
        Seconds of a training step of one host with all its GPUs, without allreduce over hosts.
    bytes : float
        Bytes of all gradients.
    bandwidth : float
        Bytes/s that a host sends, and at the same time receives.
    latency : float
        Seconds of the allreduce of a few bytes.
    """
    step: float
    bytes: float
    bandwidth: float
    latency: float = 0.0


def exchange(cluster: Cluster, hosts: int) -> float:
    """Seconds of the allreduce of one step.

    With ps-lite and a server on each of H hosts, a host sends (H-1)/H of its gradients to servers on other hosts, and
    the same number of summed bytes to their workers. Horovod's ring sends the same: 2 (H-1)/H of the bytes.
    """
    return 0.0 if hosts == 1 else cluster.latency + 2 * (hosts - 1) / hosts * cluster.bytes / cluster.bandwidth


def efficiency(cluster: Cluster, hosts: int, overlap: float = 0.0) -> float:
    """Images/s of all hosts over those of one host times their number (weak scaling).

    ``overlap`` is the part of the allreduce that overlaps with the backward pass: 0 is the worst case, 1 the best.
    """
    seconds = exchange(cluster, hosts)
    hidden = min(overlap * seconds, cluster.step)
    return cluster.step / (cluster.step + seconds - hidden)


def gradient_bytes(name: str) -> int:
    """Bytes of the gradients of a network, in float32."""
    trained = (p for p in get_model(name).collect_params().values() if p.grad_req != 'null')
    return 4 * sum(int(np.prod(parameter.shape)) for parameter in trained)


def prediction(name: str = 'resnet50', step: float = STEP) -> List[Tuple]:
    """(GPUs, (worst, best) efficiency for each of GIGABITS) for each number of hosts."""
    size = gradient_bytes(name)
    clusters = [Cluster(step, size, 1e9 * bits / 8) for bits in GIGABITS]
    return [(GPUS * hosts, *((efficiency(cluster, hosts), efficiency(cluster, hosts, 1.0)) for cluster in clusters))
            for hosts in HOSTS]
