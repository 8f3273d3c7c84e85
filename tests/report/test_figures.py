"""Figures of a run, from its CSV files and nothing else."""
import os
import struct

import matplotlib.image
import numpy as np
import pytest

from sss_gluon.errors import SSSError
from sss_gluon.report.figures import draw
from sss_gluon.train import RunFolder

HEAD = 'epoch,learning_rate,train_loss,train_top1,evaluated_on,loss,top1,top5'


def metrics(epochs, kinds=('block',)):
    """Rows of a plausible metrics.csv; half of the structures are gone at the end."""
    lines = [HEAD + ''.join(f',{kind}s_alive,{kind}s' for kind in kinds) + ',params,params_left,macs,macs_left']
    for epoch in range(1, epochs + 1):
        left = ''.join(f',{8 - 4 * epoch // epochs},8' for _ in kinds)
        lines.append(f'{epoch},0.1,{2 / epoch:.9g},{1 - 0.5 / epoch:.6f},validation,{2.5 / epoch:.9g},'
                     f'{1 - 0.6 / epoch:.6f},0.99'
                     f'{left},100000,{100000 - 300 * epoch},4000000,{4000000 - 15000 * epoch}')
    return '\n'.join(lines) + '\n'


def factors(epochs, columns, negative=False):
    """Values that fall from 1, every other one to zero."""
    lines = ['epoch,' + ','.join(columns)]
    for epoch in range(1, epochs + 1):
        values = [max(0, 1 - epoch / epochs) if i % 2 else 1 - 0.5 * epoch / epochs for i in range(len(columns))]
        lines.append(','.join([str(epoch)] + [f'{-v if negative else v:.9g}' for v in values]))
    return '\n'.join(lines) + '\n'


def blocks(stages, depth):
    return [f'stage{i}.{j}.conv2[0]' for i in range(1, stages + 1) for j in range(depth)]


def neurons(layers, size):
    return [f'norm{i}_1[{j}]' for i in range(1, layers + 1) for j in range(size)]


def png_size(path):
    """(width, height) from the header of a PNG, checked to be one."""
    content = path.read_bytes()
    assert content[:8] == b'\x89PNG\r\n\x1a\n' and content[12:16] == b'IHDR' and content[-8:-4] == b'IEND'
    return struct.unpack('>II', content[16:24])


CASES = {   # epochs, columns of factors.csv, kinds in metrics.csv
    'blocks': (30, blocks(3, 3), ('block',)),
    'one epoch': (1, blocks(3, 1), ('block',)),
    'deep': (240, blocks(3, 18), ('block',)),
    'neurons': (40, neurons(13, 64), ('neuron',)),
    'groups and blocks': (20, [f'stage1.{i}.norm2[{j}]' for i in range(8) for j in range(32)]
                          + [f'stage1.{i}.norm3[0]' for i in range(8)], ('group', 'block')),
    'one factor': (5, ['body.3[0]'], ('block',)),
}


@pytest.mark.parametrize('case', CASES)
def test_figures_are_drawn_from_the_tables_alone(tmp_path, case):
    epochs, columns, kinds = CASES[case]
    (tmp_path / 'metrics.csv').write_text(metrics(epochs, kinds), 'utf-8')
    (tmp_path / 'factors.csv').write_text(factors(epochs, columns), 'utf-8')
    drawn = draw(RunFolder(tmp_path))
    assert [path.relative_to(tmp_path).as_posix() for path in drawn] \
        == ['figures/training.png', 'figures/factors.png', 'figures/alive.png']
    assert sorted(os.listdir(tmp_path / 'figures')) == ['alive.png', 'factors.png', 'training.png']
    for path in drawn:
        width, height = png_size(path)
        assert 400 <= width <= 3500 and 300 <= height <= 2000
        pixels = matplotlib.image.imread(str(path))
        assert 0.01 < (pixels[..., :3] < 0.9).any(axis=2).mean() < 0.9      # something is on it, and it is not black
        edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])[:, :3]
        assert (edge > 0.99).all()                                          # and nothing is cut off


def test_zeros_are_white_in_the_heat_map(tmp_path):
    """Values of 1 and 0 in two halves: the one coloured, the other white."""
    (tmp_path / 'metrics.csv').write_text(metrics(4), 'utf-8')
    share = []
    for value in (1, 0):
        rows = '\n'.join(f'{epoch},1,{value}' for epoch in range(1, 5))
        (tmp_path / 'factors.csv').write_text(f'epoch,a[0],b[0]\n{rows}\n', 'utf-8')
        pixels = matplotlib.image.imread(str(draw(RunFolder(tmp_path))[1]))
        height, width = pixels.shape[:2]
        inside = pixels[height // 4:height * 3 // 4, width // 4:width * 3 // 5, :3]
        share.append((inside.min(axis=2) < 0.9).mean())
    assert share[0] > 0.95 and 0.35 < share[1] < 0.65


def test_without_factors_there_are_curves_only(tmp_path):
    (tmp_path / 'metrics.csv').write_text(metrics(3, ()), 'utf-8')
    path, = draw(RunFolder(tmp_path))
    assert path.name == 'training.png' and png_size(path)[0] > 1000


def test_without_tables_there_is_nothing(tmp_path):
    assert draw(RunFolder(tmp_path)) == [] and list(tmp_path.iterdir()) == []


def test_negative_factors_are_drawn(tmp_path):
    (tmp_path / 'metrics.csv').write_text(metrics(3), 'utf-8')
    (tmp_path / 'factors.csv').write_text(factors(3, blocks(2, 2), negative=True), 'utf-8')
    assert all(png_size(path) for path in draw(RunFolder(tmp_path)))


def test_figures_are_replaced_whole(tmp_path, monkeypatch):
    (tmp_path / 'metrics.csv').write_text(metrics(3, ()), 'utf-8')
    path, = draw(RunFolder(tmp_path))
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('os.replace', full)
    with pytest.raises(SSSError, match='cannot write .*training.png: No space left on device'):
        draw(RunFolder(tmp_path))
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1
