"""The configuration of a run: typed YAML with a base file and key=value overrides."""
from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Union

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ..data.augment import KINDS as AUGMENTATIONS
from ..errors import SSSError, nearest
from .precision import PRECISIONS, check_devices


@dataclass
class Config:
    """All settings of a training run: ``key: value`` in YAML, ``key=value`` on the command line.

    Batch size and learning rate apply to the whole job, whatever the number of devices and workers.
    """
    # output
    run: str = ''                               # run folder; default runs/<dataset>/<name of the config file>
    seed: int = 0

    # network
    model: str = 'cifar_resnet20'               # a name of get_model, or package.module:function
    model_options: Dict[str, Any] = field(default_factory=dict)
    factors: Optional[List[str]] = None         # neuron, group, block; [] for none; default as in the paper
    structure: Optional[str] = None             # structure.json or shipped name: train that compact network
    init: Optional[str] = None                  # .params file or checkpoint with initial weights; λ starts at 1

    # pruning method
    method: str = 'sss'                         # a name of sss_gluon.methods.METHODS
    method_options: Dict[str, Any] = field(default_factory=dict)    # strength, images, kinds, ...
    source: Optional[str] = None                # run folder of the trained network that is pruned
    target_macs: Optional[float] = None         # share of the MACs of the dense network to keep
    match: Optional[str] = None                 # or: run folder whose compact network sets that share

    # data
    data: str = 'digits'                        # digits, fashion-mnist, cifar10, cifar100, folder, imagenet
    data_root: Optional[str] = None
    validation: Optional[int] = None            # number of training images to hold out
    image_size: Optional[int] = None            # for digits, folder and imagenet (default 224)
    augmentation: Optional[str] = None          # pad-crop; for imagenet facebook (default) or resized-crop
    augment_pad: int = 4                        # pixels of padding before the random crop of pad-crop
    augment_flip: bool = True

    # optimization
    epochs: int = 240
    batch_size: int = 64
    grad_accumulation: int = 1                  # micro-batches per step
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4                  # on weights and BatchNorm.gamma; not on biases, beta and factors
    clip_gradient: Optional[float] = None
    lr_mode: str = 'step'                       # step, cosine, constant; evaluated every iteration
    # epochs, or shares of epochs below 1; the default is the paper's 120, 160 and 200 of 240
    lr_decay_epochs: List[float] = field(default_factory=lambda: [1 / 2, 2 / 3, 5 / 6])
    lr_decay: float = 0.1
    warmup_epochs: float = 0.0                  # linear, from 0

    # sparsity
    gamma: float = 0.01                         # sparsity strength γ
    gamma_mult: Dict[str, float] = field(default_factory=dict)  # {regular expression of factor names: multiplier}
    gamma_weighting: str = 'uniform'            # or macs: γ proportional to the MACs that a structure costs
    non_negative: bool = True

    # machine
    devices: List[str] = field(default_factory=lambda: ['cpu'])     # cpu, cpu0, cpu1, gpu0, ...
    kvstore: str = 'device'                     # with several workers: dist_sync, dist_device_sync, horovod
    precision: str = 'float32'                  # or float16 on GPUs, bfloat16 on CPUs (inside layers)

    # files
    checkpoint_every: int = 1                   # epochs
    keep_checkpoints: int = 2
    tensorboard: bool = False                   # needs the extra: pip install "sss_gluon[tensorboard]"


# Settings that may change when a run is resumed, because its result does not depend on them.
FREE_KEYS = ('run', 'checkpoint_every', 'keep_checkpoints', 'tensorboard', 'data_root')
KEYS = tuple(f.name for f in fields(Config))
LISTS = ('factors', 'devices', 'lr_decay_epochs')
MAPPINGS = ('model_options', 'gamma_mult', 'method_options')
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
          'warmup_epochs': 0, 'augment_pad': 0, 'checkpoint_every': 1, 'keep_checkpoints': 1, 'seed': 0}


def load_config(path: Union[str, Path, None], overrides: Sequence[str] = ()) -> Config:
    """Read a configuration.

    Parameters
    ----------
    path : path or None
        YAML file. Its key ``base`` names another file, relative to it, that it overrides. None for the defaults.
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
    merged = OmegaConf.structured(Config)
    for source, layer in layers:
        _check_keys(layer, source)
        for key in layer:
            if key in MAPPINGS and not layer._get_node(key):        # {} clears the mapping of the base
                merged[key] = {}
        merged = _merge(merged, layer, source)
    if path and not merged.run:
        merged.run = str(Path('runs') / Path(path).resolve().parent.name / Path(path).stem)
    config = _parse(str(path or 'the command line'), lambda: OmegaConf.to_object(merged))
    check(config)
    return config


def _merge(merged: Any, layer: DictConfig, source: str) -> Any:
    """Merge a layer over those below it; after a failure key by key, to name the key that failed."""
    try:
        return OmegaConf.merge(merged, layer)
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
    if config.target_macs is not None and not 0 < config.target_macs < 1:
        raise SSSError(f'target_macs={config.target_macs} must be more than 0 and less than 1: it is the share of the '
                       f'MACs to keep')
    if config.match is not None and config.target_macs is not None:
        raise SSSError(f'target_macs={config.target_macs} and match={config.match} both set the share of the MACs to '
                       f'keep; leave one of them out')
    if config.warmup_epochs >= config.epochs:
        raise SSSError(f'warmup_epochs={config.warmup_epochs:g} must be less than epochs={config.epochs}')
    given = sorted({'name', 'classes', 'factors', 'in_channels'} & set(config.model_options))
    if given:
        raise SSSError(f'model_options: {given[0]} cannot be set here; it follows from model, data and factors')
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
    with open(path, encoding='utf-8') as file:
        root = yaml.compose(file, Loader=yaml.SafeLoader)
    if root is not None:
        _expanded(root, {})
    return OmegaConf.load(path)


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
        raise SSSError(f'there is no configuration file {path}')
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
        elif mark:      # YAML's first line says only what was being read
            where, text = f'line {mark.line + 1}: ', getattr(error, 'problem', text)
        raise SSSError(f'{source}: {where}{" ".join(text.split())}') from error


def _check_keys(layer: DictConfig, source: str) -> None:
    """Refuse unknown keys, and scalars, lists and mappings in each other's place."""
    settings: Any = OmegaConf.to_container(layer)       # interpolations stay unresolved
    for key, value in settings.items():
        if key not in KEYS:
            raise SSSError(f'{source}: there is no setting {str(key)!r}; did you mean {nearest(key, KEYS)!r}?')
        if value == '???' or value is None and key not in OPTIONAL:
            raise SSSError(f'{source}: {key} needs a value')
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
