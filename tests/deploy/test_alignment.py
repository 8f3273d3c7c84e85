"""The alignment of an export is measured: the fastest wins, of equals the smallest, and what it gains is said."""
import importlib
import shutil

import numpy as np
import pytest

import sss_gluon as sss
from sss_gluon import timing
from sss_gluon.deploy import alignment, export
from sss_gluon.deploy.alignment import Alignment, fastest_alignment
from sss_gluon.graph.alignment import compact_forms
from sss_gluon.graph.fold import fold
from sss_gluon.graph.trace import trace

SHAPE = (1, 3, 8, 8)
IMAGES = np.zeros((2, *SHAPE[1:]), 'float32')
LEFT = (5, 11, 35)      # neurons of three layers with 16, 24 and 40


@pytest.fixture
def net(fill, set_factors):
    net = fill(sss.get_model('cifar_vgg16', stages=((16,), (24,), (40,))))
    return set_factors(net, {factor.name: [1] * left + [0] * (factor.parameter.shape[0] - left)
                             for factor, left in zip(sss.scaling_factors(net), LEFT)})


@pytest.fixture
def clock(monkeypatch):
    """A function that sets the seconds of each alignment, measured one after the other; the calls that were made."""
    made = []

    def set_seconds(*seconds, noise=0.0):
        random = np.random.RandomState(0)

        def timed(call, *rest):
            mine = seconds[len(made)]
            made.append(call)
            return lambda: mine * (1 + noise * random.uniform(-1, 1))
        monkeypatch.setattr(timing, 'timed', timed)
        monkeypatch.setattr(timing, 'LASTING', 0.0)
        monkeypatch.setattr(timing, 'AT_MOST', 5.0)
        return made
    return set_seconds


def test_forms_differ_in_their_widths(net):
    forms = compact_forms(fold(trace(net, SHAPE)))
    found = {align: [value.shape[0] for value in form.values.values() if value.ndim == 4]
             for align, form in forms.items()}
    assert found == {1: [5, 11, 35], 8: [8, 16, 40], 16: [16, 16, 40], 32: [16, 24, 40]}


@pytest.mark.parametrize('changed, alignments', [
    (dict(zip(range(3), (16, 24, 40))), [1]),   # nothing is zero
    (dict(zip(range(3), (8, 16, 32))), [1, 16, 32]), (dict(zip(range(3), (16, 16, 40))), [1, 32]),
])
def test_forms_of_the_same_widths_are_one(net, changed, alignments, set_factors):
    factors = sss.scaling_factors(net)
    set_factors(net, {factors[i].name: [1] * left + [0] * (factors[i].parameter.shape[0] - left)
                      for i, left in changed.items()})
    assert list(compact_forms(fold(trace(net, SHAPE)))) == alignments


@pytest.mark.parametrize('seconds, align, tied, said', [        # of alignments 1, 8, 16
    ((3.0, 2.0, 4.0), 8, (), 'align 8, measured in X at batch 2: 1.50 x as fast as align 1, 2.00 x as fast as 16'),
    ((2.02, 2.0, 2.01), 1, (8, 16), '(8 and 16: as fast within noise, and larger)'),
    ((2.1, 2.0, 2.01), 8, (16,), '1.05 x as fast as align 1'),
    ((3.0, 3.0, 1.0), 16, (), 'align 16, measured in X'),
])
def test_the_smallest_of_the_fastest(seconds, align, tied, said):
    found = alignment._chosen({key: np.full(15, value) for key, value in zip((1, 8, 16), seconds)})
    assert (found.align, found.tied) == (align, tied) and said in found.describe('X', 2)


def test_what_rounds_scatter_is_a_tie():
    """5 % apart: where quarters of the rounds say anything from 0.7 to 1.4 that is noise, and else it is not."""
    scatter, quiet = (np.resize(values, 20) for values in ([0.7, 1.0, 1.4, 1.2], [0.999, 1.0, 1.001, 1.0]))
    scatter[:4] = 0.9       # the tenth percentile of all
    for rounds, align, busy in ((1.05 * scatter / 0.9, 1, True), (1.05 * quiet, 8, False)):
        found = alignment._chosen({1: rounds, 8: np.ones(20)})
        assert found.align == align and ('This machine is busy' in found.describe('X', 1)) == busy


def test_what_else_the_machine_does_changes_nothing():
    """Most rounds take ten times as long."""
    slow = np.resize([1, 10, 10], 18)
    assert alignment._chosen({1: 1.5 * slow, 8: slow}) == (8, {1: 1.5}, None, (), pytest.approx(0))


@pytest.mark.parametrize('dense, said', [(4.0, '; 2.00 x as fast as the unpruned network'),
                                         (1.0, 'The unpruned network is 2.00 x as fast: pruning makes')])
def test_the_unpruned_network_is_measured_too(dense, said):
    found = alignment._chosen({1: np.full(5, 3.0), 8: np.full(5, 2.0), alignment.DENSE: np.full(5, dense)})
    assert (found.align, found.dense) == (8, dense / 2) and said in found.describe('MXNet', 1)


@pytest.mark.parametrize('runtime', ['MXNet', 'ONNX Runtime'])
def test_every_form_is_measured_in_its_runtime(net, clock, runtime):
    if runtime != 'MXNet':
        pytest.importorskip('onnxruntime')
    made = clock(2.0, 3.0, 1.0, 1.5, noise=0.005)
    found = fastest_alignment(net, SHAPE, runtime, IMAGES)     # align 32 gives the widths before: no fifth
    assert len(made) == 4 and found.align == 16 and found.dense is None
    assert {align: round(gain, 1) for align, gain in found.gains.items()} == {1: 2.0, 8: 3.0, 32: 1.5}
    widths = [sum(np.prod(value.shape) for value in form.values.values())
              for form in compact_forms(fold(trace(net, SHAPE))).values()]
    assert widths == sorted(widths) and len(set(widths)) == 4
    for call in made:
        output = call()
        assert (output[0] if isinstance(output, list) else output).shape == (2, 10)


def test_nothing_to_choose_is_not_measured(fill, set_factors, clock):
    net = fill(sss.get_model('cifar_resnet20', depths=(2, 1, 1), widths=(4, 6, 8)))
    set_factors(net, {'stage1.1.conv2': 0})
    made = clock()
    assert fastest_alignment(net, SHAPE, 'MXNet', IMAGES) == Alignment(1, {}) and not made


def test_export_takes_it_and_says_so(finished, tmp_path, monkeypatch):
    shutil.copytree(finished, tmp_path / 'run')
    said, asked = [], []
    chosen = Alignment(8, {1: 1.5}, 2.5)
    monkeypatch.setattr(importlib.import_module('sss_gluon.deploy.export'), 'fastest_alignment',
                        lambda net, shape, runtime, images: asked.append((runtime, len(images))) or chosen)
    row, = export(tmp_path / 'run', batch=4, log=said.append)
    assert asked == [('MXNet', 4)] and row.align == 8 and said == [chosen.describe('MXNet', 4)]
    by_hand, = export(tmp_path / 'run', align=1, log=said.append)
    assert by_hand.align == 1 and len(asked) == len(said) == 1 and by_hand.bytes < row.bytes
