"""``python -m sss_gluon.cli`` is ``sss-gluon``."""
import sys

from . import main

sys.exit(main())
