"""What a packing wrote: the bytes of its files, and their records."""
import shutil

from sss_gluon.data.recordio import read_image, read_index, read_list

FILES = [f'{part}.{kind}' for part in ('train', 'val') for kind in ('rec', 'idx', 'lst', 'json')]
FILES += ['classes.txt', 'rejected.csv']
SEED = 5


def contents(dst):
    return {name: (dst / name).read_bytes() for name in FILES if (dst / name).exists()}


def records(dst, part):
    """[(name, label, content)], one per record."""
    names = [line.split('\t')[2] for line in (dst / f'{part}.lst').read_text().splitlines()]
    labels = read_list(dst / f'{part}.lst')[1]
    with open(dst / f'{part}.rec', 'rb') as file:
        return [(name, label, read_image(file, offset))
                for name, label, offset in zip(names, labels, read_index(dst / f'{part}.idx')[1])]


def unfinished(packed, dst, **sizes):
    """An interrupted packing: its files truncated to the given share or number of bytes."""
    shutil.copytree(packed, dst)
    for name in ('val.rec', 'val.idx', 'val.lst', 'val.json', 'rejected.csv'):
        (dst / name).unlink()
    for kind in ('rec', 'idx', 'lst'):
        content = (dst / f'train.{kind}').read_bytes()
        (dst / f'train.{kind}').unlink()
        size = sizes.get(kind, 1.0)
        (dst / f'train.{kind}.partial').write_bytes(content[:int(size * len(content)) if size <= 1 else size])
    return dst
