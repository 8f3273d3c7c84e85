"""What the README shows is what happens: its code runs, its commands parse, its tables are counted again."""
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from claims import CLAIMS

from sss_gluon import ARCHITECTURES, Structure, count, get_model, load_structure, rebuild
from sss_gluon.cli import main
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
def test_own_network_goes_through_the_chain(tmp_path, monkeypatch, capsys):
    (tmp_path / 'mynet.py').write_text(CODE[1], 'utf-8')
    train = next(command for command in COMMANDS if 'mynet' in command and ' train ' in command).split()[1:]
    train[1] = str(ROOT / train[1])
    settings = [setting for setting in train[2:] if not setting.startswith('gamma=')] + ['gamma=1', 'epochs=2']
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, 'mynet', None)     # and out of it again
    del sys.modules['mynet']
    assert main([*train[:2], *settings]) == 0
    export = next(command for command in COMMANDS if ' export ' in command).replace('runs/mine', 'runs/mynet')
    for command, said in (('prune runs/mynet', 'removed: '), ('evaluate runs/mynet', 'compact'),
                          (export.partition(' ')[2], 'model.onnx')):
        if 'onnx' in command:
            pytest.importorskip('onnxruntime')
        capsys.readouterr()
        assert main(command.split()) == 0 and said in capsys.readouterr().out
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


@pytest.mark.parametrize('claim', sorted(CLAIMS))
def test_tests_that_stand_for_claims_exist(claim):
    path, _, name = claim.partition('::')
    assert f'def {name.partition("[")[0]}(' in (ROOT / 'tests' / path).read_text('utf-8')
