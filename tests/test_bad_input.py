"""Whatever a user can get wrong: one clear line, an exit status, no traceback, and nothing half-written.

A row says what is prepared on a desk with three finished runs, the command line, what its one line must name (the key,
the file, the bound), which files may differ afterwards (all others are compared byte by byte), and what stdout names,
which is empty otherwise. The wording of some dozen of them is in wording.txt.
"""
import errno
import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, NamedTuple, Tuple

import mxnet as mx
import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from sss_gluon.cli import main
from sss_gluon.data import digits
from sss_gluon.data.pack import pack_images
from sss_gluon.train.loop import Training

ROOT = Path(__file__).resolve().parents[1]

WORDING = ROOT / 'tests/wording.txt'        # [group-row] message
CONFIG = (ROOT / 'tests/small.yaml').read_text('utf-8')

SYNTAX = 'def net(classes, in_channels):\n    return (\n'
FLAT = 'from mxnet.gluon import nn\n\n\ndef net(classes, in_channels):\n    return nn.Dense(classes)\n'

MINE = 'runs/mine'
CHECKPOINT = f'{MINE}/checkpoints/epoch-0002.npz'
SYMBOL, PARAMS, STRUCTURE = (f'{MINE}/compact/model-{end}' for end in ('symbol.json', '0000.params', 'structure.json'))
FACTOR = ['factors', 'stage1.0.norm2']      # 8 neurons


class Row(NamedTuple):
    """One case of the table."""
    name: str
    prepare: Tuple[Callable, ...]       # functions of the desk
    command: str                        # words between blanks, or between | where they hold blanks
    words: str                          # with … between them, in any order
    changed: Tuple[str, ...] = ()       # patterns of files that may have come, gone or changed
    out: str = ''


# What is prepared

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


def array(name, function):
    """Change one array in both checkpoints."""
    def prepare(desk):
        for path in (desk / CHECKPOINT).parent.iterdir():
            with np.load(path) as file:
                arrays = dict(file)
            arrays[name] = function(arrays[name])
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


HELD = []


# The table

NEW = 'train small.yaml run=new '
AGAIN = f'train {MINE} epochs=3'
RAISED = f'{MINE}…epochs…2…3'
FOLDER = NEW + 'data=folder data_root=img image_size=null batch_size=4'
FASHION = NEW + 'data=fashion-mnist data_root=fashion image_size=null'
CIFAR = NEW + 'data=cifar10 data_root=cifar image_size=null'
IMAGENET = NEW + 'data=imagenet data_root=rec batch_size=4'
COMPACT = NEW + f'factors=null structure={STRUCTURE}'
BOTH_DAMAGED = f'{MINE}/checkpoints…2…damaged'
PASSED = 'epoch-0002.npz'


def settings(*rows):
    """Rows whose name is the setting that they try."""
    return [Row(setting, (), NEW.replace(' ', '|') + setting, words) for setting, words in rows]


KEYS = settings(
    ('gama=1', "the command line…'gama'…'gamma'"),
    ('gämma=1', "did you mean 'gamma'?"), ('=1', "''"), ('base=x.yaml', "'base'"),
    ('[=1', 'the command line'), ('gamma', "'gamma'…key=value"),
    ('gamma=', 'gamma needs a value'), ('gamma=null', 'gamma needs a value'), ('gamma=???', 'gamma needs a value'),
    ('gamma=-1', 'gamma…-1.0…0…2147483647'), ('gamma=nan', 'gamma…nan'),
    ('gamma=.inf', 'gamma…inf'), ('gamma=text', "gamma…'text'"),
    ('gamma=1e300', 'gamma…1e+300'), ('learning_rate=1e39', 'learning_rate…1e+39'),
    ('weight_decay=1e39', 'weight_decay…1e+39'), ('clip_gradient=1e39', 'clip_gradient…1e+39'),
    ('gamma=${gamma}', 'gamma'), ('gamma.x=1', 'gamma'),
    ('gamma_mult={x:1}', "gamma_mult…'x:1'…colon"),
    ('gamma_mult={"(": 1}', "gamma_mult…'('…regular expression"),
    ('gamma_mult={x: 1}', "gamma_mult…'x'"), ('gamma_mult=3', 'gamma_mult…{a: b}'),
    ('epochs=-1', 'epochs…-1…1'), ('epochs=1.5', 'epochs'),
    ('epochs=99999999999999999999', 'epochs…99999999999999999999…1'),
    ('batch_size=1198', '1198…training images…1197'),
    ('batch_size=0', 'batch_size…0'), ('grad_accumulation=7', '63'),
    ('lr_mode=cosin', 'lr_mode…cosine'), ('lr_decay_epochs=a', "lr_decay_epochs…'a'…[a, b]"),
    ('lr_decay_epochs=[a]', 'lr_decay_epochs[0]'), ('image_size=0', 'size=0 must be at least that of the images, 8 '
                                                                    '(image_size: in a configuration)'),
    ('image_size=10000000000', 'memory'), ('validation=1497', '1497'),
    ('augment_pad=9', 'pad=9 (augment_pad: in a configuration) must not be more than the side of the images, 8'),
    ('seed=-1', 'seed…-1…0'), ('data_root=/nowhere', 'data_root'),
    ('data=mnist', "'mnist'…fashion-mnist"),
    ('augmentation=face', 'augmentation…face…facebook…pad-crop…resized-crop'),
    ('augmentation=facebook', 'augmentation…facebook…pad-crop'),
    ('data=cifar10', 'size=8…image_size'),
    ('data=folder', 'data_root'),
    ('model=cifar_resnet', "'cifar_resnet'…'cifar_resnet20'"),
    ('model=nomodule:net', "No module named 'nomodule'…PYTHONPATH"),
    ('model=..a:b', "'..a:b'"), ('model=os:getcwd', "'os:getcwd'"),
    ('model_options={speed: 3}', "'speed'"),
    ('model_options={classes: 3}', 'model_options…classes'),
    ('model_options={depths: 3}', 'depths…3…list'),
    ('model_options={depths: [1000000000, 1, 1]}', 'depths…1…1000…1000000000'),
    ('model_options={widths: [-8, 8, 8]}', 'widths…1…65536…-8'),
    ('model_options={widths: [60000, 60000, 8]}', 'cifar_resnet20'),
    ('factors=[neurons]', "cifar_resnet20…'neurons'…neuron, block…[]"),
    ('factors=group', "cifar_resnet20…'group'"), ('factors={a: b}', 'factors…[a, b]'),
    ('devices=gpu0', 'gpu0'), ('devices=[gpu99]', 'gpu99'), ('devices=[tpu]', "'tpu'"),
    ('devices=[[1]]', 'devices…[1]'),
    ('devices=[cpu0,cpu0]', 'devices…cpu0…twice'),
    ('devices=cpu99999999999999', "'cpu99999999999999'"),
    ('init=nothing.params', 'nothing.params'),
    ('init=notes', 'notes…params'),
    (f'init={PARAMS}', '3…stage1_0_shortcut_weight'),
    ('init=runs/other/checkpoints/epoch-0001.npz', '16…(16, 8, 3, 3)…(8, 8, 3, 3)'),
    ('structure=nothing', 'nothing…resnet26'),
    ('structure=resnet26', 'structure…resnet26…resnet50…cifar_resnet20'),
    (f'structure={SYMBOL}', 'its "format" should be "sss_gluon structure 1"'),
    ('run=', 'run'), ('run=notes', 'notes…run folder…run='),
    ('run=small.yaml', 'small.yaml…not a folder…run='), ('run=small.yaml/x', 'small.yaml/x'),
    ('run=/proc/x', '/proc/x'), ('run=' + 'x' * 300, 'File name too long'),
    ('init=' + 'x' * 5000, 'xxx'), ('structure=' + 'x' * 5000, 'File name too long'),
    ('run=a\udce9b', 'the command line'),
)

FILES = [
    Row('no configuration', (), 'train nothing.yaml', 'nothing.yaml'),
    Row('a very long name', (), 'train ' + 'x' * 5000, 'xxx'),
    Row('a list', (put('a.yaml', '- a\n'),), 'train a.yaml', 'a.yaml…key: value'),
    Row('binary', (put('a.yaml', bytes(range(256))),), 'train a.yaml', 'a.yaml…utf-8'),
    Row('nested too deep', (put('a.yaml', 'model_options: ' + '[' * 3000 + ']' * 3000),), 'train a.yaml', 'a.yaml'),
    Row('a bomb', (put('a.yaml', 'a: &a [x,x,x,x,x,x,x,x,x]\n' + ''.join(
        f'{b}: &{b} [{",".join(["*" + a] * 9)}]\n' for a, b in zip('abcdefgh', 'bcdefghi'))),),
        'train a.yaml', 'a.yaml'),
    Row('an alias of itself', (put('a.yaml', 'model_options: &a {x: *a}\n'),), 'train a.yaml', 'a.yaml'),
    Row('bases in a circle', (put('a.yaml', 'base: b.yaml'), put('b.yaml', 'base: a.yaml')), 'train a.yaml', 'circle'),
    Row('a base that refers', (put('a.yaml', 'base: ${x}'),), 'train a.yaml', "a.yaml…base…'x'"),
    Row('a base of 0', (put('a.yaml', 'base: 0'),), 'train a.yaml', 'configuration file 0'),
    Row('an unknown key', (put('a.yaml', 'learn: 1'),), 'train a.yaml', "a.yaml…'learn'…learning_rate"),
    Row('a module with an error', (put('bad_syntax.py', SYNTAX),), NEW + 'model=bad_syntax:net model_options={}',
        'bad_syntax.py…line '),
    Row('a network that takes no images', (put('bad_flat.py', FLAT),),
        NEW + 'model=bad_flat:net model_options={} factors=null', 'Dense'),
]

RUNS = [
    Row('train no run', (), 'train notes', 'notes…run folder…config.yaml'),
    Row('prune nothing', (), 'prune nothing', 'no folder nothing'),
    Row('pack nothing', (), 'data imagenet-rec nothing out', 'no folder nothing'),
    Row('launch nothing', (), 'launch', 'train'),
    Row('launch another verb', (), 'launch prune nothing', 'train…prune'),
    Row('launch on no hosts', (), 'launch --hosts nothing train small.yaml', 'hosts…nothing'),
    Row('two choices of rows', (), 'bench --distributed --only step', '--distributed…--only'),
    Row('half a node', (), 'launch --node-rank 1 train small.yaml', '--node-rank…--num-nodes'),
    Row('one of no workers', (), NEW + 'kvstore=dist_sync', 'kvstore…dist_sync…launch'),
    Row('no Horovod', (), NEW + 'kvstore=horovod', 'kvstore=horovod…Horovod'),
    Row('prune a file', (), 'prune small.yaml', 'small.yaml…run folder…config.yaml'),
    Row('prune no run', (), 'prune notes', 'notes…run folder…config.yaml'),
    Row('evaluate nothing', (), 'evaluate nothing', 'no folder nothing'),
    Row('against nothing', (), f'evaluate {MINE} --against nothing', 'no folder nothing'),
    Row('export nothing', (), 'export nothing', 'no folder nothing'),
    Row('export no run', (), 'export notes', 'notes…run folder…config.yaml'),
    Row('export of no images', (), f'export {MINE} --int8 --calibration 0', 'calibration…0…1'),
    Row('other settings', (), f'train {MINE} gamma=1',
        f'{MINE}…(gamma: 0.1 -> 1.0)…run='),
    Row('fewer epochs', (), f'train {MINE} epochs=1', '(epochs: 2 -> 1)'),
    Row('another folder', (), f'train {MINE} run=elsewhere', f'run=…{MINE}'),
    Row('gpu of a run', (), f'evaluate {MINE} --device gpu0', 'gpu0'),
    Row('device of a run', (), f'evaluate {MINE} --device cpu:1', "'cpu:1'…cpu1"),
    Row('data of a run', (), f'evaluate {MINE} --data runs/dense', '--data…exported'),
    Row('no configuration in it', (drop(f'{MINE}/config.yaml'),), f'prune {MINE}', 'config.yaml'),
    Row('a newer configuration', (change(f'{MINE}/config.yaml', lambda text: text + b'warp: 9\n'),), f'prune {MINE}',
        f"{MINE}/config.yaml…'warp'"),
    Row('half a configuration', (change(f'{MINE}/config.yaml', half),), f'train {MINE}', f'{MINE}/config.yaml'),
    Row('a structure that is gone', (change(f'{MINE}/config.yaml', lambda text: text.replace(
        b'structure: null', b'structure: gone.json')),), f'prune {MINE}', 'gone.json'),
    Row('no checkpoint', (drop(f'{MINE}/checkpoints'),), f'prune {MINE}',
        f'{MINE}…no checkpoint…sss-gluon train {MINE}'),
    Row('of other data', (images(), change(f'{MINE}/config.yaml', lambda text: text.replace(
        b'data: digits', b'data: folder').replace(b'data_root: null', b'data_root: img'))), f'evaluate {MINE}',
        'epoch-0002.npz…output.weight…(10, 16)…(3, 16)'),
    Row('of a longer epoch', (position(step=999),), f'train {MINE} epochs=3',
        'epoch-0002.npz…999…18', out=RAISED),
    Row('of another network', (copy('runs/other/checkpoints/epoch-0001.npz', CHECKPOINT),), AGAIN,
        f'{CHECKPOINT}…stage2.0.conv1.weight…(16, 8, 3, 3)…(8, 8, 3, 3)',
        out=RAISED),
    Row('without its factors', (copy('runs/dense/checkpoints/epoch-0001.npz', CHECKPOINT),), f'prune {MINE}',
        f'{CHECKPOINT}…stage1.0.conv2.factor…6'),
    *[Row(f'checkpoints {name}', prepare, command, BOTH_DAMAGED, out=PASSED) for command in (AGAIN, f'count {MINE}')
      for name, prepare in (
          ('cut short', [change(f'{MINE}/checkpoints/epoch-000{i}.npz', half) for i in (1, 2)]),
          ('with one bit changed', [change(f'{MINE}/checkpoints/epoch-000{i}.npz', flip) for i in (1, 2)]),
          ('empty', [put(f'{MINE}/checkpoints/epoch-000{i}.npz', '') for i in (1, 2)]),
          ('of words', (array('param:stem.weight', lambda a: np.full(a.shape, 'word')),)),
          ('of NaN', (array('param:stem.weight', lambda a: a * np.nan),)),
          ('with half a number', (array('state:num_update', lambda a: np.array([1, 2])),)),
          ('of epoch "2"', (position(epoch='2'),)), ('of epoch -1', (position(epoch=-1),)),
          ('of no sum', (position(loss_sum=None),)), ('of version 2', (position(format='sss_gluon checkpoint 2'),)))],
    *[Row(f'{table} {name}', prepare, AGAIN, words, changed, out=f'{RAISED}…epoch 2')
      for table in ('metrics.csv', 'factors.csv') for name, prepare, words, changed in (
          ('binary', (put(f'{MINE}/{table}', bytes(range(256))),), f'{MINE}/{table}', ()),
          ('a folder', (folder(f'{MINE}/{table}'),), f'{MINE}/{table}', ()),
          ('of another run', (put(f'{MINE}/{table}', 'epoch,a\n1,2\n2,3\n'),),
           f'{MINE}/{table}…columns', ('runs/mine/*', 'runs/mine/compact/*')))],
    *[Row(f'{table} {name}', (change(f'{MINE}/{table}', function),), f'train {MINE}', words,
          changed=(f'{MINE}/figures/*',), out=f'{MINE}…finished')
      for table in ('metrics.csv', 'factors.csv') for name, function, words in (
          ('of words', lambda text: text.replace(b'\n2,', b'\n2,word'), f'{MINE}/{table}…damaged'),
          ('of too many columns', lambda text: text.replace(b'\n2,', b'\n2,2,'),
           f'{MINE}/{table}…line 3…columns'))],
    Row('figures is a file', (drop(f'{MINE}/figures'), put(f'{MINE}/figures', 'x')), f'train {MINE}',
        f'{MINE}/figures/training.png…File exists', out=f'{MINE}…finished'),
    *[Row(f'in use: {verb}', (held(MINE),), f'{verb} {MINE}', f'{MINE}…in use')
      for verb in ('train', 'prune', 'export')],
    Row('the lock is a folder', (folder(f'{MINE}/.lock'),), f'prune {MINE}', f'{MINE}'),
    Row('compact is a file', (drop(f'{MINE}/compact'), put(f'{MINE}/compact', 'x')), f'prune {MINE}', 'compact'),
    Row('diverged', (), NEW + 'learning_rate=1e9', 'learning_rate…warmup_epochs…clip_gradient',
        changed=('new', 'new/*')),
]

STRUCTURES = [
    *[Row(f'structure {name}', (prepare,), COMPACT, words) for name, prepare, words in (
        ('cut short', change(STRUCTURE, half), 'model-structure.json'),
        ('empty', put(STRUCTURE, ''), 'model-structure.json'),
        ('binary', put(STRUCTURE, bytes(range(256))), 'model-structure.json'),
        ('too deep', put(STRUCTURE, '[' * 100000), 'model-structure.json'),
        ('with one bit changed', change(STRUCTURE, lambda text: text.replace(b'kept', b'kepu', 1)), "KeyError 'kept'"),
        ('of another model', entry(STRUCTURE, ['model', 'name'], 'vgg16'), 'vgg16…cifar_resnet20'),
        ('of no model', entry(STRUCTURE, ['model'], [1]), '[1]…structure'),
        ('options a list', entry(STRUCTURE, ['model', 'options'], [1]), 'structure'),
        ('options with classes', entry(STRUCTURE, ['model', 'options', 'classes'], 3), 'classes'),
        ('factors a number', entry(STRUCTURE, ['model', 'factors'], 3), 'structure'),
        ('of a billion blocks', entry(STRUCTURE, ['model', 'options', 'depths'], [1, 1, 10 ** 9]), 'depths…1000'),
        ('of other classes', entry(STRUCTURE, ['model', 'classes'], 7), 'classes…7…digits…10'),
        ('of other channels', entry(STRUCTURE, ['model', 'in_channels'], 3), 'in_channels…3…digits…1'),
        ('of another shape', entry(STRUCTURE, ['input_shape'], [1, 3, 8, 8]), '(1, 3, 8, 8)'),
        ('of a huge shape', entry(STRUCTURE, ['input_shape'], [1, 1, 10 ** 30, 8]), 'shape'),
        ('of no shape', entry(STRUCTURE, ['input_shape'], [1, 1, 0, 8]), '[1, 1, 0, 8]'),
        ('negative index', entry(STRUCTURE, FACTOR + ['kept'], [-1]), 'stage1.0.norm2…0..7'),
        ('repeated index', entry(STRUCTURE, FACTOR + ['kept'], [1, 1]), 'stage1.0.norm2…0..7'),
        ('huge index', entry(STRUCTURE, FACTOR + ['kept'], [10 ** 30]), 'stage1.0.norm2…0..7'),
        ('words for indices', entry(STRUCTURE, FACTOR + ['kept'], 'all'), 'stage1.0.norm2…0..7'),
        ('other size', entry(STRUCTURE, FACTOR + ['size'], 4), 'stage1.0.norm2…8…4'),
        ('unknown kind', entry(STRUCTURE, FACTOR + ['kind'], 'channel'), "stage1.0.norm2…'channel'"),
        ('factor too many', entry(STRUCTURE, ['factors', 'zz'], {'kind': 'block', 'size': 1, 'kept': []}),
         "'zz'"),
        ('no layers', entry(STRUCTURE, ['layers'], {}), 'model-structure.json'),
        ('other widths', entry(STRUCTURE, ['layers', 'stem', 'after'], [1, 1]), 'model-structure.json…stem'),
    )],
    Row('count by a structure of another network', (), f'count resnet50 --structure {STRUCTURE}',
        f"{STRUCTURE}…'stage1.0.norm2'"),
    Row('count by no structure', (), 'count resnet50 --structure resnet27', 'resnet27'),
    Row('count by a folder', (), 'count resnet50 --structure notes', 'notes…Is a directory'),
    Row('evaluate without its structure', (put(STRUCTURE, '{'),), f'evaluate {MINE}', 'structure.json'),
]

EXPORTED = [
    *[Row(f'{name}: {verb}', prepare, f'{verb} {SYMBOL}', words) for verb in ('evaluate', 'count')
      for name, prepare, words in (
          ('no symbol', (drop(SYMBOL),), SYMBOL),
          ('half a symbol', (change(SYMBOL, half),), SYMBOL),
          ('binary symbol', (put(SYMBOL, bytes(range(256))),), SYMBOL),
          ('symbol {}', (put(SYMBOL, '{}'),), SYMBOL),
          ('unknown operator', (node('op', 'Convulsion'),), SYMBOL),
          ('a circle', (node('inputs', [[20, 0, 0], [1, 0, 0]]),), SYMBOL),
          ('an input that is not there', (node('inputs', [[9999, 0, 0], [1, 0, 0]]),), SYMBOL),
          ('no group', (node('num_group', '0'),), f'{SYMBOL}…group'),
          ('other filters', (node('num_filter', '3'),), '(1, 1, 8, 8)'),
          ('negative filters', (node('num_filter', '-3'),), '-1'),
          ('code for a number', (node('kernel', '__import__("os").mkdir("x")'),), SYMBOL),
          ('no params', (drop(PARAMS),), PARAMS),
          ('params a folder', (folder(PARAMS),), PARAMS),
          ('half the params', (change(PARAMS, half),), PARAMS),
          ('empty params', (put(PARAMS, ''),), PARAMS),
          ('other params', (copy(CHECKPOINT, PARAMS),), PARAMS),
          ('params of NaN', (weights('arg:output_weight', lambda a: a * float('nan')),), 'not finite'),
          ('turned params', (weights('arg:output_weight', lambda a: a.T),), '(16, 10)…(10, 16)'))],
    *[Row(name, prepare, f'evaluate {SYMBOL}', words) for name, prepare, words in (
        ('one bit of the params', (change(PARAMS, lambda content: content[:1000] + b'\x42' + content[1001:]),),
         f'{PARAMS}…model-structure.json'),
        ('of other classes', (images(), change(f'{MINE}/config.yaml', lambda text: text.replace(
            b'data: digits', b'data: folder').replace(b'data_root: null', b'data_root: img'))),
         '[(1, 10)]…folder…3 classes'))],
    Row('the compact network of a run', (change(PARAMS, lambda content: content[:1000] + b'\x42' + content[1001:]),),
        f'evaluate {MINE}', 'export'),
    Row('evaluate no symbol', (), 'evaluate nothing-symbol.json', 'nothing-symbol.json'),
    Row('--data nothing', (), f'evaluate {SYMBOL} --data nothing', 'no folder nothing'),
    Row('--against', (), f'evaluate {SYMBOL} --against runs/dense', '--against'),
    Row('outside of a run', (copy(SYMBOL, 'x-symbol.json'), copy(PARAMS, 'x-0000.params')), 'evaluate x-symbol.json',
        'x-symbol.json…--data'),
    Row('not a symbol', (), f'evaluate {STRUCTURE}', f'{STRUCTURE}…symbol'),
    Row('a symbol of one size', (), f'count {SYMBOL} --channels 3', '(1, 3, 8, 8)'),
]

COUNT = [Row(arguments, (), f'count {arguments}', words) for arguments, words in (
    ('nothing', "'nothing'"), (STRUCTURE, 'model-structure.json…symbol'),
    ('nothing-symbol.json', 'nothing-symbol.json'), ('notes', 'notes…run folder'),
    ('resnet50 --size 0', 'size…0…1'), ('resnet50 --size -1', 'size…-1…1'),
    ('resnet50 --size 99999999999999999999', 'size…99999999999999999999…1'),
    ('cifar_resnet20 --channels 0', 'channels…0'), ('cifar_resnet20 --classes -1', 'classes…-1'),
    ('cifar_resnet20 --classes 2000000000', ''),        # more than there is memory for, or more than MXNet counts
    ('vgg16 --size 32', 'VGG…(1, 3, 32, 32)'),
    ('resnet50 --structure notes/mine.txt', 'notes/mine.txt'),
    (f'{MINE} --structure resnet26', 'structure…model'),
    (f'{MINE} --size 32', 'run…size'),
    (f'{SYMBOL} --classes 3', 'classes…3'), ('nomodule:net --size 8', "No module named 'nomodule'"),
    ('cifar_resnet20 --structure resnet26', 'resnet26'),
)]

DATA = [Row(name, prepare, command, words) for command, rows in {
    FOLDER: (
        ('no folder', (), 'img…train/…test/…val/'),
        ('a file for a folder', (put('img', 'x'),), 'train/…test/'),
        ('a dangling link', (link('img'),), 'train/…test/'),
        ('nothing to test', (images(parts=('train',)),), 'train/…test/'),
        ('one class', (images(classes=1),), 'img/train…one class…c0'),
        ('an empty class', (images(), folder('img/train/c9')), 'c9…empty'),
        ('other classes', (images(), drop('img/test/c0')), 'img/t…class'),
        ('half an image', (images(), change('img/train/c1/3.png', half)), '3.png'),
        ('text for an image', (images(), put('img/train/c1/3.png', 'x')), '3.png'),
        ('a huge header', (images(), change('img/train/c1/3.png', lambda content: content[:16] + b'\x7f' * 8
                                            + content[24:])), '3.png'),
        ('a folder for an image', (images(), folder('img/train/c1/x')), 'c1/x…folder'),
        ('a pipe for an image', (images(), lambda desk: os.mkfifo(desk / 'img/train/c1/x.png')),
         'x.png…device'),
        ('a link for an image', (images(), link('img/train/c1/x.png')), 'x.png'),
        ('two sizes', (images(), lambda desk: Image.new('L', (9, 8)).save(desk / 'img/train/c1/3.png')),
         '3.png…9 x 8')),
    FASHION: (
        ('cut short', (fashion(idx(60000, 28, 28, size=999)),), '60000 x 28 x 28…47040000…999'),
        ('too few', (fashion(idx(6, 28, 28)),), '(6, 28, 28)…(60000, 28, 28)'),
        ('other size', (fashion(idx(6, 32, 32)),), '(6, 32, 32)…(60000, 28, 28)'),
        ('empty', (fashion(''),), 'train-images-idx3-ubyte…IDX…3'),
        ('half compressed', (fashion(b'\x1f\x8b\x08'),), 'train-images-idx3-ubyte'),
        ('huge header', (fashion(idx(*[2 ** 32 - 1] * 3, size=0)),), '4294967295 x 4294967295 x'),
        ('a folder', (fashion(''), folder('fashion/train-images-idx3-ubyte')), 'images-idx3-ubyte…Is a directory')),
    CIFAR: (
        ('cut short', (cifar(100),), 'data_batch_1.bin…30730000…100'),
        ('missing', (cifar(30730000), drop('cifar/data_batch_3.bin')), 'data_batch_3.bin…No such file'),
        ('a wrong label', (cifar(30730000), lambda desk: _first_byte(desk / 'cifar/data_batch_1.bin', 99)),
         'data_batch_1.bin…99…image 0…0..9'),
        ('no archive', (put('cifar/cifar-10-binary.tar.gz', 'x'),), 'cifar-10-binary.tar.gz…delete')),
    IMAGENET: (
        ('no folder', (), 'rec/train.rec…sss-gluon data imagenet-rec IMAGES rec'),
        ('no index', (records(), drop('rec/train.idx')), 'rec/train.idx…No such file'),
        ('cut short', (records(), change('rec/val.rec', half)), 'rec/val.rec'),
        ('a shorter list', (records(), change('rec/train.lst', lambda text: text[:text.rindex(b'\n', 0, -1) + 1])),
         'rec/train.lst…11'),
        ('no classes', (records(), drop('rec/classes.txt')), 'rec/classes.txt…No such file'),
        ('fewer classes', (records(), put('rec/classes.txt', 'c0\n')), 'train.lst…label 1'),
        ('crops of another kind', (records(), change('small.yaml', lambda text: text + b'augmentation: pad-crop\n')),
         'augmentation…pad-crop…facebook…resized-crop')),
}.items() for name, prepare, words in rows]


def _first_byte(path, value):
    with open(path, 'r+b') as file:
        file.write(bytes([value]))


TABLE = {'key': KEYS, 'file': FILES, 'run': RUNS, 'structure': STRUCTURES, 'exported': EXPORTED, 'count': COUNT,
         'data': DATA}
ROWS = [pytest.param(row, id=f'{group}-{row.name[:60].encode("ascii", "replace").decode()}')
        for group, rows in TABLE.items() for row in rows]


@pytest.fixture(scope='session')
def prepared(once):
    """A desk with runs of two networks, one of them pruned, and one without factors."""
    return once('prepared', prepare_desk)


def prepare_desk(folder):
    (folder / 'small.yaml').write_text(CONFIG, 'utf-8')
    (folder / 'notes').mkdir()
    (folder / 'notes/mine.txt').write_text('mine', 'utf-8')
    before = os.getcwd()
    os.chdir(folder)
    try:
        for command in ('train small.yaml run=runs/mine', 'prune runs/mine',
                        'train small.yaml run=runs/dense factors=[] epochs=1',
                        'train small.yaml run=runs/other epochs=1 model_options.widths=[8,16,16]'):
            assert main(command.split()) == 0
    finally:
        os.chdir(before)


@pytest.fixture
def desk(prepared, tmp_path, monkeypatch):
    """A copy of it, as the current folder."""
    shutil.copytree(prepared, tmp_path / 'desk')
    monkeypatch.chdir(tmp_path / 'desk')
    monkeypatch.setenv('SSS_GLUON_DATA', str(tmp_path / 'nothing'))
    monkeypatch.setitem(sys.modules, 'horovod', None)       # as where it is not installed
    yield tmp_path / 'desk'
    while HELD:
        HELD.pop().release()


def snapshot(folder):
    """{path: content} of all there is in a folder, except locks, which stay on purpose, and Python's own files."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else path.is_symlink()
            for path in folder.rglob('*') if path.name != '.lock' and '__pycache__' not in path.parts}


def differing(before, folder):
    after = snapshot(folder)
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))


def call_row(row):
    return main(row.command.split('|' if '|' in row.command else None))


def names(text, words):
    return all(part in text for part in words.split('…'))


@pytest.mark.parametrize('row', ROWS)
def test_one_line_and_nothing_half_written(row, desk, capfd):
    for prepare in row.prepare:
        prepare(desk)
    before = snapshot(desk)
    capfd.readouterr()
    status = call_row(row)
    out, err = capfd.readouterr()
    assert status == 2, (status, out, err)
    assert err.count('\n') == 1 and err.endswith('\n'), err
    assert err.startswith(f'sss-gluon {row.command.replace("|", " ").split()[0]}: ') and names(err, row.words)
    assert '.cc:' not in err and '.h:' not in err and 'Traceback' not in err        # of MXNet's C++
    assert names(out, row.out) if row.out else out == ''
    assert [path for path in differing(before, desk) if not any(Path(path).match(p) for p in row.changed)] == []


def test_wording(desk, capfd):
    """Whole sentences, to be read aloud: WRITE_WORDING=1 writes the file again."""
    rows, said = {row.id: row.values[0] for row in ROWS}, []
    listed = [line.partition('] ')[0][1:] for line in WORDING.read_text('utf-8').splitlines()]
    for name in listed:
        assert not rows[name].prepare and call_row(rows[name]) == 2
        said.append(f'[{name}] {capfd.readouterr().err}')
    if os.environ.get('WRITE_WORDING'):
        WORDING.write_text(''.join(said), 'utf-8')
    assert ''.join(said) == WORDING.read_text('utf-8')


def test_a_mapping_of_the_base_is_taken_back(desk, capsys):
    """{} on the command line is the whole mapping, not nothing to add."""
    assert main('train small.yaml run=new model_options={} epochs=1 batch_size=1000'.split()) == 0
    assert '/9 blocks alive' in capsys.readouterr().out


# Disk full, and a folder that cannot be written

WRITING = {'train new': ('train small.yaml run=new', 'new/config.yaml'), 'train on': (AGAIN, f'{MINE}/config.yaml'),
           'prune': (f'prune {MINE}', 'compact'), 'evaluate': (f'evaluate {MINE}', f'{MINE}/evaluation.csv')}


def nothing_temporary(folder):
    return [str(path) for path in folder.rglob('.*') if path.name != '.lock'] == []


def one_line(err, words, verb):
    assert err.count('\n') == 1 and err.startswith(f'sss-gluon {verb}: ') and names(err, words), err


@pytest.mark.parametrize('verb', WRITING)
def test_disk_full(verb, desk, monkeypatch, capfd):
    """Every file is written, and then does not fit."""
    def full(number):
        raise OSError(errno.ENOSPC, 'is full')

    command, file = WRITING[verb]
    before = snapshot(desk)
    with monkeypatch.context() as patch:
        patch.setattr(os, 'fsync', full)
        assert main(command.split()) == 2
    err = capfd.readouterr().err
    one_line(err, 'is full', verb.split()[0])
    assert file in err and differing(before, desk) == [] and nothing_temporary(desk)
    assert main(command.split()) == 0


@pytest.mark.parametrize('verb', WRITING)
def test_a_run_folder_that_is_read_only(verb, desk, monkeypatch, capfd):
    """As on a read-only file system; permissions mean nothing to root."""
    command, before, really = WRITING[verb][0], snapshot(desk), os.open

    def read_only(path, flags, *arguments, **keywords):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and str(desk) in os.path.abspath(path):
            raise OSError(errno.EROFS, 'Read-only file system', path)
        return really(path, flags, *arguments, **keywords)

    monkeypatch.setattr(os, 'open', read_only)
    assert main(command.split()) == 2
    one_line(capfd.readouterr().err, 'Read-only file system', verb.split()[0])
    assert differing(before, desk) == []


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write everywhere')
@pytest.mark.parametrize('verb', WRITING)
def test_a_run_folder_without_permission(verb, desk, capfd):
    before = snapshot(desk)
    for path in (desk, desk / MINE):
        path.chmod(0o555)
    try:
        assert main(WRITING[verb][0].split()) == 2
    finally:
        for path in (desk, desk / MINE):
            path.chmod(0o755)
    one_line(capfd.readouterr().err, 'Permission denied', verb.split()[0])
    assert differing(before, desk) == []


def test_a_run_folder_that_is_deleted_while_it_trains(desk, monkeypatch, capfd):
    step = Training.step

    def deleted(self, epoch, number, x, y):
        if number == 3:
            shutil.rmtree('new')
        return step(self, epoch, number, x, y)

    monkeypatch.setattr(Training, 'step', deleted)
    assert main('train small.yaml run=new'.split()) == 2
    one_line(capfd.readouterr().err, 'new/metrics.csv…No such file', 'train')
    assert not os.path.exists('new')


# In processes of their own

def environment(unbuffered=''):
    return dict(os.environ, OMP_NUM_THREADS='1', PYTHONUNBUFFERED=unbuffered,
                PYTHONPATH=os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH', '')])))


def call(command, start=('-m', 'sss_gluon.cli'), folder=None, **keywords):
    return subprocess.run([sys.executable, *start, *command.split()], cwd=folder, env=environment(), text=True,
                          capture_output=True, timeout=300, **keywords)


@pytest.mark.slow
def test_a_limit_of_the_size_of_files(desk):
    """The kernel refuses what is longer than 50,000 bytes: a checkpoint is; all else is shorter."""
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    before = snapshot(desk / MINE / 'checkpoints')
    done = call(AGAIN, preexec_fn=limit)
    assert done.returncode == 2
    one_line(done.stderr, f'{MINE}/checkpoints/epoch-0003.npz…File too large', 'train')
    assert snapshot(desk / MINE / 'checkpoints') == before and nothing_temporary(desk)
    done = call(AGAIN)
    assert done.returncode == 0 and f'{MINE}: continuing after epoch 2' in done.stdout


@pytest.fixture
def small_disk(desk):
    """A disk of 2 MB, with the desk on it; a function that leaves so many bytes free."""
    mount = desk / 'disk'
    mount.mkdir()
    if shutil.which('mount') is None or subprocess.run(
            ['mount', '-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', str(mount)], capture_output=True).returncode:
        pytest.skip('mounting a small disk needs root')
    try:
        for name in ('small.yaml', 'runs'):
            subprocess.run(['cp', '-r', str(desk / name), str(mount)], check=True)

        def leave(size):
            (mount / 'filling').unlink() if (mount / 'filling').exists() else None
            free = shutil.disk_usage(mount).free
            if size is not None:
                (mount / 'filling').write_bytes(bytes(free - size))
        yield mount, leave
    finally:
        subprocess.run(['umount', str(mount)], check=True)


@pytest.mark.slow
def test_a_disk_that_is_really_full(small_disk):
    disk, leave = small_disk
    checkpoints = snapshot(disk / MINE / 'checkpoints')
    for command, size in ((AGAIN, 40960), (f'prune {MINE}', 0), (f'prune {MINE}', 8192), (f'evaluate {MINE}', 0),
                          (AGAIN, 0), ('train small.yaml run=new', 0)):
        leave(size)
        compact = snapshot(disk / MINE / 'compact')
        done = call(command, folder=disk)
        assert done.returncode == 2, (command, size, done)
        one_line(done.stderr, '', command.split()[0])
        assert 'No space left' in done.stderr or 'is the disk full?' in done.stderr
        assert snapshot(disk / MINE / 'checkpoints') == checkpoints and nothing_temporary(disk)
        assert 'train' in command or snapshot(disk / MINE / 'compact') == compact
    leave(None)
    for command in (AGAIN, f'prune {MINE}', 'train small.yaml run=new epochs=1'):
        done = call(command, folder=disk)
        assert done.returncode == 0 and done.stderr == ''


@pytest.mark.slow
@pytest.mark.parametrize('unbuffered', ['', '1'])
def test_output_that_nobody_takes(unbuffered, desk):
    with open('/dev/full', 'w') as full:
        done = subprocess.run([sys.executable, '-m', 'sss_gluon.cli', 'count', 'cifar_resnet20'],
                              env=environment(unbuffered), stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (2, 'sss-gluon count: output: No space left on device\n')
    closed = call('count cifar_resnet20', start=('-c', 'import os, sys; os.close(1); os.execv(sys.executable, '
                                                       '[sys.executable, "-m", "sss_gluon.cli"] + sys.argv[1:])'))
    assert (closed.returncode, closed.stderr) == (0, '')


# Ctrl-C. The signal is sent from inside, where a function is called for the first time, or a module imported.

INTERRUPTED = """
import importlib, os, signal, sys
place, times, sys.argv[0] = sys.argv[1], int(sys.argv[2]), 'sss-gluon'
module, _, name = place.partition(':')


class Importing:
    def find_spec(self, wanted, path=None, target=None):
        if wanted == name:
            os.kill(os.getpid(), signal.SIGINT)


if module == 'import':
    sys.meta_path.insert(0, Importing())
from sss_gluon.cli import main
if module != 'import':
    *path, last = name.split('.')
    owner = importlib.import_module(module)
    for part in path:
        owner = getattr(owner, part)
    real = getattr(owner, last)

    def interrupted(*arguments, **keywords):
        setattr(owner, last, real)
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)
        return real(*arguments, **keywords)

    setattr(owner, last, interrupted)
sys.exit(main(sys.argv[3:]))
"""

TRAIN = 'train small.yaml run=new gamma=0.0001'
SAVED = 'SIGINT…epoch 1…saved…sss-gluon train new'
PHASES = {      # command, place, signals, what is said
    'imports': (TRAIN, 'import:mxnet.gluon', 1, 'sss-gluon: stopped\n'),
    'imports later': (TRAIN, 'import:matplotlib.figure', 1, 'sss-gluon train: stopped\n'),
    'data': (TRAIN, 'sss_gluon.data.digits:read_idx', 1, 'sss-gluon train: stopped\n'),
    'tracing': (TRAIN, 'sss_gluon.graph.trace:_symbol', 1, 'sss-gluon train: stopped\n'),
    'a batch': (TRAIN, 'sss_gluon.data.augment:Augmentation.apply', 1, SAVED),
    'a step': (TRAIN, 'sss_gluon.train.loop:Training.step', 1, SAVED + '…step 1'),
    'a step, twice': (TRAIN, 'sss_gluon.train.loop:Training.step', 2, 'sss-gluon train: stopped\n'),
    'the progress bar': (TRAIN, 'tqdm.std:tqdm.update', 1, SAVED + '…step 1'),
    'evaluation': (TRAIN, 'sss_gluon.train.loop:evaluate_images', 1, SAVED),
    'a checkpoint': (TRAIN, 'numpy.lib.format:write_array', 1, SAVED),
    'a checkpoint, twice': (TRAIN, 'numpy.lib.format:write_array', 2, 'sss-gluon train: stopped\n'),
    'the diagnosis': (TRAIN, 'sss_gluon.methods.diagnosis:mean_gradients', 1, 'sss-gluon train: stopped\n'),
    'a figure': (TRAIN, 'matplotlib.backends.backend_agg:FigureCanvasAgg.print_png', 1, 'sss-gluon train: stopped\n'),
    'the lock': (f'prune {MINE}', 'sss_gluon.train.run_folder:FileLock.acquire', 1, 'sss-gluon prune: stopped\n'),
    'pruning': (f'prune {MINE}', 'sss_gluon.graph.prune:slice_parameters', 1, 'sss-gluon prune: stopped\n'),
    'exporting': (f'prune {MINE}', 'mxnet:nd.save', 1, 'sss-gluon prune: stopped\n'),
    'latencies': (f'evaluate {MINE}', 'sss_gluon.deploy.evaluate:latencies', 1, 'sss-gluon evaluate: stopped\n'),
    'counting': ('count cifar_resnet20', 'sss_gluon.graph.count:count_program', 1, 'sss-gluon count: stopped\n'),
}


@pytest.mark.slow
@pytest.mark.parametrize('phase', PHASES)
def test_ctrl_c_in(phase, desk, capfd):
    """One line, status 130, nothing half-written; the same command then does the rest."""
    command, place, times, words = PHASES[phase]
    done = call(f'{place} {times} {command}', start=('-c', INTERRUPTED))
    assert done.returncode == 130 and done.stderr.count('\n') == 1 and names(done.stderr, words)
    assert nothing_temporary(desk)
    assert main(command.split()) == 0 and capfd.readouterr().err == ''
    assert nothing_temporary(desk) and (command != TRAIN or (desk / 'new/diagnosis.txt').exists())


@pytest.mark.slow
def test_ctrl_c_again_and_again_at_random(desk):
    """Stopped at random moments, some of them twice, a run ends like one that nothing stopped."""
    command = 'train small.yaml run=new epochs=6 learning_rate=0.01'
    begin = time.monotonic()
    assert call(command.replace('run=new', 'run=whole')).returncode == 0
    seconds, random, said = time.monotonic() - begin, np.random.RandomState(0), set()
    for attempt in range(6):
        process = subprocess.Popen([sys.executable, '-m', 'sss_gluon.cli', *command.split()], env=environment(),
                                   text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for delay in (random.uniform(0.3, 1.0) * seconds, random.uniform(0, 0.3))[:1 + attempt % 2]:
            time.sleep(delay)
            process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=100)
        assert process.returncode == (130 if err else 0) and err.count('\n') <= 1 and 'Traceback' not in err, err
        assert nothing_temporary(desk)
        said.add(err[:24])
    assert call(command).returncode == 0 and len(said) > 1
    for table in ('metrics.csv', 'factors.csv'):
        assert (desk / 'new' / table).read_bytes() == (desk / 'whole' / table).read_bytes()
