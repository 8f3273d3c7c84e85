"""Structures of networks: apply one, rebuild the compact network from one, and those of the paper that are known."""
from ..graph.structure import Structure
from .rebuild import load_structure, rebuild, set_structure, shipped

__all__ = ['Structure', 'load_structure', 'rebuild', 'set_structure', 'shipped']
