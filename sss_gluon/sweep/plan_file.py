"""Plans as YAML files: runs from grids of settings over configurations.

    title: title of the report
    entries:
      - name: dense
        config: ../cifar10/cifar_vgg16_dense.yaml     # relative to the plan
        grid: {seed: [0, 1, 2]}                        # one run for every combination
        set: {epochs: 160}                             # settings of all its runs
        steps: [train, prune, evaluate]                # the default
      - name: l1
        config: ../cifar10/cifar_vgg16_dense.yaml
        set: {method: l1, epochs: 40}
        after: dense                                   # source= is that entry's run with the same grid values
        match: sss                                     # match= is that entry's run: keep as many MACs as it
    smoke: {data: digits, epochs: 1}                   # settings of --smoke; entries may have more
    images: 1281167                                    # number of training images, for data: folder
    folder: table_imagenet                             # plans with the same folder share runs; default: file name

An entry inherits the grids of the entries that it names, so it has one run for each of theirs. Inherited values are
part of the name of a run, but only ``seed`` among them is set.
"""
from __future__ import annotations

import json
import os
import re
from itertools import product
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Union, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ..errors import SSSError, nearest
from ..train.config import MAPPINGS, load_config, load_yaml
from .plan import STEPS, Plan, Run

PLAN_KEYS: Dict[str, type] = {'title': str, 'entries': list, 'smoke': dict, 'images': int, 'folder': str}
ENTRY_KEYS: Dict[str, type] = {'name': str, 'config': str, 'grid': dict, 'set': dict, 'steps': list, 'after': str,
                               'match': str, 'smoke': dict}
LINKS = {'after': 'source', 'match': 'match'}       # keys that name an earlier entry, and the settings that they set
FORMS = {str: 'text', list: '[a, b]', dict: '{a: b}', int: 'a whole number'}
NAME = r'\w[\w.+-]*'
TRIAL_BUDGET = 0.5          # target_macs with --smoke, where few steps may remove nothing or everything


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
        Only the first combination of each grid, with the settings under ``smoke``, and half of the MACs as the
        budget in place of ``match``.
    devices, data_root : optional
        Settings of all runs; ``data: digits`` comes with the package and needs no folder.
    overrides : sequence of 'key=value'
        Settings of all runs; for a key in a grid, its values: ``seed=[0,1,2]``.

    Raises
    ------
    SSSError
        The plan is wrong; the message names file, entry and key.
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
        raise SSSError(f'{path}: folder: {folder!r} is not the name of a folder; give its parent by --runs')
    plan = Plan(path.stem, body['title'], Path(runs) / 'smoke' / folder if smoke else Path(runs) / folder,
                images=None if smoke else body.get('images'))
    entries = _Entries(path, plan, trial, given, data_root)
    for number, entry in enumerate(body['entries'], 1):
        plan.runs.extend(entries.read(entry, f'{path}: entry {number}'))
    names = [run.name for run in plan.runs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise SSSError(f'{path}: two runs are called {twice}; rename one of the entries')
    return plan


class _Entries:
    """Reads the entries of a plan, and remembers their grids.

    ``trial`` has the settings of --smoke, None without it; ``given`` has those of the command line.
    """

    def __init__(self, path: Path, plan: Plan, trial: Optional[Dict[str, Any]], given: Dict[str, Any],
                 data_root: Optional[str]):
        self.path, self.plan, self.trial, self.given, self.data_root = path, plan, trial, given, data_root
        self.grids: Dict[str, Dict[str, list]] = {}

    def read(self, entry: Any, where: str) -> Iterator[Run]:
        """The runs of one entry."""
        if not isinstance(entry, dict):
            raise SSSError(f'{where} is not of the form {{name: …, config: …}}')
        _check(entry, ENTRY_KEYS, where, required=('name', 'config'))
        where = f'{self.path}: entry {entry["name"]}'
        own = self._grid(entry, where)
        for key in LINKS:
            if key in entry and entry[key] not in self.grids:
                hint = f'; did you mean {nearest(entry[key], self.grids)!r}?' if self.grids else ''
                raise SSSError(f'{where}: {key}: there is no entry {entry[key]!r} above it{hint}')
        if entry['name'] in self.grids:
            raise SSSError(f'{where}: two entries have this name; rename one of them')
        grid = {key: values for link in reversed(list(LINKS)) if link in entry
                for key, values in self.grids[entry[link]].items()}
        grid.update(own)
        self.grids[entry['name']] = grid
        for values in product(*grid.values()):
            point = dict(zip(grid, values))
            yield self._run(entry, point, {key: value for key, value in point.items() if key in own or key == 'seed'},
                            where)

    def _grid(self, entry: Dict[str, Any], where: str) -> Dict[str, list]:
        """{key: values} of one entry, after --smoke and the command line have replaced some."""
        grid = {}
        trial = None if self.trial is None else _merge(self.trial, entry.get('smoke', {}))
        for key, values in entry.get('grid', {}).items():
            if key in entry.get('set', {}):
                raise SSSError(f'{where}: {key} is both in grid and in set; leave one of them out')
            values = self.given.get(key, values)
            values = values if isinstance(values, list) else [values]
            if not values or len({_label(key, value) for value in values}) < len(values):
                raise SSSError(f'{where}: grid: {key}: {values} should be one or more values, all different')
            grid[key] = values if trial is None else [trial.get(key, values[0])]
        return grid

    def _run(self, entry: Dict[str, Any], point: Dict[str, Any], settings: Dict[str, Any], where: str) -> Run:
        """The run at one point of the grid; ``settings`` are the values of the point that are set."""
        settings = _merge(entry.get('set', {}), settings)
        if self.trial is not None:
            budget = {'target_macs': TRIAL_BUDGET} if 'match' in entry else {}
            settings = _merge(settings, self.trial, budget, entry.get('smoke', {}))
        settings = _merge(settings, {key: value for key, value in self.given.items() if key not in point})
        links = [key for key in LINKS if key in entry and not (key == 'match' and 'target_macs' in settings)]
        needs = [self._name(entry[key], point) for key in links]
        settings.update({LINKS[key]: os.path.abspath(self.plan.folder / name) for key, name in zip(links, needs)})
        config_file = os.path.normpath(self.path.parent / entry['config'])
        name = self._name(entry['name'], point)
        folder = self.plan.folder / name
        try:
            config = load_config(config_file, _texts(settings) + [f'run={folder}'])
            if self.data_root is not None and config.data != 'digits':
                settings['data_root'] = config.data_root = os.path.abspath(os.path.expanduser(self.data_root))
        except SSSError as error:
            raise SSSError(f'{where}: {error}') from error
        steps = tuple(entry.get('steps', STEPS))
        if not steps or tuple(step for step in STEPS if step in steps) != steps:
            raise SSSError(f'{where}: steps: {list(steps)} must be some of {", ".join(STEPS)}, in this order')
        return Run(name, folder, config_file, tuple(_texts(settings)), config, steps, tuple(dict.fromkeys(needs)))

    def _name(self, entry: str, point: Dict[str, Any]) -> str:
        """Name of a run: its entry and the values of the grid."""
        return '-'.join([entry] + [_label(key, point[key]) for key in self.grids[entry]])


def _read(path: Path) -> Dict[str, Any]:
    if not path.is_file():
        raise SSSError(f'there is no plan {path}')
    try:
        body = load_yaml(path)
        if not isinstance(body, DictConfig):
            raise SSSError(f'{path} is not a list of key: value')
        return cast(Dict[str, Any], OmegaConf.to_container(body))
    except YAMLError as error:
        mark = getattr(error, 'problem_mark', None)
        line = f'line {mark.line + 1}: ' if mark else ''
        raise SSSError(f'{path}: {line}{getattr(error, "problem", None) or str(error).splitlines()[0]}') from error
    except (OmegaConfBaseException, OSError, ValueError, RecursionError) as error:
        raise SSSError(f'{path}: {" ".join(str(error).split())}') from error


def _check(body: Mapping, keys: Dict[str, type], where: str, required: Sequence[str]) -> None:
    """Refuse unknown keys, values of the wrong type, and missing keys."""
    for key, value in body.items():
        if key not in keys:
            raise SSSError(f'{where}: there is no key {str(key)!r}; did you mean {nearest(key, keys)!r}?')
        if not isinstance(value, keys[key]) or isinstance(value, bool):
            raise SSSError(f'{where}: {key}: {value!r} is not {FORMS[keys[key]]}')
    for key in required:
        if not body.get(key):
            raise SSSError(f'{where}: {key} is missing')
    if 'name' in keys and not re.fullmatch(NAME, body['name']):
        raise SSSError(f'{where}: name: {body["name"]!r} cannot be the name of a folder; use letters, digits, . + -')


def _merge(*parts: Mapping[str, Any]) -> Dict[str, Any]:
    """Later settings replace earlier ones; mappings such as model_options are merged key by key."""
    merged: Dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            both = key in MAPPINGS and isinstance(merged.get(key), dict) and isinstance(value, dict)
            merged[key] = {**merged[key], **value} if both else value
    return merged


def _texts(settings: Mapping[str, Any]) -> List[str]:
    """key=value for the command line, where values are YAML; JSON is YAML."""
    return [f'{key}={json.dumps(value)}' for key, value in settings.items()]


def _overrides(texts: Sequence[str]) -> Dict[str, Any]:
    for text in texts:
        key = text.split('=')[0]
        if '=' not in text:
            raise SSSError(f'override {text!r} is not of the form key=value')
        if key in ('run', 'source', 'match'):
            raise SSSError(f'{key}= is different for each run of a plan; --runs names the folder of all runs')
    try:
        return cast(Dict[str, Any], OmegaConf.to_container(OmegaConf.from_dotlist(list(texts))))
    except (OmegaConfBaseException, YAMLError, ValueError, TypeError) as error:
        raise SSSError(f'the command line: {" ".join(str(error).split())}') from error


def _label(key: str, value: Any) -> str:
    """``gamma0.001``: part of the name of a run."""
    text = f'{value:g}' if isinstance(value, float) else re.sub(r'[^\w.+-]+', '_', str(value)).strip('_')
    return key.rpartition('.')[2] + text
