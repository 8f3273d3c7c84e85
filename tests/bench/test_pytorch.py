"""The training step in PyTorch is the same one; needs an interpreter with torch in TORCH_PYTHON."""
import os
import sys

import pytest

from sss_gluon import SSSError
from sss_gluon.bench import pytorch
from sss_gluon.bench.pytorch import against_pytorch
from sss_gluon.bench.settings import Settings, Skipped

TORCH_PYTHON = os.environ.get('TORCH_PYTHON')


def test_skipped_without_an_interpreter():
    with pytest.raises(Skipped, match='needs --torch-python'):
        against_pytorch(Settings(quick=True), 'cifar_resnet20')


@pytest.mark.slow
@pytest.mark.skipif(TORCH_PYTHON is None, reason='TORCH_PYTHON names no interpreter with torch')
@pytest.mark.parametrize('quick', [True, False])
def test_parameters_and_losses_are_the_same(quick, monkeypatch):
    """272,538 parameters, and six losses within a thousandth from the same weights: forward, backward and update."""
    compared = {}
    monkeypatch.setattr(pytorch, '_same', lambda what, ours, theirs, tolerance: compared.update({what: (ours, theirs)}))
    monkeypatch.setattr(pytorch, 'WARM_UP', 6)
    found = against_pytorch(Settings(rounds=3, quick=quick, torch_python=TORCH_PYTHON, cores=(0,)), 'cifar_resnet20')
    ours, theirs = compared.pop('number of parameters')
    assert ours == theirs and (quick or ours == 272_538)
    assert len(compared) == 6 and len({ours for ours, _ in compared.values()}) == 6
    for ours, theirs in compared.values():
        assert theirs == pytest.approx(ours, rel=1e-3)
    assert 'torch' in found['pytorch'].note


FAKE = '''
import json, sys
print(json.dumps(dict(version='0', parameters={parameters})), flush=True)
for _ in sys.stdin:
    print(json.dumps(dict(seconds=0.5, loss={loss})), flush=True)
'''


@pytest.mark.parametrize('parameters, loss, words', [
    (272_537, 2.3, 'number of parameters is 8602 in MXNet and 272537 in PyTorch'),
    (8602, 99.0, 'loss of step 1 is .* in MXNet and 99.0 in PyTorch, so their times cannot be compared'),
])
def test_another_network_is_not_compared(parameters, loss, words, tmp_path, monkeypatch):
    script = tmp_path / 'script.py'
    script.write_text(FAKE.format(parameters=parameters, loss=loss))
    monkeypatch.setattr(pytorch, 'SCRIPT', script)
    settings = Settings(rounds=1, quick=True, torch_python=sys.executable, cores=(0,))
    with pytest.raises(SSSError, match=words):
        against_pytorch(settings, 'cifar_resnet20')
