"""The CPU, threads and device that this process runs on, and the cards of the machine."""
from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Dict, List, Optional

CPU_INFO = Path('/proc/cpuinfo')
BUSY = 1.5      # load for each core; a training that has just ended leaves 1
VISIBLE = 'CUDA_VISIBLE_DEVICES'        # which cards, and which numbers of nvidia-smi, are gpu0, gpu1, ... here
# What nvidia-smi is asked for, by the name of the column that it fills
CARD_QUERIES = {'card': 'name', 'driver': 'driver_version', 'card_memory': 'memory.total', 'card_clock': 'clocks.sm',
                'card_clock_max': 'clocks.max.sm', 'card_memory_clock': 'clocks.mem', 'card_power_limit': 'power.limit'}


def cpu_model() -> str:
    """Name of the CPU, as the kernel gives it."""
    lines = CPU_INFO.read_text('utf-8').splitlines() if CPU_INFO.exists() else []
    return next((line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')), platform.machine())


def channel_block() -> int:
    """Channels that oneDNN computes together: 16 with AVX-512, 8 with AVX2, 1 where it has no such code."""
    lines = CPU_INFO.read_text('utf-8').splitlines() if CPU_INFO.exists() else []
    flags = next((line.split() for line in lines if line.startswith('flags')), [])
    return 16 if 'avx512f' in flags else 8 if 'avx2' in flags else 1


def threads() -> int:
    """Cores of this process, or OMP_NUM_THREADS if that is less: several workers may share a host."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    asked = os.environ.get('OMP_NUM_THREADS', '')
    return max(1, min(cores, int(asked))) if asked.isdigit() else cores


def busy() -> str:
    """A sentence if other programs kept the cores busy in the last minute, to be asked before a measurement; or ''."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    load = os.getloadavg()[0] if hasattr(os, 'getloadavg') else 0.0
    if load <= BUSY * cores:
        return ''
    return f'other programs are running (a load of {load:.1f} on {cores} core{"s" * (cores != 1)}), so do not rely ' \
           f'on these latencies'


def describe(device: str) -> str:
    """'AMD EPYC, 2 threads' for a CPU; a GPU by its number, because MXNet does not name it."""
    return device if device.startswith('gpu') else f'{cpu_model()}, {threads()} thread{"s" * (threads() != 1)}'


def cpu_clock() -> str:
    """'2450 MHz', the median of the cores as the kernel reads it now; '' where it does not."""
    lines = CPU_INFO.read_text('utf-8').splitlines() if CPU_INFO.exists() else []
    found = sorted(float(line.split(':')[1]) for line in lines if line.startswith('cpu MHz'))
    return f'{found[len(found) // 2]:.0f} MHz' if found else ''


def cards() -> Dict[str, str]:
    """{name of CARD_QUERIES: its value for every NVIDIA card, with ' | ' between}; empty without nvidia-smi."""
    visible = os.environ.get(VISIBLE)
    rows = _nvidia_smi(','.join(CARD_QUERIES.values()), *([f'--id={visible}'] if visible else []))
    return {name: ' | '.join(row[i] for row in rows) for i, name in enumerate(CARD_QUERIES)} if rows else {}


def card_memory(number: int) -> Optional[int]:
    """Bytes of the card gpuN that are in use, by all processes; None where nvidia-smi does not say."""
    visible = os.environ.get(VISIBLE, '').split(',')
    rows = _nvidia_smi('memory.used', f'--id={visible[number] if visible[0] and number < len(visible) else number}')
    used = rows[0][0].split()[0] if rows else ''
    return int(used) * 2 ** 20 if used.isdigit() else None


def _nvidia_smi(queries: str, *options: str) -> List[List[str]]:
    try:
        done = subprocess.run(['nvidia-smi', f'--query-gpu={queries}', '--format=csv,noheader', *options],
                              capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    rows = [[cell.strip() for cell in line.split(',')] for line in done.stdout.splitlines()]
    return [row for row in rows if len(row) == len(queries.split(','))] if done.returncode == 0 else []
