"""Build and installation.

Environment
-----------
SSS_GLUON_MXNET
    Which MXNet the installed package asks for. Not set: ``mxnet==1.9.1``, the CPU build.
    ``none``: no MXNet at all, what is installed stays. Any other requirement, such as
    ``mxnet-cu117==1.9.1``: that build instead of the CPU's.
"""
import os
import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent


def version() -> str:
    """Read, not imported: the package needs MXNet, which is not there yet."""
    source = (HERE / 'sss_gluon' / '__init__.py').read_text(encoding='utf-8')
    match = re.search(r'''^__version__ = ['"]([^'"]+)['"]''', source, re.MULTILINE)
    if match is None:
        raise SystemExit("setup.py: sss_gluon/__init__.py has no line like __version__ = '0.1.0'")
    return match.group(1)


def mxnet() -> list:
    """The builds of MXNet are distributions of different names, so a requirement cannot say "any of them"."""
    wanted = os.environ.get('SSS_GLUON_MXNET', '').strip() or 'mxnet==1.9.1'
    if wanted == 'none':
        return []
    if not re.match(r'mxnet(?![a-z])', wanted):
        raise SystemExit(f"setup.py: SSS_GLUON_MXNET='{wanted}' is neither 'none' nor a requirement such as "
                         "'mxnet-cu117==1.9.1'")
    return [wanted]


EXTRAS = {
    'tensorboard': ['tensorboardX>=2.5'],
    'onnx': ['onnx>=1.14.1,<=1.16.2', 'onnxruntime>=1.15,<2'],    # MXNet's exporter takes no newer onnx
    'horovod': ['horovod==0.28.1'],         # to be built against MXNet: scripts/cluster/install_horovod.sh
    'test': [
        'pytest>=7.4', 'pytest-timeout>=2.1', 'pytest-xdist>=3.5', 'hypothesis>=6.80', 'scikit-learn>=1.0',
        'ruff>=0.12', 'mypy>=1.10', 'types-tabulate', 'types-tqdm', 'types-PyYAML', 'types-psutil',
    ],
}

setup(
    name='sss_gluon',
    version=version(),
    description='Data-Driven Sparse Structure Selection (ECCV 2018) on MXNet Gluon',
    long_description=(HERE / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.8,<3.13',
    packages=find_packages(include=['sss_gluon', 'sss_gluon.*']),
    package_data={'': ['py.typed', '*.json', '*.csv', '*.yaml', '*.j2', '*.js', '*/*.csv', '*/*.yaml', 'files/*']},
    install_requires=mxnet() + [
        'gluoncv==0.10.5',
        'numpy>=1.20,<2',
        'omegaconf>=2.3,<2.4',
        'tqdm>=4.60',
        'tabulate>=0.8.10',
        'jinja2>=3.1',
        'matplotlib>=3.6',
        'pooch>=1.6',
        'filelock>=3.8',
        'scipy>=1.6',
        'pillow>=9.1',
        'PyYAML>=5.1',
        'setuptools; python_version >= "3.12"',     # MXNet imports distutils
    ],
    extras_require=EXTRAS,
    entry_points={'console_scripts': ['sss-gluon = sss_gluon.cli:main']},
)
