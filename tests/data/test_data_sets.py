import subprocess
import sys
from pathlib import Path

import pytest

import sss_gluon.data
from sss_gluon.data import DATA_SETS, load
from sss_gluon.errors import SSSError


@pytest.mark.parametrize('name, nearest', [
    ('cifar-10', 'cifar10'), ('cifar_100', 'cifar100'), ('fashion_mnist', 'fashion-mnist'),
    ('mnist', 'fashion-mnist'), ('digit', 'digits'), ('Folder', 'folder'), ('imagnet', 'imagenet')])
def test_unknown_name(name, nearest):
    with pytest.raises(SSSError, match=f'data set {name!r} is unknown; did you mean {nearest}'):
        load(name)


def test_names():
    assert list(DATA_SETS) == ['digits', 'fashion-mnist', 'cifar10', 'cifar100', 'folder', 'imagenet']


def test_loading_data_needs_no_mxnet():
    """Processes that only read data do without MXNet: only the package above may import it."""
    package = Path(sss_gluon.data.__file__).parents[1]
    code = ('import sys, types; sys.modules["mxnet"] = None\n'
            f'package = types.ModuleType("sss_gluon"); package.__path__ = [{str(package)!r}]\n'
            'sys.modules["sss_gluon"] = package\n'
            'from sss_gluon.data import load; print(load("digits").shape)')
    result = subprocess.run([sys.executable, '-c', code], stdout=subprocess.PIPE, check=True)
    assert result.stdout.split() == [b'(1,', b'16,', b'16)']
