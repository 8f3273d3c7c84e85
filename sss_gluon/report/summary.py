"""Runs that differ only in their seed as one line: mean and standard deviation, beside the run without factors."""
from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ..models import ARCHITECTURES
from ..structures import shipped
from ..train.config import FREE_KEYS, Config
from .published import Published, flops_per_mac, partners
from .runs import Kept, Log, Record

PAPER_DATA = ('imagenet', 'cifar10', 'cifar100')
ELSEWHERE = ('init', 'structure', 'source')     # paths, which may name a run of the same seed
NOT_A_SETTING = FREE_KEYS + ('seed', 'devices')
ORDER = ('none', 'sss')         # the others by name
TASK = ('data', 'image_size', 'validation', 'model', 'model_options')


class Spread(NamedTuple):
    """Mean and standard deviation (n - 1) of ``n`` values; std is None for one value."""
    mean: float
    std: Optional[float]
    n: int


def spread(values: Iterable[Optional[float]]) -> Optional[Spread]:
    """None where there are no values."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Spread(float(np.mean(known)), float(np.std(known, ddof=1)) if len(known) > 1 else None, len(known))


@dataclass(frozen=True)
class Summary:
    """One line of a report: the runs that differ in their seed alone.

    Attributes
    ----------
    records : list of Record, by seed
    data, model, method : str
        ``method`` is 'none' where nothing was to be removed.
    structures : str
        Kinds of structures that could go: 'group, block'.
    setting : str
        What a curve runs over: 'γ 0.01', 'MACs 0.5', with other settings where two lines differ in them.
    dense_error, error : Spread, %
        Top-1 of the network as trained, and of what is deployed: the compact one, or the dense one of 'none'.
    difference : Spread or None, points
        ``error`` against the runs without factors, seed by seed (n: how many; 0 where they share no seed).
    params, macs : Spread
        Of what is deployed.
    whole_params, whole_macs : float
        Of the runs without factors, or where there are none of the network as it was trained.
    published : list of Published
        Rows of the paper that it may stand beside.
    """
    records: List[Record]
    data: str
    model: str
    method: str
    structures: str
    setting: str
    dense_error: Spread
    error: Spread
    difference: Optional[Spread]
    params: Spread
    macs: Spread
    whole_params: float
    whole_macs: float
    published: List[Published]

    @property
    def seeds(self) -> List[int]:
        return [record.config.seed for record in self.records]

    @property
    def series(self) -> str:
        """What one line of a figure is: 'sss block'."""
        return 'without factors' if self.method == 'none' else ' '.join(filter(None, (self.method, self.structures)))

    @property
    def label(self) -> str:
        """'sss block, γ 0.01'."""
        return ', '.join(filter(None, (self.series, self.setting)))

    @property
    def flops(self) -> float:
        """As the paper counts them for such a network."""
        return flops_per_mac(self.model) * self.macs.mean

    @property
    def params_left(self) -> float:
        return self.params.mean / self.whole_params

    @property
    def macs_left(self) -> float:
        return self.macs.mean / self.whole_macs

    @property
    def seconds(self) -> Optional[Spread]:
        return spread(record.seconds for record in self.records)

    def ms(self, batch: int) -> Optional[Spread]:
        return spread(record.final.ms.get(batch) for record in self.records)

    def kept(self) -> List[Tuple[str, str, float, int]]:
        """(name, kind, mean number kept over the runs, size) of every factor or layer."""
        found: Dict[Kept, List[int]] = {}
        for record in self.records:
            for row in record.kept:
                found.setdefault(row._replace(kept=0), []).append(row.kept)
        return [(key.name, key.kind, float(np.mean(values)), key.size) for key, values in found.items()]


def error_of(accuracy: float) -> float:
    """Top-1 error in %."""
    return 100 * (1 - accuracy)


def data_name(config: Config) -> str:
    """'digits 8x8': results on other images are never compared."""
    name = config.data if config.data != 'folder' else f'folder {Path(config.data_root or "").name}'.strip()
    return f'{name} {config.image_size}x{config.image_size}' if config.image_size else name


def method_name(config: Config) -> str:
    """'none' for a whole network without factors, 'scratch' and 'fine-tuned' for one with a given structure."""
    if config.method == 'sss' and config.factors == []:
        return ('fine-tuned' if config.init else 'scratch') if config.structure else 'none'
    return config.method


def identity(config: Config) -> Dict[str, str]:
    """Settings that make a result, but for the seed; which devices it was trained on is none, how many is."""
    same = {field.name: repr(getattr(config, field.name)) for field in fields(Config)
            if field.name not in NOT_A_SETTING}
    same['devices'] = repr([device.rstrip('0123456789') for device in config.devices])
    for key in ELSEWHERE:
        same[key] = re.sub(rf'(.*)(?<![\d.]){config.seed}(?![\d.])', r'\1*', same[key], count=1, flags=re.DOTALL)
    same['data'] = data_name(config)
    if config.factors is None and config.method == 'sss' and config.model in ARCHITECTURES:
        same['factors'] = repr(list(ARCHITECTURES[config.model].factors))
    return same


def summarize(records: Sequence[Record], published: Sequence[Published], log: Log) -> List[Summary]:
    """One summary per setting, sorted by data set, model, method and size; oddities go through ``log``."""
    groups: Dict[Tuple, List[Record]] = {}
    for record in records:
        groups.setdefault(tuple(identity(record.config).items()), []).append(record)
    groups = {key: _one_per_seed(group, log) for key, group in groups.items()}
    _note_names([record for group in groups.values() for record in group], log)
    settings = _settings([group[0].config for group in groups.values()])
    whole = [group for group in groups.values() if method_name(group[0].config) == 'none']
    summaries = [_summary(group, setting, _reference(group, whole), published)
                 for group, setting in zip(groups.values(), settings)]
    data = sorted({summary.data for summary in summaries})
    if len(data) > 1:
        log(f'runs of {len(data)} data sets ({", ".join(data)}): each is reported by itself, none is compared with '
            f'another')
    for missing in sorted({(s.data, s.model, s.method) for s in summaries
                           if s.data in PAPER_DATA and not s.published}):
        log(f'no published row for {", ".join(missing)}: those columns stay empty')
    return sorted(summaries, key=lambda s: (s.data, s.model, [s.method != name for name in ORDER], s.method,
                                            s.structures, -s.macs.mean))


def _one_per_seed(group: List[Record], log: Log) -> List[Record]:
    """Of two runs with the same settings and seed the first: they are no two samples."""
    first: Dict[int, Record] = {}
    for record in group:
        other = first.setdefault(record.config.seed, record)
        if other is not record:
            log(f'{record.path} has all settings and the seed of {other.path}; only the latter is counted')
    return [first[seed] for seed in sorted(first)]


def _note_names(records: Sequence[Record], log: Log) -> None:
    by_name: Dict[str, List[str]] = {}
    for record in records:
        by_name.setdefault(record.path.resolve().name, []).append(str(record.path))
    for name, paths in by_name.items():
        if len(paths) > 1:
            log(f'{len(paths)} runs are called {name} ({", ".join(paths)}); runs.csv tells them apart by their path')


def _settings(configs: Sequence[Config]) -> List[str]:
    """What tells a setting from the others of the same data, model and method."""
    same = [identity(config) for config in configs]
    titles = [(mine['data'], c.model, method_name(c), mine['factors'], _strength(c)) for c, mine in zip(configs, same)]
    settings = []
    for title, mine in zip(titles, same):
        alike = [other for other, its in zip(same, titles) if its == title]
        varying = [key for key in mine if len({other[key] for other in alike}) > 1]
        more = [f'{key} {_short(mine[key]) if key in ELSEWHERE else mine[key]}'.replace("'", '') for key in varying]
        settings.append(', '.join(filter(None, [title[-1]] + more)))
    return settings


def _short(path: str) -> str:
    """The run folder in a path such as 'runs/x/compact/model-structure.json'."""
    return re.sub(r'/(compact|checkpoints|deploy)/.*', '', path.strip("'").rstrip('/')).rpartition('/')[2]


def _strength(config: Config) -> str:
    parts = [f'γ {config.gamma:g}'] if method_name(config) == 'sss' else []
    if config.target_macs is not None:
        parts.append(f'MACs {config.target_macs:.3g}')
    parts += [f'{key} {value:g}' if isinstance(value, float) else f'{key} {value}'
              for key, value in config.method_options.items() if key != 'kinds']      # those are the structures
    return ', '.join(parts)


def _reference(group: List[Record], whole: Sequence[List[Record]]) -> Optional[List[Record]]:
    """The runs without factors on the same data and model, those with most settings in common."""
    mine = identity(group[0].config)
    fitting = [other for other in whole if other is not group
               and all(identity(other[0].config)[key] == mine[key] for key in TASK)]
    return max(fitting, default=None,
               key=lambda other: sum(identity(other[0].config)[key] == mine[key] for key in mine))


def _difference(group: List[Record], reference: List[Record]) -> Optional[Spread]:
    """Of the seeds that both have; of the means where they share none."""
    whole = {record.config.seed: error_of(record.dense.top1) for record in reference}
    mine = {record.config.seed: error_of(record.final.top1) for record in group}
    paired = [mine[seed] - whole[seed] for seed in mine if seed in whole]
    if paired:
        return spread(paired)
    return Spread(float(np.mean(list(mine.values())) - np.mean(list(whole.values()))), None, 0)


def _summary(group: List[Record], setting: str, reference: Optional[List[Record]],
             published: Sequence[Published]) -> Summary:
    config, method = group[0].config, method_name(group[0].config)
    whole = [record.dense for record in (reference or group)]
    macs = spread(record.final.macs for record in group)
    kinds = sorted({row.kind for record in group for row in record.kept} - {'output'})
    return Summary(
        records=group, data=data_name(config), model=config.model, method=method,
        structures=', '.join(config.factors or kinds), setting=setting,
        dense_error=spread(error_of(record.dense.top1) for record in group),
        error=spread(error_of(record.final.top1) for record in group),
        difference=_difference(group, reference) if reference and method != 'none' else None,
        params=spread(record.final.params for record in group), macs=macs,
        whole_params=float(np.mean([network.params for network in whole])),
        whole_macs=float(np.mean([network.macs for network in whole])),
        published=_partners(config, method, macs.mean, published))


def _partners(config: Config, method: str, macs: float, published: Sequence[Published]) -> List[Published]:
    """Rows of the paper for this data set and this network; for a narrowed network or other images none."""
    row = ARCHITECTURES.get(config.model)
    if row is None or config.model_options or config.image_size not in (None, row.size):
        return []
    return partners(published, config.data, config.model, method,
                    config.structure if config.structure in shipped() else None, macs)
