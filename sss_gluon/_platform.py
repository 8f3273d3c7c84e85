"""Makes `import mxnet` work on the installed Python and NumPy, or says in one line why it cannot.

The package imports this module before anything else, because MXNet 1.9.1 reads names that NumPy 1.24 removed while it
is being imported. The names stay set for the whole process; a NumPy that has them is left alone.
"""
import importlib
import os
import re
import signal
import sys
from types import ModuleType


def end_at_once(number, frame) -> None:
    """Ctrl-C while the program imports: there KeyboardInterrupt prints a traceback or turns into an ImportError."""
    os.write(2, b'sss-gluon: stopped\n')
    os._exit(130)


# While `python -m sss_gluon...` imports the package, argv[0] is '-m'.
if os.path.basename((getattr(sys, 'argv', None) or [''])[0]) in ('sss-gluon', '-m') \
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, end_at_once)

import numpy as np  # noqa: E402

# The names that MXNet 1.9.1 and GluonCV 0.10.5 use and NumPy 1.24 removed.
NUMPY_ALIASES = {'bool': bool, 'int': int, 'float': float}

# Shared libraries that MXNet's wheels expect on the system, and the Debian package of each.
DEBIAN_PACKAGES = {
    'libgomp.so.1': 'libgomp1',
    'libquadmath.so.0': 'libquadmath0',
    'libstdc++.so.6': 'libstdc++6',
    'libgcc_s.so.1': 'libgcc-s1',
}


def set_numpy_aliases(numpy: ModuleType) -> None:
    """Give NumPy 1.x the aliases that MXNet needs.

    Raises
    ------
    ImportError
        NumPy 2 or newer: MXNet 1.9.1 cannot work with it.
    """
    if int(numpy.__version__.split('.')[0]) >= 2:
        raise ImportError(f'sss_gluon: MXNet 1.9.1 cannot work with NumPy {numpy.__version__}: '
                          'install an older one, `pip install "numpy<2"`')
    for name, builtin in NUMPY_ALIASES.items():
        # Not hasattr, which gives a DeprecationWarning in NumPy 1.20 to 1.23 and a FutureWarning in 1.24.
        if name not in numpy.__dict__:
            setattr(numpy, name, builtin)


class Deferred(ModuleType):
    """Stands in for a module and imports it when something of it is used."""

    def __getattr__(self, name: str) -> object:
        module = importlib.import_module(self.__name__)
        if module is self:
            raise AttributeError(f'module {self.__name__!r} has no attribute {name!r}')
        return getattr(module, name)


# MXNet imports both, which takes longer than the rest of it. scikit-learn serves only its deprecated FeedForward, which
# does without, and scipy.stats only its tests of random numbers. Both can be imported afterwards.
STAND_INS = {'sklearn': None, 'scipy.stats': Deferred('scipy.stats')}


def import_mxnet() -> None:
    """Import MXNet, and explain what is missing if that fails.

    Raises
    ------
    ImportError
        MXNet, the distutils it needs (on Python 3.12), or a shared library it needs is not installed.
    """
    if sys.version_info >= (3, 12):
        try:
            import setuptools  # noqa: F401  provides distutils, which left the standard library
        except ImportError:
            raise ImportError('sss_gluon: on Python 3.12 MXNet needs the distutils that setuptools brings: '
                              '`pip install setuptools`') from None
    role = os.environ.pop('DMLC_ROLE', None)     # see serve()
    hidden = [name for name in STAND_INS if name not in sys.modules]
    sys.modules.update((name, STAND_INS[name]) for name in hidden)      # type: ignore[misc]
    try:
        import mxnet  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != 'mxnet':
            raise
        raise ImportError('sss_gluon: MXNet is not installed: `pip install mxnet==1.9.1` for the CPU, or one '
                          'GPU build instead, such as `pip install mxnet-cu117==1.9.1`') from None
    except OSError as error:
        raise ImportError(f'sss_gluon: MXNet does not load: {error}: {_remedy(str(error))}') from error
    finally:
        for name in hidden:
            del sys.modules[name]
        if role is not None:
            os.environ['DMLC_ROLE'] = role


def serve() -> None:
    """Run a server or the scheduler of ps-lite until the job ends, if DMLC_ROLE says so.

    MXNet would do this while it is imported. A server that receives our optimizer (update_on_kvstore=True) could then
    not import it, because it needs MXNet, and would silently return gradients in place of weights.
    """
    if os.environ.get('DMLC_ROLE') in ('server', 'scheduler'):
        from mxnet.kvstore.kvstore_server import _init_kvstore_server_module
        _init_kvstore_server_module()       # ends the process


def _remedy(message: str) -> str:
    """Advice for a message of the dynamic loader."""
    library = re.match(r'lib[^\s:]+', message)
    name = library.group() if library else ''
    if name in DEBIAN_PACKAGES:
        return f'on Debian or Ubuntu, `apt-get install {DEBIAN_PACKAGES[name]}`'
    if re.match(r'lib(cu|nccl|nv)', name):
        return ('a GPU build needs the NVIDIA driver and the CUDA libraries of its version (cuDNN, cuBLAS, '
                'NCCL, ...) where the loader finds them, for example in LD_LIBRARY_PATH')
    return 'install the package that provides it, or install MXNet again'


set_numpy_aliases(np)
import_mxnet()
