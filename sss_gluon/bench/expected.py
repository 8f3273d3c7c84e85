"""The seconds that parts of a measurement are expected to take, from which the time left is estimated meanwhile."""
from __future__ import annotations

from typing import Callable, Sequence, Tuple

from ..timing import PAUSE, WARM_UP
from .matrix import CALLS, ENOUGH, TRAINING, Cell

Begin = Callable[[str, float, float], None]     # what begins, its expected seconds, and those of all that is left

START = 6.0         # seconds in which a process starts
PREPARE = 1.0       # ... and prepares for a batch size
OVERHEAD = 0.002    # of a call
SPEED = 4e10        # MACs a second on two cores
BACKWARD = 3        # MACs of a training step ÷ those of a prediction
KINDS = 5           # of steps that ``job.scaling`` compares


def nothing(what: str, seconds: float, left: float) -> None:
    """Show no progress."""


def turn_seconds(cells: Sequence[Cell], batch: int, rounds: int, macs: Tuple[int, int], first: bool) -> float:
    """For the turns of processes with a batch size; ``macs`` are those of the whole and of the compact network."""
    total = (START * first + PREPARE) * len(cells)
    for cell in cells:
        call = OVERHEAD + (BACKWARD if cell.use == TRAINING else 1) * batch * macs[cell.less] / SPEED
        total += (1 + rounds) * (PAUSE + min(CALLS[cell.use] * call, max(call, ENOUGH)))
    return total


def scaling_seconds(devices: int, batch: int, rounds: int, macs: int) -> float:
    """For ``job.scaling`` with a batch size."""
    images = batch * (1 + 2 * devices + 2)      # of one device, of all with that batch each, and with a part of it
    return START + (WARM_UP + rounds) * (KINDS * (PAUSE + OVERHEAD) + BACKWARD * macs * images / SPEED)
