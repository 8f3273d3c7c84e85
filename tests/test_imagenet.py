"""ImageNet's networks at 224 on files of records: packed, trained, stopped, continued, cut and evaluated.

The images are digits scaled up, as JPEG and PNG files. The networks have all their layers, but few channels: at their
published width they go the same way in test_chain.py. Each run has two epochs of a batch of two images and one of one.
"""
import os
import shutil
import signal
import sys

import numpy as np
import pytest
from PIL import Image

from sss_gluon.data import digits
from sss_gluon.data.pack import pack_images
from sss_gluon.deploy import evaluate, evaluate_exported, prune
from sss_gluon.methods import train
from sss_gluon.train import Config, Interrupted, RunFolder
from sss_gluon.train.loop import Training

pytestmark = pytest.mark.slow

SETTINGS = dict(data='imagenet', epochs=2, batch_size=2, lr_mode='constant', learning_rate=0.02, gamma=60.0)
# options of the network, and which factors a γ that removes everything at once acts on
CASES = {
    'resnet50': (dict(widths=[16, 32, 64, 128]), {'.': 0, r'stage1\.1': 1, r'stage4\.2': 1}),
    'resnext50_32x4d': (dict(widths=[64, 128, 256, 512]), {'.': 0, r'stage2\.1\.norm2': 1, r'stage3\.3\.norm3': 1}),
    'peleenet': ({}, {'.': 0, r'stage[12]\.1\.branch2': 1}),
    'vgg16': (dict(stages=[[8, 8], [16, 16], [16, 16, 16], [16, 16, 16], [16, 16, 16]]), {'.': 0, 'norm3_2': 1}),
}


def quiet(line):
    pass


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Packed: 3 training images of 3 classes, one file that is none, and 3 images to test on."""
    src, dst = (tmp_path_factory.mktemp(name) for name in ('images', 'records'))
    found = digits.load().train.images[:, 0]
    for i in range(6):
        path = src / ('train' if i < 3 else 'val') / 'abc'[i % 3] / f'{i}.{("jpg", "png")[i % 2]}'
        path.parent.mkdir(parents=True, exist_ok=True)
        channels = [Image.fromarray(found[3 * i + c]).resize((300 - 10 * i, 200 + 10 * i), Image.BICUBIC)
                    for c in range(3)]
        Image.merge('RGB', channels).save(path)
    (src / 'train/a/notes.txt').write_text('no image')
    train_part, val_part = pack_images(src, dst)
    assert (train_part.images, train_part.rejected, val_part.images) == (3, 1, 3)
    return dst


def arrays(run):
    """All arrays of its newest checkpoint."""
    with np.load(max(run.checkpoints.iterdir(), key=lambda path: path.stem)) as file:
        return {name: file[name].tobytes() for name in file.files if name != 'position'}


@pytest.mark.parametrize('model', CASES)
def test_the_whole_way(model, folder, tmp_path, monkeypatch):
    options, multipliers = CASES[model]
    measuring = sys.modules['sss_gluon.deploy.evaluate']
    monkeypatch.setattr(measuring, 'LATENCY_BATCHES', (1, 2))
    monkeypatch.setattr(measuring, 'latencies', lambda nets, *_: dict.fromkeys(nets, 0.0))      # minutes

    def config(name):
        return Config(run=str(tmp_path / name), data_root=str(folder), model=model, model_options=options,
                      gamma_mult=multipliers, **SETTINGS)

    undisturbed = train(config('undisturbed'), quiet)
    rows = undisturbed.metrics.rows()
    assert len(rows) == 2 and all(float(row['train_loss']) > 0 for row in rows)
    # of the 4 images in the batches, of which one is there twice
    assert all(4 * float(row['train_top1']) == pytest.approx(round(4 * float(row['train_top1'])), abs=1e-4)
               for row in rows)

    step = Training.step

    def then_stop(self, epoch, number, x, y):
        results = step(self, epoch, number, x, y)
        if (epoch, number) == (1, 0):
            os.kill(os.getpid(), signal.SIGINT)
        return results

    with monkeypatch.context() as patch:
        patch.setattr(Training, 'step', then_stop)
        with pytest.raises(Interrupted, match='after step 1'):
            train(config('run'), quiet)
    run = train(config('run'), quiet)
    assert arrays(run) == arrays(undisturbed)
    assert run.metrics.path.read_bytes() == undisturbed.metrics.path.read_bytes()
    shutil.rmtree(undisturbed.path)

    result = prune(run.path, quiet)
    assert result.after.macs < result.before.macs and result.max_difference < 1e-4
    dense, compact = evaluate(run.path, log=quiet)
    assert dense.accuracy.images == 3 and dense.accuracy.top1 == compact.accuracy.top1
    assert dense.accuracy.loss == pytest.approx(compact.accuracy.loss, rel=1e-4) and compact.macs == result.after.macs
    exported = evaluate_exported(f'{RunFolder(run.path).compact}-symbol.json')
    assert exported.accuracy.top1 == compact.accuracy.top1
