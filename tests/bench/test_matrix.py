"""What is measured of a network on which devices, in which precisions; a runtime's providers stand in for a card's."""
import pytest

from sss_gluon import SSSError
from sss_gluon.bench import matrix
from sss_gluon.bench.matrix import COMPACT, CUT, DENSE, FORMS, INFERENCE, MXNET, ONNX, TRAINING, Cell, cells

CUDA, TENSORRT, CPU = 'CUDAExecutionProvider', 'TensorrtExecutionProvider', 'CPUExecutionProvider'


@pytest.fixture
def providers(monkeypatch):
    def install(*names):
        monkeypatch.setattr(matrix, 'installed_providers', lambda: list(names))
    return install


def test_every_form_on_a_cpu(providers):
    providers(CPU, CUDA)
    found, problem = cells(['cpu'], ['float32', 'bfloat16'])
    assert problem is None
    assert {(cell.use, cell.form, cell.precision) for cell in found if cell.runtime == MXNET} == {
        (use, form, precision) for use, forms in FORMS.items() for form in forms
        for precision in ('float32', 'bfloat16')}
    # ONNX Runtime's CPU provider has no bfloat16, and its CUDA provider is for cards
    assert [cell[1:] for cell in found if cell.runtime == ONNX] == [
        (form, ONNX, 'CPU', 'float32', ('cpu',)) for form in (DENSE, COMPACT)]
    assert len(set(found)) == len(found) == 12


def test_several_devices_train_together_and_the_first_one_predicts(providers):
    providers()
    found, _ = cells(['cpu0', 'cpu1'], ['float32'])
    assert [cell.devices for cell in found if cell.form == CUT] == [('cpu0',), ('cpu0', 'cpu1')]
    assert {cell.devices for cell in found if cell.use == INFERENCE} == {('cpu0',)}


def test_a_card_that_mxnet_cannot_use_is_measured_in_onnx_runtime_alone(providers):
    """MXNet's CPU build has no CUDA, as none of its builds has code for cards of today."""
    providers(CPU, CUDA, TENSORRT)
    found, problem = cells(['gpu1'], ['float32', 'float16'])
    assert 'CUDA' in problem and {cell.use for cell in found} == {INFERENCE}
    assert {(cell.provider, cell.precision) for cell in found} == {
        (provider, precision) for provider in ('CUDA', 'TensorRT') for precision in ('float32', 'float16')}
    assert matrix.provider_of(found[0]) == (CUDA, {'device_id': '1'})
    providers(CPU)
    with pytest.raises(SSSError, match='gpu1 needs a GPU build'):
        cells(['gpu1'], ['float32'])


@pytest.mark.parametrize('devices, precisions, words', [
    (['tpu'], ['float32'], "device 'tpu' is unknown"), (['cpu'], ['float64'], "precision 'float64' is unknown"),
    (['cpu'], ['float16'], 'float16 cannot run on cpu'), (['gpu0'], ['bfloat16'], 'bfloat16 cannot run on gpu0'),
    (['cpu', 'gpu0'], ['float32'], 'CPUs and GPUs'), (['cpu', 'cpu'], ['float32'], 'twice')])
def test_errors(devices, precisions, words):
    with pytest.raises(SSSError, match=words):
        cells(devices, precisions)


def test_the_first_form_of_a_use_is_what_others_are_compared_with():
    cell = Cell(TRAINING, CUT, MXNET, '', 'float32', ('gpu0', 'gpu1'))
    assert cell.baseline == cell._replace(form='without factors') and cell.baseline.baseline == cell.baseline
