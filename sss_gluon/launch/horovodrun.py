"""horovodrun with two changes; sss-gluon launch runs this file with horovodrun's arguments.

It asks Horovod's MXNet extension how it was built, which needs an MXNet that can be imported: sss_gluon provides that.
And processes that it stops have time to save. Horovod itself gives them 5 seconds, or none where /bin/sh is bash: bash
becomes the worker itself, and has no children to signal.
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
    """Send SIGTERM to the command of a shell, or to the command that replaced it; later SIGKILL what is left."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(shell)
        for child in process.children() or [process]:
            with suppress(psutil.NoSuchProcess):
                child.terminate()
        limit = time.monotonic() + PATIENCE
        while _runs(process) and time.monotonic() < limit:      # only its parent may wait for it
            time.sleep(0.1)
        for left in [*process.children(recursive=True), process]:
            with suppress(psutil.NoSuchProcess):
                left.kill()


def _runs(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


# At import, because a process of its own watches every worker and imports only this file of the package.
safe_shell_exec.terminate_executor_shell_and_children = end_shell_and_children

if __name__ == '__main__':
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    import sss_gluon  # noqa: F401
    launch.run_commandline()
