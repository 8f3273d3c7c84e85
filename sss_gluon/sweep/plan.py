"""A plan: many runs in one YAML file, from a grid of settings over configurations.

    title: what the report is called
    entries:
      - name: dense
        config: ../cifar10/cifar_vgg16_dense.yaml     # relative to the plan
        grid: {seed: [0, 1, 2]}                        # a run for every combination
        set: {epochs: 160}                             # settings of all its runs
        steps: [train, prune, evaluate]                # the default
      - name: l1
        config: ../cifar10/cifar_vgg16_l1.yaml
        after: dense                                   # source= is the run of that entry with the same grid values
        match: sss                                     # target_macs= is what is left in the run of that entry
    smoke: {data: digits, epochs: 1}                   # settings of a trial of everything (--smoke); entries may add
    images: 1281167                                    # training images, where only the user has them (data: folder)
    folder: table_imagenet                             # plans with the same folder share runs; default: the file's name

An entry inherits the grids of those that it names, so there is one run for each of theirs; inherited values are part of
the name of a run, and of them only ``seed`` is set.
"""
from __future__ import annotations

import csv
import difflib
import json
import os
import re
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ..errors import SSSError
from ..train.config import MAPPINGS, Config, load_config, load_yaml

STEPS = ('train', 'prune', 'evaluate')
PLAN_KEYS = {'title': str, 'entries': list, 'smoke': dict, 'images': int, 'folder': str}
ENTRY_KEYS = {'name': str, 'config': str, 'grid': dict, 'set': dict, 'steps': list, 'after': str, 'match': str,
              'smoke': dict}
FORMS = {str: 'text', list: '[a, b]', dict: '{a: b}', int: 'a whole number'}
NAME = r'\w[\w.+-]*'
UNKNOWN_BUDGET = 0.5        # stands for target_macs until the run that it is taken from is finished


class Run(NamedTuple):
    """One run of a plan: a configuration with settings, the folder it writes, and the runs that must be finished."""
    name: str
    path: Path
    config_file: str
    settings: Tuple[str, ...]           # key=value, as on the command line
    config: Config
    steps: Tuple[str, ...]
    needs: Tuple[str, ...]              # names of the runs that `source` and `target_macs` are taken from
    match: Optional[str]                # the one of them that `target_macs` is taken from

    @property
    def arguments(self) -> List[str]:
        """What ``sss-gluon train`` is called with."""
        return [self.config_file, *self.settings, f'run={self.path}']


@dataclass
class Plan:
    """A plan with all its runs, in the order of its entries; those that others need come first."""
    name: str
    title: str
    folder: Path
    runs: List[Run] = field(default_factory=list)
    images: Optional[int] = None

    def select(self, only: Optional[str] = None, shard: Optional[str] = None) -> List[Run]:
        """Runs whose name a regular expression is found in, and that are in shard ``i/n`` (1/4 … 4/4).

        Runs that need each other are in one shard.
        """
        group: Dict[str, int] = {}
        for number, run in enumerate(self.runs):
            joined = {group[name] for name in run.needs}
            group[run.name] = min(joined, default=number)
            group.update({name: group[run.name] for name, old in group.items() if old in joined})
        index, count = _shard(shard)
        order = {label: i for i, label in enumerate(sorted(set(group.values())))}
        try:
            pattern = re.compile(only or '')
        except re.error as error:
            raise SSSError(f'--only {only!r} is not a regular expression: {error}') from error
        found = [run for run in self.runs if order[group[run.name]] % count == index - 1]
        chosen = [run for run in found if pattern.search(run.name)]
        if found and not chosen:
            near = difflib.get_close_matches(only, [run.name for run in found], n=1, cutoff=0.0)
            raise SSSError(f'--only {only!r} is found in no name of a run; the nearest is {near[0]}')
        return chosen


def load_plan(path: Union[str, Path], runs: Union[str, Path] = 'runs', smoke: bool = False,
              devices: Optional[Sequence[str]] = None, data_root: Optional[str] = None,
              overrides: Sequence[str] = ()) -> Plan:
    """Read a plan and check the configuration of every run in it.

    Parameters
    ----------
    path : path
        YAML file.
    runs : path
        Run folders are ``runs/<folder of the plan>/<name of the run>``; with ``smoke``,
        ``runs/smoke/<folder of the plan>/…``.
    smoke : bool
        The first combination of each grid only, with the settings under ``smoke``, and half of the MACs where a
        budget would be matched.
    devices, data_root : optional
        Settings of all runs; digits, which come with the package, need no folder.
    overrides : sequence of 'key=value'
        Settings of all runs; of a key that is in a grid, its values: ``seed=[0,1,2]``.

    Raises
    ------
    SSSError
        Naming file, entry and key.
    """
    path = Path(path)
    body = _read(path)
    _check(body, PLAN_KEYS, str(path), required=('title', 'entries'))
    given = _overrides(overrides)
    if devices:
        given['devices'] = list(devices)
    trial = body.get('smoke', {}) if smoke else None
    folder = body.get('folder', path.stem)
    if not re.fullmatch(NAME, folder):
        raise SSSError(f'{path}: folder: {folder!r} is not the name of a folder; --runs says where it lies')
    plan = Plan(path.stem, body['title'], Path(runs) / 'smoke' / folder if smoke else Path(runs) / folder,
                images=None if smoke else body.get('images'))
    grids: Dict[str, Dict[str, list]] = {}
    used = set()
    for number, entry in enumerate(body['entries'], 1):
        where = f'{path}: entry {number}'
        if not isinstance(entry, dict):
            raise SSSError(f'{where} is not of the form {{name: …, config: …}}')
        _check(entry, ENTRY_KEYS, where, required=('name', 'config'))
        where = f'{path}: entry {entry["name"]}'
        own = _grid(entry, where, trial, given)
        used |= own.keys() & given.keys()
        others = [entry[key] for key in ('after', 'match') if key in entry]
        for key in ('after', 'match'):
            if key in entry and entry[key] not in grids:
                near = difflib.get_close_matches(entry[key], grids, n=1, cutoff=0.0)
                raise SSSError(f'{where}: {key}: there is no entry {entry[key]!r} above it'
                               + (f'; did you mean {near[0]!r}?' if near else ''))
        if entry['name'] in grids:
            raise SSSError(f'{where}: two entries have this name')
        grid = {key: values for name in reversed(others) for key, values in grids[name].items()}
        grid.update(own)
        grids[entry['name']] = grid
        for values in product(*grid.values()):
            point = dict(zip(grid, values))
            settings = {key: value for key, value in point.items() if key in own or key == 'seed'}
            plan.runs.append(_run(plan, path, entry, point, settings, grids, trial, given, data_root, where))
    names = [run.name for run in plan.runs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise SSSError(f'{path}: two runs are called {twice}; give the entries other names')
    return plan


def matched_budget(run: Run, folder: Path) -> float:
    """MACs left over MACs of the run that ``target_macs`` is taken from, to four digits."""
    file = folder / run.match / 'evaluation.csv'
    try:
        with open(file, newline='', encoding='utf-8') as table:
            macs = {row['network']: int(row['macs']) for row in csv.DictReader(table)}
        left = macs['compact'] / macs['dense']
    except (OSError, KeyError, ValueError, TypeError, ZeroDivisionError) as error:
        raise SSSError(f'{file} does not say what the compact network has left; evaluate {run.match} again') from error
    if not left < 1:
        raise SSSError(f'{run.match} lost nothing, so there is no budget to match; raise its gamma')
    return float(f'{left:.4g}')


def with_budget(run: Run, folder: Path) -> Run:
    """The run with the ``target_macs`` that it is to match; its ``match`` must be finished."""
    if run.match is None:
        return run
    settings = run.settings + (f'target_macs={matched_budget(run, folder)}',)
    return run._replace(settings=settings, config=load_config(run.config_file, [*settings, f'run={run.path}']))


def _run(plan, path, entry, point, settings, grids, trial, given, data_root, where) -> Run:
    settings = _merge(entry.get('set', {}), settings)
    if trial is not None:
        budget = {'target_macs': UNKNOWN_BUDGET} if 'match' in entry else {}
        settings = _merge(settings, trial, budget, entry.get('smoke', {}))
    settings = _merge(settings, {key: value for key, value in given.items() if key not in point})

    def name(entry_name):
        return '-'.join([entry_name] + [_label(key, point[key]) for key in grids[entry_name]])

    needed = {key: name(entry[key]) for key in ('after', 'match') if key in entry}
    if 'after' in needed:
        settings['source'] = os.path.abspath(plan.folder / needed['after'])
    match = needed.get('match') if 'target_macs' not in settings else None
    if match is None:
        needed.pop('match', None)
    config_file = os.path.normpath(path.parent / entry['config'])
    run = name(entry['name'])
    folder = plan.folder / run
    placeholder = [f'target_macs={UNKNOWN_BUDGET}'] if match else []
    try:
        config = load_config(config_file, _texts(settings) + placeholder + [f'run={folder}'])
        if data_root is not None and config.data != 'digits':
            settings['data_root'] = config.data_root = os.path.abspath(os.path.expanduser(data_root))
    except SSSError as error:
        raise SSSError(f'{where}: {error}') from error
    steps = tuple(entry.get('steps', STEPS))
    if not steps or tuple(step for step in STEPS if step in steps) != steps:
        raise SSSError(f'{where}: steps: {list(steps)} must be some of {", ".join(STEPS)}, in this order')
    return Run(run, folder, config_file, tuple(_texts(settings)), config, steps, tuple(dict.fromkeys(needed.values())),
               match)


def _read(path: Path) -> Dict[str, Any]:
    if not path.is_file():
        raise SSSError(f'there is no plan {path}')
    try:
        body = load_yaml(path)
        if not isinstance(body, DictConfig):
            raise SSSError(f'{path} is not a list of key: value')
        return OmegaConf.to_container(body)
    except YAMLError as error:
        mark = getattr(error, 'problem_mark', None)
        line = f'line {mark.line + 1}: ' if mark else ''
        raise SSSError(f'{path}: {line}{getattr(error, "problem", None) or str(error).splitlines()[0]}') from error
    except (OmegaConfBaseException, OSError, ValueError, RecursionError) as error:
        raise SSSError(f'{path}: {" ".join(str(error).split())}') from error


def _check(body: Mapping, keys: Dict[str, type], where: str, required: Sequence[str]) -> None:
    """Refuse unknown keys, values of another form, and what is missing."""
    for key, value in body.items():
        if key not in keys:
            near = difflib.get_close_matches(str(key), keys, n=1, cutoff=0.0)[0]
            raise SSSError(f'{where}: there is no key {str(key)!r}; did you mean {near!r}?')
        if not isinstance(value, keys[key]) or isinstance(value, bool):
            raise SSSError(f'{where}: {key}: {value!r} is not {FORMS[keys[key]]}')
    for key in required:
        if not body.get(key):
            raise SSSError(f'{where}: {key} is missing')
    if 'name' in keys and not re.fullmatch(NAME, body['name']):
        raise SSSError(f'{where}: name: {body["name"]!r} cannot be the name of a folder: use letters, digits, . + -')


def _grid(entry, where: str, trial, given) -> Dict[str, list]:
    """{key: values} of one entry, with what the trial and the command line say instead."""
    grid = {}
    trial_settings = _merge(trial or {}, entry.get('smoke', {})) if trial is not None else {}
    for key, values in entry.get('grid', {}).items():
        if key in entry.get('set', {}):
            raise SSSError(f'{where}: {key} is in grid and in set')
        values = given.get(key, values)
        values = values if isinstance(values, list) else [values]
        if not values or len({_label(key, value) for value in values}) < len(values):
            raise SSSError(f'{where}: grid: {key}: {values} should be one or more values, all different')
        if trial is not None:
            values = [trial_settings.get(key, values[0])]
        grid[key] = values
    return grid


def _merge(*parts: Mapping[str, Any]) -> Dict[str, Any]:
    """Later settings over earlier ones; mappings such as model_options key by key."""
    merged: Dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            both = key in MAPPINGS and isinstance(merged.get(key), dict) and isinstance(value, dict)
            merged[key] = {**merged[key], **value} if both else value
    return merged


def _texts(settings: Mapping[str, Any]) -> List[str]:
    """key=value for the command line; JSON is YAML."""
    return [f'{key}={json.dumps(value)}' for key, value in settings.items()]


def _overrides(texts: Sequence[str]) -> Dict[str, Any]:
    for text in texts:
        key = text.split('=')[0]
        if '=' not in text:
            raise SSSError(f'override {text!r} is not of the form key=value')
        if key in ('run', 'source'):
            raise SSSError(f'{key}= is different for each run of a plan; --runs names the folder of all')
    try:
        return OmegaConf.to_container(OmegaConf.from_dotlist(list(texts)))
    except (OmegaConfBaseException, YAMLError, ValueError, TypeError) as error:
        raise SSSError(f'the command line: {" ".join(str(error).split())}') from error


def _label(key: str, value: Any) -> str:
    """``gamma0.001``: part of the name of a run."""
    text = f'{value:g}' if isinstance(value, float) else re.sub(r'[^\w.+-]+', '_', str(value)).strip('_')
    return key.rpartition('.')[2] + text


def _shard(text: Optional[str]) -> Tuple[int, int]:
    match = re.fullmatch(r'(\d+)/(\d+)', '1/1' if text is None else text)
    if not match or not 1 <= int(match.group(1)) <= int(match.group(2)):
        raise SSSError(f'--shard {text} is not of the form i/n with i from 1 to n, e.g. 2/8')
    return int(match.group(1)), int(match.group(2))
