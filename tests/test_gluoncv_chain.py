"""A network of GluonCV on a folder of images, from the command line alone: train, prune, evaluate, export, count."""
import csv
import re

import pytest
from PIL import Image

from sss_gluon.cli import main
from sss_gluon.data import load

pytestmark = pytest.mark.slow

NAME, IMAGES = 'gluoncv:mobilenetv2_0.25', 24       # of each class


@pytest.fixture(scope='module')
def chain(tmp_path_factory, command):
    """The folder of a finished run of three digits, and what train said."""
    pytest.importorskip('gluoncv')
    folder = tmp_path_factory.mktemp('folder')
    digits = load('digits')
    for part, images in (('train', digits.train), ('test', digits.test)):
        for label in range(3):
            (folder / 'images' / part / f'digit {label}').mkdir(parents=True)
            for number, pixels in enumerate(images.images[images.labels == label][:IMAGES]):
                Image.fromarray(pixels[0]).save(folder / 'images' / part / f'digit {label}' / f'{number}.png')
    done = command(['-m', 'sss_gluon', 'train', 'data=folder', 'data_root=images', 'image_size=32', f'model={NAME}',
                    'factors=[neuron,block]', 'target_macs=0.6', 'epochs=4', 'search=0.5', 'batch_size=16',
                    'lr_mode=constant', 'learning_rate=0.01', 'run=runs/mobile'], folder)
    assert done.returncode == 0 and 'Traceback' not in done.stderr, done.stderr
    return folder, done.stdout


def test_the_whole_chain(chain, monkeypatch, capsys):
    folder, trained = chain
    assert 'budget met' in trained and trained.splitlines()[-1] == 'next: sss-gluon prune runs/mobile'
    monkeypatch.chdir(folder)
    said = {}
    for arguments in ('prune runs/mobile', 'evaluate runs/mobile', 'export runs/mobile', 'count runs/mobile',
                      f'count {NAME} --structure runs/mobile/compact/model-structure.json',
                      'evaluate runs/mobile/deploy/model-symbol.json --data runs/mobile'):
        assert main(arguments.split()) == 0, arguments
        said[arguments.split()[0], len(said)] = capsys.readouterr().out
    prune, evaluate, _, counted, structure, exported = said.values()
    with open('runs/mobile/evaluation.csv', newline='', encoding='utf-8') as file:
        whole, small = csv.DictReader(file)
    assert int(small['macs']) <= 0.6 * int(whole['macs']) and whole['top1'] == small['top1']
    assert all(re.search(rf'[1-9]\d* of \d+ {kind}s', prune) for kind in ('neuron', 'block'))
    for text in (prune, evaluate, counted, structure):       # the structure alone gives the size of its images
        assert f'{int(whole["macs"]):,}' in text and f'{int(small["macs"]):,}' in text
    assert f'{float(small["top1"]):.2%}' in exported


def test_its_structure_is_trained_from_scratch_and_its_weights_start_another_number_of_classes(chain, monkeypatch,
                                                                                               capsys):
    folder, _ = chain
    monkeypatch.chdir(folder)
    if not (folder / 'runs/mobile/compact').exists():
        assert main(['prune', 'runs/mobile']) == 0
    common = ['train', f'model={NAME}', 'epochs=1', 'batch_size=16', 'image_size=32']
    compact = 'structure=runs/mobile/compact/model-structure.json'
    assert main([*common, 'data=folder', 'data_root=images', compact, 'run=runs/scratch']) == 0
    assert 'finished' not in capsys.readouterr().out
    checkpoint = max((folder / 'runs/mobile/checkpoints').iterdir())
    assert main([*common, 'batch_size=512', f'init={checkpoint}', 'factors=block', 'run=runs/digits']) == 0
    out = capsys.readouterr().out
    assert 'output.0.weight starts anew' in out and '/10 blocks' in out


@pytest.mark.parametrize('method', ['l1', 'slimming'])       # with blocks, and without
def test_other_methods_prune_it(chain, method, monkeypatch, capsys):
    """Kinds: all that the method can remove."""
    monkeypatch.chdir(chain[0])
    assert main(['train', 'data=folder', 'data_root=images', 'image_size=32', f'model={NAME}', f'method={method}',
                 'source=runs/mobile', 'target_macs=0.5', 'epochs=1', 'batch_size=16', f'run=runs/{method}']) == 0
    said = capsys.readouterr().out
    assert re.search(rf'{method}: removes [1-9]\d* of \d+ structures and keeps (50.0|4\d\.\d)%', said)
