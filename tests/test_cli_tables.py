"""What is printed: numbers by hand, and lines that say what was removed and what it cost."""
import pytest

from sss_gluon import Structure
from sss_gluon.cli.tables import (
    change,
    describe_compact,
    describe_count,
    describe_evaluation,
    describe_export,
    describe_target,
    removed,
)
from sss_gluon.deploy.evaluate import Row
from sss_gluon.deploy.export import Exported
from sss_gluon.deploy.sizes import sizes
from sss_gluon.graph import Count, LayerCount
from sss_gluon.models import ARCHITECTURES
from sss_gluon.structures import Compact
from sss_gluon.train import Config
from sss_gluon.train.accuracy import Accuracy


def structure(layers=(), **factors):
    """Of rows (kind, size, kept), and of layers (outputs before, after)."""
    layers = {str(i): dict(before=[before, 3], after=after and [after, 3]) for i, (before, after) in enumerate(layers)}
    return Structure(None, (1, 3, 32, 32), {name.replace('_', '.'): dict(kind=kind, size=size, kept=kept)
                                            for name, (kind, size, kept) in factors.items()}, layers)


BEFORE = Count(1_000_000, 900_000, 2_500_000_000, [
    LayerCount('stem', 'Convolution', (1, 16, 32, 32), 432, 442_368),
    LayerCount('norm', 'BatchNorm', (1, 16, 32, 32), 32, 0),
    LayerCount('gone', 'Convolution', (1, 16, 32, 32), 2304, 2_359_296),
    LayerCount('output', 'FullyConnected', (1, 10), 170, 160)], {'Activation': 2, 'Pooling': 1})
AFTER = Count(250_000, 200_000, 500_000_000, [
    LayerCount('stem', 'Convolution', (1, 8, 32, 32), 216, 221_184),
    LayerCount('norm', 'BatchNorm', (1, 8, 32, 32), 16, 0),
    LayerCount('output', 'FullyConnected', (1, 10), 90, 80)], {'Activation': 1})


@pytest.mark.parametrize('before, after, text', [
    (3, 2, '-33.3 %'), (100, 100, '+0.0 %'), (10, 15, '+50.0 %'), (7, 0, '-100.0 %'), (0, 5, 'n/a'),
])
def test_change(before, after, text):
    assert change(before, after) == text


@pytest.mark.parametrize('factors, text', [
    ({}, 'nothing, the network has no factors'),
    (dict(a=('block', 1, [0]), b=('block', 1, [0])), '0 of 2 blocks'),
    (dict(stage1_0=('block', 1, []), stage1_1=('block', 1, [0]), stage2_0=('block', 1, [])),
     '2 of 3 blocks (stage1.0, stage2.0)'),
    (dict(a=('neuron', 8, [0, 3, 4]), b=('neuron', 4, [])), '9 of 12 neurons (b)'),
    (dict(a=('group', 4, [0, 1, 2]), b=('block', 1, [])), '1 of 4 groups, 1 of 1 blocks (b)'),
    ({f's_{i}': ('block', 1, []) for i in range(13)}, '13 of 13 blocks'),
])
def test_removed(factors, text):
    assert removed(structure(**factors)) == text


def test_neurons_inside_removed_blocks_are_told_apart():
    found = structure(a=('neuron', 8, [0, 3, 4]), b=('neuron', 16, []), c=('neuron', 4, []), d=('block', 1, []))
    found.gone_with = dict(b=13)
    assert removed(found) == '12 of 28 neurons (c), 1 of 1 blocks (d), and with them 13 neurons that were not zero'


def make_compact(unhandled=(), layers=()):
    kept = structure(layers, a=('block', 1, []), b=('block', 1, [0]))
    return Compact(None, BEFORE, AFTER, 3.21e-7, kept, list(unhandled), None)


def test_describe_compact():
    text = describe_compact(make_compact(), 'runs/mine')
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.startswith(('params', 'MACs'))}
    assert rows == {'params': ['params', '1,000,000', '250,000', '-75.0', '%'],
                    'MACs': ['MACs', '2,500,000,000', '500,000,000', '-80.0', '%']}
    assert text.startswith('removed: 1 of 2 blocks (a)\n')
    assert 'same outputs: the largest difference is 3.2e-07 of the largest output' in text
    assert ' '.join(text.split()).endswith(
        'written: runs/mine/compact/model-symbol.json, model-0000.params, model-structure.json')
    assert 'unknown' not in text and 'export' not in text and max(map(len, text.splitlines())) <= 80


def test_describe_compact_names_unknown_operators():
    assert 'unknown: Custom, topk' \
        in describe_compact(make_compact(['Custom', 'topk']), 'r')


ROWS = [Row('unpruned', Accuracy(0.1, 0.95, 0.999, 300), 1_000_000, 2_500_000_000, {1: 0.004, 64: 0.128}),
        Row('compact', Accuracy(0.1, 0.9533333, 0.999, 300), 250_000, 500_000_000, {1: 0.002, 64: 0.032}),
        Row('baseline', Accuracy(0.2, 0.96, 1.0, 300), 1_000_000, 2_500_000_000, {1: 0.003, 64: 0.128})]


def test_describe_evaluation():
    text = describe_evaluation(ROWS, structure(a=('block', 1, [])))
    lines = text.splitlines()
    table = {line.split()[0]: line.split() for line in lines[3:6]}
    assert table == {
        'unpruned': ['unpruned', '95.00%', '99.90%', '1,000,000', '2,500,000,000', '4.00', '128.00'],
        'compact': ['compact', '95.33%', '99.90%', '250,000', '500,000,000', '2.00', '32.00'],
        'baseline': ['baseline', '96.00%', '100.00%', '1,000,000', '2,500,000,000', '3.00', '128.00']}
    assert lines[1].split()[-4:] == ['for', '1', 'for', '64']
    assert lines[6:9] == ['accuracy on 300 test images: one image is 0.33 points; ms for a batch',
                          'removed: 1 of 1 blocks (a)', '']
    assert [line.split() for line in lines[12:]] == [
        ['unpruned', '+0.33', 'points', '-75.0', '%', '-80.0', '%', '2.00', 'x', '4.00', 'x'],
        ['baseline', '-0.67', 'points', '-75.0', '%', '-80.0', '%', '1.50', 'x', '4.00', 'x']]


def test_the_longest_evaluation_fits_a_terminal():
    """VGG-16 on ImageNet beside another run, and twelve blocks with long names."""
    sizes = dict(unpruned=(138_357_544, 15_470_264_320), compact=(130_500_000, 7_667_000_000),
                 vgg16_dense=(138_357_544, 15_470_264_320), resnet50_dense=(25_549_480, 4_089_184_256))
    rows = [Row(name, Accuracy(1.1, 0.7351, 0.9155, 50_000), params, macs, {1: 0.31234, 64: 9.87654})
            for name, (params, macs) in sizes.items()]
    text = describe_evaluation(rows, structure(**{f'stage{i}_10_conv2': ('block', 1, []) for i in range(12)}))
    assert max(map(len, text.splitlines())) <= 80 and text.count('stage') == 12


@pytest.mark.parametrize('settings, text', [
    (dict(target_macs=0.25), 'asked for at most 25.0 % of the MACs; compact has 20.0 %'),
    (dict(target_params=0.333), 'asked for at most 33.3 % of the params; compact has 25.0 %'),
    (dict(target_latency=0.5), 'asked for at most 50.0 % of the latency; compact has 50.0 %'),
    (dict(target_latency=0.5, latency_batch=64), 'asked for at most 50.0 % of the latency; compact has 25.0 %'),
    (dict(target_latency=0.5, latency_batch=8), None), ({}, None),
])
def test_describe_target(settings, text):
    assert describe_target(Config(**settings), ROWS) == text
    assert describe_target(Config(**settings), ROWS[:1]) is None


def test_a_target_of_the_latency_was_measured_with_the_fastest_alignment():
    rows = [*ROWS, ROWS[1]._replace(name='compact align 16', seconds={1: 0.001, 64: 0.016})]
    assert describe_target(Config(target_latency=0.3), rows) == \
        'asked for at most 30.0 % of the latency; compact has 50.0 %, compact align 16 has 25.0 %'
    assert describe_target(Config(target_macs=0.2), rows) == 'asked for at most 20.0 % of the MACs; compact has 20.0 %'


SLOW = [    # seconds of the compact network at batch 1 and 64, widths before and after, words
    ('faster', (0.003, 0.1), [(64, 13)], []),
    ('not faster at one batch', (0.004, 0.1), [(64, 13), (64, 16), (64, 64), (10, 10), (32, None)],
     ['not faster in MXNet at batch 1: 1 of 2 narrowed layers', 'sss-gluon export runs/mine measures which']),
    ('slower', (0.005, 0.2), [(64, 13), (64, 7)],
     ['not faster in MXNet at batch 1 and 64: 2 of 2 ', 'export runs/mine']),
    ('slower, but not because of odd widths', (0.005, 0.1), [(64, 16), (64, 8)],
     ['compact is not faster in MXNet at batch 1; sss-gluon export runs/mine --format onnx measures it']),
]


@pytest.mark.parametrize('name, seconds, layers, words', SLOW, ids=[row[0] for row in SLOW])
def test_a_compact_network_that_is_not_faster_says_why(name, seconds, layers, words):
    rows = [ROWS[0], ROWS[1]._replace(seconds=dict(zip((1, 64), seconds)))]
    text = ' '.join(describe_evaluation(rows, structure(layers), 'runs/mine').split())
    assert ('not faster' in text) == bool(words) and all(word in text for word in words)
    assert ('fills them up' in text) == any('narrowed' in word or '2 of 2' in word for word in words)


def test_what_computes_as_much_need_not_be_faster():
    same = ROWS[0]._replace(name='compact')
    assert 'not faster' not in describe_evaluation([ROWS[0], same], structure([(64, 13)]), 'runs/mine')


@pytest.mark.parametrize('layers, odd', [([], None), ([(64, 13), (64, 16)], None), ([(64, 64), (10, 10)], None),
                                         ([(64, 13), (64, 20), (64, 16)], '2 of 3 narrowed layers')])
def test_prune_points_to_odd_widths_where_most_are_odd(layers, odd):
    text = ' '.join(describe_compact(make_compact(layers=layers), 'runs/mine').split())
    assert (odd in text and 'sss-gluon export runs/mine measures' in text) if odd else 'odd' not in text


def test_describe_evaluation_of_one_network():
    lines = describe_evaluation(ROWS[:1]).splitlines()
    assert len(lines) == 5 and 'against' not in lines[-1] and 'removed' not in ''.join(lines)


@pytest.mark.parametrize('classes, shown', [(2, False), (10, False), (20, True), (1000, True)])
def test_the_first_five_guesses_count_where_there_are_many_classes(classes, shown):
    text = describe_evaluation([row._replace(classes=classes) for row in ROWS])
    assert ('top-5' in text) == ('99.90%' in text) == shown


def test_describe_count():
    lines = describe_count(BEFORE).splitlines()
    assert [line.split() for line in lines[2:6]] == [
        ['stem', 'Convolution', '16x32x32', '432', '442,368'], ['norm', 'BatchNorm', '16x32x32', '32', '0'],
        ['gone', 'Convolution', '16x32x32', '2,304', '2,359,296'], ['output', 'FullyConnected', '10', '170', '160']]
    assert ' '.join(' '.join(lines[-3:]).split()) == (
        'total: 1,000,000 params (900,000 without BatchNorm), 2,500,000,000 MACs (5.000 GFLOPs at 2 FLOPs per MAC) '
        'not counted: 2 Activation, 1 Pooling')
    assert max(map(len, lines)) <= 80


def test_describe_count_before_and_after():
    text = describe_count(BEFORE, AFTER)
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines()[2:6]}
    assert rows == {'stem': ['16x32x32', '8', '432', '216', '442,368', '221,184'],
                    'norm': ['16x32x32', '8', '32', '16', '0', '0'],
                    'gone': ['16x32x32', '-', '2,304', '-', '2.36', 'M', '-'],
                    'output': ['10', '10', '170', '90', '160', '80']}
    assert 'after: 250,000 params (200,000 without BatchNorm), 500,000,000 MACs (1.000 GFLOPs' in ' '.join(text.split())
    assert max(map(len, text.splitlines())) <= 80
    assert 'change: params -75.0 %, MACs -80.0 %' in text


@pytest.mark.parametrize('name', sorted(ARCHITECTURES))
def test_every_network_fits_a_terminal_before_and_after(name):
    size, _ = sizes(name)
    for text in (describe_count(size), describe_count(size, size)):
        assert max(map(len, text.splitlines())) <= 80 and len(text.splitlines()) > len(size.layers)


def test_long_names_of_layers_go_on_below_at_a_dot():
    name = 'features.stages.3.blocks.11.downsample.body.conv1.weight_quantized'
    layer = LayerCount(name, 'Convolution', (1, 2048, 224, 224), 102_760_448, 925_000_000)
    whole = Count(102_760_448, 102_760_448, 1_849_688_064, [layer], {})
    for text in (describe_count(whole), describe_count(whole, whole)):
        lines = text.splitlines()
        cells = [line.split()[0] for line in lines[2:lines.index('')]]
        assert ''.join(cells) == name and all(cell.startswith('.') for cell in cells[1:]) and len(cells) > 1
        assert max(map(len, lines)) <= 80


def test_describe_export():
    accuracy = Accuracy(0.1, 0.99, 1.0, 300)
    rows = [Exported('float32', 'MXNet', (), 0, accuracy, 3.1e-7, {1: 0.001, 64: 0.02}),
            Exported('float32', 'ONNX Runtime', ('model.onnx',), 280_073, accuracy, 2e-7, {1: 0.0005, 64: 0.01}),
            Exported('int8', 'MXNet', ('model-int8-symbol.json', 'model-int8-0000.params'), 304_073,
                     accuracy._replace(top1=0.98), 0.04, {1: 0.002, 64: 0.005})]
    lines = describe_export(rows, 'runs/mine/deploy').splitlines()
    assert [line.split() for line in lines[3:6]] \
        == [['float32', 'MXNet', '-', '99.00%', '3.1e-07', '1.00', '20.00'],
            ['float32', 'ONNX', 'Runtime', '280,073', '99.00%', '2.0e-07', '0.50', '10.00'],
            ['int8', 'MXNet', '304,073', '98.00%', '4.0e-02', '2.00', '5.00']]
    assert lines[6].startswith('accuracy on 300 test images') and max(map(len, lines)) <= 80
    comparison = [line.split() for line in lines if ' in ' in line and 'points' in line]
    assert comparison == [['float32', 'in', 'ONNX', 'Runtime', '+0.00', 'points', '2.00', 'x', '2.00', 'x'],
                          ['int8', 'in', 'MXNet', '-1.00', 'points', '0.50', 'x', '4.00', 'x']]
    assert ' '.join(' '.join(lines).split()).endswith(
        'written: runs/mine/deploy/model.onnx, model-int8-symbol.json, model-int8-0000.params')
