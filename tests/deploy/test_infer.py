"""What an ONNX file says of itself is enough for the program of the README: its predictions are those of evaluate."""
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sss_gluon
from sss_gluon.cli import main
from sss_gluon.data import DataSet, ImageSet, digits, fashion_mnist
from sss_gluon.deploy import evaluate, export, load_run, metadata
from sss_gluon.deploy.source import Source

PAGE = (Path(sss_gluon.__file__).parent / 'deploy/README.md').read_text('utf-8')
PROGRAM, = (block for block in re.findall(r'```python\n(.*?)```', PAGE, re.DOTALL) if 'InferenceSession' in block)
WITHOUT = 'import sys\nfor name in ("mxnet", "onnx", "sss_gluon"): sys.modules[name] = None\n'

runtime = pytest.importorskip('onnxruntime')


def quiet(line):
    pass


def known(path):
    session = runtime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    return session.get_modelmeta().custom_metadata_map


def write(folder, images):
    """PNG files, gray or in colours, in the order of their names."""
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
        Image.fromarray(pixels).save(folder / f'{number:04d}.png')
    return [str(path) for path in sorted(folder.iterdir())]


def infer(model, files, folder):
    (folder / 'infer.py').write_text(WITHOUT + PROGRAM, 'utf-8')
    done = subprocess.run([sys.executable, 'infer.py', str(model), *files], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert len(said) == len(files) and all(line.startswith(f'{file} ') for line, file in zip(said, files))
    return [line[len(file) + 1:] for line, file in zip(said, files)]


def test_it_is_short():
    assert len([line for line in PROGRAM.splitlines() if line]) <= 20


def test_predictions_are_those_of_evaluate(finished, tmp_path):
    shutil.copytree(finished, tmp_path / 'run')
    export(tmp_path / 'run', 'onnx', align=1, log=quiet)
    data = load_run(tmp_path / 'run').data
    names = infer(tmp_path / 'run/deploy/model.onnx', write(tmp_path / 'images', data.test.images), tmp_path)
    correct = [name == str(label) for name, label in zip(names, data.test.labels)]
    assert np.mean(correct) == evaluate(tmp_path / 'run', log=quiet)[0].accuracy.top1 and 0.3 < np.mean(correct) < 1


def test_what_a_file_says(finished, tmp_path):
    shutil.copytree(finished, tmp_path / 'run')
    rows = export(tmp_path / 'run', 'onnx', align=8, log=quiet)
    trained, said = load_run(tmp_path / 'run'), known(tmp_path / 'run/deploy/model.onnx')
    data = trained.data
    assert rows[1].align == 8
    assert (said['data'], said['classes'], said['shape'], said['resize']) == ('digits', '10', '1 8 8', '8 8')
    assert said['range'] == '0 255' and 'minus mean' in said['input']
    assert json.loads(said['names']) == list('0123456789')
    for key in ('mean', 'std'):
        assert [np.float32(value) for value in said[key].split()] == getattr(data, key).tolist()
    structure = json.loads(said['structure'])
    assert structure['model']['name'] == 'cifar_resnet20'
    for factor in sss_gluon.scaling_factors(trained.net):
        assert structure['factors'][factor.name]['kept'] == np.flatnonzero(factor.values()).tolist()


@pytest.fixture
def coloured(tmp_path):
    """A folder of images in three colours, which a network tells apart."""
    random = np.random.RandomState(0)
    for part, count in (('train', 40), ('test', 15)):
        for channel, name in enumerate(('a red one', 'b green', 'c blue')):
            images = random.randint(0, 120, (count, 3, 20, 20)).astype('uint8')
            images[:, channel] += 60
            write(tmp_path / 'images' / part / name, images)
    return str(tmp_path / 'images')


def test_classes_of_a_folder_and_images_of_another_size(coloured, tmp_path):
    run = str(tmp_path / 'run')
    assert main(['train', 'data=folder', f'data_root={coloured}', 'image_size=16', 'model=cifar_resnet20', 'epochs=2',
                 'model_options={depths: [1, 1, 1], widths: [8, 8, 16]}', 'batch_size=24', 'learning_rate=0.05',
                 'augment_flip=false', f'run={run}']) == 0
    export(run, 'onnx', log=quiet)
    files = [str(path) for path in sorted(Path(coloured, 'test').glob('*/*'))]
    names = infer(f'{run}/deploy/model.onnx', files, tmp_path)
    correct = [Path(file).parent.name == name for file, name in zip(files, names)]
    assert set(names) <= {'a red one', 'b green', 'c blue'} and len(set(names)) > 1
    assert np.mean(correct) == evaluate(run, log=quiet)[0].accuracy.top1


def test_padded_images_are_padded_and_short_sides_resized(tmp_path):
    """Without a network: the program is given one that returns the pixels of its input."""
    onnx = pytest.importorskip('onnx')
    image = np.random.RandomState(0).randint(0, 256, (1, 1, 9, 9)).astype('uint8')
    data = DataSet.build('x', ImageSet(image, np.zeros(1, 'int32')), ImageSet(image, np.zeros(1, 'int32')), 1)
    padded = data.pad_to(12)
    assert (data.resized, padded.resized) == ((9, 9), (9, 9)) and padded.pad_to(12) is padded
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node('Flatten', ['data'], ['pixels'])], 'pixels',
        *([onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ['N', *rest])]
          for name, rest in (('data', (1, 12, 12)), ('pixels', (144,)))))
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid('', 13)], ir_version=8)
    first = Source(None, (1, 1, 12, 12), padded, True, 'x', Path('x'))
    said = metadata.onnx_metadata(first, sss_gluon.Structure(None, (1, 1, 12, 12), {}, {}))
    said.update(names=json.dumps([str(number) for number in range(144)]))
    brightest = []
    for changes in ({}, {'resize': '18'}):
        onnx.helper.set_model_props(model, {**said, **changes})
        onnx.save_model(model, str(tmp_path / 'pixels.onnx'))
        picture = image[0] if not changes else np.kron(image[0], np.ones((2, 4), 'uint8'))     # 18 x 36
        file = write(tmp_path / f'images{len(brightest)}', [picture])
        brightest.append(int(infer(tmp_path / 'pixels.onnx', file, tmp_path)[0]))
    assert brightest[0] == padded.test.images.argmax()
    assert brightest[1] == picture[0, 3:15, 12:24].argmax()


@pytest.mark.parametrize('names, first, last', [(digits.load().names, '0', '9'),
                                                (fashion_mnist.NAMES, 'T-shirt/top', 'Ankle boot')])
def test_names_of_classes(names, first, last):
    assert (len(names), names[0], names[-1]) == (10, first, last)
