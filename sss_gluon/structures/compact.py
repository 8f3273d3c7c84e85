"""From a network with factors that are zero to the compact network, its size and its structure."""
from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Set, Tuple

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..factors import scaling_factors
from ..files import sha256
from ..graph.block import export_program, to_block
from ..graph.channels import Channels
from ..graph.count import Count, count_program
from ..graph.fold import fold
from ..graph.inference import prepared
from ..graph.int8 import Int8
from ..graph.ir import Program
from ..graph.onnx import write_onnx
from ..graph.prune import prune_graph, verify
from ..graph.trace import trace
from .collapse import collapse
from .structure import Structure


@dataclass
class Compact:
    """A compact network, with its size and structure.

    Attributes
    ----------
    net : mxnet.gluon.SymbolBlock
        Plain operators, no factors. It can be trained like any block.
    before, after : Count
        Size of the network without its factors, and of the compact network.
    max_difference : float
        Largest difference between the outputs of both on the same batch, over the largest output.
    structure : Structure
    unhandled : list of str
        Operators that kept all their channels because the pass does not know them, as ``operator(name)``; see
        ``register_rule``.
    collapsed : str
        What has collapsed, where the output hardly depends on the input: all blocks are gone, or a layer without a
        way around it has nothing left. '' for a network that may be of use.
    """
    net: gluon.SymbolBlock
    before: Count
    after: Count
    max_difference: float
    structure: Structure
    unhandled: List[str]
    program: Program
    collapsed: str = ''

    def export(self, prefix) -> List[str]:
        """Write ``prefix-symbol.json``, ``prefix-0000.params`` and ``prefix-structure.json``; return the names.

        The weights are the present ones of ``net``, so that a fine-tuned network can be exported again.
        """
        names = export_program(self.program, self.net, prefix)
        self.structure.params_sha256 = sha256(f'{prefix}-0000.params')
        self.structure.save(f'{prefix}-structure.json')
        return names + [f'{prefix}-structure.json']

    def export_onnx(self, path, images=None, metadata: Optional[Dict[str, str]] = None) -> float:
        """Write an ONNX file with the present weights of ``net``, BatchNorm folded into the convolutions.

        Parameters
        ----------
        path : path
            The file appears only if ONNX Runtime computes the same outputs from it, at three batch sizes.
        images : numpy.ndarray or mxnet.nd.NDArray, optional
            float32, (N, ...), normalised as for the network, to compare the outputs on; default random numbers.
        metadata : dict of str to str, optional
            Stored in the file, e.g. how images are normalised.

        Returns
        -------
        float
            Largest difference between the outputs, over the largest output.

        Raises
        ------
        SSSError
            A package is missing, or the outputs differ; see ``graph.onnx.write_onnx``.
        """
        return write_onnx(self._for_inference(), path, None if images is None else _array(images), metadata=metadata)

    def quantize(self, images) -> Int8:
        """The network in 8-bit integers, with the present weights of ``net``; see ``graph.int8.quantize``.

        Parameters
        ----------
        images : numpy.ndarray or mxnet.nd.NDArray
            float32, (N, ...), normalised as for the network: some hundred of its training images.

        Returns
        -------
        Int8
            ``net`` for inference on CPUs, ``float32``, the operators that stay in float32, and ``export(prefix)``.
            Measure its accuracy: what is lost depends on network and images.
        """
        return Int8.of(self._for_inference(), _array(images))

    def _for_inference(self) -> Program:
        mx.nd.waitall()     # as in trace
        values = {name: parameter.list_data()[0].asnumpy() for name, parameter in self.net.collect_params().items()}
        return prepared(self.program.derived(self.program.outputs, values))


def _array(images) -> np.ndarray:
    return images.asnumpy() if isinstance(images, mx.nd.NDArray) else np.asarray(images)


def compact(net: gluon.HybridBlock, input_shape: Sequence[int], ctx: Optional[mx.Context] = None,
            align: int = 1) -> Compact:
    """Remove all structures whose factor is exactly 0, and all else that contributes nothing to the outputs.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
        Initialised, with one input, with or without scaling factors. It is not changed.
    input_shape : sequence of int
        Shape of a batch, e.g. (1, 3, 32, 32); both networks are run on such a batch and compared.
    ctx : mxnet.Context, optional
        Device of the compact network; default the device of ``net``.
    align : int
        Keep as many zero channels as needed to make the width of each layer a multiple of this, or the width before.
        For inference: convolution kernels are up to twice as fast for multiples of 8 or 16. ``structure`` does not
        contain the channels that only fill up, so ``rebuild`` builds the network without them.

    Returns
    -------
    Compact

    Raises
    ------
    SSSError
        The outputs of both networks differ by more than rounding (1e-4 of the largest output), in float32 and
        inference mode.

    Warns
    -----
    UserWarning
        So much is gone that the output hardly depends on the input (``Compact.collapsed``).
    """
    traced = trace(net, input_shape)
    folded = fold(traced)
    reduced, unhandled = prune_graph(folded, align)
    difference = verify(traced, reduced)
    if ctx is None:
        ctx = next((parameter.list_ctx()[0] for parameter in net.collect_params().values()), mx.cpu())
    collapsed = collapse(net, folded, {factor.name: factor.values() for factor in scaling_factors(net)})
    if collapsed:
        warnings.warn(f'this compact network is of little use: {collapsed}', stacklevel=2)
    return Compact(to_block(reduced, ctx), count_program(folded), count_program(reduced), difference,
                   describe(net, folded, reduced), unhandled, reduced, collapsed)


def remaining(net: gluon.HybridBlock, input_shape: Sequence[int]) -> Tuple[Count, Count]:
    """Sizes of a network and of the compact network that ``compact`` would give, without building or comparing it."""
    folded = fold(trace(net, input_shape))
    return count_program(folded), count_program(prune_graph(folded)[0])


def describe(net, program: Program, reduced: Program) -> Structure:
    """The structure of a network that was pruned."""
    factors, constant = {}, _constant_branches(program, reduced)
    for name, kind, parameter in scaling_factors(net):
        values = parameter.list_data()[0].asnumpy()
        alive = (values != 0) & _survivors(name, values.size, program, reduced, constant)
        factors[name] = {'kind': kind, 'size': int(values.size), 'kept': np.flatnonzero(alive).tolist()}
    after = _widths(reduced)
    layers = {name: {'before': width, 'after': after.get(name)} for name, width in _widths(program).items()}
    return Structure(getattr(net, 'spec', None), tuple(program.input_shape), factors, layers)


def _constant_branches(program: Program, reduced: Program) -> Set[str]:
    """Parameters of the branches that a constant has replaced: the constant still depends on their factors."""
    left = {node.name for node in reduced.nodes()}
    new = reduced.values.keys() - program.values.keys()
    stack = [node for node in program.nodes() if f'{node.name}_constant' in new]
    found: Set[str] = set()
    seen = set(stack)
    if not stack:
        return found
    channels = Channels(program)
    while stack:
        for entry in stack.pop().inputs:
            node = entry.node
            if node.is_variable:
                found.add(node.name)
            elif node not in seen and node.name not in left and (np.nan_to_num(channels.constant(entry)) != 0).any():
                stack.append(node)      # values that vary are outside the branch, zeros contribute nothing
                seen.add(node)
    return found


def _survivors(name: str, size: int, program: Program, reduced: Program, constant: Set[str]) -> np.ndarray:
    """(size,) booleans: the structures of one factor with a channel that remains.

    Some are removed although their factor is not zero: the neurons inside a block that is removed, or a channel that
    became a negative constant before a ReLU.
    """
    for suffix in ('gamma', 'weight'):
        parameter = program.variables.get(f'{name}.{suffix}' if name else suffix)
        if parameter not in program.values:
            continue
        alive = np.zeros(size, bool)
        if parameter in reduced.values:
            kept = reduced.kept_indices.get(parameter, {}).get(0, np.arange(program.values[parameter].shape[0]))
            alive[kept // (program.values[parameter].shape[0] // size)] = True
        else:
            alive[:] = parameter in constant
        return alive
    return np.ones(size, bool)


def _widths(program: Program) -> Dict[str, List[int]]:
    """{layer: [outputs, inputs]} of convolutions and dense layers, with the inputs of one group if there are groups."""
    shapes, widths = program.shapes(), {}
    for node in program.nodes():
        if node.op in ('Convolution', 'FullyConnected'):
            widths[node.name] = [int(n) for n in shapes[node.inputs[1]][:2]]
        elif node.op == 'Deconvolution':
            widths[node.name] = [int(n) for n in shapes[node.inputs[1]][1::-1]]
    return widths
