"""Training: configuration, the one loop, trainer, checkpoints, workers. It knows no pruning method by name."""
from ..signals import Interrupted
from .config import Config, load_config
from .cut_network import shrink
from .factor_trainer import FactorTrainer
from .run_folder import RunFolder
from .statistics import estimate_statistics
from .trainer import make_trainer

__all__ = ['Config', 'FactorTrainer', 'Interrupted', 'RunFolder', 'estimate_statistics', 'load_config', 'make_trainer',
           'shrink']
