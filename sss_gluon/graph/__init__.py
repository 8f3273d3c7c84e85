"""A network as a graph: counted, folded, pruned, exported. It knows MXNet symbols, not our models."""
from .block import load
from .count import Count, LayerCount, count

__all__ = ['Count', 'LayerCount', 'count', 'load']
