"""The published table: complete, readable without any rule but CSV's, and its structures are those that ship."""
import csv
import re

import pytest

from sss_gluon.report.published import COLUMNS, STATUSES, TABLE, Printed, comparable, flops_per_mac, load_published
from sss_gluon.report.summary import PAPER_DATA, stage_of
from sss_gluon.structures import load_structure


@pytest.fixture(scope='module')
def rows():
    return load_published(log=pytest.fail)


def test_every_row_is_there(rows):
    tables = {}
    for row in rows:
        tables[row.table] = tables.get(row.table, 0) + 1
    assert tables == {'imagenet': 14, 'structures': 5, 'scratch': 6, 'compared': 8, 'cifar10': 11, 'cifar100': 8}
    assert len({(row.table, row.model) for row in rows}) == len(rows)


def test_every_number_has_a_status_and_a_source(rows):
    for row in rows:
        assert row.source and row.dataset in PAPER_DATA
        for value, status in ((row.top1_error, row.top1_status), (row.top5_error, row.top5_status),
                              (row.params or row.macs or row.params_left or row.macs_left, row.counts_status)):
            assert (status in STATUSES) if value is not None else status == ''


def test_some_rows_by_hand(rows):
    by_name = {(row.table, row.model): row for row in rows}
    row = by_name['imagenet', 'ResNet-32']
    assert (row.top1_error, row.top5_error, row.params, row.flops_as_printed) == (25.82, 8.09, 18.6e6, 2.82e9)
    assert (row.top1_status, row.counts_status, row.structure) == ('cited', 'derived', 'resnet32')
    row = by_name['imagenet', 'ResNeXt-38']
    assert (row.top1_status, row.top5_status, row.counts_status, row.structure) == ('plot', 'recalled', 'plot', '')
    row = by_name['compared', 'VGG16-pruned']
    assert row.top1_error is None and row.top5_error == 15.5 and row.params is None
    row = by_name['cifar10', 'ResNet-164 SSS']
    assert (row.top1_error, row.params_left, row.macs_left, row.params) == (5.78, 84.75, 53.53, None)
    assert (row.top1_status, row.counts_status, row.structure) == ('cited', 'cited', 'cifar10_resnet86')
    assert by_name['cifar100', 'ResNeXt-20 SSS'].structure == '' and by_name['cifar100', 'ResNeXt-20'].top1_error == 28


def test_percentages_are_numbers_of_a_whole_network(rows):
    row = next(row for row in rows if row.model == 'ResNet-164 SSS').sized(2000, 10_000)
    assert (row.params, row.macs) == (pytest.approx(1695), pytest.approx(5353))
    assert row.params.equals(1695.09) and not row.params.equals(1695.11)        # 0.005 % of 2000 is 0.1
    other = next(row for row in rows if row.model == 'ResNet-32')
    assert other.sized(2000, 10_000) == other


def test_accuracies_of_the_later_project_are_errors_here(rows):
    """72.31 % right is 27.69 % wrong; the accuracy stands in the note."""
    scratch = [row for row in rows if row.table == 'scratch']
    assert [float(row.top1_error) for row in scratch] == [27.69, 26.59, 26.21, 25.33, 24.30, 23.83]
    for row in scratch:
        accuracy = float(row.note.split()[2].rstrip(','))
        assert row.top1_error + accuracy == pytest.approx(100)
    assert [row.epochs for row in scratch] == [None, 179, None, 145, None, 117]


def test_macs_are_counted_once(rows):
    """The VGG rows print twice the MACs."""
    for row in rows:
        if row.flops_as_printed:
            assert row.flops_as_printed == pytest.approx(flops_per_mac(row.network) * row.macs, rel=1e-9)
    assert flops_per_mac('vgg16') == flops_per_mac('cifar_vgg16') == 2 and flops_per_mac('resnet50') == 1


def test_kept_blocks_are_those_of_the_shipped_structures(rows):
    for row in rows:
        if row.table == 'structures':
            stages = {}
            for name, factor in load_structure(row.structure).factors.items():
                kept, size = stages.get(stage_of(name), (0, 0))
                stages[stage_of(name)] = kept + len(factor['kept']), size + factor['size']
            assert row.kept == ', '.join(f'{stage} {kept}/{size}' for stage, (kept, size) in stages.items())


@pytest.mark.parametrize('text, number, unit', [('25.5e6', 25.5e6, 1e5), ('4.20e9', 4.2e9, 1e7), ('508e6', 508e6, 1e6),
                                                ('27.54', 27.54, 0.01), ('138', 138, 1)])
def test_printed_numbers_keep_their_digits(text, number, unit):
    printed = Printed(text)
    assert printed == number and printed.unit == pytest.approx(unit)
    assert printed.equals(number + 0.49 * unit) and not printed.equals(number + 0.51 * unit)
    assert printed.equals(number - 0.49 * unit) and not printed.equals(number - 0.51 * unit)


@pytest.mark.parametrize('text', ['', 'nan', 'inf', '-3', '1e400', '1 2', '__import__("os")', '0x10', '1_0'])
def test_text_that_is_not_a_number(text):
    with pytest.raises(ValueError, match='is not a number'):
        Printed(text)


def rewrite(path, change):
    """A copy of the table, changed by ``change`` (a list of rows, lists of cells, to a list of rows)."""
    with open(TABLE, newline='', encoding='utf-8') as file:
        cells = change(list(csv.reader(file)))
    with open(path, 'w', newline='', encoding='utf-8') as file:
        csv.writer(file).writerows(cells)
    return path


def cell(line, column, value):
    def change(rows):
        rows[line - 1][COLUMNS.index(column)] = value
        return rows
    return change


DAMAGE = {      # change of the table: what is said, whether the other rows are left
    'a word for a number': (cell(2, 'top1_error', 'abc'), "line 2: top1_error 'abc'", True),
    'code for a number': (cell(3, 'params', '__import__("os")'), 'line 3: params ', True),
    'unknown status': (cell(4, 'top1_status', 'guessed'), "line 4: top1_status 'guessed' .*code, derived", True),
    'a number without status': (cell(4, 'counts_status', ''), "line 4: counts_status ''", True),
    'options that are no JSON': (cell(5, 'options', '{'), 'line 5: options .*JSON', True),
    'options that are a list': (cell(5, 'options', '[1]'), r'line 5: options \[1\]', True),
    'no model': (cell(6, 'model', ''), 'line 6: model is empty', True),
    'a short row': (lambda rows: rows[:4] + [rows[4][:3]] + rows[5:], 'line 5 .*columns', True),
    'a long row': (lambda rows: rows[:4] + [rows[4] + ['x']] + rows[5:], 'line 5 .*columns', True),
    'no column source': (lambda rows: [row[:-2] + row[-1:] for row in rows], 'has no column source', False),
    'empty': (lambda rows: [], 'has no column table, ', False),
}


@pytest.mark.parametrize('case', DAMAGE)
def test_a_damaged_row_is_one_line_and_the_rest_is_read(tmp_path, case, notes):
    change, message, others = DAMAGE[case]
    rows = load_published(rewrite(tmp_path / 'mine.csv', change), notes.append)
    assert len(rows) == (len(load_published()) - 1 if others else 0) and len(notes) == 1
    assert notes[0].startswith(str(tmp_path / 'mine.csv'))
    assert re.search(message, notes[0])


@pytest.mark.parametrize('content, message', [(None, 'No such file'), (b'\xff\xfe\x00', 'cannot be read')])
def test_a_table_that_cannot_be_read_is_one_line(tmp_path, content, message, notes):
    path = tmp_path / 'mine.csv'
    if content is not None:
        path.write_bytes(content)
    assert load_published(path, notes.append) == []
    assert len(notes) == 1 and re.search(message, notes[0])


@pytest.mark.parametrize('query, models', [
    (('imagenet', 'resnet50', 'none'), ['ResNet-50']),
    (('imagenet', 'resnet50', 'sss', None, 3.5e9), ['ResNet-41']),
    (('imagenet', 'resnet50', 'sss', None, 2.4e9), ['ResNet-26']),
    (('imagenet', 'resnet50', 'sss', 'resnet32', 2.4e9), ['ResNet-32']),
    (('imagenet', 'resnet50', 'scratch', 'resnet26', 2.3e9), ['ResNet-26 scratch-E', 'ResNet-26 scratch-B']),
    (('imagenet', 'vgg16', 'sss', None, 1e9), ['VGG-16 SSS (conv1-4)']),
    (('imagenet', 'vgg16', 'taylor', None, 1e9), ['VGG16-pruned']),
    (('imagenet', 'resnet50', 'l1', None, 3.4e9), ['ResNet-50-pruned-B']),
    (('fashion-mnist', 'resnet50', 'none'), []),
    (('imagenet', 'resnet50', 'random'), []),
    (('imagenet', 'resnet50', 'scratch', None, 2.3e9), []),
    (('cifar10', 'cifar_resnet20', 'none'), ['ResNet-20']),
    (('cifar100', 'cifar_resnext164', 'sss', None, 1e8), ['ResNeXt-164 SSS']),
    (('cifar10', 'cifar_vgg16', 'sss', None, 1e8), ['VGG-16 SSS']),
])
def test_comparable_rows(rows, query, models):
    assert [row.model for row in comparable(rows, *query)] == models
