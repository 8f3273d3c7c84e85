"""From a run folder to files for inference: the same predictions, everything measured, nothing kept that is wrong."""
import csv
import importlib
import shutil
import sys

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon

from sss_gluon.deploy import evaluate_exported, export, load_run, prune
from sss_gluon.errors import SSSError
from sss_gluon.graph import inference
from sss_gluon.graph.ir import Program
from sss_gluon.methods import train
from sss_gluon.train import RunFolder

formats = importlib.import_module('sss_gluon.deploy.export')
SYMBOL, ONNX = ['model-0000.params', 'model-symbol.json'], ['model.onnx']
INT8 = ['model-int8-0000.params', 'model-int8-symbol.json']


def quiet(line):
    pass


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the finished run."""
    shutil.copytree(finished, tmp_path / 'run')
    return RunFolder.open(tmp_path / 'run')


def files(run):
    """What lies in deploy, when nothing else is left of an export."""
    assert not [path.name for path in run.path.iterdir() if path.name.startswith('.deploy')]
    return sorted(path.name for path in run.deploy.parent.iterdir()) if run.deploy.parent.exists() else []


def pixels(trained):
    data = trained.data
    return ((data.test.images - data.mean[:, None, None]) / data.std[:, None, None]).astype('float32')


def guesses(trained):
    return trained.net(mx.nd.array(pixels(trained))).asnumpy().argmax(axis=1)


def test_symbol(run):
    row, = export(run.path, align=1, log=quiet)
    assert (row.name, row.runtime, sorted(row.files), row.align) == ('float32', 'MXNet', SYMBOL, 1)
    assert files(run) == ['export.csv'] + SYMBOL
    assert row.bytes == sum((run.deploy.parent / name).stat().st_size for name in SYMBOL)
    assert row.difference < 1e-5 and set(row.seconds) == {1, 64} and min(row.seconds.values()) > 0
    trained = load_run(run.path)
    assert row.accuracy.top1 == pytest.approx((guesses(trained) == trained.data.test.labels).mean())

    plain = gluon.SymbolBlock.imports(f'{run.deploy}-symbol.json', ['data'], f'{run.deploy}-0000.params')
    x = pixels(trained)
    expected, found = trained.net(mx.nd.array(x)).asnumpy(), plain(mx.nd.array(x)).asnumpy()
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
    evaluated, pruned = evaluate_exported(f'{run.deploy}-symbol.json'), prune(run.path, log=quiet)
    assert evaluated.accuracy == row.accuracy and evaluated.macs == pruned.after.macs
    left = [name for name in plain.collect_params() if name.endswith('running_mean')]
    assert 0 < len(left) < len([name for name in pruned.program.values if name.endswith('running_mean')])


def test_onnx_and_int8(run):
    runtime = pytest.importorskip('onnxruntime')
    rows = export(run.path, 'onnx', int8=True, calibration=200, align=8, log=quiet)
    assert [(row.name, row.runtime, sorted(row.files), row.align) for row in rows] \
        == [('float32', 'MXNet', [], 8), ('float32', 'ONNX Runtime', ONNX, 8), ('int8', 'MXNet', [], 8),
            ('int8', 'ONNX Runtime', ['model-int8.onnx'], 8)]
    assert files(run) == ['export.csv', 'model-int8.onnx'] + ONNX
    assert rows[0].bytes == 0 and rows[1].bytes == (run.deploy.parent / 'model.onnx').stat().st_size
    assert rows[1].accuracy[1:] == rows[0].accuracy[1:] and rows[1].difference < 1e-5
    assert all(1e-4 < row.difference < 0.2 for row in rows[2:])      # it is computed in integers

    trained = load_run(run.path)
    session = runtime.InferenceSession(f'{run.deploy}.onnx', providers=['CPUExecutionProvider'])
    expected = guesses(trained)
    found, = session.run(None, {'data': pixels(trained)})
    np.testing.assert_array_equal(found.argmax(axis=1), expected)
    assert session.get_modelmeta().graph_name == 'cifar_resnet20'

    integers = runtime.InferenceSession(f'{run.deploy}-int8.onnx', providers=['CPUExecutionProvider'])
    assert integers.get_modelmeta().custom_metadata_map == session.get_modelmeta().custom_metadata_map
    found = integers.run(None, {'data': pixels(trained)})[0].argmax(axis=1)
    assert (found == expected).mean() > 0.9
    assert rows[3].accuracy.top1 == pytest.approx((found == trained.data.test.labels).mean())

    with open(run.deploy.parent / 'export.csv', newline='', encoding='utf-8') as file:
        written = list(csv.DictReader(file))
    assert [(line['network'], line['runtime'], line['align'], line['files'], int(line['bytes'])) for line in written] \
        == [(row.name, row.runtime, '8', ' '.join(row.files), row.bytes) for row in rows]
    for line, row in zip(written, rows):
        assert float(line['top1']) == pytest.approx(row.accuracy.top1, abs=1e-6)
        assert float(line['ms_batch_64']) == pytest.approx(1000 * row.seconds[64], abs=1e-4)


def test_int8_in_mxnet(run):
    rows = export(run.path, int8=True, calibration=200, log=quiet)
    assert [(row.name, sorted(row.files)) for row in rows] == [('float32', SYMBOL), ('int8', INT8)]
    trained = load_run(run.path)
    quantized = gluon.SymbolBlock.imports(f'{run.deploy}-int8-symbol.json', ['data'], f'{run.deploy}-int8-0000.params')
    found = quantized(mx.nd.array(pixels(trained))).asnumpy().argmax(axis=1)
    assert (found == guesses(trained)).mean() > 0.9
    assert rows[1].accuracy.top1 == pytest.approx((found == trained.data.test.labels).mean())
    assert evaluate_exported(f'{run.deploy}-int8-symbol.json').accuracy == rows[1].accuracy


def test_formats_stay_side_by_side_until_the_run_goes_on(run):
    export(run.path, log=quiet)
    export(run.path, int8=True, calibration=64, log=quiet)
    assert files(run) == ['export.csv'] + sorted(SYMBOL + INT8)
    config = run.config()
    config.run, config.epochs = str(run.path), config.epochs + 1
    train(config, quiet)
    assert files(run) == []


def test_a_run_without_factors_and_not_finished(configure):
    config = configure(factors=[], epochs=2)
    run = train(configure(factors=[], epochs=1), quiet)
    run.save_config(config)
    said = []
    row, = export(run.path, log=said.append)
    assert row.difference < 1e-5 and said == [f'note: {run} is at epoch 1 of 2']


def test_what_is_wrong_is_not_kept(run, monkeypatch):
    export(run.path, log=quiet)
    before = {path.name: path.read_bytes() for path in run.deploy.parent.iterdir()}

    def wrong(program):
        name = next(name for name in program.values if name.endswith('bias'))
        return Program(program.outputs, dict(program.values, **{name: program.values[name] + 0.01}),
                       program.inputs)

    monkeypatch.setattr(inference, 'for_inference', wrong)
    with pytest.raises(SSSError, match='the network for inference differs by .* of the largest output'):
        export(run.path, log=quiet)
    monkeypatch.setattr(inference, 'verify', lambda *arguments: 0)        # then the real images notice
    with pytest.raises(SSSError, match='on test images the exported network differs by .* than rounding'):
        export(run.path, log=quiet)
    assert files(run) == sorted(before)
    assert {path.name: path.read_bytes() for path in run.deploy.parent.iterdir()} == before


def scaled(by):
    """Quantization that gives other ranges to everything."""
    def wrong(program, images):
        return quantize(program, images * np.float32(by))
    quantize = formats.quantize
    return wrong


def test_int8_in_mxnet_is_only_compared_with_onnx(run, monkeypatch):
    pytest.importorskip('onnxruntime')
    monkeypatch.setattr(formats, 'quantize', scaled(0.02))
    said = []
    rows = export(run.path, 'onnx', int8=True, align=1, log=said.append)
    assert [(row.name, row.runtime) for row in rows] == [('float32', 'MXNet'), ('float32', 'ONNX Runtime'),
                                                         ('int8', 'ONNX Runtime')]
    assert len(said) == 1 and said[0].startswith('note: INT8 in MXNet is not compared: INT8 takes top-1')


def test_int8_in_onnx_that_loses_too_much_is_not_kept(run, monkeypatch):
    pytest.importorskip('onnxruntime')
    write = formats.write_onnx_int8
    monkeypatch.setattr(formats, 'write_onnx_int8', lambda program, path, images, *rest: write(
        program, path, images * np.float32(0.02), *rest))
    with pytest.raises(SSSError, match='INT8 takes top-1 on 300 .* more than the 2 points allowed'):
        export(run.path, 'onnx', int8=True, align=1, log=quiet)
    assert files(run) == []


@pytest.mark.parametrize('max_drop, message', [
    (0.02, r'INT8 takes top-1 on 300 (validation|test) images from .*% to .*%, more than the 2 points allowed'),
    (1.0, 'INT8 outputs are off by .* of the float32 ones .* more than 25%'),
])
def test_int8_that_loses_too_much_is_not_kept(max_drop, message, run, monkeypatch):
    monkeypatch.setattr(formats, 'quantize', scaled(0.02))
    with pytest.raises(SSSError, match=message):
        export(run.path, int8=True, max_drop=max_drop, log=quiet)
    assert files(run) == []


def test_int8_is_calibrated_on_training_images_at_random(run, monkeypatch):
    seen = []
    monkeypatch.setattr(formats, 'quantize', lambda program, images: seen.append(images) or program)
    export(run.path, int8=True, calibration=100, log=quiet)
    trained = load_run(run.path)
    all_images = {image.tobytes() for image in
                  formats.normalise_only(trained.data).normalise(trained.data.train.images)}
    assert len(seen[0]) == 100 and all(image.tobytes() in all_images for image in seen[0])
    first = formats.normalise_only(trained.data).normalise(trained.data.train.images[:100])
    assert not np.array_equal(seen[0], first)


@pytest.mark.parametrize('arguments, message', [
    (dict(format='tflite'), "'tflite'.*symbol, onnx"),
    (dict(int8=True, calibration=0), 'calibration.*0'),
    (dict(align=0), 'align 0 must be at least 1'), (dict(batch=0), 'batch 0 must be at least 1'),
    (dict(align='16'), "align '16' must be a number or 'auto'"),
])
def test_arguments_that_do_not_exist(arguments, message, finished):
    with pytest.raises(SSSError, match=message):
        export(finished, log=quiet, **arguments)


def test_without_onnx(run, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(SSSError, match='pip install .*onnxruntime'):
        export(run.path, 'onnx', log=quiet)
    assert files(run) == []


def test_while_the_run_is_in_use(run):
    with run.locked(), pytest.raises(SSSError, match='in use'):
        export(run.path, log=quiet)
