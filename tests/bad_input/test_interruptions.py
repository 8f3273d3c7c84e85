"""Ctrl-C at any moment: one line, exit status 130, nothing half-written, and the same command does the rest."""
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from checks import call, environment, names, nothing_temporary
from desk import MINE

from sss_gluon.cli import main

# The signal is sent from inside, where a function is called for the first time, or a module imported.

INTERRUPTED = """
import importlib, os, signal, sys
place, times, sys.argv[0] = sys.argv[1], int(sys.argv[2]), 'sss-gluon'
module, _, name = place.partition(':')


class Importing:
    def find_spec(self, wanted, path=None, target=None):
        if wanted == name:
            os.kill(os.getpid(), signal.SIGINT)


if module == 'import':
    sys.meta_path.insert(0, Importing())
from sss_gluon.cli import main
if module != 'import':
    *path, last = name.split('.')
    owner = importlib.import_module(module)
    for part in path:
        owner = getattr(owner, part)
    real = getattr(owner, last)

    def interrupted(*arguments, **keywords):
        setattr(owner, last, real)
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)
        return real(*arguments, **keywords)

    setattr(owner, last, interrupted)
sys.exit(main(sys.argv[3:]))
"""

TRAIN = 'train small.yaml run=new gamma=0.0001'
SAVED = 'SIGINT…epoch 1…saved…sss-gluon train new'
PHASES = {      # command, place, signals, what is said
    'imports': (TRAIN, 'import:mxnet.gluon', 1, 'sss-gluon: stopped\n'),
    'imports later': (TRAIN, 'import:matplotlib.figure', 1, 'sss-gluon train: stopped\n'),
    'data': (TRAIN, 'sss_gluon.data.digits:read_idx', 1, 'sss-gluon train: stopped\n'),
    'tracing': (TRAIN, 'sss_gluon.graph.trace:network_symbol', 1, 'sss-gluon train: stopped\n'),
    'a batch': (TRAIN, 'sss_gluon.data.augment:Augmentation.apply', 1, SAVED),
    'a step': (TRAIN, 'sss_gluon.train.loop:Training.step', 1, SAVED + '…step 1'),
    'a step, twice': (TRAIN, 'sss_gluon.train.loop:Training.step', 2, 'sss-gluon train: stopped\n'),
    'the progress bar': (TRAIN, 'tqdm.std:tqdm.update', 1, SAVED + '…step 1'),
    'evaluation': (TRAIN, 'sss_gluon.train.loop:evaluate_images', 1, SAVED),
    'a checkpoint': (TRAIN, 'numpy.lib.format:write_array', 1, SAVED),
    'a checkpoint, twice': (TRAIN, 'numpy.lib.format:write_array', 2, 'sss-gluon train: stopped\n'),
    'the diagnosis': (TRAIN, 'sss_gluon.methods.diagnosis:mean_gradients', 1, 'sss-gluon train: stopped\n'),
    'a figure': (TRAIN, 'matplotlib.backends.backend_agg:FigureCanvasAgg.print_png', 1, 'sss-gluon train: stopped\n'),
    'the lock': (f'prune {MINE}', 'sss_gluon.train.run_folder:FileLock.acquire', 1, 'sss-gluon prune: stopped\n'),
    'pruning': (f'prune {MINE}', 'sss_gluon.graph.prune:cut', 1, 'sss-gluon prune: stopped\n'),
    'exporting': (f'prune {MINE}', 'mxnet:nd.save', 1, 'sss-gluon prune: stopped\n'),
    'latencies': (f'evaluate {MINE}', 'sss_gluon.deploy.evaluate:latencies', 1, 'sss-gluon evaluate: stopped\n'),
    'counting': ('count cifar_resnet20', 'sss_gluon.graph.count:count_program', 1, 'sss-gluon count: stopped\n'),
}


@pytest.mark.slow
@pytest.mark.parametrize('phase', PHASES)
def test_ctrl_c_in(phase, desk, capfd):
    """One line, status 130, nothing half-written; the same command then does the rest."""
    command, place, times, words = PHASES[phase]
    done = call(f'{place} {times} {command}', start=('-c', INTERRUPTED))
    assert done.returncode == 130 and done.stderr.count('\n') == 1 and names(done.stderr, words)
    assert nothing_temporary(desk)
    assert main(command.split()) == 0 and capfd.readouterr().err == ''
    assert nothing_temporary(desk) and (command != TRAIN or (desk / 'new/diagnosis.txt').exists())


@pytest.mark.slow
def test_ctrl_c_again_and_again_at_random(desk):
    """Stopped at random moments, some of them twice, a run ends like one that nothing stopped."""
    command = 'train small.yaml run=new epochs=6 learning_rate=0.01'
    begin = time.monotonic()
    assert call(command.replace('run=new', 'run=whole')).returncode == 0
    seconds, random, said = time.monotonic() - begin, np.random.RandomState(0), []
    for attempt in range(6):
        process = subprocess.Popen([sys.executable, '-m', 'sss_gluon.cli', *command.split()], env=environment(),
                                   text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if attempt == 0:                # the first is stopped while it trains, however fast the machine is by now
            while not (desk / 'new/metrics.csv').exists() and process.poll() is None:
                time.sleep(0.01)
            delays = [0.0]
        else:
            delays = [random.uniform(0.3, 1.0) * seconds, random.uniform(0, 0.3)][:1 + attempt % 2]
        for delay in delays:
            time.sleep(delay)
            process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=100)
        assert process.returncode == (130 if err else 0) and err.count('\n') <= 1 and 'Traceback' not in err, err
        assert nothing_temporary(desk)
        said.append(err)
    last = call(command)
    assert last.returncode == 0 and 'SIGINT' in said[0] and len({*said, last.stderr}) > 1
    for table in ('metrics.csv', 'factors.csv'):
        assert (desk / 'new' / table).read_bytes() == (desk / 'whole' / table).read_bytes()
