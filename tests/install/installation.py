"""Commands away from the settings of pip, what a wheel requires, and what the locks pin."""
import os
import re
import subprocess
import zipfile
from pathlib import Path

from packaging.requirements import Requirement

REPO = Path(__file__).resolve().parents[2]
PYTHONS = ('3.8', '3.9', '3.10', '3.11', '3.12')
CPU, GPU = 'mxnet==1.9.1', 'mxnet-cu117==1.9.1'
LOCKS = REPO / 'scripts' / 'locks'
ENTRY = re.compile(r'([a-z0-9][a-z0-9.-]*)==([^ ;]+)((?: --hash=sha256:[0-9a-f]{64})+)')


def run(command, cwd=None, **variables):
    """Run a command away from this process's pip settings; a variable given as None is removed."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(('PIP_', 'SSS_GLUON_')) and k != 'PYTHON'}
    env.update(PIP_CONFIG_FILE=os.devnull, PIP_DISABLE_PIP_VERSION_CHECK='1',
               **{k: str(v) for k, v in variables.items() if v is not None})
    return subprocess.run([str(c) for c in command], cwd=str(cwd or '/'), env=env, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True, stdin=subprocess.DEVNULL)


def read(wheel, ending):
    with zipfile.ZipFile(str(wheel)) as archive:
        name, = [n for n in archive.namelist() if n.endswith(ending)]
        return archive.read(name).decode()


def requirements(wheel):
    lines = read(wheel, '.dist-info/METADATA').splitlines()
    return [Requirement(line.split(':', 1)[1].strip()) for line in lines if line.startswith('Requires-Dist:')]


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
