"""Installation: what is asked for, what is shipped, what the two scripts do on a good and on a wrong machine.

Nothing here needs a network: distributions are empty wheels made on the spot, and where a script would
install, a stub named python3 writes down what it was asked to do.
"""
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import types
import warnings
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

REPO = Path(__file__).resolve().parent.parent
PYTHONS = ('3.8', '3.9', '3.10', '3.11', '3.12')
CPU, GPU = 'mxnet==1.9.1', 'mxnet-cu117==1.9.1'

pytestmark = pytest.mark.skipif(os.name != 'posix', reason='the scripts are bash')


# --- building and installing the package --------------------------------------------------------------------

def run(command, cwd=None, **variables):
    """Run a command away from this process's pip settings; a variable given as None is removed."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(('PIP_', 'SSS_GLUON_')) and k != 'PYTHON'}
    env.update(PIP_CONFIG_FILE=os.devnull, PIP_DISABLE_PIP_VERSION_CHECK='1',
               **{k: str(v) for k, v in variables.items() if v is not None})
    return subprocess.run([str(c) for c in command], cwd=str(cwd or '/'), env=env, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True, stdin=subprocess.DEVNULL)


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """A copy of what a build reads, so that nothing is left behind in the clone."""
    folder = tmp_path_factory.mktemp('source') / 'a clone'
    shutil.copytree(str(REPO / 'sss_gluon'), str(folder / 'sss_gluon'),
                    ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('setup.py', 'pyproject.toml', 'README.md', 'LICENSE'):
        shutil.copy(str(REPO / name), str(folder))
    return folder


@pytest.fixture(scope='module')
def build(source, tmp_path_factory):
    """build(SSS_GLUON_MXNET) -> the path of the wheel, built once for each value."""
    pytest.importorskip('wheel', reason='building needs wheel, which scripts/test.sh installs')
    built = {}

    def build(wanted):
        if wanted not in built:
            out = tmp_path_factory.mktemp('wheel')
            code = f'from setuptools import build_meta; build_meta.build_wheel({str(out)!r})'
            done = run([sys.executable, '-c', code], cwd=source, SSS_GLUON_MXNET=wanted)
            assert done.returncode == 0, done.stderr
            built[wanted], = out.glob('*.whl')
        return built[wanted]
    return build


def read(wheel, ending):
    with zipfile.ZipFile(str(wheel)) as archive:
        name, = [n for n in archive.namelist() if n.endswith(ending)]
        return archive.read(name).decode()


def requirements(wheel):
    lines = read(wheel, '.dist-info/METADATA').splitlines()
    return [Requirement(line.split(':', 1)[1].strip()) for line in lines if line.startswith('Requires-Dist:')]


@pytest.mark.parametrize('wanted, expected', [
    (None, [CPU]), ('', [CPU]), ('none', []), (GPU, [GPU]), ('mxnet-cu112', ['mxnet-cu112']),
])
def test_the_variable_decides_which_mxnet_is_required(build, wanted, expected):
    found = [str(r) for r in requirements(build(wanted)) if r.name.startswith('mxnet')]
    assert found == expected


@pytest.mark.parametrize('wanted', ['gpu', 'cu117', 'mxnetcpu==1', '1.9.1'])
def test_a_variable_that_names_no_mxnet_is_refused(source, wanted):
    done = run([sys.executable, 'setup.py', '--version'], cwd=source, SSS_GLUON_MXNET=wanted)
    assert done.returncode != 0
    assert f"SSS_GLUON_MXNET='{wanted}'" in done.stderr and GPU in done.stderr


def write_wheel(folder, name, version, files=()):
    """An installable distribution that holds the given (path, text) files and requires nothing."""
    stem = f'{name.replace("-", "_")}-{version}'
    info = f'{stem}.dist-info'
    files = list(files) + [
        (f'{info}/METADATA', f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n'),
        (f'{info}/WHEEL', 'Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n'),
    ]
    record = ''.join(f'{path},,\n' for path, _ in files) + f'{info}/RECORD,,\n'
    with zipfile.ZipFile(str(folder / f'{stem}-py3-none-any.whl'), 'w') as archive:
        for path, text in files + [(f'{info}/RECORD', record)]:
            archive.writestr(path, text)


@pytest.mark.parametrize('wanted, before, expected', [
    (None, None, 'mxnet'),
    (GPU, None, 'mxnet-cu117'),
    ('none', 'mxnet-cu117', 'mxnet-cu117'),
])
def test_pip_keeps_a_gpu_build(build, tmp_path, wanted, before, expected):
    wheel = build(wanted)
    shutil.copy(str(wheel), str(tmp_path))
    pins = pinned(f'{sys.version_info[0]}.{sys.version_info[1]}')
    for requirement in requirements(wheel):
        if requirement.name.startswith('mxnet'):
            continue
        if not requirement.marker or requirement.marker.evaluate({'extra': ''}):
            write_wheel(tmp_path, requirement.name, pins[canonical(requirement.name)])
    for name in ('mxnet', 'mxnet-cu117'):       # both provide the module, as the real ones do
        write_wheel(tmp_path, name, '1.9.1', [('mxnet/__init__.py', f'build = {name!r}\n')])
    python = tmp_path / 'env' / 'bin' / 'python'
    assert run([sys.executable, '-m', 'venv', '--without-pip', tmp_path / 'env']).returncode == 0
    for package in filter(None, (before, 'sss_gluon')):
        done = run([sys.executable, '-m', 'pip', '--python', python, 'install', '--no-index',
                    '--find-links', tmp_path, package])
        assert done.returncode == 0, done.stderr
    done = run([python, '-c', 'import mxnet; from importlib.metadata import distributions\n'
                'print(mxnet.build, *[d.metadata["Name"] for d in distributions()])'])
    build_found, *installed = done.stdout.split()
    assert build_found == expected
    assert [name for name in installed if name.startswith('mxnet')] == [expected]
    assert (tmp_path / 'env' / 'bin' / 'sss-gluon').is_file()


def test_the_wheel_holds_every_file_of_the_package(build, source):
    with zipfile.ZipFile(str(build(None))) as archive:
        shipped = {n for n in archive.namelist() if n.startswith('sss_gluon/')}
    wanted = {p.relative_to(source).as_posix() for p in (source / 'sss_gluon').rglob('*') if p.is_file()}
    assert shipped == {name for name in wanted if not name.endswith('.md')}
    assert 'Apache License' in read(build(None), 'LICENSE')


def test_the_wheel_says_what_it_is(build):
    metadata = read(build(None), '.dist-info/METADATA').splitlines()
    source = (REPO / 'sss_gluon' / '__init__.py').read_text(encoding='utf-8')
    version = re.search(r"^__version__ = '(.+)'", source, re.MULTILINE).group(1)
    assert f'Version: {version}' in metadata
    python, = [line.split(': ')[1] for line in metadata if line.startswith('Requires-Python: ')]
    assert set(python.split(',')) == {'>=3.8', '<3.13'}
    assert 'sss-gluon = sss_gluon.cli:main' in read(build(None), 'entry_points.txt')


# --- the locks ----------------------------------------------------------------------------------------------

LOCKS = REPO / 'scripts' / 'locks'
ENTRY = re.compile(r'([a-z0-9][a-z0-9.-]*)==([^ ;]+)((?: --hash=sha256:[0-9a-f]{64})+)')
NOT_LOCKED = {'mxnet',          # SSS_GLUON_MXNET chooses the build
              'horovod'}        # built on the spot


def canonical(name):
    return re.sub(r'[-_.]+', '-', name).lower()


def entries(text):
    """[(name, version)] of a lock; every line has to be a pin with hashes."""
    found = []
    for line in re.sub(r' *\\\n *', ' ', text).splitlines():
        if line and not line.lstrip().startswith('#'):
            entry = ENTRY.fullmatch(line)
            assert entry, line
            found.append((entry[1], entry[2]))
    return found


def lock_name(python, ending=''):
    return f'py{"".join(python.split(".")[:2])}{ending}.txt'


def pinned(python, *endings):
    """{name: version} that the locks hold for one version of Python."""
    found = [e for ending in endings or ('',) for e in entries((LOCKS / lock_name(python, ending)).read_text())]
    pins = dict(found)
    assert len(pins) == len(found), f'twice for {python}: {found}'
    return pins


def wanted_on(python, found, *extras):
    environments = [{'python_version': python, 'python_full_version': python + '.0', 'extra': e} for e in ('', *extras)]
    return [r for r in found if not r.marker or any(r.marker.evaluate(e) for e in environments)]


@pytest.mark.parametrize('python', PYTHONS)
def test_every_requirement_is_locked_within_its_range(build, python):
    pins = pinned(python)
    script = (REPO / 'scripts' / 'setup.sh').read_text()
    pins['mxnet'] = re.search(r'SSS_GLUON_MXNET:-mxnet==([\d.]+)', script).group(1)
    found = requirements(build(None))
    assert len(wanted_on(python, found)) >= 12
    for requirement in wanted_on(python, found):
        assert requirement.specifier.contains(pins[canonical(requirement.name)]), f'{requirement} on Python {python}'
    added = pinned(python, '-test')
    assert not set(pins) & set(added)           # so that the tests never run with other versions than a user has
    pins.update(added)
    for requirement in wanted_on(python, found, 'test', 'onnx', 'tensorboard'):
        assert requirement.specifier.contains(pins[canonical(requirement.name)]), f'{requirement} on Python {python}'
    for extra in ('test', 'onnx', 'tensorboard'):
        assert len(wanted_on(python, found, extra)) > len(wanted_on(python, found)), extra


@pytest.mark.parametrize('python', PYTHONS)
def test_the_lock_has_what_else_is_needed(python):
    pins = pinned(python)
    for line in (LOCKS / 'extra.in').read_text(encoding='utf-8').splitlines():
        requirement = Requirement(line) if line and not line.startswith('#') else None
        if requirement and wanted_on(python, [requirement]):
            assert requirement.specifier.contains(pins[requirement.name]), f'{requirement} on Python {python}'
    for requirement in map(Requirement, ('numpy>1.16,<2', 'requests>=2.20,<3', 'graphviz>=0.8.1,<0.9')):    # of MXNet
        assert requirement.specifier.contains(pins[requirement.name]), f'{requirement} on Python {python}'
    assert not {*NOT_LOCKED, 'opencv-python'} & set(pinned(python, '', '-test'))


@pytest.mark.parametrize('package', sorted(set(pinned(PYTHONS[0])) & set(pinned(PYTHONS[-1]))))
def test_an_old_python_does_not_hold_back_a_new_one(package):
    """Resolved one by one, a newer Python never has an older version."""
    versions = [Version(pinned(python)[package]) for python in PYTHONS if package in pinned(python)]
    assert versions == sorted(versions)


def test_the_locks_name_no_place():
    """No index, host or path of the machine they were made on; nothing else lies there."""
    files = {lock_name(python, ending) for python in PYTHONS for ending in ('', '-test')}
    assert {p.name for p in LOCKS.iterdir()} == files | {'extra.in', 'uv.toml'}
    for file in files:
        lines = (LOCKS / file).read_text(encoding='utf-8').splitlines()
        assert lines[1].split() == ['#', 'bash', 'scripts/lock.sh']
        for line in lines:
            assert not re.search(r'://|(^|[\s=])(/|--(?!hash=))', line), line


# --- the scripts --------------------------------------------------------------------------------------------

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


def test_quickstart_runs_the_whole_chain(machine):
    done = machine.run()
    commands = [c.split(' ', 1)[1] for c in done.calls if c.startswith('sss-gluon ')]
    assert [c.split()[0] for c in commands] == ['train', 'train', 'prune', 'evaluate']
    shown = done.stdout.splitlines()
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


# --- sss_gluon/_platform.py ---------------------------------------------------------------------------------

PLATFORM = REPO / 'sss_gluon' / '_platform.py'


def load_platform():
    """The module again, under another name, with the real NumPy and MXNet."""
    spec = importlib.util.spec_from_file_location('platform_again', str(PLATFORM))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def platform_module():
    return load_platform()


def numpy_of(version, **names):
    numpy = types.ModuleType('numpy')
    numpy.__version__ = version
    numpy.__dict__.update(names)
    return numpy


def test_missing_aliases_are_set(platform_module):
    numpy = numpy_of('1.26.4')
    platform_module.set_numpy_aliases(numpy)
    assert (numpy.bool, numpy.int, numpy.float) == (bool, int, float)


def test_existing_aliases_stay(platform_module):
    own = object()
    numpy = numpy_of('1.19.5', bool=own)
    platform_module.set_numpy_aliases(numpy)
    assert numpy.bool is own and numpy.int is int


@pytest.mark.parametrize('version', ['1.20.0', '1.23.5'])
def test_deprecated_aliases_are_replaced_without_a_warning(platform_module, version):
    def deprecated(name):
        warnings.warn(f'np.{name} is deprecated', DeprecationWarning, stacklevel=2)
        return {'bool': bool, 'int': int, 'float': float}[name]

    numpy = numpy_of(version, __getattr__=deprecated)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        platform_module.set_numpy_aliases(numpy)
        assert numpy.bool is bool and numpy.float is float


@pytest.mark.parametrize('version', ['2.0.0', '2.4.1', '10.0.0rc1'])
def test_numpy_2_is_refused(platform_module, version):
    with pytest.raises(ImportError, match=rf'NumPy {version}.*"numpy<2"'):
        platform_module.set_numpy_aliases(numpy_of(version))


def import_platform(before='', mxnet=None, numpy=None, folder=None):
    """Import the module in a new process, with stubs for the modules given as source."""
    for name, text in (('mxnet', mxnet), ('numpy', numpy)):
        if text is not None:
            (folder / f'{name}.py').write_text(text)
    code = f'import sys, re, runpy\n{before}\nrunpy.run_path({str(PLATFORM)!r})'
    return run([sys.executable, '-W', 'error::DeprecationWarning:__main__', '-W', 'error::FutureWarning',
                '-c', code], PYTHONPATH=folder)


def test_the_real_numpy_has_the_aliases_when_mxnet_is_imported(tmp_path):
    done = import_platform(mxnet='import numpy\nprint(numpy.bool, numpy.int, numpy.float)\n', folder=tmp_path)
    assert (done.stdout, done.stderr) == ("<class 'bool'> <class 'int'> <class 'float'>\n", '')


MISSING = "raise OSError('{}: cannot open shared object file: No such file or directory')\n"


@pytest.mark.parametrize('stubs, expected', [
    (dict(numpy="__version__ = '2.3.0'\n"), ['NumPy 2.3.0', '"numpy<2"']),
    (dict(before="sys.modules['mxnet'] = None"), ['MXNet is not installed', CPU, GPU]),
    (dict(before="import numpy; sys.modules['setuptools'] = None; sys.version_info = (3, 12)", mxnet=''),
     ['distutils', 'pip install setuptools']),
    (dict(mxnet=MISSING.format('libgomp.so.1')), ['libgomp.so.1', 'apt-get install libgomp1']),
    (dict(mxnet=MISSING.format('libquadmath.so.0')), ['apt-get install libquadmath0']),
    (dict(mxnet=MISSING.format('libcudnn.so.8')), ['libcudnn.so.8', 'LD_LIBRARY_PATH']),
    (dict(mxnet=MISSING.format('/usr/lib/libodd.so')), ['/usr/lib/libodd.so', 'install MXNet again']),
], ids=['numpy 2', 'no mxnet', 'no distutils', 'libgomp', 'libquadmath', 'cuda', 'other library'])
def test_what_stops_mxnet_is_said_in_one_line(tmp_path, stubs, expected):
    done = import_platform(folder=tmp_path, **stubs)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith('ImportError: sss_gluon: ')
    for part in expected:
        assert part in last


def test_an_error_that_is_not_ours_is_not_rewritten(tmp_path):
    done = import_platform(mxnet='import a_module_mxnet_needs\n', folder=tmp_path)
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'a_module_mxnet_needs'"
