"""What users read about the settings: one source for --help, the table of the README, and messages."""
import os
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest

from sss_gluon.cli import main
from sss_gluon.errors import SSSError
from sss_gluon.train import Config, load_config
from sss_gluon.train.config import KEYS
from sss_gluon.train.setting import sections, setting, text_of

README = Path(__file__).parents[2] / 'sss_gluon/train/README.md'


@dataclass
class Small:
    """Every kind of default."""
    name: str = setting('', 'a name', section='first')
    flag: bool = setting(True, 'a flag')
    rate: float = setting(0.0, 'a rate')
    items: List[str] = setting(['a', 'b'], 'items', section='second')
    table: Dict[str, Any] = setting({}, 'a table')
    none: Optional[int] = setting(None, 'nothing')


def test_sections_hold_every_field_with_its_default_as_in_yaml():
    assert {title: [tuple(row) for row in rows] for title, rows in sections(Small).items()} == {
        'first': [('name', "''", 'a name'), ('flag', 'true', 'a flag'), ('rate', '0.0', 'a rate')],
        'second': [('items', '[a, b]', 'items'), ('table', '{}', 'a table'), ('none', 'null', 'nothing')]}
    assert text_of(Small, 'items') == 'items'


def test_mutable_defaults_are_not_shared():
    Small().items.append('c')
    Small().table['x'] = 1
    assert (Small().items, Small().table) == (['a', 'b'], {})


def test_defaults_read_back_from_how_they_are_written():
    for rows in sections(Config).values():
        for row in rows:
            assert load_config(None, [f'{row.name}={row.default}']) == Config(), row


def test_every_setting_says_what_it_is():
    assert [row.name for rows in sections(Config).values() for row in rows] == [f.name for f in fields(Config)]
    assert all(row.text for rows in sections(Config).values() for row in rows)


def markdown():
    """The settings as tables, as the README has them."""
    lines = []
    for title, rows in sections(Config).items():
        lines += [f'| {title} | default | |', '|---|---|---|']
        lines += [f'| `{name}` | `{default}` | {text.replace("<", "&lt;")} |' for name, default, text in rows] + ['']
    return '\n'.join(lines)


def test_the_readme_has_the_settings():
    """WRITE_SETTINGS=1 writes the tables again."""
    found = re.compile(r'(?<=<!-- settings -->\n\n).*?(?=<!-- end -->)', re.DOTALL)
    page = README.read_text('utf-8')
    if os.environ.get('WRITE_SETTINGS'):
        README.write_text(found.sub(lambda _: markdown() + '\n', page), 'utf-8')
    assert found.search(README.read_text('utf-8')).group() == markdown() + '\n'


def test_help_lists_the_settings(capsys, monkeypatch):
    monkeypatch.setenv('COLUMNS', '80')
    with pytest.raises(SystemExit) as stop:
        main(['train', '--help'])
    out = capsys.readouterr().out
    words = ' '.join(out.split())
    assert stop.value.code == 0 and max(map(len, out.splitlines())) <= 80
    for title, rows in sections(Config).items():
        assert f'{title}:' in out
        for row in rows:
            assert f'{row.name}={row.default} {row.text}' in words


@pytest.mark.parametrize('given, key', [('gama=1', 'gamma'), ('batchsize=3', 'batch_size'), ('epochs=', 'epochs'),
                                        ('seed=null', 'seed')])
def test_messages_say_what_a_setting_is(given, key):
    assert key in KEYS
    with pytest.raises(SSSError, match=f'{key}.*{re.escape(text_of(Config, key))}'):
        load_config(None, [given])
