"""Rows whose runs, structures, exported networks or data are missing, damaged or of something else."""
import os

import numpy as np
from desk import (
    AGAIN,
    ASKED,
    ASKED_AGAIN,
    CHECKPOINT,
    FACTOR,
    MINE,
    NEW,
    PARAMS,
    STRUCTURE,
    SYMBOL,
    Row,
    array,
    change,
    cifar,
    copy,
    drop,
    entry,
    fashion,
    flip,
    folder,
    half,
    held,
    idx,
    images,
    link,
    node,
    position,
    put,
    records,
    weights,
)
from PIL import Image

RAISED = f'{MINE}…epochs…2…3'
FOLDER = NEW + 'data=folder data_root=img image_size=null batch_size=4'
FASHION = NEW + 'data=fashion-mnist data_root=fashion image_size=null'
CIFAR = NEW + 'data=cifar10 data_root=cifar image_size=null'
IMAGENET = NEW + 'data=imagenet data_root=rec batch_size=4'
COMPACT = NEW + f'factors=null structure={STRUCTURE}'
BOTH_DAMAGED = f'{MINE}/checkpoints…2…damaged'
PASSED = 'epoch-0002.npz'


def without_method(desk):
    path, = (desk / ASKED / 'checkpoints').iterdir()
    with np.load(path) as file:
        np.savez(path, **{name: value for name, value in dict(file).items() if not name.startswith('method:')})


RUNS = [
    Row('train no run', (), 'train notes', 'notes…run folder…config.yaml'),
    Row('prune nothing', (), 'prune nothing', 'no folder nothing'),
    Row('pack nothing', (), 'data imagenet-rec nothing out', 'no folder nothing'),
    Row('launch nothing', (), 'launch', 'train'),
    Row('launch another verb', (), 'launch prune nothing', 'train…prune'),
    Row('launch on no hosts', (), 'launch --hosts nothing train small.yaml', 'hosts…nothing'),
    Row('two choices of rows', (), 'bench --distributed --only step', '--distributed…--only'),
    Row('bench of no network', (), 'bench --model resnet5', "model 'resnet5'…resnet50"),
    Row('bench of no file', (), 'bench --model nothing-symbol.json --size 8', 'nothing-symbol.json'),
    Row('bench on no device', (), 'bench --model cifar_resnet20 --devices tpu0', "device 'tpu0'…cpu1, gpu0"),
    Row('bench on a card', (), 'bench --model cifar_resnet20 --devices gpu0', 'gpu0…CUDA'),
    Row('bench of no images', (), 'bench --model cifar_resnet20 --batch 1,0', 'batch 0…1'),
    Row('bench of no batch', (), 'bench --model cifar_resnet20 --batch 8,large', '--batch…8,large'),
    Row('bench in float16 on a CPU', (), 'bench --model cifar_resnet20 --precision float16', 'float16…cpu…bfloat16'),
    Row('bench in no precision', (), 'bench --model cifar_resnet20 --precision float8', "precision 'float8'…bfloat16"),
    Row('bench by a structure of another network', (), 'bench --model cifar_vgg16 --structure resnet26 --size 32',
        'resnet26…another model'),
    Row('bench of a run with classes', (), f'bench --model {MINE} --classes 3', f'{MINE}…classes'),
    Row('bench of a table with devices', (), 'bench --devices cpu', '--devices…--model'),
    Row('bench of a network with rows', (), 'bench --model cifar_resnet20 --only step', '--only…--model'),
    Row('bench into a file', (), 'bench --model cifar_resnet20 --out small.yaml', 'small.yaml'),
    Row('launch a table', (), 'launch --workers 2 bench --quick', 'bench…--model'),
    Row('half a node', (), 'launch --node-rank 1 train small.yaml', '--node-rank…--num-nodes'),
    Row('one of no workers', (), NEW + 'kvstore=dist_sync', 'kvstore…dist_sync…launch'),
    Row('no Horovod', (), NEW + 'kvstore=horovod', 'kvstore=horovod…Horovod'),
    Row('prune a file', (), 'prune small.yaml', 'small.yaml…run folder…config.yaml'),
    Row('prune no run', (), 'prune notes', 'notes…run folder…config.yaml'),
    Row('evaluate nothing', (), 'evaluate nothing', 'no folder nothing'),
    Row('against nothing', (), f'evaluate {MINE} --against nothing', 'no folder nothing'),
    Row('export nothing', (), 'export nothing', 'no folder nothing'),
    Row('export no run', (), 'export notes', 'notes…run folder…config.yaml'),
    Row('export of a run with data', (), f'export {MINE} --data img', f'{MINE}…data'),
    Row('export of no images', (), f'export {MINE} --int8 --calibration 0', 'calibration…0…1'),
    Row('export for no images', (), f'export {MINE} --batch 0', 'batch 0…1'),
    Row('export to no width', (), f'export {MINE} --align 0', 'align 0…1'),
    Row('other settings', (), f'train {MINE} gamma=1',
        f'{MINE}…(gamma: 0.1 -> 1.0)…run='),
    Row('another budget', (), f'train {ASKED} target_macs=0.7', f'{ASKED}…(target_macs: 0.6 -> 0.7)…run='),
    Row('other widths', (), f'train {ASKED} shrink_align=8', f'{ASKED}…(shrink_align: 16 -> 8)…run='),
    Row('a budget for a run that has none', (), f'train {MINE} target_macs=0.7', '(target_macs: None -> 0.7)'),
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
    *[Row(f'the budget of a checkpoint: {name}', (array(key, function, f'{ASKED}/checkpoints/x'),), ASKED_AGAIN,
          f'epoch-0001.npz…{words}', out='epochs raised') for name, key, function, words in (
        ('steps of another shape', 'method:steps_done', lambda a: np.array([1, 2]), 'steps_done'),
        ('fewer structures', 'method:held', lambda a: a[:3], 'held'),
        ('a mask of another size', 'state:stage1.0.norm2.factor@held', lambda a: a[:3], 'stage1.0.norm2…(3,)…(8,)'))],
    Row('the budget of a checkpoint: NaN', (array('method:values', lambda a: a * np.nan, f'{ASKED}/checkpoints/x'),),
        ASKED_AGAIN, f'{ASKED}/checkpoints…1…damaged', out='method:values'),
    Row('the budget of a checkpoint: none', (without_method,), ASKED_AGAIN, 'epoch-0001.npz…steps_done…run=',
        out='epochs raised'),
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
    Row('compact is a file', (drop(f'{MINE}/compact'), put(f'{MINE}/compact', 'x')), f'prune {MINE}', 'compact',
        out='all 32 neurons are gone'),
    Row('diverged', (), NEW + 'learning_rate=1e9', 'learning_rate…warmup_epochs…clip_gradient',
        changed=('new', 'new/*'), out='images…MACs…params'),
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
    *[Row(f'export outside of a run{name}', (copy(SYMBOL, 'x-symbol.json'), copy(PARAMS, 'x-0000.params')),
          f'export x-symbol.json {rest}', words) for name, rest, words in (
              (' without a size', '', 'x-symbol.json…--size'),
              (' without images', '--int8 --size 8 --channels 1', 'images…--data'),
              (' with no data', '--data nothing', 'nothing'),
              (' with no params', '--size 8 --params nothing', 'nothing does not exist'))],
    Row('not a symbol', (), f'evaluate {STRUCTURE}', f'{STRUCTURE}…symbol'),
    Row('a symbol of one size', (), f'count {SYMBOL} --channels 3', '(1, 3, 8, 8)'),
]


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
