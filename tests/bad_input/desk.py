"""What is prepared on a desk with finished runs before a command that must fail, and one row of the tables."""
import json
import shutil
import struct
from pathlib import Path
from typing import Callable, NamedTuple, Tuple

import mxnet as mx
import numpy as np
from filelock import FileLock
from PIL import Image

from sss_gluon.data import digits
from sss_gluon.data.pack import pack_images

ROOT = Path(__file__).resolve().parents[2]
CONFIG = (ROOT / 'tests/small.yaml').read_text('utf-8')

MINE, ASKED = 'runs/mine', 'runs/asked'
CHECKPOINT = f'{MINE}/checkpoints/epoch-0002.npz'
SYMBOL, PARAMS, STRUCTURE = (f'{MINE}/compact/model-{end}' for end in ('symbol.json', '0000.params', 'structure.json'))
FACTOR = ['factors', 'stage1.0.norm2']      # 8 neurons
NEW = 'train small.yaml run=new '
ASKED_AGAIN = f'train {ASKED} epochs=2'
AGAIN = f'train {MINE} epochs=3'

HELD = []


class Row(NamedTuple):
    """One case of the table."""
    name: str
    prepare: Tuple[Callable, ...]       # functions of the desk
    command: str                        # words between blanks, or between | where they hold blanks
    words: str                          # with … between them, in any order
    changed: Tuple[str, ...] = ()       # patterns of files that may have come, gone or changed
    out: str = ''


def put(path, content):
    def prepare(desk):
        target = desk / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())
    return prepare


def change(path, function):
    return lambda desk: (desk / path).write_bytes(function((desk / path).read_bytes()))


def drop(path):
    return lambda desk: shutil.rmtree(desk / path) if (desk / path).is_dir() else (desk / path).unlink()


def folder(path):
    def prepare(desk):
        if (desk / path).is_file():
            (desk / path).unlink()
        (desk / path).mkdir(parents=True)
    return prepare


def copy(source, target):
    return lambda desk: shutil.copy(desk / source, desk / target)


def link(path, target='nowhere'):
    return lambda desk: (desk / path).symlink_to(target)


def half(content):
    return content[:len(content) // 2]


def flip(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 16]) + content[middle + 1:]


def entry(path, keys, value):
    """Change one entry of a JSON file."""
    def function(content):
        fields = part = json.loads(content)
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = value
        return json.dumps(fields).encode()
    return change(path, function)


def node(key, value, op='Convolution'):
    """Change the first convolution of the exported symbol."""
    def function(content):
        graph = json.loads(content)
        first = next(node for node in graph['nodes'] if node['op'] == op)
        (first['attrs'] if key in first['attrs'] else first)[key] = value
        return json.dumps(graph).encode()
    return change(SYMBOL, function)


def array(name, function, checkpoint=CHECKPOINT):
    """Change one array in all checkpoints of a run."""
    def prepare(desk):
        for path in (desk / checkpoint).parent.iterdir():
            with np.load(path) as file:
                arrays = dict(file)
            arrays[name] = function(arrays.get(name))
            np.savez(path, **arrays)
    return prepare


def position(**fields):
    def function(content):
        head = dict(json.loads(content.tobytes()), **fields)
        return np.frombuffer(json.dumps(head).encode(), np.uint8)
    return array('position', function)


def weights(name, function):
    """Change one array of the exported params."""
    def prepare(desk):
        arrays = mx.nd.load(str(desk / PARAMS))
        arrays[name] = function(arrays[name])
        mx.nd.save(str(desk / PARAMS), arrays)
        drop(STRUCTURE)(desk)
    return prepare


def images(classes=3, parts=('train', 'test')):
    """img/train/c0/0.png ...: 8 x 8 digits, 6 of each class."""
    def prepare(desk):
        pixels = digits.load(size=8).train.images
        for part in parts:
            for c in range(classes):
                (desk / f'img/{part}/c{c}').mkdir(parents=True)
                for i in range(6):
                    Image.fromarray(pixels[10 * i + c][0]).save(desk / f'img/{part}/c{c}/{i}.png')
    return prepare


def fashion(content):
    """The four files, so that nothing is downloaded; the first that is read has the content."""
    def prepare(desk):
        for name in ('train-labels-idx1-ubyte', 't10k-images-idx3-ubyte', 't10k-labels-idx1-ubyte'):
            put(f'fashion/{name}', idx(60000))(desk)
        put('fashion/train-images-idx3-ubyte', content)(desk)
    return prepare


def idx(*shape, size=None):
    """An IDX file of zeros."""
    header = struct.pack('>HBB', 0, 8, len(shape)) + struct.pack(f'>{len(shape)}I', *shape)
    return header + bytes(np.prod(shape) if size is None else size)


def records():
    """rec/train and rec/val as .rec, .idx and .lst: 12 images of 2 classes."""
    def prepare(desk):
        images(classes=2, parts=('train', 'val'))(desk)
        pack_images(desk / 'img', desk / 'rec')
    return prepare


def cifar(size):
    def prepare(desk):
        (desk / 'cifar').mkdir()
        for name in [f'data_batch_{i}.bin' for i in range(1, 6)] + ['test_batch.bin']:
            with open(desk / 'cifar' / name, 'wb') as file:
                file.truncate(size)
    return prepare


def held(run):
    """As if another process used the run."""
    def prepare(desk):
        lock = FileLock(str(desk / run / '.lock'))
        lock.acquire()
        HELD.append(lock)
    return prepare
