"""The steps of one run, in a process of their own: ``python -m sss_gluon.sweep.steps train,prune CONFIG key=value``."""
from __future__ import annotations

import sys
from pathlib import Path

from ..cli.tables import describe_compact, describe_evaluation
from ..deploy import evaluate, prune
from ..errors import SSSError
from ..methods import train
from ..report.figures import draw
from ..train import Config, RunFolder, load_config


def _train(config: Config) -> None:
    draw(train(config))


def _prune(config: Config) -> None:
    print(describe_compact(prune(config.run), config.run))


def _evaluate(config: Config) -> None:
    run = RunFolder.open(config.run)
    structure = run.structure() if Path(f'{run.compact}-symbol.json').exists() else None
    print(describe_evaluation(evaluate(run.path), structure))


DO = {'train': _train, 'prune': _prune, 'evaluate': _evaluate}


def main(steps: str, config_file: str, *settings: str) -> int:
    """Do the steps in their order; an error of the user's is one line on stderr."""
    config = load_config(config_file, settings)
    for step in steps.split(','):
        try:
            DO[step](config)
        except SSSError as error:
            print(f'{step}: {" ".join(str(error).splitlines())}', file=sys.stderr)
            return 128 + error.signal_number if hasattr(error, 'signal_number') else 2
        except KeyboardInterrupt:
            print(f'{step}: stopped', file=sys.stderr)
            return 130
    return 0


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
