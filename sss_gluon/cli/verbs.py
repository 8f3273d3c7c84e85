"""The verbs of the command line: for each a function that adds its arguments, and one that runs it."""
from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from ..errors import SSSError
from .bench_verb import bench, bench_arguments


def _train_arguments(parser):
    from ..train import Config
    from .tables import describe_settings
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = f'settings, with their defaults:\n{describe_settings(Config)}'.replace('%', '%%')
    parser.add_argument('config', help='configuration file (YAML), a run folder to continue, or the first key=value')
    parser.add_argument('overrides', nargs='*', metavar='key=value', help='settings that override the file')


def _configuration(options):
    """The configuration of a file, of a run folder, or of key=value alone."""
    from ..train import RunFolder, load_config
    path = Path(options.config)
    if os.path.isdir(path):
        config = load_config(RunFolder.open(path).config_file, options.overrides)
        config.run = str(path)
        return config
    if '=' in options.config and not os.path.exists(path):
        return load_config(None, [options.config, *options.overrides])
    return load_config(path, options.overrides)


def _train(options):
    from ..methods import train
    from ..report.figures import draw
    from .steps import tell_next
    if os.path.isdir(options.config) and any(text.startswith('run=') for text in options.overrides):
        raise SSSError(f'run= cannot be changed while {options.config} is continued; name the configuration file '
                       f'instead')
    run = train(_configuration(options))
    if run.chief:
        for figure in draw(run):
            print(f'figure: {figure}')
        tell_next(run.path)


def _find_gamma_arguments(parser):
    _train_arguments(parser)
    parser.add_argument('--steps', type=int, default=300, metavar='N',
                        help='let gamma rise for N steps, or until 10 %% of the MACs are left (default 300)')
    parser.add_argument('--out', metavar='DIR', help='folder for the tables and the figure (default: the name of the '
                                                     'run folder followed by -gamma)')


def _find_gamma(options):
    from ..methods import find_gamma
    from ..report.gamma import write_gamma
    from .tables import describe_gamma
    if any(text.startswith('gamma=') for text in [options.config, *options.overrides]):
        raise SSSError('gamma= is what find-gamma looks for; leave it out')
    config = _configuration(options)
    folder = Path(options.out or f'{config.run or "runs/find"}-gamma')
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise SSSError(f'{folder} is not a folder; name another with --out')
    found = find_gamma(config, options.steps)
    print(describe_gamma(found))
    for path in write_gamma(found, folder, f'{config.model} on {config.data}'):
        print(f'written: {path}')


def _run_argument(parser):
    parser.add_argument('run_folder', metavar='run', help='run folder')


def _prune(options):
    from .steps import prune, tell_next
    prune(options.run_folder)
    tell_next(options.run_folder)


def _evaluate_arguments(parser):
    parser.add_argument('target', metavar='run|symbol.json', help='run folder, or an exported network')
    parser.add_argument('--against', metavar='run', help='a second run on the same data, to compare with')
    parser.add_argument('--data', metavar='run', help='evaluate an exported network on the test images of this run '
                                                      '(default: the run that contains the network)')
    parser.add_argument('--device', help='device to run on: cpu, gpu0, ... (default: the first device of the run)')


def _evaluate(options):
    if options.target.endswith('.json'):
        from ..deploy import evaluate_exported
        from .tables import describe_evaluation
        if options.against:
            raise SSSError(f'--against compares two runs, but {options.target} is an exported network; leave it out')
        print(describe_evaluation([evaluate_exported(options.target, options.data, options.device)]))
        return
    from .steps import evaluate, tell_next
    if options.data:
        raise SSSError(f'--data is for an exported network, but {options.target} is a run with its own data; leave it '
                       f'out')
    evaluate(options.target, options.against, options.device)
    tell_next(options.target)


def _export_arguments(parser):
    parser.add_argument('target', metavar='run|symbol.json', help='run folder, or NAME-symbol.json of any network')
    parser.add_argument('--format', choices=('symbol', 'onnx'), default='symbol',
                        help="MXNet's symbol and params (default), or ONNX")
    parser.add_argument('--int8', action='store_true', help='also write an INT8 network in that format')
    parser.add_argument('--calibration', type=int, default=512, metavar='N',
                        help='number of training images that calibrate INT8 (default 512)')
    parser.add_argument('--max-drop', type=float, default=2.0, metavar='POINTS',
                        help='largest drop of top-1 accuracy on held-out images that INT8 may cause, in percentage '
                             'points (default 2)')
    parser.add_argument('--align', type=_alignment, default='auto', metavar='N',
                        help='fill up widths with zeros to multiples of N, or 1 for none (default: measure 1, 8, 16 '
                             'and 32 in the runtime of the format, and take the fastest)')
    parser.add_argument('--batch', type=int, default=1, metavar='N',
                        help='number of images for which the alignment is measured (default 1)')
    parser.add_argument('--data', metavar='run|folder', help='for a symbol.json: images that check and calibrate it, '
                                                             'of a run or in folder/train and folder/test')
    parser.add_argument('--params', metavar='FILE', help='for a symbol.json: its parameters (default '
                                                         'NAME-0000.params)')
    parser.add_argument('--size', type=int, help='for a symbol.json without data: height and width of the input')
    parser.add_argument('--channels', type=int, help='for a symbol.json without data: input channels (default 3)')


def _alignment(text: str):
    return text if text == 'auto' else int(text)


_alignment.__name__ = 'number'      # argparse: invalid number value


def _export(options):
    from ..deploy import export
    from ..deploy.source import deploy_folder
    from ..machine import busy
    from ..terminal import wrapped
    from .tables import describe_export
    noise = busy()
    rows = export(options.target, options.format, options.int8, options.calibration, options.max_drop / 100,
                  options.align, options.batch, lambda line: print(wrapped(line)), options.data, options.params,
                  options.size, options.channels)
    print(describe_export(rows, deploy_folder(options.target)))
    if noise:
        print(wrapped(noise))


def _count_arguments(parser):
    parser.add_argument('target', metavar='model|run|symbol.json',
                        help='model name (resnet50, gluoncv:resnet50_v1b, package.module:function), run folder or '
                             'exported network')
    parser.add_argument('--structure', help='a structure.json or a shipped structure such as resnet26: count the '
                                            'network before and after pruning to it')
    parser.add_argument('--size', type=int, help="height and width of the input (default: the structure's, or the "
                                                 "model's own)")
    parser.add_argument('--channels', type=int, help="number of input channels (default: the structure's, or 3)")
    parser.add_argument('--classes', type=int, help="number of classes (default: the structure's, or the model's own)")


def _count(options):
    from ..deploy.sizes import sizes
    from .tables import describe_count
    print(describe_count(*sizes(options.target, options.structure, options.size, options.channels, options.classes)))


def _sweep_arguments(parser):
    parser.add_argument('plan', help='plan of many runs (YAML), see configs/plans')
    parser.add_argument('overrides', nargs='*', metavar='key=value', help='settings of all runs')
    parser.add_argument('--dry-run', action='store_true', help='print the runs with their state and cost, and stop')
    parser.add_argument('--smoke', action='store_true', help='try the whole plan on small data in minutes, in '
                                                             'runs/smoke')
    parser.add_argument('--devices', type=lambda text: text.split(','), metavar='D,D',
                        help='devices that every run trains on, such as gpu0,gpu1')
    parser.add_argument('--data-root', metavar='DIR', help='folder of the data set')
    parser.add_argument('--runs', default='runs', metavar='DIR', help='write run folders to DIR/<plan>/<run> (default '
                                                                      'runs)')
    parser.add_argument('--shard', metavar='I/N', help='do only the I-th of N parts, one for each of N processes')
    parser.add_argument('--only', metavar='REGEX', help='do only the runs whose names match')
    parser.add_argument('--where', action='store_true', help='print the folder that holds the run folders, and stop')


def _sweep(options):
    from ..sweep import describe_plan, load_plan, sweep
    plan = load_plan(options.plan, options.runs, options.smoke, options.devices, options.data_root, options.overrides)
    if options.where:
        print(plan.folder)
        return 0
    runs = plan.select(options.only, options.shard)
    if options.dry_run:
        print(describe_plan(plan, runs))
        return 0
    result = sweep(plan, runs)
    for name, reason in result.failed.items():
        print(f'sss-gluon sweep: {plan.folder / name}: {reason}', file=sys.stderr)
    print(f'{plan.folder}: {len(result.finished)} of {len(runs)} runs finished, {len(result.failed)} failed'
          + (f', {len(result.in_use)} in use by other processes' if result.in_use else ''))
    return 1 if result.failed else 0


def _data_arguments(parser):
    parser.add_argument('what', choices=('imagenet-rec',), help='pack folders of images into RecordIO files')
    parser.add_argument('src', metavar='SRC', help='folder with train/ and val/, which have one folder for each class')
    parser.add_argument('dst', metavar='DST', help='folder to write to, the data_root of runs')
    parser.add_argument('--split', choices=('train', 'val'),
                        help='pack only this split; if SRC itself holds the class folders, the split that it is')
    parser.add_argument('--threads', type=int, metavar='N', help='number of decoding threads (default: one per core)')
    parser.add_argument('--short-side', type=int, metavar='PIXELS',
                        help='shrink larger images to this short side (default: keep their size)')
    parser.add_argument('--quality', type=int, default=95, help='quality of JPEG files that are written, 1 to 100 '
                                                                '(default 95)')
    parser.add_argument('--seed', type=int, default=0, help='seed of the order of the images (default 0)')


def _data(options):
    from ..data.pack import pack_images
    for packed in pack_images(options.src, options.dst, options.split, options.threads, options.short_side,
                              options.quality, options.seed):
        print(packed)


def _launch_arguments(parser):
    parser.add_argument('--workers', type=int, default=1, metavar='N',
                        help='number of workers on each host (default 1)')
    parser.add_argument('--servers', type=int, default=1, metavar='N',
                        help='number of ps-lite servers on each host (default 1)')
    parser.add_argument('--hosts', metavar='FILE', help='file with one host per line, to reach by ssh (default: run on '
                                                        'this host)')
    parser.add_argument('--node-rank', type=int, metavar='I', help='rank of this node, from 0; for Slurm, which starts '
                                                                   'the other nodes')
    parser.add_argument('--num-nodes', type=int, metavar='N', help='number of nodes; needs --node-rank')
    parser.add_argument('--scheduler', metavar='HOST:PORT', help='address of the ps-lite scheduler, on node 0')
    parser.add_argument('--backend', choices=('ps-lite', 'horovodrun', 'mpirun'), default='ps-lite',
                        help='communication between workers (default ps-lite)')
    parser.add_argument('--logs', metavar='DIR', help='folder for one log per process (default logs/DATE-TIME)')
    parser.add_argument('--restarts', type=int, default=0, metavar='N',
                        help='restart a failed job from its last checkpoint, up to N times (default 0)')
    parser.add_argument('arguments', nargs=argparse.REMAINDER, metavar='train ...',
                        help='command of every worker: train, or bench --model')


def _launch(options):
    from ..launch import Job, launch, read_hosts
    hosts = read_hosts(options.hosts) if options.hosts else ()
    launch(options.arguments, Job(options.workers, options.servers, hosts, options.node_rank, options.num_nodes,
                                  options.scheduler, options.backend, options.logs, options.restarts))


def _report_arguments(parser):
    parser.add_argument('runs', nargs='*', metavar='run',
                        help='run folders, folders that contain run folders, or the runs.csv of a report')
    parser.add_argument('--out', metavar='DIR',
                        help='folder to write to (default: report in the folder of the runs, or runs/report)')
    parser.add_argument('--title', metavar='TEXT', help='title of the page')
    parser.add_argument('--published', metavar='TABLE', help='another table of published numbers (CSV)')
    parser.add_argument('--counts', action='store_true', help='count the published networks; needs no run')
    parser.add_argument('--evaluate', action='store_true', help='first prune and evaluate the runs that are trained, '
                                                                'but not yet evaluated')


def _report(options):
    from ..report.build import report
    from .steps import finish
    result = report(options.runs, options.out, options.title, options.published, options.counts,
                    finish if options.evaluate else None,
                    log=lambda note: print(f'sss-gluon report: {note}', file=sys.stderr, flush=True))
    print(result.text)
    for path in result.files:
        print(f'written: {path}')


VERBS = {
    'train': (_train, _train_arguments, 'train a configuration, or continue an interrupted run'),
    'find-gamma': (_find_gamma, _find_gamma_arguments, 'find the values of gamma worth sweeping, in a short run'),
    'prune': (_prune, _run_argument, 'remove zero structures from a trained network, verify the result and export it'),
    'evaluate': (_evaluate, _evaluate_arguments, 'measure accuracy, size and latency of the networks of a run'),
    'export': (_export, _export_arguments, 'write a verified network for inference: MXNet symbol, ONNX or INT8'),
    'data': (_data, _data_arguments, 'pack images into RecordIO files, or continue packing'),
    'launch': (_launch, _launch_arguments, 'train with several workers, on this host or many, or measure them'),
    'sweep': (_sweep, _sweep_arguments, 'train, prune and evaluate the runs of a plan; skip the finished ones'),
    'count': (_count, _count_arguments, 'count parameters and MACs, layer by layer, before and after pruning'),
    'report': (_report, _report_arguments, 'compare runs with each other and with the paper: tables, figures, a page'),
    'bench': (bench, bench_arguments, 'measure speed and memory of training and of compact networks'),
}
