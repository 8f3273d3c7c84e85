import gzip

import numpy as np
import pytest

from sss_gluon.data.idx import read_idx
from sss_gluon.errors import SSSError

# Two images of 2 x 3 pixels, byte by byte as the format says.
CONTENT = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 255])
PACKED = gzip.compress(CONTENT, mtime=0)     # the same bytes in every process of the tests


@pytest.mark.parametrize('content', [CONTENT, PACKED], ids=['plain', 'gzip'])
@pytest.mark.parametrize('name', ['a-idx3-ubyte', 'a-idx3-ubyte.gz'])
def test_read(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    array = read_idx(tmp_path / name, 3)
    assert array.dtype == np.uint8
    assert array.tolist() == [[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [10, 11, 255]]]


@pytest.mark.parametrize('content, message', [
    (b'', 'found nothing in 0 bytes'),
    (CONTENT[:10], 'header of 16 bytes, found 00000803 in 10 bytes'),
    (b'\x89PNG' + CONTENT, 'must start with 00000803 and a header of 16 bytes, found 89504e47'),
    (b'\0\0\x0d\3' + CONTENT[4:], 'found 00000d03'),                            # float32
    (b'\0\0\x08\1' + CONTENT[4:], 'found 00000801'),                            # labels in place of images
    (CONTENT[:-1], '2 x 2 x 3 = 12 bytes of data, found 11'),
    (CONTENT + b'\0', '2 x 2 x 3 = 12 bytes of data, found 13'),
    (b'\0\0\x08\3' + b'\xff' * 12 + CONTENT[16:], f'= {(2 ** 32 - 1) ** 3} bytes of data, found 12'),
    (PACKED[:-12], 'cannot be read .*get the file again'),      # truncated
    (PACKED[:12] + b'\xff' * 40, 'cannot be read'),             # damaged
    (PACKED[:-8] + b'\0' * 8, 'cannot be read'),                # wrong check sum
])
def test_refuses(tmp_path, content, message):
    path = tmp_path / 'a-idx3-ubyte.gz'
    path.write_bytes(content)
    with pytest.raises(SSSError, match=message) as caught:
        read_idx(path, 3)
    assert str(path) in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(SSSError, match='none-idx1-ubyte: cannot be read'):
        read_idx(tmp_path / 'none-idx1-ubyte', 1)
