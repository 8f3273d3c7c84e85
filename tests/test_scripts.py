"""The scripts of tables and figures: thin, each with its plan, and every one of them carried out for real (--smoke)."""
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from claims import CLAIMS, REPEATS

from sss_gluon.methods import METHODS
from sss_gluon.sweep import load_plan, progress

ROOT = Path(__file__).resolve().parents[1]
PLANS = {path.stem: path for path in (ROOT / 'configs/plans').glob('*.yaml')}
SCRIPTS = {name: ROOT / f'scripts/{name}.sh' for name in PLANS}
EVERY_METHOD = 'comparison_cifar'      # a plan in which each of them has a run
OTHERS = [ROOT / 'scripts/reproduce.sh', ROOT / 'scripts/benchmark_cluster.sh',
          *sorted((ROOT / 'scripts/cluster').glob('*.sh'))]

# Stands in for setup.sh, which installs: the package is the one under test, the output goes to a folder of the test
SET_UP = '''
repo={root}
set_up() {{ :; }}
die() {{ echo "$*" >&2; exit 1; }}
sss-gluon() {{ "{python}" {program} "$@"; }}
'''
# Imports and figures take most of the time of a small run. So only the networks without factors get figures and a
# process of their own here, as every run does in use; the others share the process of the sweep.
ONE_PROCESS = '''
import sys
from sss_gluon import timing
from sss_gluon.cli import main, steps
from sss_gluon.report import figures
from sss_gluon.sweep import execute

process = execute._StepRunner.run


def run(self, arguments):
    return process(self, arguments) if '-dense' in arguments[-1] else (steps.main(*arguments), 'see above')


timing.AT_MOST, execute._StepRunner.run, figures.draw = 0.0, run, str
sys.exit(main(sys.argv[1:]))
'''


def test_every_table_and_figure_has_a_script_and_a_plan():
    asked = {'table_imagenet', 'table_resnet_structures', 'table_comparison', 'table_cifar', 'figure_cifar_vgg',
             'figure_cifar_resnet', 'figure_cifar_resnext', 'figure_ssl', 'fashion_mnist'}
    assert asked <= set(PLANS) and all(path.is_file() for path in SCRIPTS.values())


@pytest.mark.parametrize('test', CLAIMS + REPEATS)
def test_tests_that_are_named_exist(test):
    path, _, name = test.partition('::')
    assert f'def {name.partition("[")[0]}' in (ROOT / 'tests' / path).read_text('utf-8')


@pytest.mark.parametrize('name', SCRIPTS)
def test_scripts_are_thin_and_say_what_they_cost(name):
    lines = SCRIPTS[name].read_text('utf-8').splitlines()
    assert len(lines) <= 10 and lines[0] == '#!/usr/bin/env bash' and 'set -euo pipefail' in lines
    comment = ' '.join(line for line in lines if line.startswith('# '))
    assert re.search('measured', comment) and f'bash scripts/{name}.sh' in comment
    title = re.search(rf'reproduce {name} "([^"]+)" "\$@"$', lines[-1])
    assert title, lines[-1]


@pytest.mark.parametrize('script', [*SCRIPTS.values(), *OTHERS], ids=lambda p: p.stem)
def test_scripts_are_valid(script):
    assert subprocess.run(['bash', '-n', str(script)]).returncode == 0


def run(name, folder, *arguments):
    """Run the script of a plan in a copy of scripts/ whose set-up installs nothing."""
    return run_script(name, folder, *arguments, '--runs', str(folder / 'runs'))


def run_script(name, folder, *arguments):
    scripts = folder / 'scripts'
    scripts.mkdir(parents=True, exist_ok=True)
    for part in (f'{name}.sh', 'reproduce.sh'):
        (scripts / part).write_text((ROOT / 'scripts' / part).read_text('utf-8'), 'utf-8')
    (scripts / 'one_process.py').write_text(ONE_PROCESS, 'utf-8')
    program = f'"{scripts}/one_process.py"' if '--smoke' in arguments else '-m sss_gluon.cli'
    (scripts / 'setup.sh').write_text(SET_UP.format(root=ROOT, python=sys.executable, program=program), 'utf-8')
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH', '')]))
    environment = dict(os.environ, PYTHONPATH=path, OMP_NUM_THREADS='1')
    return subprocess.run(['bash', str(scripts / f'{name}.sh'), *arguments],
                          env=environment, capture_output=True, text=True)


@pytest.fixture(scope='session')
def smoke_folder(once):
    """Where the runs of all scripts go."""
    return once('smoke', lambda folder: None)


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path):
    done = run('figure_cifar_vgg', tmp_path, '--dry-run', 'seed=[3]')
    assert done.returncode == 0, done.stderr
    assert re.search(r'^cifar10-vgg16-neuron-gamma0.001-seed3 +new +240 ', done.stdout, re.MULTILINE)
    assert not (tmp_path / 'runs').exists()


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize('name', SCRIPTS)
def test_every_script_runs_with_smoke_and_writes_its_report(name, smoke_folder):
    """Side by side. Plans that share runs may meet: they do not do the same work twice."""
    done = run(name, smoke_folder, '--smoke')
    assert done.returncode == 0, f'{done.stdout[-2000:]}\n{done.stderr[-2000:]}'
    plan = load_plan(PLANS[name], smoke_folder / 'runs', smoke=True)
    assert {progress(run).text for run in plan.runs} == {'finished'}
    assert 'failed' in done.stdout and ' 0 failed' in done.stdout
    for suffix in ('html', 'csv', 'md', 'png', 'svg'):
        assert list((plan.folder / 'report').rglob(f'*.{suffix}')), suffix
    if name == EVERY_METHOD:
        assert {run.config.method for run in plan.runs} == set(METHODS)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_benchmark_of_a_cluster_runs_with_two_workers_and_writes_its_page(tmp_path):
    out = tmp_path / 'out'
    done = run_script('benchmark_cluster', tmp_path, '--quick', '--out', str(out))
    assert done.returncode == 0, f'{done.stdout[-2000:]}\n{done.stderr[-2000:]}'
    assert {path.stem for path in out.glob('*.csv')} == {
        'resnet50-resnet26', 'resnext50_32x4d-group', 'resnet50-2x1', 'resnext50_32x4d-2x1'}
    page = (out / 'bench.html').read_text('utf-8')
    assert page.count('<svg role="img"') == 4 and 'Scaling' in page and 'Not measured' not in page
    assert done.stdout.splitlines()[-1] == f'the page: {out}/bench.html'


def test_the_benchmark_of_a_cluster_refuses_what_it_does_not_know(tmp_path):
    for arguments, words in ((['--device', 'gpu0'], '--device is not an option'), (['--out'], '--out needs a value')):
        done = run_script('benchmark_cluster', tmp_path, *arguments)
        assert done.returncode == 1 and words in done.stderr and not done.stdout


# Programs in the place of those of a cluster.
PROGRAMS = {
    'sss-gluon': 'printf "%s\\n" "$@"; exit "${STATUS:-0}"',
    'srun': 'shift; exec "$@"',
    'scontrol': 'case $1 in show) echo n1 && echo n2 ;; requeue) echo requeued ;; esac',
}
SLURM = dict(SLURM_NODEID='1', SLURM_NNODES='2', SLURM_JOB_ID='45', SLURM_JOB_NODELIST='n[1-2]')
LAUNCHED = ['launch', '--node-rank', '1', '--num-nodes', '2', '--scheduler', 'n1:20045', '--logs',
            'logs/45', 'train', 'a.yaml', 'x=a b']
CLUSTER = {     # script: arguments, environment, what it prints, exit status
    'array': ('slurm_array', ['plan.yaml', '--data-root', 'a b'], {},
              ['sweep', 'plan.yaml', '--data-root', 'a b', '--devices', 'gpu0'], 0),
    'job': ('slurm_train', ['a.yaml', 'x=a b'], SLURM, LAUNCHED, 0),
    'job, stopped': ('slurm_train', ['a.yaml', 'x=a b'], dict(SLURM, STATUS='143'),
                     LAUNCHED + ['stopped and saved', 'requeued'], 143),
    'job, failed': ('slurm_train', ['a.yaml', 'x=a b'], dict(SLURM, STATUS='2'), LAUNCHED + ['requeued'], 2),
    'job, failed often': ('slurm_train', ['a.yaml', 'x=a b'], dict(SLURM, STATUS='2', SLURM_RESTART_COUNT='3'),
                          LAUNCHED, 2),
    'ssh': ('ssh_train', ['hosts', 'a.yaml', 'x=a b'], {},
            ['launch', '--hosts', 'hosts', '--restarts', '3', 'train', 'a.yaml', 'x=a b'], 0),
    'job that measures': ('slurm_train', ['bench', '--model', 'a b'], SLURM,
                          LAUNCHED[:9] + ['bench', '--model', 'a b'], 0),
    'ssh that measures': ('ssh_train', ['hosts', 'bench', '--model', 'resnet50'], {},
                          ['launch', '--hosts', 'hosts', '--restarts', '3', 'bench', '--model', 'resnet50'], 0),
    'horovod that measures': ('horovod_train', ['4', 'bench', '--model', 'resnet50'], dict(BACKEND='mpirun'),
                              ['launch', '--workers', '4', '--backend', 'mpirun', '--restarts', '3', 'bench',
                               '--model', 'resnet50'], 0),
    'horovod': ('horovod_train', ['4', 'a.yaml'], {},
                ['launch', '--workers', '4', '--backend', 'horovodrun', '--restarts', '3', 'train', 'a.yaml'], 0),
    'horovod on hosts': ('horovod_train', ['4', 'a.yaml'], dict(HOSTS='h', BACKEND='mpirun'),
                         ['launch', '--workers', '4', '--hosts', 'h', '--backend', 'mpirun', '--restarts', '3', 'train',
                          'a.yaml'], 0),
}


@pytest.mark.parametrize('case', CLUSTER)
def test_scripts_for_clusters_hand_their_arguments_on(case, tmp_path):
    name, arguments, environment, said, status = CLUSTER[case]
    scripts, programs = tmp_path / 'scripts/cluster', tmp_path / '.venv/bin'
    scripts.mkdir(parents=True)
    programs.mkdir(parents=True)
    shutil.copy(str(ROOT / f'scripts/cluster/{name}.sh'), str(scripts))
    for program, text in PROGRAMS.items():
        (programs / program).write_text(f'#!/usr/bin/env bash\n{text}\n', 'utf-8')
        (programs / program).chmod(0o755)
    done = subprocess.run(['bash', str(scripts / f'{name}.sh'), *arguments], capture_output=True, text=True,
                          env=dict(os.environ, SLURM_SUBMIT_DIR=str(tmp_path), **environment))
    assert done.stdout.splitlines() == said and done.returncode == status, done.stderr
