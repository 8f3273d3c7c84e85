"""What ``add_factors`` did, layer by layer."""
from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from typing import Dict, List, NamedTuple

from tabulate import tabulate

WIDTH = 80      # characters of a line, where the names of the layers allow it


class Row(NamedTuple):
    """One factor, or a layer without one.

    Attributes
    ----------
    layer : str
        Structural name of the layer that carries the factor, e.g. ``features.4.0.body.1``.
    kind : str
        ``neuron``, ``group`` or ``block``; '' without a factor.
    number : int
        Of structures.
    note : str
        Why there is no factor; for a factor, who shares it, or that it was there before.
    """
    layer: str
    kind: str
    number: int
    note: str = ''


@dataclass
class FactorTable:
    """The factors of a network, and the convolutions and dense layers without one, in the order of computation."""
    rows: List[Row] = field(default_factory=list)

    def counts(self) -> Dict[str, int]:
        """{kind: number of structures}."""
        total: Dict[str, int] = {}
        for row in self.rows:
            if row.kind:
                total[row.kind] = total.get(row.kind, 0) + row.number
        return total

    def summary(self) -> str:
        """One line: how many factors of each kind, and how many layers have none."""
        parts = [f'{total} {kind}s' if total != 1 else f'1 {kind}' for kind, total in self.counts().items()]
        without = sum(not row.kind for row in self.rows)
        return f'factors: {", ".join(parts) or "none"}; layers without a factor: {without}'

    def __str__(self) -> str:
        """A table of at most 80 columns where the names allow it, and the summary."""
        names = max([len(row.layer) for row in self.rows] + [7])
        room = max(24, WIDTH - names - 6 - 8 - 6)       # kind, number, and two blanks between columns
        cells = [(row.layer, row.kind or '-', row.number or '', '\n'.join(textwrap.wrap(row.note, room)))
                 for row in self.rows]
        return f'{tabulate(cells, ("layer", "kind", "number", "note"), disable_numparse=True)}\n{self.summary()}'
