"""Rows whose settings, configuration files or arguments of count are wrong."""


from desk import MINE, NEW, PARAMS, STRUCTURE, SYMBOL, Row, put

SYNTAX = 'def net(classes, in_channels):\n    return (\n'
FLAT = 'from mxnet.gluon import nn\n\n\ndef net(classes, in_channels):\n    return nn.Dense(classes)\n'


def settings(*rows):
    """Rows whose name is the setting that they try."""
    return [Row(setting, (), NEW.replace(' ', '|') + setting, words) for setting, words in rows]


KEYS = settings(
    ('gama=1', "the command line…'gama'…'gamma'"),
    ('gämma=1', "did you mean 'gamma'…sparsity"), ('=1', "''"), ('base=x.yaml', "'base'"),
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
    ('statistics_batches=-1', 'statistics_batches…-1…0'), ('statistics_batches=all', "statistics_batches…'all'"),
    ('statistics_batches=2.5', 'statistics_batches'),
    ('lr_mode=cosin', 'lr_mode…cosine'), ('lr_decay_epochs=a', "lr_decay_epochs…'a'…[a, b]"),
    ('lr_mode=step|lr_decay_epochs=[120,160,200]', 'lr_decay_epochs=[120.0, 160.0, 200.0]…200…epochs=…shares…constant'),
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
    ('target_macs=0', 'target_macs=0.0…more than 0…at most 1'), ('target_macs=1.5', 'target_macs=1.5'),
    ('target_macs=nan', 'target_macs=nan'), ('target_params=-1', 'target_params=-1.0'),
    ('target_latency=2', 'target_latency=2.0'), ('target_macs=half', "target_macs…'half'"),
    ('target_macs=0.5|target_params=0.5', 'target_macs…target_params…leave one'),
    ('target_macs=0.5|match=notes', 'target_macs…match…leave one'), ('match=nothing', 'nothing'),
    ('target_macs=0.5|factors=[]', 'target_macs…factors=[]…cifar_resnet20…factors=block'),
    ('shrink=true|factors=[]', 'shrink…factors=[]'),
    (f'target_params=0.5|factors=null|structure={STRUCTURE}', f'target_params…structure={STRUCTURE}'),
    (f'shrink=true|factors=null|structure={STRUCTURE}', f'shrink…structure={STRUCTURE}'),
    ('target_macs=0.1', '0.1 of the MACs…0.118 remain'), ('target_params=0.05', 'parameters…remain'),
    ('target_macs=0.9|gamma_mult={".": 0}', '1.000 remain'),
    ('target_latency=0.5|devices=gpu0', 'gpu0'), ('target_latency=0.5|latency_batch=0', 'latency_batch=0…1'),
    ('patience=36|shrink=true', 'patience=36…36 steps'), ('patience=0|shrink=true', 'patience=0…1'),
    ('patience=5', 'patience=5…shrink=true'), ('patience=5|shrink=false', 'patience=5…shrink=true'),
    ('patience=5|target_macs=0.5', 'patience=5…target_macs…leave it out'),
    ('shrink=true|method=ssl', 'shrink…method=sss…method=ssl'),
    ('target_params=0.5|method=l1|source=runs/mine', 'target_params…method=sss…method=l1'),
    ('target_latency=0.5|method=slimming', 'target_latency…method=sss…method=slimming'),
    ('patience=3|method=l1|source=runs/mine', 'patience…method=sss…method=l1'),
    ('target_macs=0.5|gamma=0', 'target_macs…gamma=0'),
    ('search=0', 'search=0.0…more than 0'), ('search=1.1', 'search=1.1'), ('shrink=perhaps', "shrink…'perhaps'"),
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


FIND = [Row(arguments, (), f'find-gamma {arguments}', words) for arguments, words in (
    ('nothing.yaml', 'configuration file nothing.yaml'), ('notes', 'notes…run folder…config.yaml'),
    ('small.yaml gamma=0.1', 'gamma=…find-gamma…leave it out'),
    ('small.yaml factors=[]', 'factors=[]…cifar_resnet20…factors=block'),
    ('small.yaml method=ssl', 'method=ssl…γ…method=sss'),
    (f'small.yaml factors=null structure={STRUCTURE}', f'structure={STRUCTURE}…leave it out'),
    ('small.yaml source=runs/other', 'source…method=sss'),
    ('small.yaml learning_rate=0', 'learning_rate=0'),
    ('small.yaml gamma_mult={".":0}', 'gamma_mult…0…all factors'),
    ('small.yaml --steps 3', 'steps=3…20'), ('small.yaml --steps 999999999', 'steps=999999999…100000'),
    ('small.yaml --out notes/mine.txt', 'notes/mine.txt…folder…--out'),
)] + [Row('diverges', (), 'find-gamma small.yaml learning_rate=1e9', 'the loss is…learning_rate', out='γ rises')]
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
