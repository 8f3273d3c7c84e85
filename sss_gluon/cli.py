"""sss-gluon: every verb is a thin call of a public function."""
from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from .errors import SSSError


def main(arguments=None) -> int:
    """Run one verb; errors that a user can cause are one line on stderr and exit status 2."""
    parser = argparse.ArgumentParser(prog='sss-gluon', description='Data-driven sparse structure selection.')
    verbs = parser.add_subparsers(dest='verb', required=True, metavar='verb')
    for name, (run, add, text) in VERBS.items():
        verb = verbs.add_parser(name, help=text, description=text)
        add(verb)
        verb.set_defaults(run=run)
    options = parser.parse_args(arguments)
    if '' not in sys.path:
        sys.path.append('')         # model: package.module:function is looked for where the command runs
    try:
        options.run(options)
    except SSSError as error:
        print(f'sss-gluon {options.verb}: {error}', file=sys.stderr)
        return 128 + error.signal_number if hasattr(error, 'signal_number') else 2
    except BrokenPipeError:     # `sss-gluon count resnet50 | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print(f'sss-gluon {options.verb}: stopped', file=sys.stderr)
        return 130
    return 0


def _train_arguments(parser):
    parser.add_argument('config', help='configuration (YAML), or a run folder to continue')
    parser.add_argument('overrides', nargs='*', metavar='key=value', help='settings that override the file')


def _train(options):
    from .report.figures import draw
    from .train import RunFolder, load_config, train
    path = Path(options.config)
    if path.is_dir():
        run = RunFolder.open(path)
        config = load_config(run.config_file, options.overrides)
        config.run = str(path)
    else:
        config = load_config(path, options.overrides)
    run = train(config)
    for figure in draw(run):
        print(f'figure: {figure}')


def _run_argument(parser):
    parser.add_argument('run_folder', metavar='run', help='run folder')


def _prune(options):
    from .report.tables import describe_compact
    from .train import prune
    print(describe_compact(prune(options.run_folder), options.run_folder))


def _evaluate_arguments(parser):
    parser.add_argument('target', metavar='run|symbol.json', help='run folder, or an exported network')
    parser.add_argument('--against', metavar='run', help='another run on the same data to compare with')
    parser.add_argument('--data', metavar='run', help='run whose test images an exported network is evaluated on; '
                                                      'default the run whose folder it lies in')
    parser.add_argument('--device', help='cpu, gpu0, ...; default the first one of the run')


def _evaluate(options):
    from .report.tables import describe_evaluation
    from .train import RunFolder, evaluate, evaluate_exported
    if options.target.endswith('.json'):
        print(describe_evaluation([evaluate_exported(options.target, options.data, options.device)]))
        return
    rows = evaluate(options.target, options.against, options.device)
    compact = [row.name for row in rows].count('compact')
    print(describe_evaluation(rows, RunFolder(options.target).structure() if compact else None))


def _count_arguments(parser):
    parser.add_argument('target', metavar='model|run|symbol.json')
    parser.add_argument('--structure', help='a structure.json, or a shipped one such as resnet26: before and after')
    parser.add_argument('--size', type=int, help='height and width of the input; default what the model is made for')
    parser.add_argument('--channels', type=int, default=3, help='input channels (default 3)')
    parser.add_argument('--classes', type=int)


def _count(options):
    from .report.tables import describe_count
    from .train.sizes import sizes
    print(describe_count(*sizes(options.target, options.structure, options.size, options.channels, options.classes)))


VERBS = {
    'train': (_train, _train_arguments, 'train a configuration; continues where an earlier call stopped'),
    'prune': (_prune, _run_argument, 'cut a trained network to what its factors leave, check it and export it'),
    'evaluate': (_evaluate, _evaluate_arguments, 'accuracy, size and latency of the networks of a run'),
    'count': (_count, _count_arguments, 'parameters and MACs, layer by layer, before and after'),
}

if __name__ == '__main__':
    sys.exit(main())
