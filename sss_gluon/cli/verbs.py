"""The verbs of the command line: the arguments of each, and the public function that it calls."""
from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from ..errors import SSSError


def _train_arguments(parser):
    parser.add_argument('config', help='configuration (YAML), a run folder to continue, or the first of key=value')
    parser.add_argument('overrides', nargs='*', metavar='key=value', help='settings that override the file')


def _train(options):
    from ..methods import train
    from ..report.figures import draw
    from ..train import RunFolder, load_config
    path = Path(options.config)
    if os.path.isdir(path):
        run = RunFolder.open(path)
        if any(text.startswith('run=') for text in options.overrides):
            raise SSSError(f'run= cannot be changed while {path} is continued; name the configuration file instead')
        config = load_config(run.config_file, options.overrides)
        config.run = str(path)
    elif '=' in options.config and not os.path.exists(path):
        config = load_config(None, [options.config, *options.overrides])
    else:
        config = load_config(path, options.overrides)
    run = train(config)
    for figure in draw(run) if run.chief else ():
        print(f'figure: {figure}')


def _run_argument(parser):
    parser.add_argument('run_folder', metavar='run', help='run folder')


def _prune(options):
    from ..deploy import prune
    from .tables import describe_compact
    print(describe_compact(prune(options.run_folder), options.run_folder))


def _evaluate_arguments(parser):
    parser.add_argument('target', metavar='run|symbol.json', help='run folder, or an exported network')
    parser.add_argument('--against', metavar='run', help='another run on the same data to compare with')
    parser.add_argument('--data', metavar='run', help='run whose test images an exported network is evaluated on; '
                                                      'default the run whose folder it lies in')
    parser.add_argument('--device', help='cpu, gpu0, ...; default the first one of the run')


def _evaluate(options):
    from ..deploy import evaluate, evaluate_exported
    from ..train import RunFolder
    from .tables import describe_evaluation
    if options.target.endswith('.json'):
        if options.against:
            raise SSSError(f'--against compares runs, and {options.target} is none; leave it out')
        print(describe_evaluation([evaluate_exported(options.target, options.data, options.device)]))
        return
    if options.data:
        raise SSSError(f'--data is for an exported network; {options.target} has its own')
    run = RunFolder.open(options.target)
    structure = run.structure() if Path(f'{run.compact}-symbol.json').exists() else None
    print(describe_evaluation(evaluate(run.path, options.against, options.device), structure))


def _export_arguments(parser):
    _run_argument(parser)
    parser.add_argument('--format', choices=('symbol', 'onnx'), default='symbol',
                        help="MXNet's symbol and params (default), or ONNX")
    parser.add_argument('--int8', action='store_true', help='also a network of 8-bit integers, as symbol and params')
    parser.add_argument('--calibration', type=int, default=512, metavar='N',
                        help='training images that INT8 takes its ranges from (default 512)')
    parser.add_argument('--max-drop', type=float, default=2.0, metavar='POINTS',
                        help='points of top-1 on held-out images that INT8 may cost (default 2)')
    parser.add_argument('--align', type=int, default=1, metavar='N',
                        help='leave zeros so that widths are multiples of N: 8 or 16 are faster on CPUs')


def _export(options):
    from ..deploy import export
    from .tables import describe_export
    rows = export(options.run_folder, options.format, options.int8, options.calibration, options.max_drop / 100,
                  options.align)
    print(describe_export(rows, options.run_folder))


def _count_arguments(parser):
    parser.add_argument('target', metavar='model|run|symbol.json')
    parser.add_argument('--structure', help='a structure.json, or a shipped one such as resnet26: before and after')
    parser.add_argument('--size', type=int, help='height and width of the input; default what the model is made for')
    parser.add_argument('--channels', type=int, help='input channels (default 3)')
    parser.add_argument('--classes', type=int)


def _count(options):
    from ..deploy.sizes import sizes
    from .tables import describe_count
    print(describe_count(*sizes(options.target, options.structure, options.size, options.channels, options.classes)))


def _sweep_arguments(parser):
    parser.add_argument('plan', help='plan (YAML): many runs, see configs/plans')
    parser.add_argument('overrides', nargs='*', metavar='key=value', help='settings of all runs')
    parser.add_argument('--dry-run', action='store_true', help='print the runs, their state and costs; do nothing')
    parser.add_argument('--smoke', action='store_true', help='try everything on small data, in minutes, in runs/smoke')
    parser.add_argument('--devices', type=lambda text: text.split(','), metavar='D,D', help='of each run: gpu0,gpu1')
    parser.add_argument('--data-root', metavar='DIR', help='folder of the data set')
    parser.add_argument('--runs', default='runs', metavar='DIR', help='run folders are DIR/<plan>/<run> (default runs)')
    parser.add_argument('--shard', metavar='I/N', help='only the I-th of N parts, for N processes')
    parser.add_argument('--only', metavar='REGEX', help='only runs whose name it is found in')
    parser.add_argument('--where', action='store_true', help='print the folder of the run folders; do nothing')


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
    outcome = sweep(plan, runs)
    for name, reason in outcome.failed.items():
        print(f'sss-gluon sweep: {plan.folder / name}: {reason}', file=sys.stderr)
    print(f'{plan.folder}: {len(outcome.finished)} of {len(runs)} runs finished, {len(outcome.failed)} failed'
          + (f', {len(outcome.in_use)} in use by other processes' if outcome.in_use else ''))
    return 1 if outcome.failed else 0


def _data_arguments(parser):
    parser.add_argument('what', choices=('imagenet-rec',), help='images in folders to RecordIO files')
    parser.add_argument('src', metavar='SRC', help='holds train/ and val/ with a folder for each class')
    parser.add_argument('dst', metavar='DST', help='data_root of the runs')
    parser.add_argument('--part', choices=('train', 'val'), help='only this one; or what SRC is, a folder of classes')
    parser.add_argument('--workers', type=int, metavar='N', help='threads that decode; default one for each core')
    parser.add_argument('--short-side', type=int, metavar='PIXELS', help='shrink larger images (default: as they are)')
    parser.add_argument('--quality', type=int, default=95, help='of JPEG files that are made, 1 to 100 (default 95)')
    parser.add_argument('--seed', type=int, default=0, help='of the order of the images')


def _data(options):
    from ..data.pack import pack_images
    for packed in pack_images(options.src, options.dst, options.part, options.workers, options.short_side,
                              options.quality, options.seed):
        print(packed)


def _launch_arguments(parser):
    parser.add_argument('--workers', type=int, default=1, metavar='N', help='on each machine (default 1)')
    parser.add_argument('--servers', type=int, default=1, metavar='N', help='of ps-lite on each machine (default 1)')
    parser.add_argument('--hosts', metavar='FILE', help='machines to reach by ssh, one in a line; default this one')
    parser.add_argument('--machine', metavar='I/N', help='this is the I-th of N machines, from 0; for Slurm')
    parser.add_argument('--root', metavar='HOST:PORT', help='of the scheduler, on the first machine')
    parser.add_argument('--through', choices=('ps-lite', 'horovodrun', 'mpirun'), default='ps-lite',
                        help='what joins the workers (default ps-lite)')
    parser.add_argument('--logs', metavar='DIR', help='of one log for each process; default logs/DATE-TIME')
    parser.add_argument('--restarts', type=int, default=0, metavar='N',
                        help='begin a job that failed again from its last checkpoint, so often')
    parser.add_argument('arguments', nargs=argparse.REMAINDER, metavar='train ...', help='what every worker runs')


def _launch(options):
    from ..launch import Job, launch, read_hosts
    machine = None
    if options.machine:
        index, _, count = options.machine.partition('/')
        if not (index.isdecimal() and count.isdecimal()):
            raise SSSError(f'--machine {options.machine} is not of the form I/N, such as 0/2')
        machine = int(index), int(count)
    launch(options.arguments, Job(options.workers, options.servers, read_hosts(options.hosts) if options.hosts else (),
                                  machine, options.root, options.through, options.logs, options.restarts))


def _bench_arguments(parser):
    parser.add_argument('--only', metavar='REGEX', help='rows whose name it is found in')
    parser.add_argument('--list', action='store_true', help='print the rows and measure nothing')
    parser.add_argument('--distributed', action='store_true',
                        help='only 2 workers against 1, and what that predicts for 8 to 512 GPUs')
    parser.add_argument('--soak', type=float, metavar='HOURS', help='only train that long, and watch memory')
    parser.add_argument('--rounds', type=int, help='turns of all that is compared (default 20, with --quick 3)')
    parser.add_argument('--csv', metavar='FILE', help='write the results there, with the machine')
    parser.add_argument('--baseline', metavar='FILE', help='an earlier CSV: fail where a row is worse than there')
    parser.add_argument('--tolerance', type=float, default=0.1, help='what counts as worse (default 0.1: 10 %%)')
    parser.add_argument('--torch-python', metavar='PATH', help='an interpreter with PyTorch, for the row that needs it')
    parser.add_argument('--quick', action='store_true', help='tiny networks: shows that it works, numbers mean nothing')


def _soak(hours):
    from ..bench.soak import soak
    from .bench import describe_sample, describe_soak
    samples = soak(hours, log=lambda sample: print(describe_sample(sample), file=sys.stderr, flush=True))
    print(describe_soak(samples))


def _bench(options):
    if options.soak is not None:
        return _soak(options.soak)
    from ..bench.run import bench
    from ..bench.scaling import prediction
    from ..bench.table import select
    from .bench import describe_result, describe_results, describe_rows, describe_scaling
    if options.distributed and options.only:
        raise SSSError('--distributed and --only both choose rows; leave one of them out')
    options.only = '^workers-' if options.distributed else options.only
    if options.list:
        print(describe_rows(select(options.only)))
        return
    outcome = bench(options.only, options.rounds, options.csv, options.baseline, options.tolerance,
                    options.torch_python, options.quick,
                    log=lambda result: print(describe_result(result), file=sys.stderr, flush=True))
    print(describe_results(outcome.results, outcome.machine))
    if options.distributed:
        print(describe_scaling(prediction()))
    if outcome.problem:
        raise SSSError(outcome.problem)


def _report_arguments(parser):
    parser.add_argument('runs', nargs='*', metavar='run',
                        help='run folders, folders below which runs are found, or runs.csv of a report')
    parser.add_argument('--out', metavar='DIR', help='folder to write to; default report in the folder of the runs')
    parser.add_argument('--title', metavar='TEXT', help='of the page')
    parser.add_argument('--published', metavar='TABLE', help='another table of published numbers (CSV)')
    parser.add_argument('--counts', action='store_true', help='count the published networks; needs no run')


def _report(options):
    from ..report.build import report
    result = report(options.runs, options.out, options.title, options.published, options.counts,
                    log=lambda note: print(f'sss-gluon report: {note}', file=sys.stderr, flush=True))
    print(result.text)
    for path in result.files:
        print(f'written: {path}')


VERBS = {
    'train': (_train, _train_arguments, 'train a configuration; continues where an earlier call stopped'),
    'prune': (_prune, _run_argument, 'cut a trained network to what its factors leave, check it and export it'),
    'evaluate': (_evaluate, _evaluate_arguments, 'accuracy, size and latency of the networks of a run'),
    'export': (_export, _export_arguments, 'write the network for inference: MXNet symbol, ONNX or INT8, checked'),
    'data': (_data, _data_arguments, 'pack images into RecordIO files; goes on where an earlier call stopped'),
    'launch': (_launch, _launch_arguments, 'train with several workers, on this machine or many'),
    'sweep': (_sweep, _sweep_arguments, 'the runs of a plan: train what is missing, continue, skip what is finished'),
    'count': (_count, _count_arguments, 'parameters and MACs, layer by layer, before and after'),
    'report': (_report, _report_arguments, 'runs beside each other and beside the paper: tables, figures, one page'),
    'bench': (_bench, _bench_arguments, 'speed and memory: what factors cost, what a compact network gains'),
}
