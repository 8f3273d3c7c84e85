"""What quickstart.sh and test.sh do on a good and on a wrong machine.

Nothing is installed: a stub named python3 writes down what it was asked to do.
"""
import os
import re
import shutil

import pytest
from installation import CPU, GPU, PYTHONS, REPO, entries, lock_name, pinned, run

pytestmark = pytest.mark.skipif(os.name != 'posix', reason='the scripts are bash')


# Stands for python3, .venv/bin/python and the commands beside it: notes its arguments, fails where told to.
STUB = r'''#!/bin/bash
printf '%s %s\n' "${0##*/}" "$*" >>"$STUB_LOG"
if [ -n "$STUB_FAIL" ] && [[ "$*" == *"$STUB_FAIL"* ]]; then echo "ImportError: $STUB_SAYS" >&2; exit 1; fi
for file in "$@"; do case $file in /dev/fd/*) cat "$file" >"$STUB_LOG.tools" ;; esac; done
case "$*" in
    *version_info*) printf '%s\n/usr/bin/python\n' "$STUB_VERSION" ;;
    *find_spec*) echo "$STUB_MXNET" ;;
    *sysconfig*) dirname "$0" ;;
esac
'''
STUB_VENV = r'''
if [[ "$*" == "-m venv "* ]]; then
    mkdir -p "${!#}/bin" && for name in python sss-gluon ruff mypy; do cp "$0" "${!#}/bin/$name"; done
fi
'''


class Machine:
    """A clone in a folder with a space in its name, and a stub as its Python."""

    def __init__(self, folder):
        self.clone = folder / 'a clone'
        self.log = folder / 'log'
        self.tools = folder / 'log.tools'
        self.bin = folder / 'bin'
        self.bin.mkdir(parents=True)
        shutil.copytree(str(REPO / 'scripts'), str(self.clone / 'scripts'))
        for name in ('setup.py', 'pyproject.toml'):
            shutil.copy(str(REPO / name), str(self.clone))
        (self.clone / 'runs' / 'quickstart').mkdir(parents=True)
        (self.clone / 'runs' / 'quickstart' / 'loss.png').touch()
        self.python = self.bin / 'python3'
        # setup.sh builds on the interpreter behind the link, which is the stub again
        self.python.write_text(STUB.replace('/usr/bin/python', str(self.python)) + STUB_VENV)
        self.python.chmod(0o755)

    def run(self, script='quickstart.sh', version='3.11.7', fail='', says='', arguments=(), **variables):
        """Return the finished process; its .calls are the stub's command lines."""
        self.log.write_text('')
        # With id saying 1000, test.sh does not reach for apt-get.
        (self.bin / 'id').write_text('#!/bin/sh\necho 1000\n')
        (self.bin / 'id').chmod(0o755)
        done = run(['bash', self.clone / 'scripts' / script, *arguments], PATH=f'{self.bin}:{os.environ["PATH"]}',
                   STUB_LOG=self.log, STUB_VERSION=version, STUB_FAIL=fail, STUB_SAYS=says,
                   **dict({'STUB_MXNET': ''}, **variables))
        done.calls = self.log.read_text().splitlines()
        done.installs = [c for c in done.calls if '-m pip install' in c]
        return done


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.mark.parametrize('script', ['quickstart.sh', 'test.sh'])
@pytest.mark.parametrize('version', ['2.7.18', '3.7.16', '3.13.0', '4.0.0'])
def test_a_wrong_python_is_refused_in_one_line(machine, script, version):
    done = machine.run(script, version)
    assert done.returncode == 1
    line, = done.stderr.splitlines()
    for part in (f'Python {version}', '3.8 to 3.12', 'MXNet 1.9.1', 'PYTHON=', f'scripts/{script}'):
        assert part in line
    assert not (machine.clone / '.venv').exists()


@pytest.mark.parametrize('version', [p + '.0' for p in PYTHONS])
def test_a_right_python_installs_once(machine, version):
    first = machine.run('quickstart.sh', version)
    assert first.returncode == 0, first.stderr
    tools, lock, package = first.installs
    assert lock.endswith(f'--require-hashes -r {machine.clone}/scripts/locks/{lock_name(version)}')
    assert package.endswith(f' {CPU} -e {machine.clone}') and 'hashes' not in package
    pins = pinned(version[:-2])
    assert '--require-hashes -r /dev/fd/' in tools
    assert entries(machine.tools.read_text()) == [(name, pins[name]) for name in ('pip', 'setuptools', 'wheel')]
    again = machine.run('quickstart.sh', version)
    assert (again.returncode, again.installs) == (0, [])


def test_pip_is_quiet_and_heard_when_it_fails(machine):
    (machine.bin / 'lines').write_text(''.join(f'line {i}\n' for i in range(100)))
    log = machine.clone / '.venv' / '.sss_gluon' / 'pip.log'
    failed = machine.run(fail='pip install --disable-pip-version-check', says='no wheel')
    assert failed.returncode == 1 and 'ImportError: no wheel' in failed.stderr
    assert str(log) in failed.stderr.splitlines()[-1] and 'no wheel' in log.read_text()
    done = machine.run(says='much')
    assert done.returncode == 0 and 'Making' not in done.stderr and 'ImportError' not in done.stdout + done.stderr


def test_quickstart_runs_the_whole_chain(machine):
    done = machine.run()
    commands = [c.split(' ', 1)[1] for c in done.calls if c.startswith('sss-gluon ')]
    assert [c.split()[0] for c in commands] == ['train', 'train', 'prune', 'evaluate']
    assert max(len(line) for line in done.stdout.splitlines() if 'sss-gluon ' in line) <= 80
    shown = re.sub(r' \\\n +', ' ', done.stdout).splitlines()
    assert [line for line in shown if line.startswith('+ ')] == [f'+ sss-gluon {c}' for c in commands]
    assert [line for line in shown if line][-2] == str(machine.clone / 'runs' / 'quickstart' / 'loss.png')
    assert shown[-1] == f'+ sss-gluon {commands[-1]}'       # whose closing lines say what it was worth
    for config in re.findall(r'configs/\S+', ' '.join(commands)):
        assert (REPO / config).is_file()


def test_the_test_packages_are_added_once(machine):
    machine.run('quickstart.sh')
    first = machine.run('test.sh')
    assert first.returncode == 0, first.stderr
    install, = first.installs
    assert install.endswith(f'--require-hashes -r {machine.clone}/scripts/locks/py311-test.txt')
    assert {'ruff check', 'mypy'} <= {call.strip() for call in first.calls}
    assert first.calls[-1].startswith('python -m pytest ')
    for script in ('test.sh', 'quickstart.sh'):
        assert machine.run(script).installs == []


@pytest.mark.parametrize('arguments, fast', [
    ('', True), ('-x --durations=9', True), ('--maxfail 3', True), ('--full', False), ('--full -x', False),
    ('tests/test_cli.py', False), ('-k resume', False), ('-m launch', False),
])
def test_slow_tests_are_left_out_where_nobody_chose(machine, arguments, fast):
    machine.run('test.sh')
    last = machine.run('test.sh', arguments=arguments.split()).calls[-1]
    assert last.startswith('python -m pytest -n ') and ('-m not slow or claim' in last) == fast
    assert last.endswith(arguments.replace('--full', '').strip())


@pytest.mark.parametrize('file, installs', [
    ('setup.py', 4), ('scripts/locks/py311.txt', 4),    # the packages of the tests follow those of the package
    ('scripts/locks/py311-test.txt', 1), ('scripts/locks/py312.txt', 0), ('scripts/quickstart.sh', 0),
])
def test_only_a_changed_requirement_installs_again(machine, file, installs):
    machine.run('test.sh')
    with (machine.clone / file).open('a') as stream:
        stream.write('# changed\n')
    (machine.clone / '.venv' / 'kept').touch()
    done = machine.run('test.sh')
    assert done.returncode == 0
    assert len(done.installs) == installs
    assert (machine.clone / '.venv' / 'kept').exists()


def test_an_interrupted_installation_starts_anew(machine):
    done = machine.run(fail='--no-build-isolation --require-hashes')
    assert done.returncode == 1 and 'installation failed' in done.stderr
    (machine.clone / '.venv' / 'half').touch()
    again = machine.run()
    assert again.returncode == 0 and len(again.installs) == 3
    assert not (machine.clone / '.venv' / 'half').exists()


@pytest.mark.parametrize('change', ['python', 'mxnet', 'moved'])
def test_another_python_mxnet_or_folder_makes_a_new_environment(machine, change):
    machine.run()
    (machine.clone / '.venv' / 'old').touch()
    if change == 'moved':
        machine.clone = machine.clone.rename(machine.clone.with_name('moved clone'))
    done = machine.run(version='3.12.1' if change == 'python' else '3.11.7',
                       SSS_GLUON_MXNET=GPU if change == 'mxnet' else None)
    assert done.returncode == 0 and len(done.installs) == 3
    assert f' {GPU if change == "mxnet" else CPU} -e ' in done.installs[2]
    assert not (machine.clone / '.venv' / 'old').exists()


def test_an_environment_of_the_users_own_is_left_alone(machine):
    (machine.clone / '.venv').mkdir()
    (machine.clone / '.venv' / 'theirs').touch()
    done = machine.run()
    assert done.returncode == 1 and 'was not made by this script' in done.stderr
    assert [p.name for p in (machine.clone / '.venv').iterdir()] == ['theirs']


def test_mxnet_from_elsewhere_is_linked_and_none_is_installed(machine):
    done = machine.run(SSS_GLUON_MXNET='none', STUB_MXNET='/opt/gpu/site-packages')
    assert done.returncode == 0, done.stderr
    assert not any('mxnet==' in call for call in done.installs)
    link = machine.clone / '.venv' / 'bin' / 'mxnet-elsewhere.pth'
    assert link.read_text() == '/opt/gpu/site-packages\n'


@pytest.mark.parametrize('failing, expected, variables', [
    ('ensurepip', 'apt-get install python3-venv', {}),
    ('find_spec', 'SSS_GLUON_MXNET=none', {'SSS_GLUON_MXNET': 'none'}),
    ('import sss_gluon', 'sss_gluon: apt-get install libgomp1', {}),
])
def test_what_is_missing_is_named_in_the_last_line(machine, failing, expected, variables):
    done = machine.run(fail=failing, says='sss_gluon: apt-get install libgomp1', **variables)
    assert done.returncode == 1
    assert expected in done.stderr.splitlines()[-1]
    assert not any(c.startswith('sss-gluon') for c in done.calls)


def test_a_missing_library_does_not_cost_another_installation(machine):
    assert machine.run(fail='import sss_gluon').returncode == 1
    assert machine.run(fail='import sss_gluon').returncode == 1
    again = machine.run()
    assert (again.returncode, again.installs) == (0, [])


def test_a_python_that_is_not_there(machine):
    done = machine.run(PYTHON='/nowhere/python3.11')
    assert done.returncode == 1
    assert "no '/nowhere/python3.11' found" in done.stderr
