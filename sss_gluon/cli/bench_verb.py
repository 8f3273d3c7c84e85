"""The verb ``bench``: the table of ratios with bounds, or the speed of one network (``--model``)."""
from __future__ import annotations

import re
import sys
from contextlib import closing
from pathlib import Path

from ..errors import SSSError

OF_MODEL = ('structure', 'factors', 'neuron_block', 'size', 'channels', 'classes', 'devices', 'batch',
            'precision', 'align', 'out')
OF_TABLE = ('only', 'all', 'list', 'distributed', 'soak', 'baseline', 'torch_python')


def bench_arguments(parser):
    one = parser.add_argument_group('one network', 'training and inference, with factors and without, dense and '
                                                   'compact; in a job of launch, how it scales')
    one.add_argument('--model', metavar='model|run|symbol.json',
                     help='measure this network: a name (resnet50, gluoncv:resnet50_v1b, package.module:function), a '
                          'run folder, or an exported network')
    one.add_argument('--structure', help='cut it to a structure.json or a shipped structure such as resnet26 (default: '
                                         'what is zero in a run, else a random half of the structures)')
    one.add_argument('--factors', metavar='K,K', help="kinds of structures that have factors: neuron, group, block "
                                                      "(default: the model's own)")
    one.add_argument('--neuron-block', type=int, metavar='N', help='adjacent channels that share a factor (default 1)')
    one.add_argument('--devices', metavar='D,D', help='cpu, gpu0 or gpu0,gpu1 (default cpu); training uses all of '
                                                      'them, inference the first')
    one.add_argument('--batch', metavar='N,N', help='batch sizes (default 1,8,64)')
    one.add_argument('--precision', metavar='P,P', help='float32, bfloat16 (CPUs), float16 (GPUs) (default float32)')
    one.add_argument('--size', '--image-size', type=int, help="height and width of the input (default: the structure's,"
                                                              " or the model's own)")
    one.add_argument('--channels', type=int, help='number of input channels (default 3)')
    one.add_argument('--classes', type=int, help="number of classes (default: the model's own)")
    one.add_argument('--align', type=int, help='multiple to which the compact network pads its widths (default 1)')
    one.add_argument('--out', metavar='DIR', help='write CSV and figures there, and a page of all measurements in it')
    table = parser.add_argument_group('table of ratios', 'what factors cost and pruning gains, on two CPU cores, with '
                                                         'bounds; without options, 25 minutes on quiet cores')
    table.add_argument('--only', metavar='REGEX', help='measure only the benchmarks whose names match')
    table.add_argument('--all', action='store_true', help='measure those too that only maintainers need')
    table.add_argument('--list', action='store_true', help='list the benchmarks and stop')
    table.add_argument('--distributed', action='store_true',
                       help='compare only 2 workers with 1, and predict the scaling to 8 to 512 GPUs')
    table.add_argument('--baseline', metavar='FILE', help='fail if a result is worse than in this earlier CSV')
    table.add_argument('--tolerance', type=float, default=0.1,
                       help='relative difference that counts as worse (default 0.1)')
    table.add_argument('--torch-python', metavar='PATH', help='for maintainers: Python interpreter with PyTorch, for '
                                                              'the comparison with it')
    table.add_argument('--soak', type=float, metavar='HOURS',
                       help='for maintainers: instead, train for some hours and watch memory')
    parser.add_argument('--rounds', type=int, help='number of interleaved rounds (default 20, with --quick 2 or 3)')
    parser.add_argument('--csv', metavar='FILE', help='write the results and a description of the machine to a CSV')
    parser.add_argument('--quick', action='store_true',
                        help='tiny networks or few rounds: check that the benchmarks run; the numbers mean nothing')


def bench(options):
    given = [name for name in (OF_TABLE if options.model else OF_MODEL) if getattr(options, name) not in (None, False)]
    if given:
        option = given[0].replace('_', '-')
        raise SSSError(f'--{option} is for the table of ratios; leave it or --model out' if options.model else
                       f'--{option} is for one network; name it with --model')
    if options.model:
        return _model(options)
    if options.soak is not None:
        return _soak(options.soak)
    from ..bench.interconnect import prediction
    from ..bench.run import bench as measure
    from ..bench.table import select
    from .bench import describe_result, describe_results, describe_rows, describe_scaling
    from .clock_bar import ClockBar
    if options.distributed and options.only:
        raise SSSError('--distributed and --only both choose benchmarks; leave one of them out')
    options.only = '^workers-' if options.distributed else options.only
    if options.list:
        print(describe_rows(select(options.only, everything=True)))
        return
    with ClockBar() as bar:
        report = measure(options.only, options.rounds, options.csv, options.baseline, options.tolerance,
                         options.torch_python, options.quick, options.all,
                         log=lambda result: bar.say(describe_result(result)), begin=bar.begin)
    print(describe_results(report.results, report.machine))
    if options.distributed:
        print(describe_scaling(prediction()))
    if report.problem:
        raise SSSError(report.problem)


def _soak(hours):
    from ..bench.soak import soak
    from .bench import describe_sample, describe_soak
    samples = soak(hours, log=lambda sample: print(describe_sample(sample), file=sys.stderr, flush=True))
    print(describe_soak(samples))


def _model(options):
    from ..bench.job import measure_job
    from ..bench.model import BATCHES, QUICK_ROUNDS, ROUNDS, Plan
    from ..bench.network import Subject
    from ..csv_files import write_csv
    from ..files import check_writable
    from ..report.bench import bench_tables, describe_row, title, write_bench
    from .clock_bar import ClockBar
    subject = Subject(options.model, options.structure, options.size, options.channels, options.classes,
                      None if options.factors is None else _words(options.factors), options.neuron_block,
                      options.quick)
    rounds = (QUICK_ROUNDS if options.quick else ROUNDS) if options.rounds is None else options.rounds
    plan = Plan(subject, _words(options.devices or 'cpu'), _words(options.precision or 'float32'),
                BATCHES if options.batch is None else _numbers(options.batch), rounds,
                1 if options.align is None else options.align)

    def tables(name):
        return [Path(path) for path in (options.csv, options.out and f'{options.out}/{name}.csv') if path]

    name, rows = _name(options), []
    for path in tables(name):
        check_writable(path)
    try:
        with ClockBar() as bar, closing(measure_job(plan, bar.say, bar.begin)) as measured:
            for some in measured:
                rows += some
                if rows[0]['use'] == 'scaling':     # jobs of several sizes may share the folder
                    name = f'{_name(options)}-{rows[0]["workers"]}x{len(rows[0]["devices"].split())}'
                for path in tables(name):
                    write_csv(path, rows)
                for row in some:
                    bar.say(describe_row(row))
    finally:
        if rows:        # all of them, or those that were measured before an error or Ctrl-C
            print('\n\n'.join([title(rows), *(table.plain() for table in bench_tables(rows))]))
    if options.out and rows:        # of a job, the first worker has them
        for path in write_bench(rows, options.out, name):
            print(f'written: {path}')


def _words(text):
    """('gpu0', 'gpu1') of 'gpu0,gpu1'."""
    return tuple(text.split(','))


def _numbers(text):
    """(1, 8, 64) of '1,8,64'."""
    if not re.fullmatch(r'\d{1,9}(,\d{1,9})*', text):
        raise SSSError(f'--batch {text!r} is not a list of numbers such as 1,8,64')
    return tuple(map(int, text.split(',')))


def _name(options):
    """'resnet50-resnet26' for the files of a measurement."""
    parts = [Path(text).name for text in (options.model.replace('-symbol.json', '').rstrip('/'),
                                          (options.structure or '').replace('.json', ''),
                                          (options.factors or '').replace(',', '-'),
                                          f'block{options.neuron_block}' if options.neuron_block else '') if text]
    return re.sub(r'[^\w.-]+', '-', '-'.join(parts))
