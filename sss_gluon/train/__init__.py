"""Training runs: configuration, loop, checkpoints, and what is done with a finished run."""
from .config import Config, load_config
from .deploy import evaluate, evaluate_exported, load_run, prune
from .formats import export
from .loop import Interrupted, train
from .run import RunFolder
from .trainer import FactorTrainer, make_trainer

__all__ = ['Config', 'FactorTrainer', 'Interrupted', 'RunFolder', 'evaluate', 'evaluate_exported', 'export',
           'load_config', 'load_run', 'make_trainer', 'prune', 'train']
