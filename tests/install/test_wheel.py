"""What the wheel holds and requires, and which build of MXNet pip keeps.

Nothing here needs a network: distributions are empty wheels made on the spot.
"""
import os
import re
import shutil
import sys
import zipfile

import pytest
from installation import CPU, GPU, REPO, canonical, pinned, read, requirements, run

pytestmark = pytest.mark.skipif(os.name != 'posix', reason='the scripts are bash')


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
