"""Sweeps: plans of many runs, carried out by one process or by several that share a folder."""
from .costs import costs, describe_plan
from .execute import SweepResult, sweep
from .plan import Plan, Run
from .plan_file import load_plan
from .progress import Progress, progress

__all__ = ['Plan', 'Progress', 'Run', 'SweepResult', 'costs', 'describe_plan', 'load_plan', 'progress', 'sweep']
