"""A network as a graph: count, fold, prune and export it. This folder knows MXNet symbols, not our models."""
from . import rules
from .block import load
from .count import Count, LayerCount, count
from .register import register_macs, register_rule

__all__ = ['Count', 'LayerCount', 'count', 'load', 'register_macs', 'register_rule', 'rules']
