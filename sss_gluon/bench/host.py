"""The machine and the software that numbers were measured with, as columns of a CSV."""
from __future__ import annotations

import importlib
import os
import platform
import shlex
import sys
import time
from typing import Dict, Sequence

import mxnet as mx

from .. import __version__
from ..graph.onnx_runtime import installed_providers
from ..machine import CARD_QUERIES, cards, cpu_clock, cpu_model


def host(cores: Sequence[int]) -> Dict[str, str]:
    """All columns; what is not there, or cannot be read, is ''. ``load`` is the load average of the last minute."""
    return {
        'cpu': cpu_model(), 'clock': cpu_clock(), 'cores': str(len(cores)), 'cores_of_machine': str(os.cpu_count()),
        'threads': f'{len(cores)} bound', 'load': f'{os.getloadavg()[0]:.1f}', 'memory': _memory(),
        **dict.fromkeys(CARD_QUERIES, ''), **cards(),
        'mxnet': mx.__version__, 'cuda_of_mxnet': 'yes' if mx.runtime.Features().is_enabled('CUDA') else 'no',
        'onnxruntime': _version('onnxruntime'), 'providers': ' '.join(installed_providers()),
        'numpy': _version('numpy'), 'python': platform.python_version(), 'sss_gluon': __version__,
        'system': platform.platform(), 'date': time.strftime('%Y-%m-%d %H:%M:%S'),
        'command': shlex.join(['sss-gluon', *sys.argv[1:]])}


def _memory() -> str:
    """'125.8 GiB'."""
    try:
        return f'{os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2 ** 30:.1f} GiB'
    except (ValueError, OSError):
        return ''


def _version(package: str) -> str:
    try:
        return importlib.import_module(package).__version__
    except ImportError:
        return ''
