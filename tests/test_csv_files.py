"""CSV files: columns, damage with its line, and files that appear whole."""
import csv

import pytest

from sss_gluon.csv_files import EpochTable, csv_text, read_csv, write_csv
from sss_gluon.errors import SSSError


@pytest.mark.parametrize('rows, columns, text', [
    ([dict(a=1, b='x'), dict(c=2.5, a=None)], None, 'a,b,c\n1,x,\n,,2.5\n'),
    ([dict(a='1,5', b='say "x"')], None, 'a,b\n"1,5","say ""x"""\n'),
    ([], ('a', 'b'), 'a,b\n'), ([dict(b=1)], ('a', 'b'), 'a,b\n,1\n'),
])
def test_csv_text(rows, columns, text):
    assert csv_text(rows, columns) == text


def test_what_is_written_is_read(tmp_path):
    """A field with a line break, and one longer than Python's limit: line numbers are those of the file."""
    rows = [dict(a='λ\nγ', b='x' * 2 ** 18), dict(a='1', b='')]
    limit = csv.field_size_limit()
    write_csv(tmp_path / 'new/x.csv', rows)
    assert read_csv(tmp_path / 'new/x.csv') == [(3, rows[0]), (4, rows[1])]
    assert csv.field_size_limit() == limit


DAMAGED = {     # content, what the one sentence says, lines that are left when damaged rows may be left out
    'a short row': (b'a,b\n1,2\n3\n4,5\n', 'line 3', [2, 4]),
    'a long row': (b'a,b\n1,2,3\n4,5\n', 'line 2', [3]),
    'a quote that is never closed': (b'a,b\n1,2\n"3,4\n', 'line 3', [2]),
    'a field of two megabytes': (b'a,b\n1,' + b'2' * 2 ** 21 + b'\n', 'line 2', None),
    'not UTF-8': (b'a,b\n\xff,2\n', 'cannot be read', None),
    'empty': (b'', 'no column a', None),
    'another table': (b'b,c\n1,2\n', 'no column a', None),
}


@pytest.mark.parametrize('case', DAMAGED)
def test_damage_is_one_sentence_with_file_and_line(case, tmp_path):
    (content, words, left), notes = DAMAGED[case], []
    path = tmp_path / 'x.csv'
    path.write_bytes(content)
    with pytest.raises(SSSError) as error:
        read_csv(path, ['a'])
    assert str(path) in str(error.value) and words in str(error.value) and '\n' not in str(error.value)
    if left is None:
        with pytest.raises(SSSError):
            read_csv(path, ['a'], notes.append)
        assert notes == []
    else:
        assert [line for line, _ in read_csv(path, ['a'], notes.append)] == left
        assert len(notes) == 1 and str(path) in notes[0] and words in notes[0]


@pytest.mark.parametrize('name, words', [('missing.csv', 'No such file'), ('.', 'Is a directory')])
def test_a_file_that_is_none(name, words, tmp_path):
    with pytest.raises(SSSError, match=f'cannot be read: {words}'):
        read_csv(tmp_path / name)


def test_an_epoch_table_grows_row_by_row_and_is_cut_back(tmp_path):
    table = EpochTable(tmp_path / 'x.csv')
    assert table.rows() == []
    for epoch in (1, 2, 3):
        table.append(dict(epoch=epoch, loss=0.5))
    table.keep_epochs(2)
    assert table.path.read_text('utf-8') == 'epoch,loss\n1,0.5\n2,0.5\n'
    with pytest.raises(SSSError, match='x.csv has other columns'):
        table.append(dict(epoch=3, top1=0.5))
    table.path.write_text('epoch,loss\n1,0.5\n2\n', 'utf-8')
    with pytest.raises(SSSError, match='x.csv is damaged: line 3 .*delete it'):
        table.rows()
    table.keep_epochs(0)
    assert not table.path.exists()
