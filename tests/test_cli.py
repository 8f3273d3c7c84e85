"""The command line: the whole chain in processes of its own, exit statuses, and errors of one line."""
import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sss_gluon import __version__
from sss_gluon.cli import VERBS, main
from sss_gluon.files import write_text

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = Path(sys.executable).parent / 'sss-gluon'

CONFIG = (ROOT / 'tests/small.yaml').read_text('utf-8')

OWN_NET = '''
from mxnet.gluon import nn
from sss_gluon import ScaledBatchNorm, ScaledConv2D


def net(classes, in_channels, width=8):
    net = nn.HybridSequential()
    net.add(nn.Conv2D(width, 3, 2, 1, in_channels=in_channels, use_bias=False), ScaledBatchNorm(width, kind='neuron'),
            nn.Activation('relu'), ScaledConv2D(width, 3, padding=1, in_channels=width, kind='neuron'),
            nn.GlobalAvgPool2D(), nn.Flatten(), nn.Dense(classes, in_units=width))
    return net
'''


def call(arguments, folder, program=None):
    """Run sss-gluon as a process."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH', '')]))
    start = [str(program)] if program else [sys.executable, '-m', 'sss_gluon.cli']
    return subprocess.run(start + [str(a) for a in arguments], cwd=str(folder), env=dict(os.environ, PYTHONPATH=path),
                          capture_output=True, text=True, timeout=300)


@pytest.fixture(scope='module')
def chain(tmp_path_factory):
    """A folder in which two runs were trained, one of them pruned; the finished processes by verb."""
    folder = tmp_path_factory.mktemp('chain')
    write_text(folder / 'small.yaml', CONFIG)
    done = {'train': call(['train', 'small.yaml', 'run=runs/mine', 'learning_rate=0.05'], folder),
            'dense': call(['train', 'small.yaml', 'run=runs/dense', 'factors=[]', 'epochs=1'], folder),
            'prune': call(['prune', 'runs/mine'], folder),
            'evaluate': call(['evaluate', 'runs/mine', '--against', 'runs/dense'], folder)}
    for verb, process in done.items():
        assert process.returncode == 0 and 'Traceback' not in process.stderr, f'{verb}: {process.stderr}'
    return folder, done


@pytest.mark.slow
def test_train_prints_a_line_an_epoch_and_leaves_a_run(chain):
    folder, done = chain
    lines = done['train'].stdout.splitlines()
    assert lines[0].split()[1] == 'images' and lines[0].endswith('thread')
    assert [line.split()[:2] for line in lines[1:3]] == [['epoch', '1/2'], ['epoch', '2/2']]
    assert lines[-4:] == [*(f'figure: runs/mine/figures/{name}.png' for name in ('training', 'factors', 'alive')),
                          'next: sss-gluon prune runs/mine']
    assert done['dense'].stdout.splitlines()[-1] == 'next: sss-gluon evaluate runs/dense'
    assert done['train'].stderr == ''           # no progress bar where nobody looks
    assert {path.name for path in (folder / 'runs/mine').iterdir()} - {'.lock', 'diagnosis.txt'} \
        == {'config.yaml', 'metrics.csv', 'factors.csv', 'timing.csv', 'checkpoints', 'figures', 'compact',
            'evaluation.csv'}


@pytest.mark.slow
def test_prune_and_evaluate_agree(chain):
    folder, done = chain
    lines = done['prune'].stdout.splitlines()
    removed = next(line for line in lines if line.startswith('removed: '))     # after the warning that all are gone
    assert ' of 32 neurons' in removed
    assert lines[-1] == 'next: sss-gluon evaluate runs/mine'
    with open(folder / 'runs/mine/evaluation.csv', newline='', encoding='utf-8') as file:
        rows = {row['network']: row for row in csv.DictReader(file)}
    assert list(rows) == ['unpruned', 'compact', 'dense']
    whole, small = rows['unpruned'], rows['compact']
    assert whole['top1'] == small['top1'] and int(small['macs']) < int(whole['macs'])
    for name, row in rows.items():
        assert f'{int(row["params"]):,}' in done['evaluate'].stdout and name in done['evaluate'].stdout
    assert f'{int(rows["compact"]["macs"]):,}' in done['prune'].stdout
    assert removed in done['evaluate'].stdout
    for process in done.values():
        assert all(len(line) <= 80 or line.startswith('warning: ') for line in process.stdout.splitlines())


@pytest.mark.slow
def test_train_again_does_nothing_and_more_epochs_go_on(chain, tmp_path, monkeypatch, capsys):
    shutil.copytree(chain[0] / 'runs/mine', tmp_path / 'mine')
    monkeypatch.chdir(tmp_path)
    assert main(['train', 'mine']) == 0 and 'mine is finished' in capsys.readouterr().out
    assert main(['train', 'mine', 'epochs=3']) == 0
    out = capsys.readouterr().out
    assert 'epochs raised from 2 to 3' in out and 'epoch   3/3' in out
    assert main(['train', 'mine', 'gamma=0.5', 'epochs=3']) == 2
    assert '(gamma: 0.1 -> 0.5)' in capsys.readouterr().err


@pytest.mark.slow
def test_an_exported_network_is_evaluated_and_counted(chain, capsys):
    folder, done = chain
    symbol = str(folder / 'runs/mine/compact/model-symbol.json')
    row = next(line.split() for line in done['evaluate'].stdout.splitlines() if line.startswith('compact '))
    _, top1, params, macs = row[:4]
    assert main(['evaluate', symbol]) == 0
    out = capsys.readouterr().out
    found = next(line.split()[1:4] for line in out.splitlines() if line.startswith('model-symbol'))
    assert found == [top1, params, macs]
    assert main(['count', symbol]) == 0
    assert re.search(rf'^total: {params} params .* {macs} MACs', capsys.readouterr().out, re.MULTILINE)
    assert main(['count', str(folder / 'runs/mine')]) == 0
    assert re.search(rf'^after: {params} params .* {macs} MACs', capsys.readouterr().out, re.MULTILINE)


@pytest.mark.slow
def test_export_writes_what_evaluate_reads(chain, tmp_path, monkeypatch, capsys):
    pytest.importorskip('onnxruntime')
    shutil.copytree(chain[0] / 'runs/mine', tmp_path / 'mine')
    monkeypatch.chdir(tmp_path)
    run = 'mine'
    assert main(['export', run, '--format', 'onnx', '--int8', '--calibration', '100', '--max-drop', '50']) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines if line.startswith(('float32  ', 'int8  '))]
    assert [row[:2] for row in rows] == [['float32', 'MXNet'], ['float32', 'ONNX'], ['int8', 'MXNet'], ['int8', 'ONNX']]
    assert 'model.onnx, model-int8.onnx' in ' '.join(' '.join(lines).split()) and max(map(len, lines)) <= 80
    assert main(['export', run]) == 0
    top1 = next(line.split()[3] for line in capsys.readouterr().out.splitlines() if line.startswith('float32  '))
    assert main(['evaluate', f'{run}/deploy/model-symbol.json']) == 0
    assert capsys.readouterr().out.splitlines()[3].split()[:2] == ['model-symbol.json', top1]
    assert main(['export', run, '--int8', '--calibration', '0']) == 2
    assert re.match('sss-gluon export: .*calibration', capsys.readouterr().err)


@pytest.mark.slow
def test_the_chain_again_with_a_network_of_ones_own(tmp_path, monkeypatch, capsys):
    """Its module lies in the current folder."""
    write_text(tmp_path / 'mynet.py', OWN_NET)
    write_text(tmp_path / 'mine.yaml', 'model: mynet:net\nmodel_options: {width: 6}\nimage_size: 8\nepochs: 2\n'
                                       'gamma: 0.2\nlearning_rate: 0.05\nlr_mode: constant\nrun: mine\n')
    done = call(['train', 'mine.yaml'], tmp_path)
    assert done.returncode == 0 and 'epoch   2/2' in done.stdout, done.stderr
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for verb, words in (('prune mine', 'of 12 neurons'), ('evaluate mine', 'compact against'),
                        ('count mine', 'change: '),
                        ('count mynet:net --size 8 --channels 1 --classes 10', 'total: ')):
        assert main(verb.split()) == 0 and words in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(not PROGRAM.exists(), reason='sss-gluon is not installed here')
def test_the_installed_program(tmp_path):
    done = call(['count', 'cifar_resnet20'], tmp_path, PROGRAM)
    assert done.returncode == 0 and 'total: 272,538 params (271,162 without BatchNorm), 41,075,328 MACs' in done.stdout
    assert call(['count', 'cifar_resnet21'], tmp_path, PROGRAM).returncode == 2


def test_count_layer_by_layer(capsys):
    assert main(['count', 'cifar_resnet20', '--size', '16', '--channels', '1', '--classes', '5']) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ['stem', 'Convolution', '16x16x16', '144', '36,864'] in lines        # 9·1·16 weights, each at 256 positions
    assert ['output', 'FullyConnected', '5', '325', '320'] in lines
    assert sum(line[:1] == ['stage3.2.conv2'] for line in lines) == 1 and lines[-1][:2] == ['not', 'counted:']


@pytest.mark.slow
def test_count_before_and_after(capsys):
    assert main(['count', 'resnet50', '--structure', 'resnet26']) == 0
    out = capsys.readouterr().out
    assert '(15,591,592 without BatchNorm), 2,329,411,584 MACs' in out and 'change: params -' in out
    gone = [line.split() for line in out.splitlines() if line.startswith('stage1.0.conv1')]
    assert gone == [['stage1.0.conv1', '64x56x56', '-', '4,096', '-', '12.85', 'M', '-']]
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.slow
def test_errors_of_a_process_have_no_traceback(tmp_path):
    """All of them: bad_input."""
    write_text(tmp_path / 'small.yaml', CONFIG)
    done = call(['train', 'small.yaml', 'model=nomodule:net'], tmp_path)
    assert done.returncode == 2 and done.stdout == '' and done.stderr.count('\n') == 1
    assert done.stderr.startswith("sss-gluon train: model 'nomodule:net': No module named 'nomodule'")


def test_alone_it_prints_its_help(capsys):
    assert main([]) == 0
    out = capsys.readouterr().out
    assert out.startswith('usage: sss-gluon') and all(verb in out for verb in VERBS)


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(['--version'])
    assert stop.value.code == 0 and capsys.readouterr().out.startswith(f'sss-gluon {__version__} with MXNet 1.9')


@pytest.mark.slow
@pytest.mark.parametrize('module', ['sss_gluon', 'sss_gluon.cli'])
def test_python_m_is_the_program(module, command, tmp_path):
    done = command(['-m', module, '--version'], tmp_path)
    assert (done.returncode, done.stderr) == (0, '') and done.stdout.startswith(f'sss-gluon {__version__}')
    assert command(['-m', module, 'prune', 'nothing'], tmp_path).returncode == 2


@pytest.mark.parametrize('arguments, hint', [
    ('train c.yaml --epochs 3', '; settings have no dashes: epochs=3'),
    ('train --epochs 3 c.yaml', '; settings have no dashes: epochs=3'),
    ('train c.yaml --learning-rate=0.1', '; settings have no dashes: learning_rate=0.1'),
    ('train c.yaml gamma=1 --epoch 3', '; settings have no dashes: epochs=3'),
    ('train c.yaml --epochs', '; settings have no dashes: epochs=...'),
    ('sweep p.yaml --batch-size 3', '; settings have no dashes: batch_size=3'),
    ('sweep p.yaml --dryrun', '; did you mean --dry-run?'), ('export run --onnx', '; did you mean --format onnx?'),
    ('trian c.yaml', f"did you mean 'train'? Verbs: {', '.join(VERBS)}"),
    ('train c.yaml -x', 'unrecognized arguments: -x'), ('prune run --epochs 3', 'unrecognized arguments: --epochs 3'),
])
def test_settings_given_as_options(arguments, hint, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments.split())
    assert stop.value.code == 2 and capsys.readouterr().err.endswith(f'{hint}\n')


@pytest.mark.parametrize('arguments', ['fly', 'train', 'prune', 'count resnet50 --size big', 'prune a b'])
def test_wrong_usage(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments.split())
    assert stop.value.code == 2 and 'usage: sss-gluon' in capsys.readouterr().err


@pytest.mark.parametrize('verb', VERBS)
def test_every_verb_has_help(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        main([verb, '--help'])
    assert stop.value.code == 0 and VERBS[verb][2].replace('\n', ' ')[:20] in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(['--help'])
    assert verb in capsys.readouterr().out


def test_ctrl_c_before_anything_runs(monkeypatch, capsys):
    def stopped(options):
        raise KeyboardInterrupt

    monkeypatch.setitem(VERBS, 'prune', (stopped, VERBS['prune'][1], ''))
    assert main(['prune', 'x']) == 130 and capsys.readouterr().err == 'sss-gluon prune: stopped\n'
