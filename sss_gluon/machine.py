"""The CPU, threads and device that this process runs on."""
from __future__ import annotations

import os
import platform
from pathlib import Path

CPU_INFO = Path('/proc/cpuinfo')


def cpu_model() -> str:
    """Name of the CPU, as the kernel gives it."""
    lines = CPU_INFO.read_text('utf-8').splitlines() if CPU_INFO.exists() else []
    return next((line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')), platform.machine())


def threads() -> int:
    """Cores of this process, or OMP_NUM_THREADS if that is less: several workers may share a host."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    asked = os.environ.get('OMP_NUM_THREADS', '')
    return max(1, min(cores, int(asked))) if asked.isdigit() else cores


def describe(device: str) -> str:
    """'AMD EPYC, 2 threads' for a CPU; a GPU by its number, because MXNet does not name it."""
    return device if device.startswith('gpu') else f'{cpu_model()}, {threads()} thread{"s" * (threads() != 1)}'
