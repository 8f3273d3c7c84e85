"""Whatever a user can get wrong: one clear line, an exit status, no traceback, and nothing half-written.

A row says what is prepared on a desk with three finished runs, the command line, words that its one line must hold,
which files may differ afterwards (all others are compared byte by byte), and words on stdout, which is empty otherwise.
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
    words: str
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
RAISED = f'{MINE}: epochs raised from 2 to 3\n'
FOLDER = NEW + 'data=folder data_root=img image_size=null batch_size=4'
FASHION = NEW + 'data=fashion-mnist data_root=fashion image_size=null'
CIFAR = NEW + 'data=cifar10 data_root=cifar image_size=null'
IMAGENET = NEW + 'data=imagenet data_root=rec batch_size=4'
COMPACT = NEW + f'factors=null structure={STRUCTURE}'
BOTH_DAMAGED = f'all 2 checkpoints in {MINE}/checkpoints are damaged or of another version; delete them to begin again'
PASSED = 'trying the checkpoint before it'


def settings(*rows):
    """Rows whose name is the setting that they try."""
    return [Row(setting, (), NEW.replace(' ', '|') + setting, words) for setting, words in rows]


KEYS = settings(
    ('gama=1', "the command line: there is no setting 'gama'; did you mean 'gamma'?"),
    ('gämma=1', "did you mean 'gamma'?"), ('=1', "there is no setting ''"), ('base=x.yaml', "no setting 'base'"),
    ('[=1', 'the command line: '), ('gamma', "override 'gamma' is not of the form key=value"),
    ('gamma=', 'gamma needs a value'), ('gamma=null', 'gamma needs a value'), ('gamma=???', 'gamma needs a value'),
    ('gamma=-1', 'gamma=-1.0 must be a number from 0 to 2147483647'), ('gamma=nan', 'gamma=nan must be a number'),
    ('gamma=.inf', 'gamma=inf must be a number'), ('gamma=text', "gamma: Value 'text' of type 'str'"),
    ('gamma=1e300', 'gamma=1e+300 must be a number'), ('learning_rate=1e39', 'learning_rate=1e+39 must be a number'),
    ('weight_decay=1e39', 'weight_decay=1e+39 must'), ('clip_gradient=1e39', 'clip_gradient=1e+39 must be a number'),
    ('gamma=${gamma}', 'gamma: Recursive interpolation'), ('gamma.x=1', 'gamma: Value'),
    ('gamma_mult={x:1}', "gamma_mult: 'x:1' has no value; put a blank behind the colon"),
    ('gamma_mult={"(": 1}', "gamma_mult: '(' is not a regular expression"),
    ('gamma_mult={x: 1}', "gamma_mult: 'x' matches no factor"), ('gamma_mult=3', 'is not of the form {a: b}'),
    ('epochs=-1', 'epochs=-1 must be a number from 1'), ('epochs=1.5', 'epochs: Value'),
    ('epochs=99999999999999999999', 'epochs=99999999999999999999 must be a number from 1 to'),
    ('batch_size=1198', 'batch size 1198 must be from 1 to the number of training images'),
    ('batch_size=0', 'batch_size=0 must'), ('grad_accumulation=7', 'the nearest that can is 63'),
    ('schedule=cosin', 'did you mean cosine?'), ('lr_decay_epochs=a', "lr_decay_epochs: 'a' is not of the form [a, b]"),
    ('lr_decay_epochs=[a]', 'lr_decay_epochs[0]'), ('image_size=0', 'size=0 must be at least that of the images, 8 '
                                                                    '(image_size: in a configuration)'),
    ('image_size=10000000000', 'not enough memory'), ('validation=1497', 'cannot hold out 1497 of 1497 images'),
    ('augment_pad=9', 'pad=9 (augment_pad: in a configuration) must not be more than the side of the images, 8'),
    ('seed=-1', 'seed=-1 must be a number from 0'), ('data_root=/nowhere', 'data_root: in a configuration'),
    ('data=mnist', "data set 'mnist' is unknown; did you mean fashion-mnist?"),
    ('augmentation=face', 'augmentation=face is unknown; did you mean facebook? Choices: pad-crop, resized-crop, face'),
    ('augmentation=facebook', 'augmentation=facebook does not'),
    ('data=cifar10', 'leave out size=8 (image_size: in a configuration)'),
    ('data=folder', 'data_root: in a configuration'),
    ('model=cifar_resnet', "model 'cifar_resnet' is unknown; did you mean 'cifar_resnet20'?"),
    ('model=nomodule:net', "No module named 'nomodule'"),
    ('model=..a:b', "model '..a:b'"), ('model=os:getcwd', "model 'os:getcwd'"),
    ('model_options={speed: 3}', "unexpected keyword argument 'speed'"),
    ('model_options={classes: 3}', 'model_options: classes is no option of its own'),
    ('model_options={depths: 3}', 'depths=3 should be a list'),
    ('model_options={depths: [1000000000, 1, 1]}', 'should hold whole numbers from 1 to 1000, not 1000000000'),
    ('model_options={widths: [-8, 8, 8]}', 'should hold whole numbers from 1 to 65536, not -8'),
    ('model_options={widths: [60000, 60000, 8]}', 'the parameters of cifar_resnet20 cannot be created'),
    ('factors=[neurons]', "cifar_resnet20 has no 'neurons' structures; factors may be any of neuron, block, or [] for"),
    ('factors=group', "cifar_resnet20 has no 'group' structures"), ('factors={a: b}', 'is not of the form [a, b]'),
    ('devices=gpu0', 'gpu0 was asked for'), ('devices=[gpu99]', 'gpu99 was asked for'), ('devices=[tpu]', "'tpu'"),
    ('devices=[[1]]', 'devices: [1] is not the name of a device'),
    ('devices=[cpu0,cpu0]', 'names a device twice'),
    ('devices=cpu99999999999999', "'cpu99999999999999' is unknown"),
    ('init=nothing.params', 'params file nothing.params does not exist'),
    ('init=notes', 'is not a readable params file'),
    (f'init={PARAMS}', 'is of another network: after 3 arrays that fit'),
    ('init=runs/other/checkpoints/epoch-0001.npz', 'is of another network: after 16 arrays'),
    ('structure=nothing', 'there is no structure file nothing, and the shipped ones are resnet26'),
    ('structure=resnet26', 'structure=resnet26 is of the model resnet50, not of model=cifar_resnet20'),
    (f'structure={SYMBOL}', 'its "format" should be "sss_gluon structure 1"'),
    ('run=', 'run needs a value'), ('run=notes', 'notes is not empty and not a run folder; name another run='),
    ('run=small.yaml', 'small.yaml is not a folder; name another run='), ('run=small.yaml/x', 'small.yaml/x'),
    ('run=/proc/x', 'cannot write to the run folder /proc/x'), ('run=' + 'x' * 300, 'File name too long'),
    ('init=' + 'x' * 5000, 'does not exist'), ('structure=' + 'x' * 5000, 'File name too long'),
    ('run=a\udce9b', 'the command line: '),
)

FILES = [
    Row('no configuration', (), 'train nothing.yaml', 'there is no configuration file nothing.yaml'),
    Row('a very long name', (), 'train ' + 'x' * 5000, 'there is no configuration file'),
    Row('a list', (put('a.yaml', '- a\n'),), 'train a.yaml', 'a.yaml is not a list of key: value'),
    Row('binary', (put('a.yaml', bytes(range(256))),), 'train a.yaml', "a.yaml: 'utf-8' codec can't decode"),
    Row('nested too deep', (put('a.yaml', 'model_options: ' + '[' * 3000 + ']' * 3000),), 'train a.yaml', 'a.yaml: '),
    Row('a bomb', (put('a.yaml', 'a: &a [x,x,x,x,x,x,x,x,x]\n' + ''.join(
        f'{b}: &{b} [{",".join(["*" + a] * 9)}]\n' for a, b in zip('abcdefgh', 'bcdefghi'))),),
        'train a.yaml', 'a.yaml: '),
    Row('an alias of itself', (put('a.yaml', 'model_options: &a {x: *a}\n'),), 'train a.yaml', 'a.yaml: '),
    Row('bases in a circle', (put('a.yaml', 'base: b.yaml'), put('b.yaml', 'base: a.yaml')), 'train a.yaml', 'circle'),
    Row('a base that refers', (put('a.yaml', 'base: ${x}'),), 'train a.yaml', "a.yaml: base: Interpolation key 'x'"),
    Row('a base of 0', (put('a.yaml', 'base: 0'),), 'train a.yaml', 'there is no configuration file 0'),
    Row('an unknown key', (put('a.yaml', 'learn: 1'),), 'train a.yaml', "a.yaml: there is no setting 'learn'; did you"),
    Row('a module with an error', (put('bad_syntax.py', SYNTAX),), NEW + 'model=bad_syntax:net model_options={}',
        'bad_syntax.py, line '),
    Row('a network that takes no images', (put('bad_flat.py', FLAT),),
        NEW + 'model=bad_flat:net model_options={} factors=null', 'of Dense has no values yet'),
]

RUNS = [
    Row('train no run', (), 'train notes', 'notes is not a run folder: it has no config.yaml'),
    Row('prune nothing', (), 'prune nothing', 'there is no folder nothing'),
    Row('pack nothing', (), 'data imagenet-rec nothing out', 'there is no folder nothing'),
    Row('launch nothing', (), 'launch', 'launch is for train'),
    Row('launch another verb', (), 'launch prune nothing', 'launch is for train, not for'),
    Row('launch on no hosts', (), 'launch --hosts nothing train small.yaml', 'list of hosts nothing cannot be read'),
    Row('two choices of rows', (), 'bench --distributed --only step', '--distributed and --only both choose'),
    Row('half a node', (), 'launch --node-rank 1 train small.yaml', '--node-rank and --num-nodes go together'),
    Row('one of no workers', (), NEW + 'kvstore=dist_sync', 'this process was not launched as one of them'),
    Row('no Horovod', (), NEW + 'kvstore=horovod', 'kvstore=horovod needs Horovod with MXNet'),
    Row('prune a file', (), 'prune small.yaml', 'small.yaml is not a run folder: it has no config.yaml'),
    Row('prune no run', (), 'prune notes', 'notes is not a run folder: it has no config.yaml'),
    Row('evaluate nothing', (), 'evaluate nothing', 'there is no folder nothing'),
    Row('against nothing', (), f'evaluate {MINE} --against nothing', 'there is no folder nothing'),
    Row('export nothing', (), 'export nothing', 'there is no folder nothing'),
    Row('export no run', (), 'export notes', 'notes is not a run folder: it has no config.yaml'),
    Row('export of no images', (), f'export {MINE} --int8 --calibration 0', 'calibration 0 must be at least 1 image'),
    Row('other settings', (), f'train {MINE} gamma=1',
        f'{MINE} was begun with other settings (gamma: 0.1 -> 1.0); name another run=, or delete the folder'),
    Row('fewer epochs', (), f'train {MINE} epochs=1', 'was begun with other settings (epochs: 2 -> 1)'),
    Row('another folder', (), f'train {MINE} run=elsewhere', f'run= cannot be changed while {MINE} is continued'),
    Row('gpu of a run', (), f'evaluate {MINE} --device gpu0', 'gpu0 was asked for'),
    Row('device of a run', (), f'evaluate {MINE} --device cpu:1', "device 'cpu:1' is unknown; use cpu, cpu1"),
    Row('data of a run', (), f'evaluate {MINE} --data runs/dense', '--data is for an exported network'),
    Row('no configuration in it', (drop(f'{MINE}/config.yaml'),), f'prune {MINE}', 'it has no config.yaml'),
    Row('a newer configuration', (change(f'{MINE}/config.yaml', lambda text: text + b'warp: 9\n'),), f'prune {MINE}',
        f"{MINE}/config.yaml: there is no setting 'warp'"),
    Row('half a configuration', (change(f'{MINE}/config.yaml', half),), f'train {MINE}', f'{MINE}/config.yaml: '),
    Row('a structure that is gone', (change(f'{MINE}/config.yaml', lambda text: text.replace(
        b'structure: null', b'structure: gone.json')),), f'prune {MINE}', 'there is no structure file gone.json'),
    Row('no checkpoint', (drop(f'{MINE}/checkpoints'),), f'prune {MINE}',
        f'{MINE} has no checkpoint yet; train it first: sss-gluon train {MINE}'),
    Row('of other data', (images(), change(f'{MINE}/config.yaml', lambda text: text.replace(
        b'data: digits', b'data: folder').replace(b'data_root: null', b'data_root: img'))), f'evaluate {MINE}',
        'epoch-0002.npz is of another model: output.weight has shape (10, 16) there, (3, 16) here'),
    Row('of a longer epoch', (position(step=999),), f'train {MINE} epochs=3',
        'epoch-0002.npz is of step 999, but an epoch has 18: it is of other data', out=RAISED),
    Row('of another network', (copy('runs/other/checkpoints/epoch-0001.npz', CHECKPOINT),), AGAIN,
        f'{CHECKPOINT} is of another model: stage2.0.conv1.weight has shape (16, 8, 3, 3) there, (8, 8, 3, 3) here',
        out=RAISED),
    Row('without its factors', (copy('runs/dense/checkpoints/epoch-0001.npz', CHECKPOINT),), f'prune {MINE}',
        f'{CHECKPOINT} is of another model: stage1.0.conv2.factor is in only one of them (6 parameters differ)'),
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
    *[Row(f'{table} {name}', prepare, AGAIN, words, changed, out=RAISED + f'{MINE}: continuing after epoch 2\n')
      for table in ('metrics.csv', 'factors.csv') for name, prepare, words, changed in (
          ('binary', (put(f'{MINE}/{table}', bytes(range(256))),), f'{MINE}/{table} cannot be read', ()),
          ('a folder', (folder(f'{MINE}/{table}'),), f'{MINE}/{table} cannot be read', ()),
          ('of another run', (put(f'{MINE}/{table}', 'epoch,a\n1,2\n2,3\n'),),
           f'{MINE}/{table} has other columns than this run writes', ('runs/mine/*', 'runs/mine/compact/*')))],
    *[Row(f'{table} {name}', (change(f'{MINE}/{table}', function),), f'train {MINE}', words,
          changed=(f'{MINE}/figures/*',), out='nothing to do')
      for table in ('metrics.csv', 'factors.csv') for name, function, words in (
          ('of words', lambda text: text.replace(b'\n2,', b'\n2,word'), f'{MINE}/{table} is damaged'),
          ('of too many columns', lambda text: text.replace(b'\n2,', b'\n2,2,'),
           f'{MINE}/{table} is damaged: line 3 has another number of columns than the first; delete it'))],
    Row('figures is a file', (drop(f'{MINE}/figures'), put(f'{MINE}/figures', 'x')), f'train {MINE}',
        f'cannot write {MINE}/figures/training.png: File exists', out='nothing to do'),
    *[Row(f'in use: {verb}', (held(MINE),), f'{verb} {MINE}', f'{MINE} is in use by another process; wait for it')
      for verb in ('train', 'prune', 'export')],
    Row('the lock is a folder', (folder(f'{MINE}/.lock'),), f'prune {MINE}', f'cannot write to the run folder {MINE}'),
    Row('compact is a file', (drop(f'{MINE}/compact'), put(f'{MINE}/compact', 'x')), f'prune {MINE}', 'compact'),
    Row('diverged', (), NEW + 'learning_rate=1e9', 'Try a smaller learning_rate, warmup_epochs, or clip_gradient',
        changed=('new', 'new/*')),
]

STRUCTURES = [
    *[Row(f'structure {name}', (prepare,), COMPACT, words) for name, prepare, words in (
        ('cut short', change(STRUCTURE, half), 'model-structure.json is not a structure.json'),
        ('empty', put(STRUCTURE, ''), 'model-structure.json is not a structure.json'),
        ('binary', put(STRUCTURE, bytes(range(256))), 'model-structure.json is not a structure.json'),
        ('too deep', put(STRUCTURE, '[' * 100000), 'model-structure.json is not a structure.json'),
        ('with one bit changed', change(STRUCTURE, lambda text: text.replace(b'kept', b'kepu', 1)), "KeyError 'kept'"),
        ('of another model', entry(STRUCTURE, ['model', 'name'], 'vgg16'), 'is of the model vgg16, not of model='),
        ('of no model', entry(STRUCTURE, ['model'], [1]), 'the model [1] of the structure cannot be built'),
        ('options a list', entry(STRUCTURE, ['model', 'options'], [1]), 'of the structure cannot be built'),
        ('options with classes', entry(STRUCTURE, ['model', 'options', 'classes'], 3), 'cannot be built'),
        ('factors a number', entry(STRUCTURE, ['model', 'factors'], 3), 'of the structure cannot be built'),
        ('of a billion blocks', entry(STRUCTURE, ['model', 'options', 'depths'], [1, 1, 10 ** 9]), 'from 1 to 1000'),
        ('of other classes', entry(STRUCTURE, ['model', 'classes'], 7), 'has classes=7, but digits needs 10'),
        ('of other channels', entry(STRUCTURE, ['model', 'in_channels'], 3), 'has in_channels=3, but digits needs 1'),
        ('of another shape', entry(STRUCTURE, ['input_shape'], [1, 3, 8, 8]), 'does not accept an input of shape'),
        ('of a huge shape', entry(STRUCTURE, ['input_shape'], [1, 1, 10 ** 30, 8]), 'does not accept an input of'),
        ('of no shape', entry(STRUCTURE, ['input_shape'], [1, 1, 0, 8]), 'is not a shape, batch first'),
        ('negative index', entry(STRUCTURE, FACTOR + ['kept'], [-1]), 'stage1.0.norm2 keeps indices outside 0..7'),
        ('repeated index', entry(STRUCTURE, FACTOR + ['kept'], [1, 1]), 'stage1.0.norm2 keeps indices outside 0..7'),
        ('huge index', entry(STRUCTURE, FACTOR + ['kept'], [10 ** 30]), 'stage1.0.norm2 keeps indices outside 0..7'),
        ('words for indices', entry(STRUCTURE, FACTOR + ['kept'], 'all'), 'keeps indices outside 0..7'),
        ('other size', entry(STRUCTURE, FACTOR + ['size'], 4), 'has 8 entries in the network, 4 in the structure'),
        ('unknown kind', entry(STRUCTURE, FACTOR + ['kind'], 'channel'), "has kind 'channel' and size 8"),
        ('factor too many', entry(STRUCTURE, ['factors', 'zz'], {'kind': 'block', 'size': 1, 'kept': []}),
         "factor 'zz'"),
        ('no layers', entry(STRUCTURE, ['layers'], {}), 'but its factors give'),
        ('other widths', entry(STRUCTURE, ['layers', 'stem', 'after'], [1, 1]), 'but its factors give'),
    )],
    Row('count by a structure of another network', (), f'count resnet50 --structure {STRUCTURE}',
        f"{STRUCTURE}: the structure has a factor 'stage1.0.norm2'"),
    Row('count by no structure', (), 'count resnet50 --structure resnet27', 'there is no structure file resnet27'),
    Row('count by a folder', (), 'count resnet50 --structure notes', 'cannot read the structure notes: Is a directory'),
    Row('evaluate without its structure', (put(STRUCTURE, '{'),), f'evaluate {MINE}', 'is not a structure.json'),
]

EXPORTED = [
    *[Row(f'{name}: {verb}', prepare, f'{verb} {SYMBOL}', words) for verb in ('evaluate', 'count')
      for name, prepare, words in (
          ('no symbol', (drop(SYMBOL),), f'there is no {SYMBOL}'),
          ('half a symbol', (change(SYMBOL, half),), f'{SYMBOL} is not a symbol that MXNet can read'),
          ('binary symbol', (put(SYMBOL, bytes(range(256))),), f'{SYMBOL} is not a symbol that MXNet can read'),
          ('symbol {}', (put(SYMBOL, '{}'),), f'{SYMBOL} is not a symbol that MXNet can read'),
          ('unknown operator', (node('op', 'Convulsion'),), f'{SYMBOL} is not a symbol that MXNet can read'),
          ('a circle', (node('inputs', [[20, 0, 0], [1, 0, 0]]),), 'later node'),
          ('an input that is not there', (node('inputs', [[9999, 0, 0], [1, 0, 0]]),), 'later node'),
          ('no group', (node('num_group', '0'),), 'has no group'),
          ('other filters', (node('num_filter', '3'),), 'does not accept an input of shape (1, 1, 8, 8): Error in'),
          ('negative filters', (node('num_filter', '-3'),), 'shape dim size must be >= -1'),
          ('code for a number', (node('kernel', '__import__("os").mkdir("x")'),), f'{SYMBOL} is not a symbol that'),
          ('no params', (drop(PARAMS),), f'params file {PARAMS} does not exist'),
          ('params a folder', (folder(PARAMS),), f'{PARAMS} is not a readable params file'),
          ('half the params', (change(PARAMS, half),), f'{PARAMS} is not a readable params file'),
          ('empty params', (put(PARAMS, ''),), f'{PARAMS} is not a readable params file'),
          ('other params', (copy(CHECKPOINT, PARAMS),), f'{PARAMS} is not a readable params file'),
          ('params of NaN', (weights('arg:output_weight', lambda a: a * float('nan')),), 'values that are not finite'),
          ('turned params', (weights('arg:output_weight', lambda a: a.T),), 'has the shape (16, 10), not (10, 16)'))],
    *[Row(name, prepare, f'evaluate {SYMBOL}', words) for name, prepare, words in (
        ('one bit of the params', (change(PARAMS, lambda content: content[:1000] + b'\x42' + content[1001:]),),
         f'{PARAMS} is not the file that was written with model-structure.json: it was changed, or is damaged'),
        ('of other classes', (images(), change(f'{MINE}/config.yaml', lambda text: text.replace(
            b'data: digits', b'data: folder').replace(b'data_root: null', b'data_root: img'))),
         'gives outputs of shape [(1, 10)] for an image of folder, which has 3 classes: it is of other data'))],
    Row('the compact network of a run', (change(PARAMS, lambda content: content[:1000] + b'\x42' + content[1001:]),),
        f'evaluate {MINE}', 'it was changed, or is damaged; export it again'),
    Row('evaluate no symbol', (), 'evaluate nothing-symbol.json', 'there is no nothing-symbol.json'),
    Row('--data nothing', (), f'evaluate {SYMBOL} --data nothing', 'there is no folder nothing'),
    Row('--against', (), f'evaluate {SYMBOL} --against runs/dense', '--against compares'),
    Row('outside of a run', (copy(SYMBOL, 'x-symbol.json'), copy(PARAMS, 'x-0000.params')), 'evaluate x-symbol.json',
        'x-symbol.json does not lie in a run folder; name one for its data: --data run'),
    Row('not a symbol', (), f'evaluate {STRUCTURE}', f'{STRUCTURE} is not the symbol file of an exported network'),
    Row('a symbol of one size', (), f'count {SYMBOL} --channels 3', 'does not accept an input of shape (1, 3, 8, 8)'),
]

COUNT = [Row(arguments, (), f'count {arguments}', words) for arguments, words in (
    ('nothing', "model 'nothing' is unknown; did you mean"), (STRUCTURE, 'is not the symbol file of an exported'),
    ('nothing-symbol.json', 'there is no nothing-symbol.json'), ('notes', 'is not a run folder'),
    ('resnet50 --size 0', 'size 0 must be a number from 1'), ('resnet50 --size -1', 'size -1 must be a number from 1'),
    ('resnet50 --size 99999999999999999999', 'size 99999999999999999999 must be a number from 1 to'),
    ('cifar_resnet20 --channels 0', 'channels 0 must be a number'), ('cifar_resnet20 --classes -1', 'classes -1 must'),
    ('cifar_resnet20 --classes 2000000000', ''),        # more than there is memory for, or more than MXNet counts
    ('vgg16 --size 32', 'VGG does not accept an input of shape (1, 3, 32, 32): Error in operator vgg'),
    ('resnet50 --structure notes/mine.txt', 'notes/mine.txt is not a structure.json'),
    (f'{MINE} --structure resnet26', 'a structure cuts a model; name the model'),
    (f'{MINE} --size 32', 'is a run, which has the input and the classes of its data: leave out size'),
    (f'{SYMBOL} --classes 3', 'leave out classes 3'), ('nomodule:net --size 8', "No module named 'nomodule'"),
    ('cifar_resnet20 --structure resnet26', 'another model'),
)]

DATA = [Row(name, prepare, command, words) for command, rows in {
    FOLDER: (
        ('no folder', (), 'img: must hold the folders train/ and test/ (or val/)'),
        ('a file for a folder', (put('img', 'x'),), 'must hold the folders train/ and test/'),
        ('a dangling link', (link('img'),), 'must hold the folders train/ and test/'),
        ('nothing to test', (images(parts=('train',)),), 'must hold the folders train/ and test/'),
        ('one class', (images(classes=1),), 'img/train: holds one class, c0'),
        ('an empty class', (images(), folder('img/train/c9')), 'c9: is empty'),
        ('other classes', (images(), drop('img/test/c0')), 'must have the same class folders'),
        ('half an image', (images(), change('img/train/c1/3.png', half)), '3.png: is not a readable image'),
        ('text for an image', (images(), put('img/train/c1/3.png', 'x')), '3.png: is not a readable image'),
        ('a huge header', (images(), change('img/train/c1/3.png', lambda content: content[:16] + b'\x7f' * 8
                                            + content[24:])), '3.png: is not a readable image'),
        ('a folder for an image', (images(), folder('img/train/c1/x')), 'c1/x: is not an image but a folder or device'),
        ('a pipe for an image', (images(), lambda desk: os.mkfifo(desk / 'img/train/c1/x.png')),
         'x.png: is not an image but a folder or device'),
        ('a link for an image', (images(), link('img/train/c1/x.png')), 'x.png: is not a readable image'),
        ('two sizes', (images(), lambda desk: Image.new('L', (9, 8)).save(desk / 'img/train/c1/3.png')),
         '3.png: is 9 x 8 pixels but')),
    FASHION: (
        ('cut short', (fashion(idx(60000, 28, 28, size=999)),), '60000 x 28 x 28 = 47040000 bytes of data, found 999'),
        ('too few', (fashion(idx(6, 28, 28)),), 'holds an array of shape (6, 28, 28), expected (60000, 28, 28)'),
        ('other size', (fashion(idx(6, 32, 32)),), 'holds an array of shape (6, 32, 32), expected (60000, 28, 28)'),
        ('empty', (fashion(''),), 'IDX file of unsigned bytes with 3 dimensions'),
        ('half compressed', (fashion(b'\x1f\x8b\x08'),), 'cannot be read'),
        ('huge header', (fashion(idx(*[2 ** 32 - 1] * 3, size=0)),), 'its header says 4294967295 x 4294967295 x'),
        ('a folder', (fashion(''), folder('fashion/train-images-idx3-ubyte')), 'cannot be read ([Errno 21] Is a')),
    CIFAR: (
        ('cut short', (cifar(100),), 'data_batch_1.bin: expected 30730000 bytes, found 100; get the binary version'),
        ('missing', (cifar(30730000), drop('cifar/data_batch_3.bin')), 'data_batch_3.bin: cannot be read (No such'),
        ('a wrong label', (cifar(30730000), lambda desk: _first_byte(desk / 'cifar/data_batch_1.bin', 99)),
         'data_batch_1.bin: label 99 of image 0 is outside 0..9'),
        ('no archive', (put('cifar/cifar-10-binary.tar.gz', 'x'),), 'delete it and get it again')),
    IMAGENET: (
        ('no folder', (), 'there is no rec/train.rec; make it with: sss-gluon data imagenet-rec IMAGES rec'),
        ('no index', (records(), drop('rec/train.idx')), 'rec/train.idx: cannot be read: No such file or directory'),
        ('cut short', (records(), change('rec/val.rec', half)), 'rec/val.rec: is truncated'),
        ('a shorter list', (records(), change('rec/train.lst', lambda text: text[:text.rindex(b'\n', 0, -1) + 1])),
         'rec/train.lst lists 11 images'),
        ('no classes', (records(), drop('rec/classes.txt')), 'rec/classes.txt: cannot be read: No such file'),
        ('fewer classes', (records(), put('rec/classes.txt', 'c0\n')), 'train.lst: label 1 of image'),
        ('crops of another kind', (records(), change('small.yaml', lambda text: text + b'augmentation: pad-crop\n')),
         'augmentation=pad-crop does not')),
}.items() for name, prepare, words in rows]


def _first_byte(path, value):
    with open(path, 'r+b') as file:
        file.write(bytes([value]))


TABLE = {'key': KEYS, 'file': FILES, 'run': RUNS, 'structure': STRUCTURES, 'exported': EXPORTED, 'count': COUNT,
         'data': DATA}
ROWS = [pytest.param(row, id=f'{group}-{row.name[:60].encode("ascii", "replace").decode()}')
        for group, rows in TABLE.items() for row in rows]


@pytest.fixture(scope='session')
def prepared(tmp_path_factory):
    """A desk with runs of two networks, one of them pruned, and one without factors."""
    folder = tmp_path_factory.mktemp('prepared')
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
    return folder


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
    """{path: content} of all there is in a folder, except locks, which stay on purpose."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else path.is_symlink()
            for path in folder.rglob('*') if path.name != '.lock'}


def differing(before, folder):
    after = snapshot(folder)
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))


@pytest.mark.parametrize('row', ROWS)
def test_one_line_and_nothing_half_written(row, desk, capfd):
    for prepare in row.prepare:
        prepare(desk)
    before = snapshot(desk)
    capfd.readouterr()
    status = main(row.command.split('|' if '|' in row.command else None))
    out, err = capfd.readouterr()
    assert status == 2, (status, out, err)
    assert err.count('\n') == 1 and err.endswith('\n'), err
    assert err.startswith(f'sss-gluon {row.command.replace("|", " ").split()[0]}: ') and row.words in err
    assert '.cc:' not in err and '.h:' not in err and 'Traceback' not in err        # of MXNet's C++
    assert row.out in out if row.out else out == ''
    assert [path for path in differing(before, desk) if not any(Path(path).match(p) for p in row.changed)] == []


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
    assert err.count('\n') == 1 and err.startswith(f'sss-gluon {verb}: ') and words in err, err


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
    one_line(capfd.readouterr().err, 'cannot write', verb.split()[0])
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
    one_line(capfd.readouterr().err, 'cannot write new/metrics.csv: No such file or directory', 'train')
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
    one_line(done.stderr, f'cannot write {MINE}/checkpoints/epoch-0003.npz: File too large', 'train')
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
SAVED = 'everything is saved; continue with: sss-gluon train new'
PHASES = {      # command, place, signals, what is said
    'imports': (TRAIN, 'import:mxnet.gluon', 1, 'sss-gluon: stopped\n'),
    'imports later': (TRAIN, 'import:matplotlib.figure', 1, 'sss-gluon train: stopped\n'),
    'data': (TRAIN, 'sss_gluon.data.digits:read_idx', 1, 'sss-gluon train: stopped\n'),
    'tracing': (TRAIN, 'sss_gluon.graph.trace:_symbol', 1, 'sss-gluon train: stopped\n'),
    'a batch': (TRAIN, 'sss_gluon.data.augment:Augmentation.apply', 1, SAVED),
    'a step': (TRAIN, 'sss_gluon.train.loop:Training.step', 1, 'stopped by SIGINT in epoch 1 after step 1, ' + SAVED),
    'a step, twice': (TRAIN, 'sss_gluon.train.loop:Training.step', 2, 'sss-gluon train: stopped\n'),
    'the progress bar': (TRAIN, 'tqdm.std:tqdm.update', 1, 'stopped by SIGINT in epoch 1 after step 1, ' + SAVED),
    'evaluation': (TRAIN, 'sss_gluon.train.loop:evaluate_images', 1, 'stopped by SIGINT after epoch 1, ' + SAVED),
    'a checkpoint': (TRAIN, 'numpy.lib.format:write_array', 1, 'stopped by SIGINT after epoch 1, ' + SAVED),
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
    assert done.returncode == 130 and done.stderr.count('\n') == 1 and done.stderr.endswith(words.strip() + '\n')
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
