"""The package as wheels, built from a copy of what a build reads."""
import shutil
import sys

import pytest
from installation import REPO, run


@pytest.fixture(scope='session')
def source(tmp_path_factory):
    """A copy of what a build reads, so that nothing is left behind in the clone."""
    folder = tmp_path_factory.mktemp('source') / 'a clone'
    shutil.copytree(str(REPO / 'sss_gluon'), str(folder / 'sss_gluon'),
                    ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('setup.py', 'pyproject.toml', 'README.md', 'LICENSE'):
        shutil.copy(str(REPO / name), str(folder))
    return folder


@pytest.fixture(scope='session')
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
