"""Settings of methods: wrong ones are one-line errors before anything is written; and the command line."""
import os
from pathlib import Path

import pytest

from sss_gluon import SSSError
from sss_gluon.cli import main
from sss_gluon.methods import METHODS, train
from sss_gluon.train import Config, load_config
from sss_gluon.train.setting import text_of


def quiet(line):
    pass


@pytest.mark.parametrize('settings, message', [
    (dict(method='l2'), "method=l2 is unknown; did you mean l1? Methods: sss, ssl, slimming, l1,"),
    (dict(method='slimmin', source='x'), 'did you mean slimming?'),
    (dict(method='l1'), 'l1 starts from a trained network'),
    (dict(method='scratch'), 'scratch starts from a trained network'),
    (dict(method='l1', source='SOURCE'), 'l1 needs a budget: target_macs=0.6'),
    (dict(method='ssl', target_macs=0.5), 'target_macs belongs to the run'),
    (dict(method='scratch', source='SOURCE', target_macs=0.5), 'leave target_macs and match out'),
    (dict(method='l1', source='nowhere', target_macs=0.5), 'there is no folder'),
    (dict(method='l1', source='SOURCE', target_macs=0.5, init='x.params'), 'leave init= out'),
    (dict(method='ssl', structure='resnet26'), 'leave structure= out'),
    (dict(method='l1', source='SOURCE', target_macs=0.5, model_options=dict(depths=[1, 1, 2], widths=[8, 8, 16])),
     'has model_options={'),
    (dict(method='l1', source='SOURCE', target_macs=0.5, image_size=16), 'has image_size=8'),
    (dict(method='l1', source='SOURCE', target_macs=1.1), 'target_macs=1.1 must be more than 0 and at most 1'),
    (dict(method='l1', source='SOURCE', target_macs=0.01), 'target_macs=0.01 cannot be met'),
    (dict(method='l1', source='SOURCE', target_macs=0.5, method_options=dict(scop='layer')),
     "l1 has no option 'scop'; did you mean 'scope'?"),
    (dict(method='l1', source='SOURCE', target_macs=0.5, method_options=dict(scope='local')),
     "scope='local' is unknown; did you mean 'global'?"),
    (dict(method='taylor', source='SOURCE', target_macs=0.5, method_options=dict(images=0)),
     'images=0 must be a whole number, at least 1'),
    (dict(method='taylor', source='SOURCE', target_macs=0.5, method_options=dict(images=1.5)), 'images=1.5 must be'),
    (dict(method='ssl', method_options=dict(strength='much')), "strength='much' must be a number, at least 0"),
    (dict(method='ssl', method_options=dict(strength=float('nan'))), 'strength=nan must be'),
    (dict(method='ssl', method_options=dict(strength=True)), 'strength=True must be'),
    (dict(method='ssl', method_options=dict(kinds=['layer'])), 'ssl cannot remove layers; it can remove group, '),
    (dict(method='ssl', method_options=dict(kinds=3)), 'kinds=3 is not a list such as [neuron]'),
    (dict(method='apoz', source='SOURCE', target_macs=0.5, factors=['block']), 'apoz cannot remove blocks'),
    (dict(method='ssl', method_options=dict(kinds=['group'])), "cifar_resnet20 has no 'group' structures"),
    (dict(source='SOURCE'), 'source is not a setting of method=sss'),
    (dict(target_macs=0.5, gamma=0.0, factors=['block']), 'target_macs steers gamma'),
    (dict(method_options=dict(strength=1)), 'method_options is not a setting of method=sss'),
    (dict(match='SOURCE', factors=['block']), 'evaluation.csv'),
    (dict(method='l1', source='SOURCE', target_macs=0.5, match='runs/a'),
     'target_macs and match both'),
    (dict(method='ssl', match='runs/a'), 'match belongs to the run'),
    (dict(method='ssl', method_options=dict(ignored_layers=['a'])),
     'method_options.ignored_layers belongs to the run'),
    (dict(method='scratch', source='SOURCE', match='runs/a'), 'leave target_macs and match out'),
    (dict(method='l1', source='SOURCE', match='nowhere'), 'there is no folder nowhere'),
    (dict(method='l1', source='SOURCE', match='SOURCE'), 'evaluation.csv'),
    (dict(method='l1', source='SOURCE', target_macs=0.5, method_options=dict(ignored_layers=3)),
     'ignored_layers=3 is not a list such'),
])
def test_wrong_settings_leave_nothing(settings, message, configure, source):
    settings = {key: source() if value == 'SOURCE' else value for key, value in settings.items()}
    config = configure(**settings)
    with pytest.raises(SSSError) as error:
        train(config, quiet)
    assert message in str(error.value) and len(str(error.value).splitlines()) == 1
    assert not Path(config.run).exists()


def test_a_compact_network_has_nothing_to_select_from(configure, source):
    run = train(configure('first', method='random', source=source(), target_macs=0.8), quiet)
    with pytest.raises(SSSError, match='is a compact network'):
        train(configure(method='l1', source=str(run.path), target_macs=0.5), quiet)


def test_other_settings_are_another_run(configure, source):
    train(configure(method='l1', source=source(), target_macs=0.8), quiet)
    for settings, name in ((dict(target_macs=0.7), 'target_macs: 0.8 -> 0.7'),
                           (dict(method='random'), 'method: l1 -> random')):
        with pytest.raises(SSSError, match=f'begun with other settings .*{name}'):
            train(configure(**dict(dict(method='l1', source=source(), target_macs=0.8), **settings)), quiet)


def test_a_killed_selection_does_no_harm(configure, source):
    config = configure(method='l1', source=source(), target_macs=0.8)
    os.makedirs(Path(config.run) / '.selection.abc' / 'new')
    assert train(config, quiet).has_selection()


@pytest.mark.parametrize('override, value', [
    ('method_options={strength: 1e-4}', dict(strength=1e-4)), ('method_options.images=3', dict(images=3)),
    ('method_options={kinds: [neuron, block]}', dict(kinds=['neuron', 'block']))])
def test_options_on_the_command_line(override, value):
    assert load_config(None, ['method=x', override]).method_options == value


@pytest.mark.slow
def test_from_yaml_on_the_command_line(tmp_path, source, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'l1.yaml').write_text(f'base: {source()}/config.yaml\nrun: runs/l1\nmethod: l1\nsource: {source()}\n'
                                      'target_macs: 0.7\nepochs: 1\n', 'utf-8')
    assert main(['train', 'l1.yaml']) == 0
    assert main(['train', 'runs/l1']) == 0
    assert main(['prune', 'runs/l1']) == 0
    assert main(['evaluate', 'runs/l1', '--against', source()]) == 0
    assert main(['count', 'runs/l1']) == 0
    out = capsys.readouterr().out
    assert 'l1: removes ' in out and 'is finished (1 epochs); nothing to do' in out
    assert 'removed: ' in out and ' of 32 neurons' in out and 'compact against' in out
    assert main(['train', 'l1.yaml', 'run=runs/other', 'target_macs=0.01']) == 2
    assert 'target_macs=0.01 cannot be met' in capsys.readouterr().err


def test_the_setting_names_every_method():
    assert [Config().method, *text_of(Config, 'method').partition(': ')[2].split(', ')] == list(METHODS)
