"""The compact forms of a network, which differ in how far widths are filled up with zeros."""
from __future__ import annotations

from typing import Dict, FrozenSet, Sequence, Tuple

from .inference import for_inference
from .ir import Program, Shape
from .prune import prune_graph

ALIGNMENTS = (1, 8, 16, 32)     # no zeros, and multiples that convolutions are fast for

Widths = FrozenSet[Tuple[str, Shape]]       # of all parameters


def widths(program: Program) -> Widths:
    """What tells forms of one network apart: the shapes of all parameters."""
    return frozenset((name, value.shape) for name, value in program.used_values().items())


def compact_forms(folded: Program, alignments: Sequence[int] = ALIGNMENTS) -> Dict[int, Program]:
    """{align: the compact network, prepared for inference}, of all that differ in their widths.

    Parameters
    ----------
    folded : Program
        From ``fold``.
    alignments : sequence of int
        In ascending order: of several with the same widths, the first one stays. A network from which nothing can be
        removed has one form.
    """
    found: Dict[int, Program] = {}
    seen = set()
    whole = widths(folded)
    for align in alignments:
        program = prune_graph(folded, align)[0]
        key = widths(program)
        if key not in seen:
            seen.add(key)
            found[align] = for_inference(program)
        if key == whole:        # wider than that is none
            break
    return found
