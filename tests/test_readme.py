"""What the README shows is what happens: its code runs, its commands parse, its tables are counted again."""
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sss_gluon import ARCHITECTURES, Structure, count, get_model, load_structure, rebuild
from sss_gluon.train import load_config

ROOT = Path(__file__).parent.parent
README = (ROOT / 'README.md').read_text('utf-8')
CODE = re.findall(r'```python\n(.*?)```', README, re.DOTALL)
COMMANDS = re.findall(r'^    (sss-gluon .*?)(?:\s+#.*)?$', README, re.MULTILINE)


def run(arguments, folder):
    environment = dict(os.environ, PYTHONPATH=f'{ROOT}{os.pathsep}{os.environ.get("PYTHONPATH", "")}')
    done = subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_library_example_runs(tmp_path):
    (tmp_path / 'example.py').write_text(CODE[0], 'utf-8')
    before, after = re.search(r'(\d+) -> (\d+) MACs', run(['example.py'], tmp_path)).groups()
    assert int(after) < int(before) == 10_195_584
    assert Structure.load(tmp_path / 'resnet20-small-structure.json').removed()['block'] > 0


@pytest.mark.slow
def test_own_network_goes_through_the_chain(tmp_path):
    (tmp_path / 'mynet.py').write_text(CODE[1], 'utf-8')
    train = next(command for command in COMMANDS if 'mynet' in command and ' train ' in command).split()[1:]
    train[1] = str(ROOT / train[1])
    settings = [setting for setting in train[2:] if not setting.startswith('gamma=')] + ['gamma=1', 'epochs=2']
    run(['-m', 'sss_gluon.cli', *train[:2], *settings], tmp_path)
    assert 'removed: ' in run(['-m', 'sss_gluon.cli', 'prune', 'runs/mynet'], tmp_path)
    assert 'compact' in run(['-m', 'sss_gluon.cli', 'evaluate', 'runs/mynet'], tmp_path)
    export = next(command for command in COMMANDS if ' export ' in command).replace('runs/mine', 'runs/mynet')
    pytest.importorskip('onnxruntime')
    assert 'model.onnx' in run(['-m', 'sss_gluon.cli', *export.split()[1:]], tmp_path)
    structure = Structure.load(tmp_path / 'runs/mynet/compact/model-structure.json')
    assert sum(structure.removed().values()) > 0


@pytest.mark.parametrize('command', [c for c in COMMANDS if ' train configs/' in c])
def test_train_commands_name_settings_that_exist(command):
    path, *overrides = shlex.split(command.partition(' train ')[2])
    load_config(ROOT / path, overrides)


@pytest.mark.parametrize('name', ARCHITECTURES)
def test_table_of_networks(name):
    row = re.search(rf'^\| `{name}` \|(.*)\|$', README, re.MULTILINE).group(1)
    size, params, without_bn, macs, factors = (cell.strip() for cell in row.split('|'))
    counted = count(get_model(name), (1, 3, int(size), int(size)))
    assert [f'{n:,}' for n in (counted.params, counted.params_without_bn, counted.macs)] == [params, without_bn, macs]
    assert ', '.join(ARCHITECTURES[name].factors) == factors


@pytest.mark.parametrize('name', ['resnet41', 'resnet32', 'resnet26'])
def test_table_of_structures(name):
    params, macs = re.search(rf'^\| `{name}` \| ([\d,]+) \| ([\d,]+) \|', README, re.MULTILINE).groups()
    counted = count(rebuild(name), load_structure(name).input_shape)
    assert (f'{counted.params_without_bn:,}', f'{counted.macs:,}') == (params, macs)
