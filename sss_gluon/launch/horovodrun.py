"""horovodrun, changed in two ways; sss-gluon launch runs this file with horovodrun's arguments.

It asks Horovod's extension of MXNet what it was built with, for which MXNet has to be importable: sss_gluon makes it
so. And what it stops has time to save. Horovod's own way gives 5 seconds, or none where /bin/sh is bash: that becomes
the worker itself, and has no children to signal.
"""
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
from horovod.runner import launch
from horovod.runner.common.util import safe_shell_exec

PATIENCE = 60.0     # seconds


def end_shell_and_children(shell: int) -> None:
    """SIGTERM to what a shell runs, or has become; SIGKILL to what is left of it after a time."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(shell)
        for child in process.children() or [process]:
            with suppress(psutil.NoSuchProcess):
                child.terminate()
        limit = time.monotonic() + PATIENCE
        while _runs(process) and time.monotonic() < limit:      # it ends with its child; nobody else may wait for it
            time.sleep(0.1)
        for left in [*process.children(recursive=True), process]:
            with suppress(psutil.NoSuchProcess):
                left.kill()


def _runs(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


# Here, because every worker is watched by a process of its own that imports this file, and no more of this package.
safe_shell_exec.terminate_executor_shell_and_children = end_shell_and_children

if __name__ == '__main__':
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    import sss_gluon  # noqa: F401
    launch.run_commandline()
