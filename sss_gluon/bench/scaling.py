"""How a job scales to machines that are not here: predicted from bytes and time of a step, and bandwidth."""
from __future__ import annotations

from typing import List, NamedTuple, Tuple

import numpy as np

from ..models import get_model

GPUS = 8                        # of a machine
STEP = 32 / 384                 # seconds; 32 images for each GPU, 384 images/s: NVIDIA's figure for MXNet's ResNet-50
                                # in float32 on a V100 (DeepLearningExamples, not measured by us)
MACHINES = (1, 2, 4, 8, 16, 32, 64)
GIGABITS = (10, 25, 100)        # a second


class Job(NamedTuple):
    """What the prediction needs.

    Attributes
    ----------
    step : float
        Seconds of a training step of one machine, all its GPUs, without sums over machines.
    bytes : float
        Of all gradients.
    bandwidth : float
        Bytes a second that a machine sends, and at the same time receives.
    latency : float
        Seconds that the sum of a few bytes takes.
    """
    step: float
    bytes: float
    bandwidth: float
    latency: float = 0.0


def exchange(job: Job, machines: int) -> float:
    """Seconds of the sums of one step.

    With ps-lite and a server on every machine each sends the part (M-1)/M of its gradients to servers elsewhere, and as
    much, summed, to their workers; a ring of Horovod's sends the same: 2 (M-1)/M of the bytes.
    """
    return 0.0 if machines == 1 else job.latency + 2 * (machines - 1) / machines * job.bytes / job.bandwidth


def efficiency(job: Job, machines: int, overlap: float = 0.0) -> float:
    """Images/s of a job over those of one machine times their number (weak scaling).

    ``overlap`` is the part of the sums that is done while gradients are still computed: 0 is the worst case, 1 the
    best.
    """
    sums = exchange(job, machines)
    hidden = min(overlap * sums, job.step)
    return job.step / (job.step + sums - hidden)


def gradient_bytes(name: str) -> int:
    """Of all that a network trains, in float32."""
    trained = (p for p in get_model(name).collect_params().values() if p.grad_req != 'null')
    return 4 * sum(int(np.prod(parameter.shape)) for parameter in trained)


def prediction(name: str = 'resnet50', step: float = STEP) -> List[Tuple]:
    """(GPUs, (worst, best) efficiency for each of GIGABITS) for each number of machines."""
    size = gradient_bytes(name)
    return [(GPUS * machines, *((efficiency(job, machines), efficiency(job, machines, 1.0))
                                for job in (Job(step, size, 1e9 * bits / 8) for bits in GIGABITS)))
            for machines in MACHINES]
