"""A network prepared for inference: the same function, with operators that runtimes compute fast."""
from __future__ import annotations

from mxnet import gluon

from .batchnorm import fold_batchnorm
from .block import to_block
from .concat import is_whole_slice
from .ir import Entry, Node, Program, rewritten, unique_names
from .verify import verify


def for_inference(program: Program) -> Program:
    """Fold BatchNorms, write means over all positions as global average pooling, drop slices that only training needs.

    The mean is faster in training; pooling has INT8 kernels in MXNet and keeps the layout of convolutions in ONNX
    Runtime. ``relu`` becomes the Activation that MXNet fuses into convolutions.
    """
    return fold_batchnorm(_plain(program))


def prepared(program: Program) -> Program:
    """``for_inference``, after which both programs are compared on one random batch."""
    found = for_inference(program)
    verify(program, found, 'the network for inference')
    return found


def inference_block(program: Program, ctx=None) -> gluon.SymbolBlock:
    """``for_inference`` as a block, called in the fastest way that MXNet has: what is measured where latency counts."""
    net = to_block(for_inference(program), ctx)
    net.hybridize(static_alloc=True, static_shape=True)
    return net


def _plain(program: Program) -> Program:
    shapes, claim = program.shapes(), unique_names({node.name for node in program.nodes()})

    def replace(node: Node, inputs):
        if is_whole_slice(node):
            return {0: inputs[0]}
        if node.op == 'relu':
            return Node('Activation', node.name, dict(act_type='relu'), inputs)
        if node.op == 'Pooling' and node.get('global_pool', False):     # INT8 pooling minds the kernel, which is unused
            kernel = str((1,) * (len(shapes[node.inputs[0]]) - 2))
            return Node(node.op, node.name, dict(node.attrs, kernel=kernel), inputs)
        if node.op != 'mean' or node.get('axis') != (2, 3) or node.get('exclude', False) \
                or len(shapes[node.inputs[0]]) != 4:
            return Node(node.op, node.name, node.attrs, inputs, node.extra)
        pooling = dict(global_pool='True', pool_type='avg', kernel='(1, 1)')
        if node.get('keepdims', False):
            return Node('Pooling', node.name, pooling, inputs)
        return Node('Flatten', node.name, {}, [Entry(Node('Pooling', claim(f'{node.name}_pool'), pooling, inputs))])

    return program.derived(rewritten(program.outputs, replace))
