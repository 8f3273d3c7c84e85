"""A plan of small runs on the shipped digits: a fraction of a second each, besides the start of their processes."""
from pathlib import Path

import pytest

from sss_gluon.files import write_text

CONFIG = (Path(__file__).parents[1] / 'small.yaml').read_text('utf-8')
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
