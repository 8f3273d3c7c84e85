"""From factors that are zero to a compact network and its structure.json, and from a structure.json to a network."""
from .collapse import collapse_now
from .compact import Compact, compact, remaining
from .masked_count import MaskedCounter
from .rebuild import rebuild, set_structure
from .shrink import Shrunk
from .structure import Structure, load_structure, shipped

__all__ = ['Compact', 'MaskedCounter', 'Shrunk', 'Structure', 'collapse_now', 'compact', 'load_structure', 'rebuild',
           'remaining', 'set_structure', 'shipped']
