"""Damaged or wrong structure.json files are one-line errors, and never run code."""
import json
import sys

import pytest

from sss_gluon.errors import SSSError
from sss_gluon.graph import count
from sss_gluon.structures import rebuild
from sss_gluon.structures.structure import FORMAT

GOOD = {'format': FORMAT, 'model': {'name': 'cifar_resnet20', 'classes': 10, 'in_channels': 3, 'factors': ['block'],
                                    'options': {'depths': [1], 'widths': [4]}},
        'input_shape': [1, 3, 8, 8],
        'factors': {'stage1.0.conv2': {'kind': 'block', 'size': 1, 'kept': []}},
        'layers': {'stem': {'before': [16, 3], 'after': [16, 3]},
                   'stage1_0_conv1': {'before': [4, 16], 'after': None},
                   'stage1_0_conv2': {'before': [4, 4], 'after': None},
                   'stage1_0_shortcut': {'before': [4, 16], 'after': [4, 16]},
                   'output': {'before': [10, 4], 'after': [10, 4]}}}


def changed(path, value):
    """GOOD with the value at a path of keys replaced, or removed (KeyError)."""
    fields = json.loads(json.dumps(GOOD))
    place = fields
    for key in path[:-1]:
        place = place[key]
    if value is KeyError:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return fields


def test_good_structure_is_good():
    assert count(rebuild(GOOD), (1, 3, 8, 8)).params == 16 * 27 + 2 * 16 + 4 * 16 + 8 + 50


BLOCK = 'stage1.0.conv2'


@pytest.mark.parametrize('fields, message', [
    ([], 'structure is not a structure of this version: its "format" should be "sss_gluon structure 1"'),
    (changed(['format'], 'sss_gluon structure 2'), 'is not a structure of this version'),
    (changed(['factors'], KeyError), "structure is damaged: KeyError 'factors'"),
    (changed(['factors'], [1]), 'structure is damaged: AttributeError'),
    (changed(['factors', BLOCK], 7), 'structure is damaged: TypeError'),
    (changed(['factors', BLOCK, 'size'], KeyError), "structure is damaged: KeyError 'size'"),
    (changed(['factors', BLOCK, 'kind'], KeyError), "structure is damaged: KeyError 'kind'"),
    (changed(['factors', BLOCK, 'kind'], 'channel'), "factor stage1.0.conv2 has kind 'channel' and size 1"),
    (changed(['factors', BLOCK, 'size'], 0), "factor stage1.0.conv2 has kind 'block' and size 0"),
    (changed(['factors', BLOCK, 'size'], '1'), "factor stage1.0.conv2 has kind 'block' and size '1'"),
    (changed(['factors', BLOCK, 'kept'], [1]), r'factor stage1.0.conv2 keeps indices outside 0\.\.0'),
    (changed(['factors', BLOCK, 'kept'], [-1]), r'factor stage1.0.conv2 keeps indices outside 0\.\.0'),
    (changed(['factors', BLOCK, 'kept'], [True]), r'factor stage1.0.conv2 keeps indices outside 0\.\.0'),
    (changed(['factors', BLOCK, 'kept'], 'all'), r'factor stage1.0.conv2 keeps indices outside 0\.\.0'),
    (changed(['factors', BLOCK, 'stay'], [1]), r'factor stage1.0.conv2 has zeros that stay outside 0\.\.0'),
    (changed(['factors', BLOCK, 'stay'], 'all'), r'factor stage1.0.conv2 has zeros that stay outside 0\.\.0'),
    (changed(['gone_with'], {BLOCK: 2}), '2 of the . that are gone of factor stage1.0.conv2'),
    (changed(['gone_with'], {BLOCK: 'all'}), "'all' of the . that are gone of factor stage1.0.conv2"),
    (changed(['gone_with'], {'nothing': 1}), "damaged: KeyError 'nothing'"),
    (changed(['gone_with'], [1]), 'damaged: AttributeError'),
    (changed(['input_shape'], 32), 'structure is damaged: TypeError'),
    (changed(['input_shape'], [1, 3, 0, 8]), r'input_shape \[1, 3, 0, 8\] is not a shape'),
    (changed(['input_shape'], '1388'), 'input_shape 1388 is not a shape'),
    (changed(['layers'], None), 'structure is damaged: AttributeError'),
    (changed(['layers', 'stem', 'after'], [1.5, 3]), 'layer stem has widths that are not numbers of channels'),
    (changed(['layers', 'stem', 'before'], KeyError), "structure is damaged: KeyError 'before'"),
    # for another model, or impossible to build
    (changed(['layers', 'stem', 'after'], [15, 3]), r'layer stem is .*\[15, 3\].* structure, but its factors give'),
    (changed(['layers', 'stem'], KeyError), 'layer stem is None in the structure, but its factors give'),
    (changed(['layers', 'extra'], {'before': [1, 1], 'after': None}), 'layer extra is .* but its factors give None'),
    (changed(['factors', BLOCK, 'kept'], [0]), 'layer stage1_0_conv1 is .* but its factors give'),
    (changed(['factors', BLOCK], KeyError), 'layer stage1_0_conv1 is .* but its factors give'),
    (changed(['factors', 'stage1.0.conv3'], {'kind': 'block', 'size': 1, 'kept': []}),
     "factor 'stage1.0.conv3'.*'stage1.0.conv2'"),
    (changed(['factors', BLOCK], {'kind': 'block', 'size': 2, 'kept': []}),
     'factor stage1.0.conv2 has 1 entries in the network, 2 in the structure'),
    (changed(['model', 'name'], 'resnet5O'), "model 'resnet5O' is unknown; did you mean 'resnet50'"),
    (changed(['model', 'factors'], ['group']), "cifar_resnet20 has no 'group' structures"),
    (changed(['model', 'factors'], 5), 'the model .* of the structure cannot be built'),
    (changed(['model', 'options'], [1]), 'the model .* of the structure cannot be built'),
    (changed(['model', 'options', 'factors'], ['neuron']), 'the model .* of the structure cannot be built'),
    (changed(['model', 'options', 'speed'], 3), "cifar_resnet20 cannot be built with .*'speed'"),
    (changed(['model', 'classes'], 'ten'), "cifar_resnet20: classes='ten' is not a positive whole number"),
    (changed(['model', 'name'], 3), 'outside this package; pass model='),
    (changed(['model'], 'cifar_resnet20'), 'the model cifar_resnet20 of the structure cannot be built'),
    (changed(['input_shape'], [1, 3]), r'does not accept an input of shape \(1, 3\)'),
])
def test_bad_structures(fields, message):
    with pytest.raises(SSSError, match=message) as error:
        rebuild(fields)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('text, message', [
    ('', 'x.json is not a structure.json'), ('{"format": ', 'x.json is not a structure.json'),
    (json.dumps(GOOD)[:-20], 'x.json is not a structure.json'),
    ('"resnet26"', 'x.json is not a structure of this version'),
    ('\udcff', 'x.json is not a structure.json'), ('[' * 100_000, 'x.json is not a structure.json'),
    (json.dumps(changed(['factors'], KeyError)), "x.json is damaged: KeyError 'factors'"),
])
def test_damaged_files(text, message, tmp_path):
    (tmp_path / 'x.json').write_bytes(text.encode('utf-8', 'surrogateescape'))
    with pytest.raises(SSSError, match=message):
        rebuild(tmp_path / 'x.json')


def test_missing_files(tmp_path):
    with pytest.raises(SSSError, match='no structure file resnet27, .*resnet26, resnet32'):
        rebuild('resnet27')
    with pytest.raises(SSSError, match=f'cannot read the structure {tmp_path}: Is a directory'):
        rebuild(tmp_path)


@pytest.mark.parametrize('name', ['os:system', 'trap:build', 'trap', 'trap.build'])
def test_code_named_by_a_file_is_never_imported(name, tmp_path, monkeypatch):
    (tmp_path / 'trap.py').write_text(f'open({str(tmp_path / "sprung")!r}, "w")\nbuild = print\n')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SSSError):
        rebuild(changed(['model', 'name'], name))
    assert 'trap' not in sys.modules and not (tmp_path / 'sprung').exists()
