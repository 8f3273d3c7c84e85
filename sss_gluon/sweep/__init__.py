"""Sweeps: a plan of many runs, carried out by one process or by several that share its folder."""
from .costs import costs, describe_plan
from .execute import Outcome, sweep
from .plan import Plan, Run
from .plan_file import load_plan
from .progress import Progress, progress

__all__ = ['Outcome', 'Plan', 'Progress', 'Run', 'costs', 'describe_plan', 'load_plan', 'progress', 'sweep']
