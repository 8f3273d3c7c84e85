"""Configurations: files with a base, overrides, and errors that name the setting and the nearest valid one."""
from pathlib import Path

import pytest

from sss_gluon.errors import SSSError
from sss_gluon.train import Config, load_config
from sss_gluon.train.config import KEYS, SYNONYMS, TARGETS, check, differences, overrides, save_config

CONFIGS = Path(__file__).parents[2] / 'configs'
SHIPPED = sorted(path for path in CONFIGS.rglob('*.yaml') if path.parent.name != 'plans')


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, 'utf-8')
    return path


def test_defaults_are_those_of_the_dataclass():
    assert load_config(None) == Config()


def test_values_come_from_base_file_and_overrides_in_this_order(tmp_path):
    write(tmp_path / 'shared' / 'all.yaml', 'gamma: 0.1\nlearning_rate: 0.2\nepochs: 5\nlr_mode: cosine\n')
    write(tmp_path / 'set' / 'dense.yaml', 'base: ../shared/all.yaml\nlearning_rate: 0.3\nepochs: 6\n')
    path = write(tmp_path / 'set' / 'block.yaml', 'base: dense.yaml\nepochs: 7\nfactors: [block]\n')
    config = load_config(path, ['epochs=8', 'seed=3'])
    assert (config.gamma, config.learning_rate, config.epochs, config.seed) == (0.1, 0.3, 8, 3)
    assert (config.lr_mode, config.factors, config.model) == ('cosine', ['block'], 'cifar_resnet20')
    assert config.run == str(Path('runs/set/block'))


@pytest.mark.parametrize('override, key, value', [
    ('weight_decay=1e-4', 'weight_decay', 1e-4), ('epochs=12', 'epochs', 12), ('gamma=0', 'gamma', 0.0),
    ('factors=[]', 'factors', []), ('factors=null', 'factors', None),
    ('factors=[group,block]', 'factors', ['group', 'block']), ('factors=block', 'factors', ['block']),
    ('devices=cpu1', 'devices', ['cpu1']),
    ('devices=[cpu0,cpu1]', 'devices', ['cpu0', 'cpu1']), ('lr_decay_epochs=[1,2,3]', 'lr_decay_epochs', [1, 2, 3]),
    ('lr_decay_epochs=[0.5,15]', 'lr_decay_epochs', [0.5, 15]),
    ('augment_flip=false', 'augment_flip', False), ('clip_gradient=5', 'clip_gradient', 5.0),
    ('model_options.depths=[1,1,1]', 'model_options', dict(depths=[1, 1, 1])),
    ('gamma_mult={"norm5_.*":0}', 'gamma_mult', {'norm5_.*': 0.0}), ('run=a/b=c', 'run', 'a/b=c'),
    ('model=package.module:function', 'model', 'package.module:function'),
])
def test_overrides_of_every_type(override, key, value):
    found = getattr(load_config(None, ['epochs=20', override]), key)
    assert found == value and type(found) is type(value)


def test_words_of_other_tools_name_settings_and_are_none():
    assert set(SYNONYMS.values()) <= set(KEYS) and not SYNONYMS.keys() & set(KEYS)


@pytest.mark.parametrize('wrong, nearest', [
    ('learningrate', 'learning_rate'), ('lr_modes', 'lr_mode'), ('Gamma', 'gamma'), ('epoch', 'epochs'),
    ('batchsize', 'batch_size'), ('wd', 'weight_decay'), ('sparsity', 'target_macs'), ('lr', 'learning_rate'),
    ('gama_mult', 'gamma_mult'), ('init_', 'init'), ('device', 'devices'), ('macs', 'target_macs'),
    ('params', 'target_params'), ('latency', 'target_latency'),
])
def test_unknown_settings_name_the_nearest(tmp_path, wrong, nearest):
    path = write(tmp_path / 'a.yaml', f'{wrong}: 1\n')
    message = f"there is no setting '{wrong}'; did you mean "
    for arguments, source in (((None, [f'{wrong}=1']), 'the command line'), ((path,), str(path)),
                              ((write(tmp_path / 'b.yaml', 'base: a.yaml\n'),), str(path))):
        with pytest.raises(SSSError) as error:
            load_config(*arguments)
        assert str(error.value).startswith(f'{source}: {message}')
        assert repr(nearest) in str(error.value)


@pytest.mark.parametrize('setting', [
    'epochs=many', 'epochs=1.5', 'gamma=[1]', 'gamma=small', 'augment_flip=maybe', 'lr_decay_epochs=3',
    'model_options=3', 'gamma_mult={a: b}', 'factors={a: b}', 'lr_decay_epochs=[a]', 'epochs=null', 'seed=',
    'batch_size=1e2x', 'validation=few', 'clip_gradient=no!', 'gamma=${gama}',
])
def test_values_of_the_wrong_type_name_the_setting(setting):
    with pytest.raises(SSSError) as error:
        load_config(None, [setting])
    assert setting.split('=')[0] in str(error.value) and len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize('setting', [
    'epochs=0', 'batch_size=0', 'batch_size=-64', 'grad_accumulation=0', 'gamma=-0.1', 'gamma=.nan', 'gamma=.inf',
    'weight_decay=-1', 'learning_rate=-0.1', 'learning_rate=.nan', 'momentum=1', 'momentum=-0.1', 'momentum=.nan',
    'warmup_epochs=-1', 'warmup_epochs=240', 'augment_pad=-1', 'checkpoint_every=0', 'keep_checkpoints=0', 'seed=-1',
    'seed=2147483648', 'devices=[]', 'lr_decay_epochs=[2,1]', 'lr_decay_epochs=[1,1]', 'lr_decay_epochs=[0,1]',
    'lr_decay_epochs=[0.9,200]', 'lr_decay_epochs=[-0.5]', 'lr_decay_epochs=[.nan]', 'lr_decay_epochs=[[1]]',
    'lr_decay_epochs=[240]', 'lr_decay_epochs=[120,.inf]',
    'lr_decay=0', 'lr_decay=-0.1', 'lr_decay=1.5', 'lr_decay=.nan', 'clip_gradient=0',
    'clip_gradient=-1', 'clip_gradient=.nan',
])
def test_values_out_of_range_name_the_setting(setting):
    key = setting.split('=')[0]
    with pytest.raises(SSSError, match=key):
        load_config(None, [setting])


def test_a_rate_that_would_fall_after_the_end_is_refused():
    """And what the sentence says to write instead is accepted; without steps in the schedule nobody asks."""
    with pytest.raises(SSSError) as error:
        load_config(None, ['epochs=30', 'lr_decay_epochs=[120,160,200]'])
    assert all(word in str(error.value) for word in ('200', 'epochs=30', 'lr_decay_epochs=[0.5,0.75]', 'constant'))
    assert load_config(None, ['epochs=30', 'lr_decay_epochs=[0.5,0.75]']).lr_decay_epochs == [0.5, 0.75]
    for mode in ('constant', 'cosine'):
        assert load_config(None, ['epochs=30', 'lr_decay_epochs=[120,160,200]', f'lr_mode={mode}']).epochs == 30


def test_a_target_replaces_that_of_the_file(tmp_path):
    """And a file that of its base; what one place says twice stays an error."""
    first = write(tmp_path / 'first.yaml', 'target_macs: 0.5\n')
    second = write(tmp_path / 'second.yaml', 'base: first.yaml\ntarget_params: 0.3\n')
    for path, given, expected in ((first, [], (0.5, None, None, None)), (second, [], (None, None, 0.3, None)),
                                  (second, ['target_latency=0.7'], (None, None, None, 0.7)),
                                  (second, ['match=runs/a'], (None, 'runs/a', None, None)),
                                  (second, ['target_params=null'], (None, None, None, None)),
                                  (second, ['epochs=3'], (None, None, 0.3, None))):
        config = load_config(path, given)
        assert tuple(getattr(config, key) for key in TARGETS) == expected
    with pytest.raises(SSSError, match='target_macs and target_params'):
        load_config(first, ['target_macs=0.4', 'target_params=0.3'])


@pytest.mark.parametrize('setting, nearest', [('lr_mode=steps', 'step'), ('lr_mode=cos', 'cosine'),
                                              ('gamma_weighting=mac', 'macs'), ('gamma_weighting=none', 'uniform'),
                                              ('kvstore=loca', 'local'), ('kvstore=dist_async', 'dist_sync')])
def test_choices_name_the_nearest(setting, nearest):
    with pytest.raises(SSSError, match=rf'{setting} is unknown; did you mean {nearest}\?'):
        load_config(None, [setting])


@pytest.mark.parametrize('batch, devices, accumulation, nearest', [
    (65, 1, 2, 64), (63, 1, 2, 64), (67, 2, 2, 68), (3, 2, 4, 8), (100, 3, 1, 99), (50, 2, 8, 48),
])
def test_batch_that_cannot_be_split_names_the_nearest(batch, devices, accumulation, nearest):
    names = ','.join(f'cpu{i}' for i in range(devices))
    settings = [f'devices=[{names}]', f'grad_accumulation={accumulation}']
    with pytest.raises(SSSError, match=rf'batch_size={batch} cannot be split over {devices} devices x '
                                       rf'{accumulation} .* nearest that can is {nearest}$'):
        load_config(None, settings + [f'batch_size={batch}'])
    assert load_config(None, settings + [f'batch_size={nearest}']).batch_size == nearest


@pytest.mark.parametrize('text, words', [
    ('- a\n- b\n', 'is not a list of key: value'), ('epochs: [1\n', 'a.yaml: line '),
    ('epochs: 1\nepochs: 2\n', 'a.yaml: line 2: '),
    ('gamma: 1\na: b: c\n', 'a.yaml: line 2: '), ('7\n', 'a.yaml'), ('just text\n', 'just text'),
    ('base: nothing.yaml\n', 'nothing.yaml'),
    ('base: a.yaml\n', 'circle'), ('gamma: ${learning_rat}\n', 'gamma'), ('1: 2\n', "no setting '1'"),
    ('base: [x]\n', 'there is no configuration file'),
])
def test_files_that_are_no_configuration(tmp_path, text, words):
    path = write(tmp_path / 'a.yaml', text)
    with pytest.raises(SSSError) as error:
        load_config(path)
    assert words in str(error.value) and len(str(error.value).splitlines()) == 1


def test_two_files_that_are_each_others_base(tmp_path):
    write(tmp_path / 'a.yaml', 'base: b.yaml\n')
    with pytest.raises(SSSError, match='circle'):
        load_config(write(tmp_path / 'b.yaml', 'base: a.yaml\n'))


def test_missing_binary_and_empty_files(tmp_path):
    with pytest.raises(SSSError, match='there is no configuration file .*nothing.yaml$'):
        load_config(tmp_path / 'nothing.yaml')
    write(tmp_path / 'digits.yaml', '')
    with pytest.raises(SSSError, match='did you mean .*digits.yaml?'):
        load_config(tmp_path / 'digit.yaml')
    (tmp_path / 'binary.yaml').write_bytes(bytes(range(256)))
    with pytest.raises(SSSError, match='binary.yaml'):
        load_config(tmp_path / 'binary.yaml')
    empty = load_config(write(tmp_path / 'empty' / 'x.yaml', ''))
    assert empty == Config(run=str(Path('runs/empty/x')))


@pytest.mark.parametrize('tag', [
    '!!python/object/apply:os.mkdir [{folder}]', '!!python/object/new:os.mkdir [{folder}]',
    '!!python/name:os.mkdir', '!!python/module:os', '!!python/object:sss_gluon.train.config.Config {{}}',
])
@pytest.mark.parametrize('where', ['file', 'base', 'command line'])
def test_python_objects_are_refused_and_nothing_is_executed(tmp_path, tag, where):
    made = tmp_path / 'made'
    text = tag.format(folder=made)
    arguments = (None, [f'data={text}'])
    if where != 'command line':
        arguments = (write(tmp_path / 'a.yaml', f'data: {text}\n'),)
    if where == 'base':
        arguments = (write(tmp_path / 'b.yaml', 'base: a.yaml\n'),)
    with pytest.raises(SSSError, match='constructor'):
        load_config(*arguments)
    assert not made.exists()


def test_overrides_are_key_value():
    with pytest.raises(SSSError, match="'epochs' is not of the form key=value"):
        load_config(None, ['gamma=1', 'epochs'])


def test_written_configuration_reads_back_equal(tmp_path):
    config = load_config(None, ['run=runs/a b', 'factors=[neuron,block]', 'gamma_mult={"stage[12].*": 0.5, "a$": 1e-7}',
                                'model_options={depths: [1, 2, 3], stages: [[4, 4], [8]]}', 'init=null', 'seed=7',
                                'learning_rate=0.1', 'gamma=3e-05', 'devices=[cpu0,cpu1]', 'clip_gradient=2.5',
                                'lr_decay_epochs=[3,5]', 'warmup_epochs=0.5', 'augment_flip=false'])
    text = save_config(config)
    assert all(f'{key}:' in text for key in KEYS)
    assert load_config(write(tmp_path / 'config.yaml', text)) == config


@pytest.mark.parametrize('path', SHIPPED, ids=lambda path: f'{path.parent.name}/{path.stem}')
def test_shipped_configurations_are_valid(path):
    config = load_config(path)
    assert config.run == str(Path('runs') / path.parent.name / path.stem)
    assert path.read_text('utf-8').startswith('# sss-gluon train ')


def test_differences_name_what_a_result_depends_on():
    old = Config()
    free = Config(run='x', checkpoint_every=3, keep_checkpoints=9, tensorboard=True, data_root='y')
    assert differences(old, free) == []
    assert differences(old, Config(gamma=0.5, seed=1)) == ['seed: 0 -> 1', 'gamma: 0.01 -> 0.5']


def test_check_is_for_configurations_made_in_python_too():
    check(Config())
    with pytest.raises(SSSError, match='gamma=-1'):
        check(Config(gamma=-1))


@pytest.mark.parametrize('settings', [
    {}, dict(gamma=1e-05, learning_rate=1e5, seed=7), dict(factors=[], devices=['cpu0', 'cpu1'], augment_flip=False),
    dict(run='runs/a b', source="it's", method='l1', match=None), dict(method='ssl', method_options={'strength': 0.1}),
    dict(model='my.module:net', model_options={'depths': [1, 2], 'deep': {'name': 'x: y', 'none': None, 'yes': True}}),
    *(dict(run=word) for word in ('true', 'null', '12', '1e5', '[a]', '{a: b}', ' x', 'a: b', '#', '~', 'ä', '"', "'x'",
                                  'a=b', '2026-11-23', '1_000')),
], ids=str)
def test_overrides_make_the_configuration_again(settings):
    config = Config(**settings)
    assert load_config(None, overrides(config)) == config
