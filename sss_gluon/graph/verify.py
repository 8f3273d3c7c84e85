"""Do two programs compute the same? Both are run on random batches, of several sizes, and compared."""
from __future__ import annotations

import io
from contextlib import redirect_stdout
from dataclasses import replace
from typing import Dict, Iterator, List, Mapping, Sequence

import mxnet as mx
import numpy as np

from ..errors import SSSError, reason
from .ir import Entry, Node, Program, Shape, evaluator, rewritten

TOLERANCE = 1e-4        # relative to the largest value: float32 sums in another order differ by less
STEP = 32               # another image is so many rows higher, or as many as the height is a multiple of

# Operators whose result jumps: of two boxes with nearly the same score, rounding decides which one goes.
COMPARISONS = ('equal', 'not_equal', 'greater', 'greater_equal', 'lesser', 'lesser_equal', 'mod')
JUMPS = frozenset([
    '_contrib_box_nms', '_contrib_box_non_maximum_suppression', '_contrib_bipartite_matching', 'topk', 'sort',
    'argsort', 'argmax', 'argmin', 'argmax_channel', 'round', 'rint', 'floor', 'ceil', 'fix', 'trunc', 'sign',
    '_contrib_Proposal', '_contrib_MultiProposal', '_contrib_MultiBoxDetection', 'ROIPooling', '_contrib_PSROIPooling',
    '_mod_scalar', '_rmod_scalar', *(f'broadcast_{name}' for name in COMPARISONS),
    *(f'_{name}' for name in COMPARISONS), *(f'_{name}_scalar' for name in COMPARISONS)])
RANDOM = ('random', 'sample', 'shuffle')


def verify(program: Program, reduced: Program, name: str = 'the compact network') -> float:
    """Run both programs on random batches: of the shape of the program, and of another batch size and height.

    Where a result jumps (``JUMPS``) or is drawn at random, what goes into the operator is compared, and both networks
    go on with the result of the first: such operators would turn rounding into another result.

    Parameters
    ----------
    program, reduced : Program
    name : str
        What ``reduced`` is, for messages.

    Returns
    -------
    float
        Largest difference between the outputs, over the largest output; or between the inputs of such an operator.

    Raises
    ------
    SSSError
        The difference is larger than ``TOLERANCE``, shapes differ, or outputs are not finite.
    """
    program, reduced = defined(program), defined(reduced)
    pairs = _jumps(program, reduced)
    watched = [(entry, new) for node, other in pairs.items() for entry, new in zip(node.inputs, other.inputs)
               if entry.node not in pairs and not entry.node.is_variable]
    results = [entry for entry in program.shapes() if entry.node in pairs] if pairs else []
    given = [f'{node.name}_given{output}' for node, output in results]
    outputs, compared = len(program.outputs), len(program.outputs) + len(watched)
    whole = evaluator(program.outputs + [entry for entry, _ in watched] + results, program.values)
    other = evaluator(_given(reduced.outputs + [new for _, new in watched],
                             {Entry(pairs[node], i): name for (node, i), name in zip(results, given)}), reduced.values)
    worst = 0.0
    first: List[np.ndarray] = []
    for number, shapes in enumerate(_shapes(program)):
        if number and not _accepts(program, shapes):
            continue
        random = np.random.RandomState(0)
        batches = {key: random.standard_normal(shape).astype('float32') for key, shape in shapes.items()}
        try:
            expected = whole(batches)
        except mx.base.MXNetError as error:
            if number:
                continue    # the network does not take such a batch
            layouts = [f'{node} has layout {node.get("layout")}' for node in program.nodes()
                       if not str(node.get('layout') or 'NC').startswith('NC')]
            hint = f'; {layouts[0]}, which MXNet computes on GPUs only' if layouts else ''
            raise SSSError(f'the network cannot be run on the CPU, where it is compared with its compact form: '
                           f'{reason(error)}{hint}') from error
        first = first or expected[:outputs]
        if number and not _fits(program, first, shapes, expected):
            continue
        if not all(np.isfinite(value).all() for value in expected[:outputs]):
            if number:
                continue
            raise SSSError('the network has outputs that are not finite, which cannot be compared with those of its '
                           'compact form')
        where = f'{name}, for an input of shape {", ".join(map(str, shapes.values()))},' if number else name
        try:
            found = other({**batches, **dict(zip(given, expected[compared:]))})
        except mx.base.MXNetError as error:
            raise SSSError(f'{where} cannot be run ({reason(error)}); please report the network') from error
        worst = max(worst, _difference(expected[:compared], found, where, program))
        if number:
            break
    return worst


def defined(program: Program) -> Program:
    """The program with zeros for regions of no image, as MXNet computes it on GPUs.

    ROIAlign on the CPU does not write their values, and writes zeros over those of other regions, at places that depend
    on the order of its threads.
    """
    if not any(node.op == '_contrib_ROIAlign' for node in program.nodes()):
        return program

    def swap(node: Node, inputs):
        if node.op != '_contrib_ROIAlign':
            return Node(node.op, node.name, node.attrs, inputs, node.extra)

        def add(op: str, name: str, *inputs: Entry, **attrs) -> Entry:
            attrs = {key: str(value) for key, value in attrs.items()}
            return Entry(Node(op, f'{node.name}_{name}', attrs, inputs))

        def of_images(entry: Entry, name: str) -> Entry:
            return add('where', name, is_region, entry, add('zeros_like', f'{name}_zeros', entry))

        features, regions = inputs
        column = add('slice_axis', 'column', regions, axis=1, begin=0, end=1)
        is_region = add('_greater_equal_scalar', 'is_region', add('Reshape', 'image', column, shape=(-1,)), scalar=0)
        aligned = Node(node.op, node.name, node.attrs, [features, of_images(regions, 'regions')], node.extra)
        return {0: of_images(Entry(aligned), 'aligned')}

    return replace(program, outputs=rewritten(program.outputs, swap), _nodes=None, _shapes=None)


def _shapes(program: Program) -> Iterator[Dict[str, Shape]]:
    """Shapes of the inputs: those of the program, then others to try until the network takes one."""
    batch = 3 if next(iter(program.inputs.values()))[:1] == (2,) else 2
    yield dict(program.inputs)
    for batches, rows in ((True, True), (True, False), (False, True)):
        yield {name: _other(shape, batch if batches else 0, rows) for name, shape in program.inputs.items()}


def _other(shape: Shape, batch: int, rows: bool) -> Shape:
    new = list(shape)
    if batch and new:
        new[0] = batch
    if rows and len(new) > 2:
        new[2] += min(STEP, new[2] & -new[2])
    return tuple(new)


def _accepts(program: Program, shapes: Mapping[str, Shape]) -> bool:
    """Does a network take inputs of other shapes?

    MXNet does not always notice that it does not: a reshape to another number of values, or a BatchNorm of another
    length, reads whatever is in memory.
    """
    try:
        with redirect_stdout(io.StringIO()):        # MXNet prints that it failed
            found = replace(program, inputs=shapes, _shapes=None).shapes()
    except (mx.base.MXNetError, TypeError):         # shapes that do not fit, or that remain unknown
        return False
    return all(found[entry] == value.shape for entry, value in
               ((Entry(node), program.values[node.name]) for node in program.nodes() if program.is_parameter(node))) \
        and all(np.prod(found[node.inputs[0]]) == np.prod(found[Entry(node)]) for node in program.nodes()
                if node.op in ('Reshape', 'reshape'))


def _fits(program: Program, before: Sequence[np.ndarray], shapes: Mapping[str, Shape],
          now: Sequence[np.ndarray]) -> bool:
    """Is there an output for each image, if there was one before? A reshape with a fixed size gives other numbers."""
    name = next(iter(shapes))
    return all(new.shape[:1] == shapes[name][:1] for old, new in zip(before, now)
               if old.shape[:1] == program.inputs[name][:1])


def _jumps(program: Program, reduced: Program) -> Dict[Node, Node]:
    """{operator whose result jumps or is drawn: the same operator in ``reduced``, on inputs of the same shapes}."""
    found = [node for node in program.nodes() if is_jump(node)]
    if not found:
        return {}
    names = {node.name: node for node in reduced.nodes()}
    before, after = program.shapes(), reduced.shapes()

    def same(node: Node, other: Node) -> bool:
        return (node.op, node.attrs) == (other.op, other.attrs) and \
            [before[entry] for entry in node.inputs] == [after[entry] for entry in other.inputs]

    return {node: names[node.name] for node in found if node.name in names and same(node, names[node.name])}


def is_jump(node: Node) -> bool:
    """Is the result of an operator another one for inputs that differ by rounding, or drawn at random?"""
    whole_numbers = node.op == 'Cast' and 'int' in str(node.get('dtype'))
    return node.op in JUMPS or whole_numbers or draws(node)


def draws(node: Node) -> bool:
    """Does an operator draw random numbers in inference?"""
    return any(word in node.op.lower() for word in RANDOM) or node.op == 'Dropout' and node.get('mode') == 'always'


def _given(outputs: List[Entry], names: Mapping[Entry, str]) -> List[Entry]:
    """The graph with variables in place of some results."""
    known = {entry.node for entry in names}

    def swap(node: Node, inputs):
        if node in known:
            return {entry.output: Entry(Node('null', name)) for entry, name in names.items() if entry.node is node}
        return Node(node.op, node.name, node.attrs, inputs, node.extra)

    return rewritten(outputs, swap)


def _difference(expected: Sequence[np.ndarray], found: Sequence[np.ndarray], where: str, program: Program) -> float:
    worst = 0.0
    for a, b in zip(expected, found):
        if a.shape != b.shape:
            raise SSSError(f'{where} has outputs of shape {b.shape} instead of {a.shape}')
        worst = max(worst, _relative(a, b))
    if not worst <= TOLERANCE:
        drawn = [str(node) for node in program.nodes() if draws(node)]
        if drawn:
            raise SSSError(f'{where} cannot be compared with the network, because {", ".join(drawn)} draws random '
                           f'numbers in inference; let it draw while the network trains only')
        raise SSSError(f'{where} differs by {worst:.1e} of the largest output, more than rounding ({TOLERANCE:.0e}); '
                       f'nothing was written. Please report the network')
    return worst


def _relative(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference over the largest value; values that are not finite must be the same."""
    with np.errstate(invalid='ignore'):
        difference = np.where(a == b, 0, np.abs(a.astype('float64') - b))
        scale = np.abs(np.where(np.isfinite(a), a, 0)).max(initial=0)
    return float(np.where(np.isnan(a) & np.isnan(b), 0, difference).max(initial=0) / max(scale, 1e-30))
