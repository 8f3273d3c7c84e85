"""A plan of small runs on the shipped digits: a fraction of a second each, besides the start of their processes."""
import pytest

from sss_gluon.files import write_text

CONFIG = '''
model: cifar_resnet20
model_options: {depths: [1, 1, 1], widths: [8, 8, 16]}
image_size: 8
augment_pad: 1
augment_flip: false
epochs: 2
schedule: constant
learning_rate: 0.05
factors: [neuron, block]
gamma: 0.1
'''
PLAN = '''
title: A small plan
entries:
  - {name: block, config: configs/small.yaml, grid: {gamma: [0.1, 0.001], seed: [0, 1]}, steps: [train]}
  - {name: dense, config: configs/small.yaml, set: {factors: []}, grid: {seed: [0]}, steps: [train, evaluate]}
smoke: {epochs: 1, gamma: 0.2, model_options: {widths: [4, 4, 8]}}
'''


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A current folder with a configuration, and a function that writes plan.yaml there."""
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / 'configs/small.yaml', CONFIG)

    def write(text=PLAN, name='plan.yaml'):
        write_text(tmp_path / name, text)
        return tmp_path / name

    return write
