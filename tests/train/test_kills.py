"""Twenty SIGKILLs, at random and in chosen moments: every restart continues, the end is that of an undisturbed run."""
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sss_gluon.train import RunFolder
from sss_gluon.train.config import save_config

ROOT = Path(__file__).resolve().parents[2]
KILLS = 20
CHOSEN = {      # the others are hit in a random step of three epochs
    2: 'checkpoint', 5: 'evaluation', 8: 'checkpoint', 11: 'metrics', 13: 'starting', 16: 'evaluation',
}
EPOCHS = 40

# Writes the phase that the run is in to the file `phase`; in all but training it stays for a while. A checkpoint is
# then written under its temporary name, but not renamed.
OBSERVED = '''
import os, sys, time
from sss_gluon.cli import main
from sss_gluon.train import loop


def say(phase):
    with open('phase.new', 'w') as file:
        file.write(phase)
    os.replace('phase.new', 'phase')


def observe(place, name, phase_of):
    original = getattr(place, name)

    def inside(*arguments, **keywords):
        phase = phase_of(*arguments)
        say(phase)
        if not phase.startswith('training'):
            time.sleep(0.02)
        return original(*arguments, **keywords)
    setattr(place, name, inside)


def step_of(self, *arguments):
    self.steps = getattr(self, 'steps', 0) + 1
    return f'training {self.steps}'


def written(number):
    return 'checkpoint' if os.readlink(f'/proc/self/fd/{number}').endswith('.npz') else 'metrics'


say('starting')
observe(loop, 'evaluate_images', lambda *arguments: 'evaluation')
observe(os, 'fsync', written)
observe(loop.Training, 'step', step_of)
sys.exit(main(['train'] + sys.argv[1:]))
'''


def start(folder):
    return subprocess.Popen([sys.executable, '-c', OBSERVED, 'config.yaml'], cwd=folder, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)})


def phase(folder):
    try:
        return (folder / 'phase').read_text()
    except OSError:
        return 'starting'


def state(folder):
    run = RunFolder(folder / 'run')
    newest = max(run.checkpoints.iterdir(), key=lambda path: path.stem)
    with np.load(newest) as file:
        arrays = {name: file[name].tobytes() for name in file.files if name != 'position'}
    return arrays, run.metrics.path.read_bytes(), run.factors.path.read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_killed_twenty_times(configure, tmp_path):
    random = np.random.RandomState(5)
    for name in ('whole', 'killed'):
        (tmp_path / name).mkdir()
        config = configure(epochs=EPOCHS, factors=['neuron', 'block'], gamma=0.04)
        config.run = 'run'
        (tmp_path / name / 'config.yaml').write_text(save_config(config), 'utf-8')
    whole = start(tmp_path / 'whole')
    folder, hit = tmp_path / 'killed', []
    for number in range(KILLS):
        (folder / 'phase').unlink(missing_ok=True)
        process = start(folder)
        wanted, step, limit = CHOSEN.get(number), random.randint(1, 60), time.monotonic() + 120
        while time.monotonic() < limit and process.poll() is None:
            now, _, done = phase(folder).partition(' ')
            if now == wanted or (wanted is None and int(done or 0) >= step):
                break
            time.sleep(0.001)
        hit.append(phase(folder).split()[0])
        process.send_signal(signal.SIGKILL)
        said, _ = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL, said
        assert 'Traceback' not in said
    print(f'phases hit: {", ".join(hit)}')
    assert {'checkpoint', 'evaluation', 'metrics', 'training', 'starting'} <= set(hit)
    last = start(folder)
    said, _ = last.communicate(timeout=300)
    assert last.returncode == 0 and 'continuing after epoch' in said, said
    assert whole.wait(timeout=300) == 0
    assert state(folder) == state(tmp_path / 'whole')
    assert [path.name for path in (folder / 'run').rglob('.*')] == ['.lock']      # no file half written
