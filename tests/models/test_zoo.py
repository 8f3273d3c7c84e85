"""The table of GluonCV's networks: which are in it, how a row is made, and what the committed table shows."""
import re
import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

from sss_gluon import get_model, scaling_factors
from sss_gluon.structures import MaskedCounter

FOLDER = Path(__file__).resolve().parents[2] / 'scripts/zoo'


@pytest.fixture(scope='module')
def zoo():
    """The modules of the program by name."""
    pytest.importorskip('gluoncv')
    sys.path.insert(0, str(FOLDER))
    import measure
    import names
    import table
    import zoo
    yield dict(measure=measure, names=names, table=table, zoo=zoo)
    sys.path.remove(str(FOLDER))


# --- which networks ---

NAMES = {       # module, name: (task, size), or None for a network that is not in the table
    ('resnetv1b', 'resnet50_v1b'): ('classification', 64),
    ('cifarresnet', 'cifar_resnet20_v1'): ('classification', 32),
    ('densenet', 'densenet121'): ('classification', 224),
    ('yolo.darknet', 'darknet53'): ('classification', 64),
    ('yolo.yolo3', 'yolo3_darknet53_coco'): ('detection', 64),
    ('yolo.yolo3', 'yolo3_darknet53_voc'): None,            # the one before, with another head
    ('yolo.yolo3', 'yolo3_darknet53_custom'): None,
    ('rcnn.faster_rcnn.predefined_models', 'faster_rcnn_fpn_resnet50_v1b_coco'): ('detection', 64),
    ('rcnn.faster_rcnn.doublehead_rcnn', 'custom_faster_rcnn_fpn'): None,
    ('ssd.presets', 'ssd_300_vgg16_atrous_voc'): ('detection', 300),
    ('hrnet', 'hrnet_w18_c'): ('classification', 64),
    ('hrnet', 'hrnet_w48_s'): ('segmentation', 64),
    ('fcn', 'fcn_resnet50_voc'): ('segmentation', 64),
    ('simple_pose.mobile_pose', 'mobile_pose_mobilenet1.0'): ('pose', 64),
    ('quantized.quantized', 'mobilenet1.0_int8'): None,
    ('action_recognition.slowfast', 'slowfast_4x16_resnet50_kinetics400'): None,
    ('siamrpn.siam_net', 'siamrpn_alexnet_v2_otb15'): None,
}


def test_the_rule_that_chooses_networks(zoo):
    def constructor(module):
        def build():
            pass
        build.__module__ = f'gluoncv.model_zoo.{module}'
        return build

    found = zoo['names'].networks({name: constructor(module) for module, name in NAMES})
    assert {network.name: (network.task, network.size) for network in found} == \
        {name: expected for (_, name), expected in NAMES.items() if expected}
    assert [network.task for network in found] == sorted((network.task for network in found), key=[
        'classification', 'detection', 'segmentation', 'pose'].index)
    assert not any(value for network in found for key, value in network.options.items() if 'pretrained' in key)


# --- one row ---

def test_half_of_the_macs_go_and_no_layer_is_emptied(zoo):
    choices = []
    for seed in (0, 0, 1):
        net = get_model('cifar_resnet20', factors=['neuron', 'block'])
        net.initialize()
        net(mx.nd.zeros((1, 3, 32, 32)))
        zoo['measure'].zero_half(net, (1, 3, 32, 32), np.random.RandomState(seed))
        values = {factor.name: factor.values() for factor in scaling_factors(net)}
        assert all((value != 0).any() for value in values.values() if value.size > 1)
        share = MaskedCounter(net, (1, 3, 32, 32)).share(values).macs
        assert abs(share - 0.5) <= zoo['measure'].NEAR
        choices.append(np.concatenate(list(values.values())))
    assert (choices[0] == choices[1]).all() and ((choices[0] == 0) != (choices[2] == 0)).any()


def test_a_row_of_a_network_that_is_done(zoo):
    row = zoo['measure'].measure(zoo['names'].Network('cifar_resnet20_v2', 'classification', 'cifarresnet', 32))
    assert set(row) == set(zoo['table'].COLUMNS)
    # three blocks of each of three widths, with a BatchNorm inside; the shortcut in front of a stage keeps its channels
    assert row['blocks'] == 9 and row['neurons'] == 3 * (16 + 32 + 64) and row['groups'] == 0
    assert abs(row['compact_macs'] / row['macs'] - 0.5) <= zoo['measure'].NEAR
    assert float(row['difference']) <= zoo['measure'].ROUNDING
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        assert row['reason'].startswith('onnx: ONNX needs the packages')
    else:
        assert not row['reason'] and 0 < float(row['onnx_difference']) <= zoo['measure'].ROUNDING


@pytest.mark.parametrize('name, size, stage, said', [
    ('resnet50_v1b_gn', 64, 'add_factors', 'traced'),           # GluonCV's GroupNorm works on arrays alone
    ('squeezenet1.1', 8, 'build', ''),                          # too small an image
    ('nothing', 64, 'build', 'ValueError'),
])
def test_a_row_says_what_failed_and_why(zoo, name, size, stage, said):
    row = zoo['measure'].measure(zoo['names'].Network(name, 'classification', 'any', size))
    assert row['reason'].startswith(f'{stage}: ') and said in row['reason'] and '\n' not in row['reason']
    assert row['difference'] == row['onnx_difference'] == '' and row['seconds'] >= 0


def test_outputs_of_any_form_are_compared(zoo):
    class Net:
        def __call__(self, image):
            return {'a': [image, None], 'b': (image * 2,)}

    one, two = (zoo['measure'].outputs(Net(), mx.nd.array(values)) for values in ([1, -4], [1, -3]))
    assert [value.tolist() for value in one] == [[1, -4], [2, -8]]
    assert zoo['measure'].difference(one, two) == 0.25 and zoo['measure'].difference(one, one) == 0


# --- the table ---

def row(table, name, **known):
    return {**dict.fromkeys(table.COLUMNS, ''), 'name': name, 'task': 'classification', 'family': 'f', 'size': 64,
            'seconds': 1.5, **known}


def test_the_table_is_read_as_it_was_written(zoo, tmp_path):
    table = zoo['table']
    rows = [row(table, 'a', reason='build: no, "never"'), row(table, 'b', neurons=3, difference='1.0e-07')]
    table.write(tmp_path / 'zoo.csv', rows)
    found = table.read(tmp_path / 'zoo.csv')
    assert found == [{column: str(each[column]).replace('"', "'") for column in table.COLUMNS} for each in rows]
    assert [table.is_done(each) for each in found] == [False, True]
    assert table.read(tmp_path / 'none.csv') == []


def test_the_summary_replaces_what_is_between_the_marks(zoo, tmp_path):
    table = zoo['table']
    page = tmp_path / 'README.md'
    page.write_text(f'before\n{table.BEGIN}\nold\n{table.END}\nafter\n', 'utf-8')
    rows = [row(table, 'a', neurons=10, groups=0, blocks=2, macs=200, compact_macs=90, difference='1.0e-07',
                onnx_difference='2.0e-06'),
            row(table, 'b', neurons=1000, groups=0, blocks=2, macs=100, compact_macs=52, difference='3.0e-07',
                onnx_difference='1.0e-06'), row(table, 'c', reason='build: why not')]
    for _ in range(2):
        table.put(page, table.summary(rows))
    text = page.read_text('utf-8')
    assert text.startswith('before\n') and text.endswith('\nafter\n') and 'old' not in text
    assert re.search(r'\| classification +\| 2 +\| 3 +\| 67 % ', text)
    assert re.search(r'\| f +\| classification +\| 2 of 3 +\| 10 to 1,000 +\| 0 +\| 2 +\| 45 to 52 +\| 3.0e-07 +'
                     r'\| 2.0e-06 ', text)
    assert re.search(r'\| c +\| build: why not \|', text)


def test_a_run_continues_where_it_stopped(zoo, tmp_path, monkeypatch):
    program, table = zoo['zoo'], zoo['table']
    networks = [zoo['names'].Network(name, 'classification', 'f', 64) for name in ('a1', 'a2', 'b1', 'b2')]
    made = []

    def apart(network, seconds):
        if len(made) == stop:
            raise KeyboardInterrupt
        made.append(network.name)
        return row(table, network.name, neurons=len(made))

    monkeypatch.setattr(program, 'registered', lambda: networks)
    monkeypatch.setattr(program, 'apart', apart)
    stop = 2
    with pytest.raises(KeyboardInterrupt):
        program.main(['--folder', str(tmp_path)])
    stop = None
    assert program.main(['--folder', str(tmp_path)]) == 0 and made == ['a1', 'a2', 'b1', 'b2']
    assert program.main(['--folder', str(tmp_path)]) == 0 and len(made) == 4
    assert program.main(['--folder', str(tmp_path), '--only', '^a|b2']) == 0 and made[4:] == ['a1', 'a2', 'b2']
    assert [(each['name'], each['neurons']) for each in table.read(tmp_path / 'zoo.csv')] == \
        [('a1', '5'), ('a2', '6'), ('b1', '3'), ('b2', '7')]


def test_the_committed_table_holds_what_it_promises(zoo):
    table = zoo['table']
    rows = table.read(FOLDER / 'zoo.csv')
    assert [each['name'] for each in rows] == [network.name for network in zoo['zoo'].registered()]
    images = [each for each in rows if each['task'] == 'classification']
    others = [each for each in rows if each['task'] != 'classification']
    assert len(images) >= 100 and sum(map(table.is_done, images)) >= 0.95 * len(images)
    assert len(others) >= 10 and sum(map(table.is_done, others)) >= 8
    for each in filter(table.is_done, rows):
        assert max(float(each['difference']), float(each['onnx_difference'])) <= zoo['measure'].ROUNDING
        assert abs(int(each['compact_macs']) / int(each['macs']) - 0.5) < 0.1, each['name']
        assert int(each['neurons']) + int(each['groups']) + int(each['blocks']) > 0
    assert table.summary(rows) in (FOLDER / 'README.md').read_text('utf-8')


@pytest.mark.slow
def test_the_quick_set_is_done(command, tmp_path):
    """Each network in a process of its own; and one that takes longer than it may."""
    pytest.importorskip('gluoncv')
    pytest.importorskip('onnxruntime')
    done = command(['-W', 'ignore', FOLDER / 'zoo.py', '--quick', '--folder', tmp_path], tmp_path, timeout=590)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len((tmp_path / 'zoo.csv').read_text('utf-8').splitlines()) == 1 + 12
    done = command(['-W', 'ignore', FOLDER / 'zoo.py', '--only', '^resnest269$', '--seconds', '1', '--folder',
                    tmp_path / 'late'], tmp_path)
    assert done.returncode == 0 and 'resnest269: more than 1 s' in done.stdout, done.stdout + done.stderr
