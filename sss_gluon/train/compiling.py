"""What MXNet compiles of a network that trains on CPUs: a form that oneDNN computes faster."""
from __future__ import annotations

from types import MethodType

import numpy as np
from mxnet import gluon
from mxnet.gluon.block import _flatten

from ..graph.onednn import for_onednn
from ..machine import channel_block


def compile_for_cpu(net: gluon.Block) -> gluon.Block:
    """From now on, what hybridized blocks of a network compile on CPUs trains faster: see ``graph/onednn.py``.

    Everything else sees the network as it is: its symbol, its parameters, what is exported, counted, cut or saved, and
    what GPUs compute. Returns the network.
    """
    return net.apply(_compile)


def _compile(block: gluon.Block) -> None:
    if isinstance(block, gluon.HybridBlock) and '_build_cache' not in vars(block):
        if block._cached_op is not None:
            block._clear_cached_op()
        block._build_cache = MethodType(_build_cache, block)


def _build_cache(block: gluon.HybridBlock, *args) -> None:
    """``HybridBlock._build_cache`` with another graph, if the block is one in float32 on CPUs."""
    inputs, symbol = graph = block._get_graph(*args)
    known = block.collect_params()
    parameters = [known[name] for name in symbol.list_inputs() if name in known]
    if not block._backend and all(np.dtype(parameter.dtype) == np.float32 and
                                  all(device.device_type == 'cpu' for device in parameter.list_ctx())
                                  for parameter in parameters):
        if any(parameter._deferred_init for parameter in parameters):   # until the first batch
            block._deferred_infer_shape(*args)
            for parameter in parameters:
                parameter._finish_deferred_init()
        shapes = {parameter.name: tuple(parameter.shape) for parameter in parameters}
        arrays = [array for array in _flatten(args, 'input')[0] if array is not None]
        shapes.update((variable.name, array.shape) for variable, array in zip(inputs, arrays))
        block._cached_graph = inputs, for_onednn(symbol, shapes, channel_block())
    try:
        type(block)._build_cache(block, *args)
    finally:
        if not block._backend:
            block._cached_graph = graph
