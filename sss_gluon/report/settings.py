"""What a setting is: which runs differ in their seed alone, and what tells a setting from the others."""
from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from ..methods import METHODS
from ..models import ARCHITECTURES
from ..train.config import FREE_KEYS, Config

ELSEWHERE = ('init', 'structure', 'source', 'match')     # paths, which may name a run of the same seed
NOT_A_SETTING = FREE_KEYS + ('seed', 'devices')
SIZES = {'digits': 16, 'imagenet': 224}     # of images, where a configuration may name it
UNNAMED = ('kinds', 'ignored_layers', 'images', 'positions')  # name a setting only where two differ in them


def data_name(config: Config) -> str:
    """'digits 8x8': results on other images are never compared."""
    name = config.data if config.data != 'folder' else f'folder {Path(config.data_root or "").name}'.strip()
    size = _image_size(config)
    return f'{name} {size}x{size}' if size else name


def _image_size(config: Config) -> Optional[int]:
    """Side of the images, where it is not that of the data set."""
    return None if config.image_size == SIZES.get(config.data) else config.image_size


def method_name(config: Config) -> str:
    """'none' for a whole network without factors, 'scratch' and 'fine-tuned' for one with a given structure."""
    if config.method == 'sss' and config.factors == []:
        return ('fine-tuned' if config.init else 'scratch') if config.structure else 'none'
    return config.method


def variant(config: Config) -> str:
    """What makes runs of one method another series: 'fine-tuned' beside training with its penalty, 'budget compute'."""
    tuned = config.source is not None and config.method in METHODS and METHODS[config.method].regularizer is not None
    words = [f'{key} {value}' for key, value in config.method_options.items() if isinstance(value, str)]
    return ', '.join(['fine-tuned'] * tuned + [text for text in words if text.split()[0] not in UNNAMED])


def identity(config: Config) -> Dict[str, str]:
    """Settings that make a result, but for the seed; which devices it was trained on is none, how many is."""
    same = {field.name: repr(getattr(config, field.name)) for field in fields(Config)
            if field.name not in NOT_A_SETTING}
    same['devices'] = repr([device.rstrip('0123456789') for device in config.devices])
    for key in ELSEWHERE:
        same[key] = re.sub(rf'(.*)(?<![\d.]){config.seed}(?![\d.])', r'\1*', same[key], count=1, flags=re.DOTALL)
    same.update(data=data_name(config), image_size=repr(_image_size(config)))
    if config.factors is None and config.method == 'sss' and config.model in ARCHITECTURES:
        same['factors'] = repr(list(ARCHITECTURES[config.model].factors))
    return same


def setting_names(configs: Sequence[Config]) -> List[str]:
    """What tells a setting from the others of the same data, model, method and variant."""
    same = [identity(config) for config in configs]
    titles = [(mine['data'], c.model, method_name(c), mine['factors'], variant(c), _strength(c))
              for c, mine in zip(configs, same)]
    settings = []
    for title, mine in zip(titles, same):
        alike = [other for other, its in zip(same, titles) if its == title]
        varying = [key for key in mine if len({other[key] for other in alike}) > 1]
        more = [f'{key} {_apart(key, mine, alike) if key in ELSEWHERE else mine[key]}'.replace("'", '')
                for key in varying]
        settings.append(', '.join(filter(None, [title[-1]] + more)))
    return settings


def _apart(key: str, mine: Dict[str, str], alike: Sequence[Dict[str, str]]) -> str:
    """What tells a run folder from others: 'strength0.02' of 'vgg16-ista-strength0.02-seed*'."""
    words = [_short(other[key]).split('-') for other in alike]
    own = [word for word in _short(mine[key]).split('-') if any(word not in other for other in words)]
    return '-'.join(own) or _short(mine[key])


def _short(path: str) -> str:
    """The run folder in a path such as 'runs/x/compact/model-structure.json'."""
    return re.sub(r'/(compact|checkpoints|deploy)/.*', '', path.strip("'").rstrip('/')).rpartition('/')[2]


def _strength(config: Config) -> str:
    """What a curve runs over."""
    parts = [f'γ {config.gamma:g}'] if method_name(config) == 'sss' else []
    if config.target_macs is not None:
        parts.append(f'MACs {config.target_macs:.3g}')
    if config.match is not None:
        parts.append('equal MACs')
    parts += [f'{key} {value:g}' if isinstance(value, float) else f'{key} {value}'
              for key, value in config.method_options.items() if key not in UNNAMED and not isinstance(value, str)]
    return ', '.join(parts)
