"""A network as a graph: counted, folded, cut to what it needs, exported. Knows MXNet symbols, not our models."""
from .block import load
from .compact import Compact, compact, remaining
from .count import Count, LayerCount, count
from .structure import Structure

__all__ = ['Compact', 'Count', 'LayerCount', 'Structure', 'compact', 'count', 'load', 'remaining']
