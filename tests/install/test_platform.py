"""sss_gluon/_platform.py: aliases of NumPy, and one line for whatever stops MXNet."""
import importlib.util
import os
import sys
import types
import warnings

import pytest
from installation import CPU, GPU, REPO, run

pytestmark = pytest.mark.skipif(os.name != 'posix', reason='the scripts are bash')
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


def import_platform(before='', mxnet=None, numpy=None, folder=None, after=''):
    """Import the module in a new process, with stubs for the modules given as source."""
    for name, text in (('mxnet', mxnet), ('numpy', numpy)):
        if text is not None:
            (folder / f'{name}.py').write_text(text)
    code = f'import sys, re, runpy\n{before}\nrunpy.run_path({str(PLATFORM)!r})\n{after}'
    return run([sys.executable, '-W', 'error::DeprecationWarning:__main__', '-W', 'error::FutureWarning',
                '-c', code], PYTHONPATH=folder)


def test_the_real_numpy_has_the_aliases_when_mxnet_is_imported(tmp_path):
    done = import_platform(mxnet='import numpy\nprint(numpy.bool, numpy.int, numpy.float)\n', folder=tmp_path)
    assert (done.stdout, done.stderr) == ("<class 'bool'> <class 'int'> <class 'float'>\n", '')


SLOW_TO_IMPORT = '''
try:
    import sklearn.base
    print('scikit-learn')
except ImportError:
    print('no scikit-learn')
from scipy import stats
import scipy.stats as same
print(same is stats, getattr(stats, 'VALUE', 'not yet'))
import sys
sys.stats = stats
'''
USED_LATER = '''
import sys
import sklearn.base
import scipy.stats
print(sys.stats.VALUE, scipy.stats.VALUE)
'''


@pytest.mark.parametrize('before, seen', [('', ['no scikit-learn', 'True not yet']),
                                          ('import sklearn, scipy.stats', ['scikit-learn', 'True 7'])])
def test_what_is_slow_to_import_waits_until_it_is_used(tmp_path, before, seen):
    for name, text in (('sklearn/__init__', ''), ('sklearn/base', ''), ('scipy/__init__', ''),
                       ('scipy/stats', 'VALUE = 7')):
        (tmp_path / f'{name}.py').parent.mkdir(exist_ok=True)
        (tmp_path / f'{name}.py').write_text(text)
    done = import_platform(before, mxnet=SLOW_TO_IMPORT, folder=tmp_path, after=USED_LATER)
    assert (done.stdout.splitlines(), done.stderr) == ([*seen, '7 7'], '')
    done = import_platform(before, mxnet=SLOW_TO_IMPORT + 'raise OSError', folder=tmp_path, after=USED_LATER)
    assert done.stdout.splitlines() == seen and done.returncode == 1


def test_the_real_mxnet_is_imported_without_it():
    code = 'import sss_gluon, sys, mxnet; print({"sklearn", "scipy.stats"} & set(sys.modules)); ' \
           'print(mxnet.contrib.quantization.stats.norm.cdf(0.0))'
    done = run([sys.executable, '-c', code], PYTHONPATH=REPO)
    assert done.stdout.splitlines() == ['set()', '0.5'], done.stderr


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
