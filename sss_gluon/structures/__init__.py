"""Structures of networks: what a compaction keeps, applying it, and rebuilding the compact network from it."""
from .compact import Compact, compact, remaining
from .masked_count import MaskedCounter
from .rebuild import rebuild, set_structure
from .structure import Structure, load_structure, shipped

__all__ = ['Compact', 'MaskedCounter', 'Structure', 'compact', 'load_structure', 'rebuild', 'remaining',
           'set_structure', 'shipped']
