"""Device names of a configuration as MXNet contexts."""
from __future__ import annotations

import re
from typing import List, Sequence

import mxnet as mx

from ..errors import SSSError


def contexts(names: Sequence[str]) -> List[mx.Context]:
    """Contexts for names such as ``['gpu0', 'gpu1']``; a device that is missing or cannot run is an error."""
    found = []
    for name in names:
        # MXNet allocates a list as long as the device number, so the number must not be huge
        match = re.fullmatch(r'(cpu|gpu)\(?(\d{0,3})\)?', name)
        if not match:
            raise SSSError(f'device {name!r} is unknown; use cpu, cpu1, gpu0, gpu1, ...')
        kind, number = match.group(1), int(match.group(2) or 0)
        if kind == 'gpu':
            _check_gpu(name, number)
        found.append(mx.Context(kind, number))
    if len(set(found)) != len(found):
        raise SSSError(f'devices={list(names)} names a device twice')
    return found


def _check_gpu(name: str, number: int) -> None:
    if not mx.runtime.Features().is_enabled('CUDA'):
        raise SSSError(f'{name} needs a GPU build of MXNet, and this one has no CUDA; install one such as '
                       f'mxnet-cu117==1.9.1, or use the device cpu')
    available = mx.context.num_gpus()
    if number >= available:
        raise SSSError(f'{name} does not exist: this machine has {available} GPUs')
    try:
        mx.nd.ones((1,), ctx=mx.gpu(number)).asnumpy()
    except mx.base.MXNetError as error:
        if 'no kernel image' not in str(error):
            raise
        raise SSSError(f'{name} is newer than MXNet 1.9.1, whose GPU wheels run on Maxwell to Ada cards (code for '
                       f'sm_50 to sm_86) but not on Hopper (sm_90) or later; train on an older card') from error
