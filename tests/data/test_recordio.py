"""Records against those that MXNet writes and reads, and truncated files."""
import io

import mxnet as mx
import numpy as np
import pytest

from sss_gluon.data.recordio import image_record, read_classes, read_image, read_index, read_list, walk
from sss_gluon.errors import SSSError

MAGIC = bytes.fromhex('0a23d7ce')
PAYLOADS = {
    'empty': b'', 'one byte': b'a', 'two': b'ab', 'three': b'abc', 'four': b'abcd', 'five': b'abcde',
    'magic': MAGIC, 'magic first': MAGIC + b'abc', 'magic last': b'abcd' + MAGIC,
    'magic inside': b'abcd' + MAGIC + b'xy', 'magic twice': MAGIC + b'abcd' + MAGIC + b'x',
    'magic after magic': b'abcd' + MAGIC * 3 + b'abcde',
    'not aligned': b'abc' + MAGIC + b'abcd', 'aligned after not aligned': b'a' + MAGIC + b'abc' + MAGIC + b'ab',
    'cut short': b'abcd' + MAGIC[:3], 'random': np.random.RandomState(0).bytes(1000),
}


@pytest.fixture
def whole():
    """Three records, the second of them split."""
    return [image_record(i, 7 + i, PAYLOADS[name]) for i, name in enumerate(['five', 'magic twice', 'random'])]


@pytest.mark.parametrize('payload', PAYLOADS.values(), ids=PAYLOADS)
def test_as_mxnet_writes_and_reads_it(payload, tmp_path):
    writer = mx.recordio.MXRecordIO(str(tmp_path / 'theirs.rec'), 'w')
    for number in (0, 300):
        writer.write(mx.recordio.pack(mx.recordio.IRHeader(0, 7, number, 0), payload))
    writer.close()
    ours = b''.join(image_record(number, 7, payload) for number in (0, 300))
    assert ours == (tmp_path / 'theirs.rec').read_bytes() and len(ours) % 4 == 0
    (tmp_path / 'ours.rec').write_bytes(ours)
    reader = mx.recordio.MXRecordIO(str(tmp_path / 'ours.rec'), 'r')
    for number in (0, 300):
        header, content = mx.recordio.unpack(reader.read())
        assert (header.id, header.label, content) == (number, 7, payload)
    reader.close()
    with open(tmp_path / 'ours.rec', 'rb') as file:
        heads = list(walk(file))
        assert [(head.number, head.label) for head in heads] == [(0, 7), (300, 7)] and heads[1].end == len(ours)
        assert [read_image(file, start) for start in (0, heads[0].end)] == [payload, payload]


def test_the_magic_number_begins_parts_only(whole):
    """A reader that searches for it at multiples of four bytes finds only the beginnings of records."""
    content = b''.join(whole)
    words = [i for i in range(0, len(content), 4) if content[i:i + 4] == MAGIC]
    assert len(words) == 1 + 3 + 1 and {0, len(whole[0]), len(whole[0]) + len(whole[1])} < set(words)


def test_a_file_cut_anywhere_has_its_whole_records(whole, tmp_path):
    content, ends = b''.join(whole), np.cumsum([len(record) for record in whole])
    for size in range(0, len(content) + 1, 5):
        (tmp_path / 'cut.rec').write_bytes(content[:size])
        with open(tmp_path / 'cut.rec', 'rb') as file:
            assert len(list(walk(file))) == (ends <= size).sum()


@pytest.mark.parametrize('offset', [4, 8, 44])
def test_no_record_begins_there(whole, offset, tmp_path):
    (tmp_path / 'x.rec').write_bytes(b''.join(whole))
    with open(tmp_path / 'x.rec', 'rb') as file:
        assert read_image(file, offset) is None


def test_a_middle_part_is_no_beginning(whole):
    second = whole[1]
    file = io.BytesIO(second[second.index(MAGIC, 4):])
    assert read_image(file, 0) is None


def test_index_and_list(tmp_path):
    (tmp_path / 'a.idx').write_text('5\t40\n2\t0\n9\t400\n')
    numbers, offsets = read_index(tmp_path / 'a.idx')
    assert numbers.tolist() == [2, 5, 9] and offsets.tolist() == [0, 40, 400] and offsets.dtype == np.int64
    (tmp_path / 'a.lst').write_bytes(b'2\t3.000000\ta/b.jpg\n5\t0\tc\xff.jpg\n')      # as im2rec writes it; any bytes
    numbers, labels = read_list(tmp_path / 'a.lst')
    assert numbers.tolist() == [2, 5] and labels.tolist() == [3, 0] and labels.dtype == np.int32


@pytest.mark.parametrize('read, content, message', [
    (read_index, b'', 'is empty'), (read_index, b'1\t2\n3', 'a number and an offset'),
    (read_index, b'1\tx\n', 'not an index'), (read_index, b'1\t99999999999999999999999\n', 'not an index'),
    (read_index, bytes(range(256)), 'not an index'), (read_index, None, 'cannot be read: No such file'),
    (read_list, b'1\t0\ta\n2\t0\n', 'line 2: must be a number, a label and a name'),
    (read_list, b'1\t0\t1\ta\n', 'line 1'), (read_list, b'1\t0.5\ta\n', 'line 1'),
    (read_list, b'1\tnan\ta\n', 'line 1'), (read_list, b'1\tinf\ta\n', 'line 1'),
    (read_list, b'1\t1e30\ta\n', 'a.txt'), (read_list, b'x\t1\ta\n', 'line 1'),
    (read_list, bytes(range(256)), 'line 1'), (read_list, None, 'cannot be read: No such file'),
    (read_classes, b'', 'class names'), (read_classes, b'a\nb\na\n', 'each once'),
    (read_classes, b'\xff\xfe', 'UTF-8'), (read_classes, None, 'class name'),
])
def test_refuses(read, content, message, tmp_path):
    if content is not None:
        (tmp_path / 'a.txt').write_bytes(content)
    with pytest.raises(SSSError, match=message) as caught:
        read(tmp_path / 'a.txt')
    assert 'a.txt' in str(caught.value) and '\n' not in str(caught.value)
