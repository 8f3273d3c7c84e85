"""Settings of runs: runs that differ only in their seed share a setting, and each setting gets a name."""
from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from ..methods import METHODS
from ..models import ARCHITECTURES
from ..train.config import FREE_KEYS, KEYS, TARGETS, Config

PATH_KEYS = ('init', 'structure', 'source', 'match')     # may name a run of the same seed
IGNORED_KEYS = FREE_KEYS + ('seed', 'devices')
IMAGE_SIZES = {'digits': 16, 'imagenet': 224}       # defaults of the data sets whose size a configuration may set
WORDS = {'gamma': 'γ', 'target_macs': 'MACs', 'target_params': 'parameters', 'target_latency': 'latency'}
MINOR_OPTIONS = ('kinds', 'ignored_layers', 'images', 'positions')      # named only where two settings differ in them


def data_name(config: Config) -> str:
    """'digits 8x8': results are compared only on images of one data set and size."""
    name = config.data if config.data != 'folder' else f'folder {Path(config.data_root or "").name}'.strip()
    size = _image_size(config)
    return f'{name} {size}x{size}' if size else name


def _image_size(config: Config) -> Optional[int]:
    """Side of the images; None for the default of the data set."""
    return None if config.image_size == IMAGE_SIZES.get(config.data) else config.image_size


def method_name(config: Config) -> str:
    """'none' for the whole network without factors; 'scratch' or 'fine-tuned' with a given structure."""
    if config.method == 'sss' and config.factors == []:
        return ('fine-tuned' if config.init else 'scratch') if config.structure else 'none'
    return config.method


def method_title(name: str) -> str:
    """'L1' for 'l1'; the name itself where a method has no title."""
    return METHODS[name].title or name if name in METHODS else name


def variant(config: Config) -> str:
    """Tells apart series of one method: 'to a budget', '8 channels a neuron', 'fine-tuned' after training with its
    penalty, 'order odd'."""
    steered = config.method == 'sss' and any(getattr(config, key) is not None for key in TARGETS)
    tuned = config.source is not None and config.method in METHODS and METHODS[config.method].regularizer is not None
    words = [f'{key} {value}' for key, value in config.method_options.items() if isinstance(value, str)]
    named = [text for text in words if text.split()[0] not in MINOR_OPTIONS]
    wide = [f'{config.neuron_block} channels a neuron'] if config.neuron_block > 1 else []
    return ', '.join(['to a budget'] * steered + wide + ['fine-tuned'] * tuned + named)


def identity(config: Config) -> Dict[str, str]:
    """All that decides a result except the seed; the number and type of devices counts, their indices do not."""
    same = {field.name: repr(getattr(config, field.name)) for field in fields(Config)
            if field.name not in IGNORED_KEYS}
    same['devices'] = repr([device.rstrip('0123456789') for device in config.devices])
    for key in PATH_KEYS:
        same[key] = re.sub(rf'(.*)(?<![\d.]){config.seed}(?![\d.])', r'\1*', same[key], count=1, flags=re.DOTALL)
    same.update(data=data_name(config), image_size=repr(_image_size(config)))
    if config.factors is None and config.method == 'sss' and config.model in ARCHITECTURES:
        same['factors'] = repr(list(ARCHITECTURES[config.model].factors))
    return same


def setting_names(configs: Sequence[Config]) -> List[str]:
    """Name each setting by what tells it from the others of the same data, model, method and variant."""
    same = [identity(config) for config in configs]
    titles = [(mine['data'], c.model, method_name(c), mine['factors'], variant(c), _strength(c))
              for c, mine in zip(configs, same)]
    settings = []
    for title, mine in zip(titles, same):
        alike = [other for other, its in zip(same, titles) if its == title]
        varying = [key for key in mine if len({other[key] for other in alike}) > 1]
        more = [f'{key} {_distinct_words(key, mine, alike) if key in PATH_KEYS else mine[key]}'.replace("'", '')
                for key in varying]
        settings.append(', '.join(filter(None, [title[-1]] + more)))
    return settings


def _distinct_words(key: str, mine: Dict[str, str], alike: Sequence[Dict[str, str]]) -> str:
    """The words that only this run folder has: 'strength 0.02' of 'vgg16-ista-strength0.02-seed*'."""
    words = [_run_name(other[key]).split('-') for other in alike]
    own = [word for word in _run_name(mine[key]).split('-') if any(word not in other for other in words)]
    return '-'.join(map(_spaced, own)) or _run_name(mine[key])


def _spaced(word: str) -> str:
    """'γ 0.1' for 'gamma0.1', as a plan names runs; other words stay."""
    found = re.fullmatch(r'([a-z_]+)(\d.*)', word)
    options = {name for method in METHODS.values() for name in method.options}
    return f'{WORDS.get(found[1], found[1])} {found[2]}' if found and found[1] in options | set(KEYS) else word


def run_before(config: Config) -> Optional[Path]:
    """The folder of the run whose weights a run starts from; None for new weights."""
    ranked = config.method in METHODS and METHODS[config.method].score is not None
    start = (config.source if ranked else None) or config.init
    return Path(_run_folder(start)).resolve() if start else None


def _run_folder(path: str) -> str:
    """The run folder in a path such as 'runs/x/compact/model-structure.json'."""
    return re.sub(r'/(compact|checkpoints|deploy)/.*', '', path.rstrip('/'))


def _run_name(path: str) -> str:
    return _run_folder(path.strip("'")).rpartition('/')[2]


def _strength(config: Config) -> str:
    """The settings that vary along a curve: γ, MACs, or numeric options of the method."""
    asked = [key for key in TARGETS if getattr(config, key) is not None]
    steered = asked and config.gamma == Config.gamma        # γ is only where the search starts
    parts = [f'{WORDS["gamma"]} {config.gamma:g}'] if method_name(config) == 'sss' and not steered else []
    parts += [f'{WORDS[key]} {getattr(config, key):.3g}' for key in asked if key != 'match']
    if config.match is not None:
        parts.append('equal MACs')
    parts += [f'{key} {value:g}' if isinstance(value, float) else f'{key} {value}'
              for key, value in config.method_options.items()
              if key not in MINOR_OPTIONS and not isinstance(value, str)]
    return ', '.join(parts)
