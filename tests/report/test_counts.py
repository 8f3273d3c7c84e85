"""The count columns of the paper, counted from the networks themselves."""
import re

import pytest

from sss_gluon.report.published import Published, count_published, load_published
from sss_gluon.report.tables import counts_table


@pytest.fixture(scope='module')
def counted():
    rows = load_published(log=pytest.fail)
    return {(one.row.table, one.row.model): one for one in count_published(rows, pytest.fail)}


# Columns that the count rounds to exactly; params, params without BatchNorm and MACs (None: see below).
KNOWN = {
    ('imagenet', 'ResNet-50'): ('params, FLOPs', 25_549_480, 25_503_912, 4_089_184_256),
    ('imagenet', 'ResNet-41'): ('params, FLOPs', None, 25_307_304, 3_472_621_568),
    ('imagenet', 'ResNet-32'): ('params, FLOPs', None, 18_622_632, 2_817_523_712),
    ('imagenet', 'ResNet-26'): ('params, FLOPs', None, 15_591_592, 2_329_411_584),
    ('imagenet', 'ResNeXt-50'): ('params', 25_028_904, 24_960_680, 4_230_479_872),
    ('imagenet', 'PeleeNet'): ('params, FLOPs', 2_802_248, 2_792_520, 507_757_568),
    ('imagenet', 'VGG-16'): ('no', 138_365_992, 138_357_544, 15_470_264_320),
    ('imagenet', 'ResNet-34'): ('params, FLOPs', None, None, None),
    ('imagenet', 'ResNet-18'): ('params, FLOPs', None, None, None),
    ('structures', 'ResNet-41'): ('params, FLOPs', None, 25_307_304, 3_472_621_568),
    ('structures', 'ResNet-32'): ('params, FLOPs', None, 18_622_632, 2_817_523_712),
    ('structures', 'ResNet-26'): ('params, FLOPs', None, 15_591_592, 2_329_411_584),
    ('compared', 'ThiNet-Conv'): ('FLOPs', None, None, None),
    ('structures', 'ResNet-164 for CIFAR-10'): ('params, FLOPs', None, 1_423_034, 132_565_504),
    ('structures', 'ResNet-164 for CIFAR-100'): ('params, FLOPs', None, 1_476_628, 137_044_992),
    ('cifar10', 'ResNet-164 SSS'): ('params, FLOPs', None, 1_423_034, 132_565_504),
    ('cifar100', 'ResNet-164 SSS'): ('params, FLOPs', None, 1_476_628, 137_044_992),
}


@pytest.mark.parametrize('row', KNOWN)
def test_counts(counted, row):
    agrees, params, without_bn, macs = KNOWN[row]
    one = counted[row]
    assert one.agrees() == agrees
    for expected, found in ((params, one.size.params), (without_bn, one.size.params_without_bn),
                            (macs, one.size.macs)):
        assert expected is None or found == expected
    assert one.size.params_without_bn == pytest.approx(one.row.params, rel=4e-3)
    assert one.flops == pytest.approx(one.printed_flops, rel=8e-3)


def test_the_others_have_no_published_structure(counted):
    assert {row for row, one in counted.items() if one.size is None} == set(counted) - set(KNOWN)
    assert all(not counted[row].row.structure for row in set(counted) - set(KNOWN))
    assert not any(table == 'scratch' for table, _ in counted)     # they print no counts


def test_resnet18_by_hand(counted):
    """Stem, two basic blocks a stage, a 1x1 projection in the first of every stage, dense; at 224."""
    macs = 112 ** 2 * 49 * 3 * 64 + 512 * 1000
    size, inputs = 56, 64
    for channels in (64, 128, 256, 512):
        macs += size ** 2 * channels * (9 * inputs + 3 * 9 * channels + inputs)
        size, inputs = size // 2, channels
    assert counted['imagenet', 'ResNet-18'].size.macs == macs


def test_thinet_by_hand(counted):
    """VGG-16 with half of the channels up to stage 4: 2 FLOPs a MAC."""
    macs, inputs, size = 25_088 * 4096 + 4096 ** 2 + 4096 * 1000, 3, 224
    for widths in ((32,) * 2, (64,) * 2, (128,) * 3, (256,) * 3, (512,) * 3):
        for width in widths:
            macs += size ** 2 * 9 * inputs * width
            inputs = width
        size //= 2
    assert counted['compared', 'ThiNet-Conv'].flops == 2 * macs


def test_the_table_says_published_counted_and_difference(counted):
    table = counts_table(list(counted.values()))
    text = {(row[0], row[1]): row[2:] for row in table.text}
    assert text['imagenet', 'ResNet-50'] == [
        '25.5 M', '25,549,480', '+0.19 %', '25,503,912', '+0.02 %', '4.09 G', '4,089,184,256', '-0.02 %', 'derived',
        'params, FLOPs']
    assert text['imagenet', 'VGG-16'][5:8] == ['30.97 G', '30,940,528,640', '-0.10 %']
    assert text['compared', 'ResNet-50-pruned-A'] == ['–'] * 5 + ['3.07 G', '–', '–', 'recalled',
                                                                  'structure not published']
    assert text['cifar10', 'ResNet-164 SSS'][:7:3] + text['cifar10', 'ResNeXt-20 SSS'][:7] == [
        '84.75 %', '1,423,034', '132,565,504'] + ['76.57 %'] + ['–'] * 4 + ['59.21 %', '–']
    assert text['cifar10', 'ResNet-164 SSS'][5] == '53.53 %'
    assert [text['imagenet', name][0] for name in ('ResNeXt-50', 'PeleeNet')] == ['25.0 M', '2.8 M']
    data = {(row['table'], row['model']): row for row in table.data}['imagenet', 'ResNet-50']
    assert (data['params_published'], data['params_without_bn_difference'], data['flops_difference']) \
        == ('25500000', 3912, -815_744)
    assert 'VGG' in table.note and 'BatchNorm' in table.note and all(len(row) == len(table.headers)
                                                                     for row in table.text)


@pytest.mark.parametrize('change, message', [
    (dict(network='resnet5'), "network 'resnet5'"),
    (dict(structure='resnet27'), "structure 'resnet27' is not shipped.*resnet26"),
    (dict(structure='own', options={'depth': 3}), 'ResNet-26.*depth'),
    (dict(network='vgg16'), 'ResNet-26.*factor'),
])
def test_a_row_that_cannot_be_built_is_one_line(change, message, notes):
    row = next(row for row in load_published() if row.model == 'ResNet-26')
    one, = count_published([Published(**{**vars(row), **change})], notes.append)
    assert one.size is None and len(notes) == 1
    assert notes[0].startswith('published row ResNet-26 is not counted: ')
    assert re.search(message, notes[0])
