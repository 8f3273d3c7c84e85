"""The configuration of a run: typed YAML with a base file and key=value overrides."""
from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Union

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ..data.augment import KINDS as AUGMENTATIONS
from ..errors import SSSError, nearest
from .precision import PRECISIONS, check_devices
from .setting import setting, text_of


@dataclass
class Config:
    """All settings of a training run: ``key: value`` in YAML, ``key=value`` on the command line.

    Batch size and learning rate apply to the whole job, whatever the number of devices and workers.
    """
    run: str = setting('', 'run folder; default runs/<dataset>/<name of the config file>', section='output')
    seed: int = setting(0, 'of the initial weights, the order of the images and their augmentation')

    model: str = setting('cifar_resnet20', 'a name of get_model, gluoncv:NAME, or package.module:function',
                         section='network')
    model_options: Dict[str, Any] = setting({}, 'arguments of the network: depths, widths, stages, groups, ...')
    factors: Optional[List[str]] = setting(None, 'neuron, group, block; [] for none; default as in the paper, or '
                                                 'those that your network has, or all')
    neuron_block: int = setting(1, 'adjacent channels that are one neuron, such as 8; its greatest common divisor '
                                   'with a width counts')
    structure: Optional[str] = setting(None, 'structure.json or shipped name: train that compact network')
    init: Optional[str] = setting(None, '.params file, checkpoint, or gluoncv for its pretrained weights; '
                                         'λ starts at 1')

    method: str = setting('sss', 'or, to compare: ssl, slimming, l1, taylor, apoz, ista, thinet, lasso, random, '
                                 'uniform, scratch', section='pruning method')
    method_options: Dict[str, Any] = setting({}, 'strength, images, kinds, ...; each method has its own')
    source: Optional[str] = setting(None, 'run folder of the trained network that is pruned')
    target_macs: Optional[float] = setting(None, 'share of the MACs of the unpruned network to keep')
    match: Optional[str] = setting(None, 'or: run folder whose compact network sets that share')
    target_params: Optional[float] = setting(None, 'or, with method=sss: share of the parameters to keep')
    target_latency: Optional[float] = setting(None, 'or, with method=sss: share of the latency to keep, as measured')
    latency_batch: int = setting(1, 'images in the batch that target_latency measures')
    search: float = setting(0.15, 'share of the epochs in which a target is to be met')
    shrink: Optional[bool] = setting(None, 'cut the network while it trains; default: with a target')
    shrink_align: int = setting(16, 'then widths stay multiples of it while it trains, for fast convolutions (prune '
                                    'removes the rest; export has --align); 1: all that can go goes')
    patience: Optional[int] = setting(None, 'with shrink and no target: steps at zero before a structure is cut out; '
                                            'default one epoch')

    data: str = setting('digits', 'digits, fashion-mnist, cifar10, cifar100, folder, imagenet', section='data')
    data_root: Optional[str] = setting(None, 'folder of the data set; default: found or downloaded')
    validation: Optional[int] = setting(None, 'number of training images to hold out')
    image_size: Optional[int] = setting(None, 'for digits (default 16), folder (that of the images) and imagenet (224)')
    augmentation: Optional[str] = setting(None, 'pad-crop; for imagenet facebook (default) or resized-crop')
    augment_pad: int = setting(4, 'pixels of padding before the random crop of pad-crop')
    augment_flip: bool = setting(True, 'mirror half of the training images')

    epochs: int = setting(240, 'passes over the training images', section='optimization')
    batch_size: int = setting(64, 'of the whole job, over all devices, workers and micro-batches')
    grad_accumulation: int = setting(1, 'micro-batches per step')
    learning_rate: float = setting(0.1, 'of the whole job, at the start')
    momentum: float = setting(0.9, 'of weights and factors')
    weight_decay: float = setting(1e-4, 'on weights and BatchNorm.gamma; not on biases, beta and factors')
    clip_gradient: Optional[float] = setting(None, 'largest absolute value of an entry of a gradient')
    lr_mode: str = setting('step', 'step, cosine, constant; evaluated every iteration')
    lr_decay_epochs: List[float] = setting(
        [1 / 2, 2 / 3, 5 / 6], 'with lr_mode=step: after these epochs, or shares of epochs below 1, the rate falls')
    lr_decay: float = setting(0.1, 'by this factor')
    warmup_epochs: float = setting(0.0, 'the rate rises linearly from 0')

    gamma: float = setting(0.01, 'sparsity strength γ', section='sparsity')
    gamma_mult: Dict[str, float] = setting({}, '{regular expression of factor names: multiplier of γ}')
    gamma_weighting: str = setting('uniform', 'or macs: γ proportional to the MACs that a structure costs')
    non_negative: bool = setting(True, 'project factors to at least 0')
    statistics_batches: int = setting(10, 'after an epoch, BatchNorm statistics are estimated from them; 0: not')

    devices: List[str] = setting(['cpu'], 'cpu, cpu0, cpu1, gpu0, ...', section='machine')
    kvstore: str = setting('device', 'or local; with several workers: dist_sync, dist_device_sync, horovod')
    precision: str = setting('float32', 'or float16 on GPUs, bfloat16 on CPUs (inside layers)')

    checkpoint_every: int = setting(1, 'epochs between two checkpoints', section='files')
    keep_checkpoints: int = setting(2, 'number of newest checkpoints to keep')
    tensorboard: bool = setting(False, 'needs the extra: pip install "sss_gluon[tensorboard]"')


# Settings that may change when a run is resumed, because its result does not depend on them.
FREE_KEYS = ('run', 'checkpoint_every', 'keep_checkpoints', 'tensorboard', 'data_root')
KEYS = tuple(f.name for f in fields(Config))
# What other tools call these settings, for messages.
SYNONYMS = {'lr': 'learning_rate', 'wd': 'weight_decay', 'batch': 'batch_size', 'arch': 'model', 'network': 'model',
            'gpus': 'devices', 'ctx': 'devices', 'strength': 'gamma', 'lambda': 'gamma', 'latency': 'target_latency',
            **dict.fromkeys(('sparsity', 'ratio', 'pruning_ratio', 'flops', 'target_flops', 'target'), 'target_macs')}
LISTS = ('factors', 'devices', 'lr_decay_epochs')
MAPPINGS = ('model_options', 'gamma_mult', 'method_options')
PRETRAINED = 'gluoncv'      # as init: the weights that GluonCV publishes
PATHS = ('data_root', 'init', 'structure', 'source', 'match')
CHOICES = {'lr_mode': ('step', 'cosine', 'constant'), 'gamma_weighting': ('uniform', 'macs'),
           'augmentation': AUGMENTATIONS,
           'kvstore': ('device', 'local', 'dist_sync', 'dist_device_sync', 'horovod'),
           'precision': PRECISIONS}
OPTIONAL = tuple(f.name for f in fields(Config) if f.default is None)
PROBLEMS = (OmegaConfBaseException, YAMLError, ValueError, OSError, TypeError, IndexError, RecursionError)
LARGEST_FILE = 10 ** 5      # values
LARGEST = 2 ** 31 - 1       # products of two or three such numbers still fit float32
MINIMA = {'epochs': 1, 'batch_size': 1, 'grad_accumulation': 1, 'gamma': 0, 'weight_decay': 0, 'learning_rate': 0,
          'warmup_epochs': 0, 'augment_pad': 0, 'checkpoint_every': 1, 'keep_checkpoints': 1, 'seed': 0,
          'statistics_batches': 0, 'latency_batch': 1, 'shrink_align': 1, 'neuron_block': 1}
TARGETS = ('target_macs', 'match', 'target_params', 'target_latency')      # at most one


def load_config(path: Union[str, Path, None], overrides: Sequence[str] = ()) -> Config:
    """Read a configuration.

    Parameters
    ----------
    path : path or None
        YAML file. Its key ``base`` names another file, relative to it, that it overrides. None for the defaults.
        A target replaces any target of what it overrides.
    overrides : sequence of 'key=value'

    Raises
    ------
    SSSError
        For an unknown key (the message names the nearest one), or a value of the wrong type or range.
    """
    layers = _layers(Path(path)) if path else []
    for text in overrides:
        if '=' not in text:
            raise SSSError(f'override {text!r} is not of the form key=value')
    layers.append(('the command line', _parse('the command line', lambda: OmegaConf.from_dotlist(list(overrides)))))
    merged = deepcopy(_defaults())
    for source, layer in layers:
        _check_keys(layer, source)
        for key in layer:
            if key in MAPPINGS and not layer._get_node(key):        # {} clears the mapping of the base
                merged[key] = {}
        given: Any = OmegaConf.to_container(layer)
        if any(given.get(key) is not None for key in TARGETS):      # a target replaces that of the base
            for key in TARGETS:
                merged[key] = None
        merged = _merge(merged, layer, source)
    if path and not merged.run:
        merged.run = str(Path('runs') / Path(path).resolve().parent.name / Path(path).stem)
    config = _parse(str(path or 'the command line'), lambda: OmegaConf.to_object(merged))
    check(config)
    return config


@lru_cache(maxsize=None)
def _defaults() -> Any:
    return OmegaConf.structured(Config)


def _merge(merged: Any, layer: DictConfig, source: str) -> Any:
    """Merge a layer into those below it; after a failure key by key, to name the key that failed."""
    try:
        return OmegaConf.unsafe_merge(merged, layer)        # without copies, which take most of the time
    except PROBLEMS:
        for key in map(str, layer):
            part = _parse(source, lambda key=key: OmegaConf.masked_copy(layer, [key]), key)
            merged = _parse(source, lambda part=part, below=merged: OmegaConf.merge(below, part), key)
        return merged


def save_config(config: Config) -> str:
    """The YAML text of a configuration with every key."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def overrides(config: Config) -> List[str]:
    """The 'key=value' overrides that turn the defaults into this configuration."""
    return [f'{key}={_written(getattr(config, key))}' for key in KEYS if getattr(config, key) != getattr(Config(), key)]


def _written(value) -> str:
    """A value as written on the command line, without quotes where it reads back the same."""
    if isinstance(value, str):
        with suppress(*PROBLEMS):
            if value == value.strip() and OmegaConf.from_dotlist([f'key={value}']).key == value:
                return value
    return json.dumps(value)


def check(config: Config) -> None:
    """Check the ranges and choices that types do not express."""
    for key, choices in CHOICES.items():
        value = getattr(config, key)
        if value not in choices and not (value is None and key in OPTIONAL):
            raise SSSError(f'{key}={value} is unknown; did you mean {nearest(value, choices)}? '
                           f'Choices: {", ".join(choices)}')
    for key, minimum in MINIMA.items():
        value = getattr(config, key)
        if not minimum <= value <= LARGEST:
            raise SSSError(f'{key}={value} must be a number from {minimum} to {LARGEST}')
    if not 0 <= config.momentum < 1:
        raise SSSError(f'momentum={config.momentum} must be at least 0 and less than 1')
    if not 0 < config.lr_decay <= 1:
        raise SSSError(f'lr_decay={config.lr_decay} must be more than 0 and at most 1')
    if config.clip_gradient is not None and not 0 < config.clip_gradient <= LARGEST:
        raise SSSError(f'clip_gradient={config.clip_gradient} must be a number more than 0, at most {LARGEST}, or null')
    targets = [key for key in TARGETS if getattr(config, key) is not None]
    for key in targets:
        if key != 'match' and not 0 < getattr(config, key) <= 1:
            raise SSSError(f'{key}={getattr(config, key)} must be more than 0 and at most 1: it is the share to keep')
    if len(targets) > 1:
        raise SSSError(f'{targets[0]} and {targets[1]} both say how much to keep; leave one of them out')
    if not 0 < config.search <= 1:
        raise SSSError(f'search={config.search} must be more than 0 and at most 1: it is a share of the epochs')
    if config.patience is not None and not 1 <= config.patience <= LARGEST:
        raise SSSError(f'patience={config.patience} must be a number of steps from 1 to {LARGEST}, or null')
    if config.warmup_epochs >= config.epochs:
        raise SSSError(f'warmup_epochs={config.warmup_epochs:g} must be less than epochs={config.epochs}')
    given = sorted({'name', 'classes', 'factors', 'in_channels', 'input_shape', 'neuron_block'}
                   & set(config.model_options))
    if given:
        raise SSSError(f'model_options: {given[0]} cannot be set here; it follows from data, or is a setting itself')
    if not config.devices:
        raise SSSError('devices=[] names no device; use cpu, or gpu0, gpu1, ...')
    strange = [name for name in config.devices if not isinstance(name, str)]
    if strange:
        raise SSSError(f'devices: {strange[0]!r} is not a device name; use cpu, cpu1, gpu0, gpu1, ...')
    check_devices(config.precision, config.devices)
    share = len(config.devices) * config.grad_accumulation
    if config.batch_size % share:
        possible = max(share, round(config.batch_size / share) * share)
        raise SSSError(f'batch_size={config.batch_size} cannot be split over {len(config.devices)} devices x '
                       f'{config.grad_accumulation} accumulated micro-batches; the nearest that can is {possible}')
    if config.lr_mode == 'step':
        _check_decay_epochs(config)


def _check_decay_epochs(config: Config) -> None:
    given = config.lr_decay_epochs
    numbers = all(isinstance(number, (int, float)) for number in given)     # OmegaConf lets lists in lists pass
    found = decay_epochs(config) if numbers else []
    if not numbers or not all(a < b for a, b in zip([0, *found], found)):
        raise SSSError(f'lr_decay_epochs={given} must be increasing epochs, at least 1, or shares of epochs, below 1')
    if found and found[-1] >= config.epochs:
        raise SSSError(f'lr_decay_epochs={given}: the rate cannot fall at {found[-1]:g} when a run ends at '
                       f'epochs={config.epochs}; write shares of epochs, such as lr_decay_epochs=[0.5,0.75], or '
                       f'lr_mode=constant')


def decay_epochs(config: Config) -> List[float]:
    """``lr_decay_epochs`` in epochs; numbers below 1 are shares of ``epochs``."""
    return [round(number * config.epochs, 9) if number < 1 else number for number in config.lr_decay_epochs]


def differences(old: Config, new: Config) -> List[str]:
    """'key: old -> new' for every changed setting that a resumed run must share."""
    return [f'{key}: {getattr(old, key)} -> {getattr(new, key)}' for key in KEYS
            if key not in FREE_KEYS and getattr(old, key) != getattr(new, key)]


def load_yaml(path: Union[str, Path]):
    """``OmegaConf.load``, guarded against aliases, nine lines of which can expand to gigabytes."""
    return deepcopy(_read_yaml(Path(path).read_text('utf-8')))


@lru_cache(maxsize=64)      # the runs of a plan share a few files
def _read_yaml(text: str):
    root = yaml.compose(text, Loader=yaml.SafeLoader) if '*' in text else None      # an alias begins with it
    if root is not None:
        _expanded(root, {})
    return OmegaConf.load(StringIO(text))


def _expanded(node, sizes: Dict[int, Optional[int]]) -> int:
    """Number of values in a part of a YAML file once its aliases are expanded."""
    if id(node) not in sizes:
        sizes[id(node)] = None      # while it is being counted
        parts = node.value if isinstance(node, yaml.CollectionNode) else []
        pairs = (part if isinstance(part, tuple) else (part,) for part in parts)
        size = 1 + sum(_expanded(value, sizes) for pair in pairs for value in pair)
        if size > LARGEST_FILE:
            raise YAMLError(f'its aliases expand to more than {LARGEST_FILE} values; write them out')
        sizes[id(node)] = size
    known = sizes[id(node)]
    if known is None:
        raise YAMLError('an alias refers to a value that contains it')
    return known


def _layers(path: Path, depth: int = 0):
    if depth > 8:
        raise SSSError(f'{path}: base files refer to each other in a circle')
    if not os.path.isfile(path):
        near = get_close_matches(str(path), map(str, path.parent.glob('*.y*ml')), 1)
        raise SSSError(f'there is no configuration file {path}' + (f'; did you mean {near[0]}?' if near else ''))
    layer = _parse(str(path), lambda: load_yaml(path))
    if not isinstance(layer, DictConfig):
        raise SSSError(f'{path} is not a list of key: value')
    base = _parse(str(path), lambda: layer.pop('base', None), 'base')
    below = _layers(path.parent / str(base), depth + 1) if base is not None else []
    return below + [(str(path), layer)]


def _parse(source: str, read, key: str = ''):
    try:
        return read()
    except PROBLEMS as error:
        where, text = f'{key}: ' if key else '', str(error).splitlines()[0]
        name, mark = getattr(error, 'full_key', None), getattr(error, 'problem_mark', None)
        if name:
            where = f'{name}: '
            if name in TARGETS and name != 'match':
                text += '; it is the share to keep: a number more than 0 and at most 1'
        elif mark:      # YAML's first line says only what was being read
            where, text = f'line {mark.line + 1}: ', getattr(error, 'problem', text)
        raise SSSError(f'{source}: {where}{" ".join(text.split())}') from error


def _told(key: str) -> str:
    """"'gamma' (sparsity strength γ)"."""
    return f'{key!r} ({re.sub("^or:? ", "", text_of(Config, key))})'


def _check_keys(layer: DictConfig, source: str) -> None:
    """Refuse unknown keys, and scalars, lists and mappings in each other's place."""
    settings: Any = OmegaConf.to_container(layer)       # interpolations stay unresolved
    for key, value in settings.items():
        if key not in KEYS:
            meant = SYNONYMS.get(key) or nearest(key, KEYS)
            raise SSSError(f'{source}: there is no setting {str(key)!r}; did you mean {_told(meant)}?')
        if value == '???' or value is None and key not in OPTIONAL:
            raise SSSError(f'{source}: {key} needs a value: {text_of(Config, key)}')
        if key in ('factors', 'devices') and isinstance(value, str) and '$' not in value:
            layer[key] = value = [value]        # factors: block means factors: [block]
        for keys, kind, form in ((LISTS, list, '[a, b]'), (MAPPINGS, dict, '{a: b}')):
            wrong = value is not None and not isinstance(value, (kind, str) if '$' in str(value) else kind)
            if key in keys and wrong:
                raise SSSError(f'{source}: {key}: {value!r} is not of the form {form}')
        if key in MAPPINGS and isinstance(value, dict):
            for part in value:
                if ':' in str(part) and value[part] is None:        # YAML reads {a:b} as one word
                    raise SSSError(f'{source}: {key}: {part!r} has no value; add a space after the colon')
