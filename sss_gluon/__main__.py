"""``python -m sss_gluon`` is ``sss-gluon``."""
from .cli import __main__  # noqa: F401
