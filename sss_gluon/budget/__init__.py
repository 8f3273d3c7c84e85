"""Ask for a size: γ is steered until a network meets a budget, and what is zero is held, so that it can be cut out."""
from .controller import Budget
from .holder import Holder
from .latency import LatencyShare
from .patience import Patience

__all__ = ['Budget', 'Holder', 'LatencyShare', 'Patience']
