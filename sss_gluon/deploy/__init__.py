"""Verbs for a finished run: prune, evaluate, export, count."""
from .evaluate import evaluate, evaluate_exported
from .export import export
from .prune import prune
from .trained_run import TrainedRun, load_run

__all__ = ['TrainedRun', 'evaluate', 'evaluate_exported', 'export', 'load_run', 'prune']
