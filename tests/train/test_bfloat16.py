"""Runs in bfloat16, each in a process of its own, beside the same run in float32."""
import json
import os

import mxnet as mx
import numpy as np
import pytest

from sss_gluon.deploy import evaluate, load_run, prune
from sss_gluon.errors import SSSError
from sss_gluon.graph import count
from sss_gluon.methods import train
from sss_gluon.train import Config, RunFolder, precision
from sss_gluon.train.checkpoint import read_checkpoint
from sss_gluon.train.config import save_config
from sss_gluon.train.precision import LOSS_SCALE


def works():
    try:
        precision.check_bfloat16()
    except SSSError:
        return False
    return True


NEEDS_BFLOAT16 = pytest.mark.skipif(not works(), reason='bfloat16 needs oneDNN and a CPU with AVX-512')
NEEDS_GPU = pytest.mark.skipif(not mx.runtime.Features().is_enabled('CUDA') or not mx.context.num_gpus(),
                               reason='float16 needs a GPU and a build of MXNet for it')

pytestmark = pytest.mark.slow

SETTINGS = dict(model='cifar_resnet20', model_options=dict(depths=[1, 1, 1], widths=[8, 8, 16]), image_size=16,
                augment_pad=1, augment_flip=False, epochs=5, lr_mode='step', lr_decay_epochs=[3], learning_rate=0.1,
                gamma=0.04, factors=['neuron', 'block'])

# Trains, and says what it finds in its own process. Arguments: structure of a compact network
IN_PROCESS = '''
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from sss_gluon import compact, count
import mxnet as mx
from sss_gluon.cli import main
from sss_gluon.train import loop
from sss_gluon.train.precision import active

trainings, facts = [], {}
finish = loop.Training.finish
loop.Training.finish = lambda self: (trainings.append(self), finish(self))


def call(*arguments):
    error = io.StringIO()
    with redirect_stderr(error), redirect_stdout(io.StringIO()):
        status = main(list(arguments))
    return status, error.getvalue()


facts['train'] = call('train', 'config.yaml')
training = trainings[0]
net, shape = training.net, training.input_shape
facts['active'] = active()
facts['output'] = str(net(mx.nd.ones(shape)).dtype)
parameters = net.collect_params().values()
facts['parameters'] = sorted({str(array.asnumpy().dtype) for p in parameters for array in p.list_data()})
facts['gradients'] = sorted({str(array.asnumpy().dtype) for p in parameters if p.grad_req != 'null'
                             for array in p.list_grad()})
facts['states'] = sorted({str(array.dtype) for name, array in training.trainer.states().items()
                          if name != 'num_update'})
size = count(net, shape)
facts['size'] = [size.params, size.macs, size.uncounted]
facts['compact'] = [node.op for node in compact(net, shape).program.nodes()]
facts['again'] = call('train', 'config.yaml', 'run=again', 'epochs=1', 'lr_decay_epochs=[]')
facts['structure'] = call('train', 'config.yaml', 'run=compact', 'factors=null', 'epochs=2', 'lr_decay_epochs=[]',
                          f'structure={sys.argv[1]}')
symbol = trainings[-1].net(mx.sym.var('data'))
facts['casts'] = symbol.tojson(remove_amp_cast=False).count('"amp_cast"')
for name, arguments in dict(float32=('train', 'config.yaml', 'run=wide', 'precision=float32'), prune=('prune', 'run'),
                            evaluate=('evaluate', 'run'), export=('export', 'run')).items():
    facts[name] = call(*arguments)
print(json.dumps(facts))
'''

INTERRUPTED = '''
import os, signal, sys
from sss_gluon.cli import main
from sss_gluon.train.loop import Training

once = Training.step


def then_signal(self, epoch, step, x, y):
    results = once(self, epoch, step, x, y)
    if (epoch, step) == (1, 6):
        os.kill(os.getpid(), signal.SIGTERM)
    return results


Training.step = then_signal
sys.exit(main(['train', 'config.yaml']))
'''


def arrays(run):
    return read_checkpoint(max(run.checkpoints.iterdir(), key=lambda path: path.stem))[0]


def assert_same(found, expected):
    mine, theirs = arrays(found), arrays(expected)
    assert list(mine) == list(theirs)
    for name, value in theirs.items():
        assert mine[name].tobytes() == value.tobytes(), name
    assert found.metrics.rows() == expected.metrics.rows() and found.factors.rows() == expected.factors.rows()


@pytest.fixture(scope='module')
def wide(tmp_path_factory):
    """The run in float32, with its compact network."""
    run = train(Config(run=str(tmp_path_factory.mktemp('wide') / 'run'), **SETTINGS), log=lambda line: None)
    prune(run.path, log=lambda line: None)
    return run


@pytest.fixture(scope='module')
def narrow_run(tmp_path_factory, command, wide):
    """The run in bfloat16, and what its process said."""
    folder = start(tmp_path_factory.mktemp('narrow'), precision='bfloat16')
    done = command(['-c', IN_PROCESS, f'{wide.compact}-structure.json'], folder)
    assert done.returncode == 0, done.stderr
    return RunFolder(folder / 'run'), json.loads(done.stdout.splitlines()[-1])


def start(folder, **settings):
    """Write config.yaml of a run named ``run``."""
    (folder / 'config.yaml').write_text(save_config(Config(run='run', **dict(SETTINGS, **settings))), 'utf-8')
    return folder


def losses(run, key='train_loss'):
    return np.array([float(row[key]) for row in run.metrics.rows()])


@NEEDS_BFLOAT16
def test_what_is_bfloat16_and_what_is_not(narrow_run, wide):
    run, facts = narrow_run
    assert facts['train'] == [0, ''] and facts['active'] == 'bfloat16' and 'bfloat16' in facts['output']
    assert facts['parameters'] == facts['gradients'] == facts['states'] == ['float32']
    found, expected = arrays(run), arrays(wide)
    assert {n: (a.dtype, a.shape) for n, a in found.items()} == {n: (a.dtype, a.shape) for n, a in expected.items()}


@NEEDS_BFLOAT16
def test_losses_zeros_and_accuracy_are_those_of_float32(narrow_run, wide):
    """Losses within 5 %, the last accuracy of 300 images within 6 points, at most 4 of 35 factors zero in only one."""
    run, _ = narrow_run
    found, expected = losses(run), losses(wide)
    assert (found != expected).all() and np.abs(found / expected - 1).max() < 0.05
    assert abs(losses(run, 'top1')[-1] - losses(wide, 'top1')[-1]) < 0.06
    mine, theirs = (np.concatenate([a == 0 for n, a in arrays(r).items() if n.startswith('param:')
                                    and n.endswith('factor')]) for r in (run, wide))
    assert 10 < theirs.sum() < theirs.size == 35 and (mine != theirs).sum() <= 4


@NEEDS_BFLOAT16
def test_counts_in_the_process_that_trains_are_those_of_float32(narrow_run, wide):
    run, facts = narrow_run
    trained = load_run(run.path)
    size = count(trained.net, trained.input_shape)
    assert facts['size'] == [size.params, size.macs, size.uncounted]
    assert facts['compact'] == [node.op for node in prune(run.path, log=lambda line: None).program.nodes()]
    columns = ('params', 'macs', 'blocks', 'neurons')
    assert [[row[key] for key in columns] for row in run.metrics.rows()] == \
        [[row[key] for key in columns] for row in wide.metrics.rows()]


@NEEDS_BFLOAT16
def test_a_new_process_prunes_in_float32(narrow_run):
    run, _ = narrow_run
    result = prune(run.path, log=lambda line: None)
    assert result.max_difference < 1e-5 and result.after.macs < result.before.macs
    assert {array.dtype for array in mx.nd.load(f'{run.compact}-0000.params').values()} == {np.float32}
    assert 'amp_' not in open(f'{run.compact}-symbol.json').read()
    dense, compact = evaluate(run.path)
    assert compact.accuracy.top1 == dense.accuracy.top1
    assert compact.accuracy.loss == pytest.approx(dense.accuracy.loss, rel=1e-4)


@NEEDS_BFLOAT16
def test_one_process_has_one_precision(narrow_run):
    """bfloat16 again gives the same again; what is float32 is refused, in one line."""
    run, facts = narrow_run
    assert facts['again'] == [0, '']
    again = RunFolder(run.path.parent / 'again')
    assert again.metrics.rows() == run.metrics.rows()[:1] and again.factors.rows() == run.factors.rows()[:1]
    off = "MXNet's AMP is on for bfloat16"
    for verb, words in dict(float32=f'precision=float32 is impossible in this process: {off}',
                            prune='loading the network of run needs float32, but ' + off,
                            evaluate=off, export=off).items():
        status, error = facts[verb]
        assert status == 2 and words in error and len(error.splitlines()) == 1, verb
    assert not os.path.exists(run.path.parent / 'wide')


@NEEDS_BFLOAT16
def test_compact_networks_train_in_bfloat16_too(narrow_run):
    run, facts = narrow_run
    assert facts['structure'] == [0, ''] and facts['casts'] > 10
    found = losses(RunFolder(run.path.parent / 'compact'))
    assert found[-1] < found[0]


@NEEDS_BFLOAT16
def test_a_continued_run_is_the_same_bit_for_bit(narrow_run, command, tmp_path):
    folder = start(tmp_path, precision='bfloat16')
    done = command(['-c', INTERRUPTED], folder)
    assert done.returncode == 143, done.stderr
    done = command(['-m', 'sss_gluon.cli', 'train', 'run'], folder)
    assert done.returncode == 0 and 'continuing after epoch 1, step 7' in done.stdout, done.stderr
    assert_same(RunFolder(folder / 'run'), narrow_run[0])


@pytest.mark.parametrize('variable, value', [('DNNL_MAX_CPU_ISA', 'AVX2'), ('MXNET_MKLDNN_ENABLED', '0')])
def test_without_what_bfloat16_needs(variable, value, command, tmp_path, monkeypatch):
    monkeypatch.setenv(variable, value)
    done = command(['-m', 'sss_gluon.cli', 'train', 'config.yaml'], start(tmp_path, precision='bfloat16'))
    assert done.returncode == 2 and 'Traceback' not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith('sss-gluon train: precision=bfloat16 ')
    assert all(part in last for part in ('oneDNN', 'AVX-512', 'precision=float32'))
    assert not (tmp_path / 'run').exists()


@NEEDS_GPU
def test_float16_on_a_gpu(command, tmp_path):
    """Beside float32 on the same GPU: losses within 5 %, factors and momenta float32, a loss scale that is saved."""
    runs = {}
    for kind in ('float32', 'float16'):
        (tmp_path / kind).mkdir()
        folder = start(tmp_path / kind, precision=kind, devices=['gpu0'])
        done = command(['-m', 'sss_gluon.cli', 'train', 'config.yaml'], folder)
        assert done.returncode == 0, done.stderr
        runs[kind] = RunFolder(folder / 'run')
    found = arrays(runs['float16'])
    assert np.abs(losses(runs['float16']) / losses(runs['float32']) - 1).max() < 0.05
    assert {array.dtype for name, array in found.items() if name.startswith('param:')} == {np.dtype('float32')}
    scale, good, skipped = found[f'state:{LOSS_SCALE}']
    assert scale == 2.0 ** (16 - skipped) and good + skipped <= 5 * 18
