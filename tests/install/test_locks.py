"""The locks pin every requirement within its range, for every version of Python."""
import os
import re

import pytest
from installation import LOCKS, PYTHONS, REPO, canonical, lock_name, pinned, requirements
from packaging.requirements import Requirement
from packaging.version import Version

pytestmark = pytest.mark.skipif(os.name != 'posix', reason='the scripts are bash')
NOT_LOCKED = {'mxnet',          # SSS_GLUON_MXNET chooses the build
              'horovod'}        # built on the spot


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
