"""Export of a symbol file that never was in a run folder: the same outputs, in a folder of its own."""
import csv

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn
from PIL import Image

from sss_gluon.cli import main
from sss_gluon.deploy import export
from sss_gluon.errors import SSSError
from sss_gluon.graph.block import load

SIZE, CLASSES = 16, 10


def quiet(line):
    pass


def network(head=True):
    net = nn.HybridSequential()
    net.add(nn.Conv2D(8, 3, in_channels=1), nn.BatchNorm(), nn.Activation('relu'), nn.Conv2D(6, 3), nn.Swish())
    if head:
        net.add(nn.GlobalAvgPool2D(), nn.Dense(CLASSES))
    mx.random.seed(1)
    np.random.seed(1)
    net.initialize(mx.init.Xavier())
    net.hybridize()
    x = mx.nd.random.normal(shape=(4, 1, SIZE, SIZE))
    with mx.autograd.record():
        net(x)
    net[0].weight.data()[5:] = 0        # channels that go
    net[1].beta.data()[5:] = 0
    return net


@pytest.fixture(params=['in the file', 'named'])
def exported(request, tmp_path):
    """A network as Gluon exports it; its parameters have the usual name or another."""
    net = network()
    net(mx.nd.zeros((1, 1, SIZE, SIZE)))
    epoch = 0 if request.param == 'in the file' else 12
    net.export(str(tmp_path / 'mine'), epoch=epoch)
    return net, f'{tmp_path}/mine-symbol.json', f'{tmp_path}/mine-0012.params' if epoch else None


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_without_images(exported, tmp_path):
    runtime = pytest.importorskip('onnxruntime')
    net, file, params = exported
    before = names(tmp_path)
    rows = export(file, 'onnx', size=SIZE, channels=1, params=params, log=quiet)
    assert names(tmp_path) == sorted(before + ['mine-deploy'])
    assert names(tmp_path / 'mine-deploy') == ['export.csv', 'mine.onnx']
    assert [(row.runtime, row.accuracy) for row in rows] == [('MXNet', None), ('ONNX Runtime', None)]
    assert all(row.difference < 1e-5 and min(row.seconds.values()) > 0 for row in rows)
    x = np.random.RandomState(0).standard_normal((3, 1, SIZE, SIZE)).astype('float32')
    session = runtime.InferenceSession(f'{tmp_path}/mine-deploy/mine.onnx', providers=['CPUExecutionProvider'])
    expected = net(mx.nd.array(x)).asnumpy()
    np.testing.assert_allclose(session.run(None, {'data': x})[0], expected, atol=1e-5 * np.abs(expected).max())
    with open(tmp_path / 'mine-deploy' / 'export.csv', newline='', encoding='utf-8') as table:
        assert [line['top1'] for line in csv.DictReader(table)] == ['', '']

    row, = export(file, size=SIZE, channels=1, params=params, log=quiet)
    assert sorted(row.files) == ['mine-0000.params', 'mine-symbol.json']
    small = load(tmp_path / 'mine-deploy' / 'mine')
    np.testing.assert_allclose(small(mx.nd.array(x)).asnumpy(), expected, atol=1e-5 * np.abs(expected).max())
    assert next(iter(small.collect_params('.*weight').values())).shape == (5, 1, 3, 3)      # zeros are removed


def test_int8_with_the_data_of_a_run(exported, finished, tmp_path):
    _, file, params = exported
    said = []
    rows = export(file, int8=True, calibration=100, max_drop=0.1, params=params, data=str(finished), log=said.append)
    assert [row.name for row in rows] == ['float32', 'int8'] and rows[0].accuracy.images == 300
    assert any(line.startswith('INT8 leaves in float32: ') and 'sigmoid(' in line and 'elemwise_mul(' in line
               for line in said)
    assert 'mine-int8-symbol.json' in names(tmp_path / 'mine-deploy')


@pytest.fixture
def folder(tmp_path):
    random = np.random.RandomState(0)
    for part in ('train', 'test'):
        for label in 'abc':
            (tmp_path / 'images' / part / label).mkdir(parents=True)
            for number in range(6):
                Image.fromarray(random.randint(0, 256, (SIZE, SIZE)).astype(np.uint8)).save(
                    tmp_path / 'images' / part / label / f'{number}.png')
    return str(tmp_path / 'images')


def test_a_folder_of_images_for_a_network_of_other_outputs(folder, tmp_path):
    net = network(head=False)
    net(mx.nd.zeros((1, 1, SIZE, SIZE)))
    net.export(f'{tmp_path}/maps')
    said = []
    rows = export(f'{tmp_path}/maps-symbol.json', int8=True, data=folder, log=said.append)
    assert [row.accuracy for row in rows] == [None, None] and rows[1].difference < 0.1
    assert 'normalised with the mean' in said[0] and '3 classes' in said[1]


def test_the_command(tmp_path, capsys):
    net = network()
    net(mx.nd.zeros((1, 1, SIZE, SIZE)))
    net.export(f'{tmp_path}/mine')
    assert main(['export', f'{tmp_path}/mine-symbol.json', '--size', str(SIZE), '--channels', '1']) == 0
    out = capsys.readouterr().out
    assert 'top-1' not in out and 'difference to the given network' in ' '.join(out.split())
    assert f'{tmp_path}/mine-deploy/mine-symbol.json' in out.replace('\n', '')
    assert (tmp_path / 'mine-deploy' / 'mine-0000.params').exists()


@pytest.mark.parametrize('arguments, message', [
    (dict(), 'give the height and width of the input: --size 224'),
    (dict(size=SIZE, channels=1, int8=True), 'INT8 measures ranges on images.*--data'),
    (dict(size=0), 'size 0'),
    (dict(size=SIZE, channels=3), 'does not accept an input of shape'),
    (dict(size=SIZE, channels=1, params='nothing.params'), 'nothing.params does not exist'),
    (dict(data='nothing'), 'nothing'),
])
def test_what_is_refused(arguments, message, tmp_path):
    net = network()
    net(mx.nd.zeros((1, 1, SIZE, SIZE)))
    net.export(f'{tmp_path}/mine')
    with pytest.raises(SSSError, match=message):
        export(f'{tmp_path}/mine-symbol.json', log=quiet, **arguments)
    assert names(tmp_path) == ['mine-0000.params', 'mine-symbol.json']


def test_a_run_needs_no_data(finished):
    with pytest.raises(SSSError, match='is a run, .*leave out data, size'):
        export(finished, data='x', size=3, log=quiet)
