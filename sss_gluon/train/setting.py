"""The fields of Config carry what users read about them: ``--help``, the table of the README, and messages."""
from __future__ import annotations

import copy
import dataclasses
from typing import Any, Dict, List, NamedTuple


class Setting(NamedTuple):
    """One setting, as users read about it."""
    name: str
    default: str        # as on the command line
    text: str


def setting(default: Any, text: str, section: str = '') -> Any:
    """A field of a dataclass with its default, a few words on it, and the title of the section that it begins."""
    told = dict(text=text, section=section)
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: copy.copy(default), metadata=told)
    return dataclasses.field(default=default, metadata=told)


def sections(config_class: Any) -> Dict[str, List[Setting]]:
    """{title: settings} of a dataclass, in the order of its fields."""
    found: Dict[str, List[Setting]] = {}
    default = config_class()
    for field in dataclasses.fields(config_class):
        if field.metadata['section']:
            found[field.metadata['section']] = rows = []
        rows.append(Setting(field.name, _written(getattr(default, field.name)), field.metadata['text']))
    return found


def text_of(config_class: Any, name: str) -> str:
    """The words on one setting."""
    return next(field.metadata['text'] for field in dataclasses.fields(config_class) if field.name == name)


def _written(value: Any) -> str:
    """'[cpu]', 'null', 'true': a default as in YAML."""
    if isinstance(value, list):
        return f'[{", ".join(map(_written, value))}]'
    words = {None: 'null', True: 'true', False: 'false', '': "''"}
    return words[value] if value is None or isinstance(value, (bool, str)) and value in words else str(value)
