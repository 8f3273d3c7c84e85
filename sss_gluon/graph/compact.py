"""Remove everything that contributes nothing: from a network with zeros to a smaller network with the same outputs."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Set, Tuple

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..errors import SSSError
from ..factors import scaling_factors
from ..files import sha256
from .block import export_program, to_block
from .channels import Channels
from .concat import guard_concats, is_whole_slice
from .count import Count, count_program
from .fold import fold
from .ir import Entry, Node, Program, rewritten, unique_names
from .operators import ADDITIONS
from .rules import Concat
from .structure import Structure
from .trace import trace

TOLERANCE = 1e-4        # of the largest output: what float32 sums in another order may differ by


@dataclass
class Compact:
    """A compact network and what is known of it.

    Attributes
    ----------
    net : mxnet.gluon.SymbolBlock
        Plain operators, no factors; trains on like any block.
    before, after : Count
        Size of the network without its factors, and of the compact one.
    max_difference : float
        Largest difference between the outputs of both on the same batch, over the largest output.
    structure : Structure
    unhandled : list of str
        Operators that kept all their channels because the pass does not know them.
    """
    net: gluon.SymbolBlock
    before: Count
    after: Count
    max_difference: float
    structure: Structure
    unhandled: List[str]
    program: Program

    def export(self, prefix) -> List[str]:
        """Write ``prefix-symbol.json``, ``prefix-0000.params`` and ``prefix-structure.json``; return the names.

        The weights are those of ``net`` at this moment, so that a fine-tuned network can be exported again.
        """
        names = export_program(self.program, self.net, prefix)
        self.structure.params_sha256 = sha256(f'{prefix}-0000.params')
        self.structure.save(f'{prefix}-structure.json')
        return names + [f'{prefix}-structure.json']


def compact(net: gluon.HybridBlock, input_shape: Sequence[int], ctx: Optional[mx.Context] = None,
            align: int = 1) -> Compact:
    """Remove all structures whose factor is exactly 0, and whatever else contributes nothing.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
        One input, initialised; with or without scaling factors; it is not changed.
    input_shape : sequence of int
        Shape of a batch, e.g. (1, 3, 32, 32); both networks are run on such a batch and compared.
    ctx : mxnet.Context, optional
        Where the compact network lives; default where ``net`` lives.
    align : int
        Leave zeros in place so that the widths of layers are multiples of this, or what they were. For inference:
        convolution kernels want multiples of 8 or 16 and are up to twice as fast then. ``structure`` does not count
        what only fills up, so ``rebuild`` gives the network without it.

    Returns
    -------
    Compact

    Raises
    ------
    SSSError
        When the outputs differ by more than rounding (1e-4 of the largest output), in float32 and inference mode.
    """
    traced = trace(net, input_shape)
    folded = fold(traced)
    reduced, unhandled = reduce(folded, align)
    difference = verify(traced, reduced)
    if ctx is None:
        ctx = next((parameter.list_ctx()[0] for parameter in net.collect_params().values()), mx.cpu())
    return Compact(to_block(reduced, ctx), count_program(folded), count_program(reduced), difference,
                   describe(net, folded, reduced), unhandled, reduced)


def remaining(net: gluon.HybridBlock, input_shape: Sequence[int]) -> Tuple[Count, Count]:
    """Sizes of a network and of the network as it would be cut now, without building or comparing it."""
    folded = fold(trace(net, input_shape))
    return count_program(folded), count_program(reduce(folded)[0])


def reduce(program: Program, align: int = 1) -> Tuple[Program, List[str]]:
    """The compact program of a folded one, and the operators that were not understood.

    Repeated until nothing more goes: a grouped convolution of which one group is left is then cut like a plain one.
    """
    while True:
        reduced, unhandled = cut(simplify(program), align)
        if _size(reduced) == _size(program):
            return guard_concats(reduced), unhandled
        program = reduced


def _size(program: Program) -> Tuple[int, int]:
    return len(program.nodes()), sum(value.size for value in program.used_values().values())


def simplify(program: Program) -> Program:
    """Drop additions of zero; turn a branch whose result is the same for every input into one constant.

    A ReLU of a ReLU, left over where a block between them is gone, and a slice that takes everything are dropped too.
    """
    channels = Channels(program)
    values = dict(program.values)
    claim = unique_names(values)

    def replace(node: Node, inputs):
        if node.op in ADDITIONS and channels.rules[node].understood:
            full = all(channels.shape(entry) == channels.shape(Entry(node)) and not channels.is_parameter(entry)
                       for entry in node.inputs)
            constants = [channels.constant(entry) for entry in node.inputs]
            for mine, other in ((0, 1), (1, 0)):
                if full and (constants[mine] == 0).all():
                    return {0: inputs[other]}
            for mine, other in ((0, 1), (1, 0)):
                if full and not np.isnan(constants[mine]).any() and np.isnan(constants[other]).any():
                    name = claim(f'{node.name}_constant')
                    values[name] = _constant(constants[mine], channels.shape(Entry(node)))
                    return _plus_constant(node, inputs[other], name, values[name].shape)
        if is_whole_slice(node):
            return {0: inputs[0]}
        if _is_relu(node) and inputs[0] is not None and _is_relu(inputs[0].node):
            return {0: inputs[0]}
        return Node(node.op, node.name, node.attrs, inputs, node.extra)

    outputs = [Entry(Node('_copy', claim('copy'), {}, [entry])) if entry.node.name == program.input_name else entry
               for entry in rewritten(program.outputs, replace)]        # a SymbolBlock must compute something
    simplified = Program(outputs, values, program.input_shape, kept=program.kept, names=program.names)
    simplified.values = simplified.used_values()
    return simplified


def _is_relu(node: Node) -> bool:
    return node.op == 'relu' or node.op == 'Activation' and node.attrs.get('act_type') == 'relu'


def _constant(values, shape) -> np.ndarray:
    """One value per channel, with axes that broadcast over batch and positions."""
    return values.astype('float32').reshape((1, -1) + (1,) * (len(shape) - 2))


def _plus_constant(node, other: Entry, name: str, shape) -> Node:
    """x + k, k one value per channel: exact in inference, where the branch that gave k used running statistics."""
    attrs = {'__shape__': str(shape), '__lr_mult__': '1.0', '__wd_mult__': '0.0',
             '__init__': mx.init.Zero().dumps(), '__grad_req__': 'write'}
    return Node('broadcast_add', node.name, {}, [other, Entry(Node('null', name, attrs))])


def cut(program: Program, align: int = 1) -> Tuple[Program, List[str]]:
    """Cut parameters to the channels that are kept, and drop branches of which none is."""
    channels = Channels(program)
    channels.solve(align)
    attributes = channels.rewrite()
    values, kept = dict(program.values), dict(program.kept)
    for name, cuts in channels.cuts.items():
        for axis, keep in cuts.items():
            if not keep.all():
                values[name] = np.compress(keep, values[name], axis=axis)
                if axis == 0:
                    kept[name] = kept.get(name, np.arange(keep.size))[keep]

    def replace(node: Node, inputs):
        if node.is_variable:
            attrs = dict(node.attrs, __shape__=str(values[node.name].shape)) if node.name in values else node.attrs
            return Node('null', node.name, attrs)
        if node not in channels.alive:
            return {}
        attrs = dict(node.attrs, **attributes[node])
        if isinstance(channels.rules[node], Concat):
            inputs = [new for old, new in zip(node.inputs, inputs) if not channels.dropped_branch(node, old)]
            if len(inputs) == 1:
                return {0: inputs[0]}
            attrs['num_args'] = str(len(inputs))
        return Node(node.op, node.name, attrs, inputs, node.extra)

    result = Program(rewritten(program.outputs, replace), values, program.input_shape, kept=kept, names=program.names)
    result.values = result.used_values()
    return result, channels.unhandled()


def verify(program: Program, reduced: Program, name: str = 'the compact network') -> float:
    """Run both on one random batch; the largest difference over the largest output, or an error."""
    batch = np.random.RandomState(0).standard_normal(program.input_shape).astype('float32')
    worst = 0.0
    for expected, found in zip(program.run(batch), reduced.run(batch)):
        if not np.isfinite(expected).all():
            raise SSSError('the network gives outputs that are not finite; it cannot be compared with its compact form')
        if expected.shape != found.shape:
            raise SSSError(f'{name} gives outputs of shape {found.shape} instead of {expected.shape}')
        worst = max(worst, float(np.abs(expected - found).max() / max(np.abs(expected).max(), 1e-30)))
    if not worst <= TOLERANCE:
        raise SSSError(f'{name} differs by {worst:.1e} of the largest output, more than rounding '
                       f'({TOLERANCE:.0e}); nothing was written. Please report the network')
    return worst


def describe(net, program: Program, reduced: Program) -> Structure:
    """The structure.json of a compaction."""
    factors, constant = {}, _turned_constant(program, reduced)
    for name, kind, parameter in scaling_factors(net):
        values = parameter.list_data()[0].asnumpy()
        alive = (values != 0) & _survivors(name, values.size, program, reduced, constant)
        factors[name] = {'kind': kind, 'size': int(values.size), 'kept': np.flatnonzero(alive).tolist()}
    after = _widths(reduced)
    layers = {name: {'before': width, 'after': after.get(name)} for name, width in _widths(program).items()}
    return Structure(getattr(net, 'spec', None), tuple(program.input_shape), factors, layers)


def _turned_constant(program: Program, reduced: Program) -> Set[str]:
    """Parameters of the branches of which only a constant is left: it still depends on their factors."""
    left = {node.name for node in reduced.nodes()}
    new = reduced.values.keys() - program.values.keys()
    stack = [node for node in program.nodes() if f'{node.name}_constant' in new]
    found, seen = set(), set(stack)
    channels = Channels(program) if stack else None
    while stack:
        for entry in stack.pop().inputs:
            node = entry.node
            if node.is_variable:
                found.add(node.name)
            elif node not in seen and node.name not in left and (np.nan_to_num(channels.constant(entry)) != 0).any():
                stack.append(node)      # what varies is not of the branch, and zeros contribute nothing
                seen.add(node)
    return found


def _survivors(name: str, size: int, program: Program, reduced: Program, constant: Set[str]) -> np.ndarray:
    """(size,) booleans: the structures of one factor of which a channel remains.

    Some go although their factor is not zero: the neurons inside a block that goes, or a channel that became a negative
    constant below a ReLU.
    """
    for suffix in ('gamma', 'weight'):
        parameter = program.names.get(f'{name}.{suffix}' if name else suffix)
        if parameter not in program.values:
            continue
        alive = np.zeros(size, bool)
        if parameter in reduced.values:
            kept = reduced.kept.get(parameter, np.arange(program.values[parameter].shape[0]))
            alive[kept // (program.values[parameter].shape[0] // size)] = True
        else:
            alive[:] = parameter in constant
        return alive
    return np.ones(size, bool)


def _widths(program: Program) -> Dict[str, List[int]]:
    """{layer: [outputs, inputs]} of convolutions and dense layers; inputs of one group where there are groups."""
    shapes, widths = program.shapes(), {}
    for node in program.nodes():
        if node.op in ('Convolution', 'FullyConnected'):
            widths[node.name] = [int(n) for n in shapes[node.inputs[1]][:2]]
        elif node.op == 'Deconvolution':
            widths[node.name] = [int(n) for n in shapes[node.inputs[1]][1::-1]]
    return widths
