"""Names of devices."""
import mxnet as mx
import pytest

from sss_gluon.errors import SSSError
from sss_gluon.train.devices import contexts

no_cuda = pytest.mark.skipif(mx.runtime.Features().is_enabled('CUDA'), reason='this MXNet has CUDA')


@pytest.mark.parametrize('names, expected', [
    (['cpu'], [mx.cpu(0)]), (['cpu0'], [mx.cpu(0)]), (['cpu(0)'], [mx.cpu(0)]),
    (['cpu1', 'cpu0'], [mx.cpu(1), mx.cpu(0)]), (['cpu12'], [mx.cpu(12)]),
])
def test_names_of_processors(names, expected):
    assert contexts(names) == expected


@no_cuda
@pytest.mark.parametrize('name', ['gpu', 'gpu0', 'gpu(3)'])
def test_gpu_without_cuda_is_one_sentence(name):
    with pytest.raises(SSSError, match='no CUDA') as error:
        contexts(['cpu', name])
    assert str(error.value).startswith(name) and len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize('name', ['', 'tpu', 'gpu-1', 'cpu0x', 'CPU', '0', 'cpu 0'])
def test_unknown_names(name):
    with pytest.raises(SSSError, match=f'device {name!r} is unknown'):
        contexts([name])


@pytest.mark.parametrize('names', [['cpu', 'cpu'], ['cpu', 'cpu0'], ['cpu0', 'cpu1', 'cpu(1)']])
def test_a_device_named_twice(names):
    with pytest.raises(SSSError, match='names a device twice'):
        contexts(names)


def test_gpus_that_are_not_there_or_too_new(monkeypatch):
    """What a machine with CUDA is told, with its answers put in place."""
    class Features:
        def is_enabled(self, name):
            return name == 'CUDA'

    def no_kernel(*_, ctx=None, **__):
        raise mx.base.MXNetError('CUDA: Check failed: e == cudaSuccess: no kernel image is available for execution')

    monkeypatch.setattr(mx.runtime, 'Features', Features)
    monkeypatch.setattr(mx.context, 'num_gpus', lambda: 2)
    with pytest.raises(SSSError, match='gpu2 .* 2 GPUs'):
        contexts(['gpu2'])
    monkeypatch.setattr(mx.nd, 'ones', no_kernel)
    with pytest.raises(SSSError, match=r'gpu1 is newer than MXNet 1\.9\.1.*Hopper'):
        contexts(['gpu1'])
