"""sss_gluon: Data-Driven Sparse Structure Selection (Huang & Wang, ECCV 2018) on MXNet Gluon."""
from . import _platform  # noqa: F401  (first: MXNet needs names that NumPy removed)
from .apg import APG, APGNAG
from .budget import Budget
from .errors import SSSError
from .factors import KINDS, ScaledBatchNorm, ScaledConv2D, ScalingFactor, scaling_factors
from .graph import Count, count, load, register_macs, register_rule, rules
from .models import ARCHITECTURES, get_model
from .placement import FactorTable, add_factors
from .structures import Compact, Shrunk, Structure, compact, load_structure, rebuild, set_structure
from .train import make_trainer, shrink

__version__ = '0.1.0'

__all__ = ['APG', 'APGNAG', 'ARCHITECTURES', 'Budget', 'Compact', 'Count', 'FactorTable', 'KINDS', 'SSSError',
           'ScaledBatchNorm', 'ScaledConv2D', 'ScalingFactor', 'Shrunk', 'Structure', 'add_factors', 'compact',
           'count', 'get_model', 'load', 'load_structure', 'make_trainer', 'rebuild', 'register_macs', 'register_rule',
           'rules', 'scaling_factors', 'set_structure', 'shrink']

_platform.serve()
