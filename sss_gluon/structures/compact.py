"""From a network with factors that are zero to the compact network, its size and its structure."""
from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Tuple

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..files import sha256
from ..graph.block import export_program, to_block
from ..graph.count import Count, count_program
from ..graph.fold import fold
from ..graph.inference import prepared
from ..graph.int8 import Int8
from ..graph.ir import Program
from ..graph.onnx import write_onnx
from ..graph.onnx_int8 import write_onnx_int8
from ..graph.prune import prune_graph
from ..graph.trace import Shapes, trace
from ..graph.verify import verify
from .collapse import collapse
from .describe import describe, reasons
from .factor_values import traced_factors
from .structure import Structure


@dataclass
class Compact:
    """A compact network, with its size and structure.

    Attributes
    ----------
    net : mxnet.gluon.SymbolBlock
        Plain operators, no factors. It can be trained like any block. It takes the inputs of the network and returns
        lists where that returned lists or tuples; a dict, or anything with None in it, becomes a flat list of arrays.
    before, after : Count
        Size of the network without its factors, and of the compact network.
    max_difference : float
        Largest difference between the outputs of both on the same batch, over the largest output.
    structure : Structure
    unhandled : list of str
        Operators that kept all their channels because the pass does not know them, as ``operator(name)``; see
        ``register_rule``. Where it knows others of their kind, the reason follows: ``BatchNorm(norm): over axis 3``.
    collapsed : str
        What has collapsed, where the output hardly depends on the input: all blocks are gone, or a layer without a
        way around it has nothing left. '' for a network that may be of use.
    stays : list of str
        Structures that are zero but whose channels remain, by factor, and why: another layer needs them, for instance.
    """
    net: gluon.SymbolBlock
    before: Count
    after: Count
    max_difference: float
    structure: Structure
    unhandled: List[str]
    program: Program
    collapsed: str = ''
    stays: List[str] = field(default_factory=list)

    def __repr__(self):
        return (f'Compact({self.before.params:,} to {self.after.params:,} params, {self.before.macs:,} to '
                f'{self.after.macs:,} MACs, {self.structure.summary() or "no factors"}, largest difference '
                f'{self.max_difference:.1e})')

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

    def export_onnx_int8(self, path, images, metadata: Optional[Dict[str, str]] = None) -> List[str]:
        """Write an ONNX file that computes in 8-bit integers, with the present weights of ``net``.

        Parameters
        ----------
        path : path
        images : numpy.ndarray or mxnet.nd.NDArray
            float32, (N, ...), normalised as for the network: some hundred of its training images.
        metadata : dict of str to str, optional
            As in ``export_onnx``.

        Returns
        -------
        list of str
            What stays in float32. Measure the accuracy: what is lost depends on network and images.

        Raises
        ------
        SSSError
            A package is missing, or the images do not fit; see ``graph.onnx_int8.write_onnx_int8``.
        """
        return write_onnx_int8(self._for_inference(), path, _array(images), metadata=metadata)

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


def compact(net: gluon.HybridBlock, input_shape: Shapes, ctx: Optional[mx.Context] = None,
            align: int = 1) -> Compact:
    """Remove all structures whose factor is exactly 0, and all else that contributes nothing to the outputs.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
        Initialised, with or without scaling factors. It is not changed. Its outputs may be nested lists, tuples and
        dicts of arrays and None.
    input_shape : sequence of int, list of them, or dict of str to sequence of int
        Shape of a batch, e.g. (1, 3, 32, 32); for several inputs a list of shapes, or {name: shape}. Both networks are
        run on such a batch, and on one of another size where the network takes one, and compared.
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
        So much is gone that the output hardly depends on the input (``Compact.collapsed``); or some factors take no
        part in what the network computes in inference.
    """
    traced = trace(net, input_shape)
    folded = fold(traced)
    reduced, unhandled = prune_graph(folded, align)
    difference = verify(traced, reduced)
    if ctx is None:
        ctx = next((parameter.list_ctx()[0] for parameter in net.collect_params().values()), mx.cpu())
    collapsed = collapse(net, folded, {factor.name: factor.values() for factor in traced_factors(folded, net)})
    if collapsed:
        warnings.warn(f'this compact network is of little use: {collapsed}', stacklevel=2)
    structure = describe(net, folded, reduced)
    return Compact(to_block(reduced, ctx), count_program(folded), count_program(reduced), difference, structure,
                   unhandled, reduced, collapsed, reasons(structure, folded, reduced))


def remaining(net: gluon.HybridBlock, input_shape: Shapes) -> Tuple[Count, Count]:
    """Sizes of a network and of the compact network that ``compact`` would give, without building or comparing it."""
    folded = fold(trace(net, input_shape))
    return count_program(folded), count_program(prune_graph(folded)[0])
