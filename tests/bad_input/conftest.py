"""A desk with finished runs."""
import os
import shutil
import sys

import pytest
from desk import CONFIG, HELD

from sss_gluon.cli import main


@pytest.fixture(scope='session')
def prepared(once):
    """A desk with runs of two networks, one of them pruned, one without factors, and one that was asked for a size."""
    return once('prepared', prepare_desk)


def prepare_desk(folder):
    (folder / 'small.yaml').write_text(CONFIG, 'utf-8')
    (folder / 'notes').mkdir()
    (folder / 'notes/mine.txt').write_text('mine', 'utf-8')
    before = os.getcwd()
    os.chdir(folder)
    try:
        for command in ('train small.yaml run=runs/mine', 'prune runs/mine',
                        'train small.yaml run=runs/dense factors=[] epochs=1',
                        'train small.yaml run=runs/asked epochs=1 target_macs=0.6 search=0.5',
                        'train small.yaml run=runs/other epochs=1 model_options.widths=[8,16,16]'):
            assert main(command.split()) == 0
    finally:
        os.chdir(before)


@pytest.fixture
def desk(prepared, tmp_path, monkeypatch):
    """A copy of it, as the current folder."""
    shutil.copytree(prepared, tmp_path / 'desk')
    monkeypatch.chdir(tmp_path / 'desk')
    monkeypatch.setenv('SSS_GLUON_DATA', str(tmp_path / 'nothing'))
    monkeypatch.setitem(sys.modules, 'horovod', None)       # as where it is not installed
    yield tmp_path / 'desk'
    while HELD:
        HELD.pop().release()
