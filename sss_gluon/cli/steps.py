"""The steps of a run: ``python -m sss_gluon.cli.steps train,prune CONFIG key=value`` does them in one process."""
from __future__ import annotations

import sys
from pathlib import Path
from typing import Optional

from .. import deploy
from ..errors import SSSError
from ..machine import busy
from ..signals import Interrupted
from ..terminal import fitted, wrapped
from ..train import Config, RunFolder, load_config
from .next_step import next_step, removable
from .tables import describe_compact, describe_evaluation, describe_target


def train(config: Config) -> None:
    # Imported here, so that verbs that do not train start without Matplotlib and the methods.
    from .. import methods
    from ..report.figures import draw
    draw(methods.train(config))


def prune(run: str) -> None:
    print(describe_compact(deploy.prune(run), run))


def evaluate(path: str, against: Optional[str] = None, device: Optional[str] = None) -> None:
    run = RunFolder.open(path)
    pruned = Path(f'{run.compact}-symbol.json').exists()
    noise = busy()
    rows = deploy.evaluate(run.path, against, device)
    print(describe_evaluation(rows, run.structure() if pruned else None, path))
    if noise:
        print(wrapped(noise))
    target = describe_target(run.config(), rows)
    if target:
        print(wrapped(target))
    if not pruned and removable(run):
        print(wrapped(f'not pruned yet: {", ".join(removable(run))} are zero'))


def finish(path: Path) -> None:
    """Prune and evaluate a trained run."""
    from ..report.runs import expects_pruning
    run = RunFolder.open(path)
    if expects_pruning(run.config()) and not Path(f'{run.compact}-symbol.json').exists():
        prune(str(path))
    evaluate(str(path))


def tell_next(path: str) -> None:
    """Print the step that follows, if there is one."""
    command = next_step(RunFolder.open(path))
    if command:
        print(f'next: {command}')


STEPS = {'train': train, 'prune': lambda config: prune(config.run), 'evaluate': lambda config: evaluate(config.run)}


def main(steps: str, config_file: str, *settings: str) -> int:
    """Do the steps in the given order; an error that a user can cause is one line on stderr."""
    config = load_config(config_file, settings)
    for step in steps.split(','):
        try:
            STEPS[step](config)
        except SSSError as error:
            print(fitted(f'{step}: {" ".join(str(error).splitlines())}', sys.stderr), file=sys.stderr)
            return 128 + error.signal_number if isinstance(error, Interrupted) else 2
        except KeyboardInterrupt:
            print(f'{step}: stopped', file=sys.stderr)
            return 130
    tell_next(config.run)
    return 0


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
