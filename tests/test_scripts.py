"""The scripts of tables and figures: thin, each with its plan, and every one of them carried out for real (--smoke)."""
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sss_gluon.sweep import load_plan, progress

ROOT = Path(__file__).resolve().parents[1]
PLANS = {path.stem: path for path in (ROOT / 'configs/plans').glob('*.yaml')}
SCRIPTS = {name: ROOT / f'scripts/{name}.sh' for name in PLANS}
CLUSTER = ROOT / 'scripts/cluster/slurm_array.sh'

# Stands in for setup.sh, which installs: the package is the one under test, the output goes to a folder of the test
SET_UP = '''
repo={root}
set_up() {{ :; }}
sss-gluon() {{ "{python}" -m sss_gluon.cli "$@"; }}
'''


def test_every_table_and_figure_has_a_script_and_a_plan():
    asked = {'table_imagenet', 'table_resnet_structures', 'table_comparison', 'figure_cifar_vgg', 'figure_cifar_resnet',
             'figure_cifar_resnext', 'figure_ssl', 'fashion_mnist'}
    assert asked <= set(PLANS) and all(path.is_file() for path in SCRIPTS.values())


@pytest.mark.parametrize('name', SCRIPTS)
def test_scripts_are_thin_and_say_what_they_cost(name):
    lines = SCRIPTS[name].read_text('utf-8').splitlines()
    assert len(lines) <= 10 and lines[0] == '#!/usr/bin/env bash' and 'set -euo pipefail' in lines
    comment = ' '.join(line for line in lines if line.startswith('# '))
    assert re.search('measured', comment) and f'bash scripts/{name}.sh' in comment
    title = re.search(rf'reproduce {name} "([^"]+)" "\$@"$', lines[-1])
    assert title, lines[-1]


@pytest.mark.parametrize('script', [*SCRIPTS.values(), CLUSTER, ROOT / 'scripts/reproduce.sh'], ids=lambda p: p.stem)
def test_scripts_are_valid(script):
    assert subprocess.run(['bash', '-n', str(script)]).returncode == 0


def run(name, folder, *arguments):
    """Run a script in a copy of scripts/ whose set-up installs nothing."""
    scripts = folder / 'scripts'
    scripts.mkdir(parents=True, exist_ok=True)
    for part in (f'{name}.sh', 'reproduce.sh'):
        (scripts / part).write_text((ROOT / 'scripts' / part).read_text('utf-8'), 'utf-8')
    (scripts / 'setup.sh').write_text(SET_UP.format(root=ROOT, python=sys.executable), 'utf-8')
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH', '')]))
    environment = dict(os.environ, PYTHONPATH=path, OMP_NUM_THREADS='1')
    return subprocess.run(['bash', str(scripts / f'{name}.sh'), *arguments, '--runs', str(folder / 'runs')],
                          env=environment, capture_output=True, text=True)


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path):
    done = run('figure_cifar_vgg', tmp_path, '--dry-run', 'seed=[3]')
    assert done.returncode == 0, done.stderr
    assert re.search(r'^cifar10-vgg16-neuron-gamma0.001-seed3 +new +240 ', done.stdout, re.MULTILINE)
    assert not (tmp_path / 'runs').exists()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_script_runs_with_smoke_and_writes_its_report(tmp_path):
    """Two at a time, each on one core. Those that share runs may meet: they do not do the same work twice."""
    with ThreadPoolExecutor(2) as pool:
        results = dict(zip(SCRIPTS, pool.map(lambda name: run(name, tmp_path, '--smoke'), SCRIPTS)))
    for name, done in results.items():
        assert done.returncode == 0, f'{name}: {done.stdout[-2000:]}\n{done.stderr[-2000:]}'
        plan = load_plan(PLANS[name], tmp_path / 'runs', smoke=True)
        assert {progress(run).text for run in plan.runs} == {'finished'}, name
        assert 'failed' in done.stdout and ' 0 failed' in done.stdout
        for suffix in ('html', 'csv', 'md', 'png', 'svg'):
            assert list((plan.folder / 'report').rglob(f'*.{suffix}')), (name, suffix)


def test_the_slurm_script_hands_its_arguments_to_one_sweep(tmp_path):
    """With a program in the place of sss-gluon: no cluster was used to test it."""
    program = tmp_path / '.venv/bin/sss-gluon'
    program.parent.mkdir(parents=True)
    program.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n', 'utf-8')
    program.chmod(0o755)
    done = subprocess.run(['bash', str(CLUSTER), 'plan.yaml', '--data-root', 'a b'], capture_output=True, text=True,
                          env=dict(os.environ, SLURM_SUBMIT_DIR=str(tmp_path)))
    assert done.stdout.splitlines() == ['sweep', 'plan.yaml', '--data-root', 'a b', '--devices', 'gpu0']
