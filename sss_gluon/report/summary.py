"""Runs that differ only in their seed as one line: mean and standard deviation, beside the run without factors."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ..models import ARCHITECTURES
from ..structures import shipped
from ..train import Config
from .published import Published, flops_per_mac, partners
from .runs import Kept, Log, Record
from .settings import data_name, identity, method_name, setting_names, variant

PAPER_DATA = ('imagenet', 'cifar10', 'cifar100')
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
    variant : str
        'fine-tuned', 'budget compute': see ``settings.variant``.
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
    variant: str
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
        """What one line of a figure is: 'sss block', 'ssl neuron, fine-tuned'."""
        return self.called(f'{self.method} {self.structures}'.strip())

    @property
    def short(self) -> str:
        """The same where all have the same structures: 'ssl, fine-tuned'."""
        return self.called(self.method)

    def called(self, name: str) -> str:
        return ', '.join(filter(None, ('without factors' if self.method == 'none' else name, self.variant)))

    @property
    def names(self) -> Dict[str, str]:
        """The columns that name it in every CSV file."""
        return dict(data=self.data, model=self.model, method=self.method, structures=self.structures,
                    variant=self.variant, setting=self.setting)

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


def summarize(records: Sequence[Record], published: Sequence[Published], log: Log) -> List[Summary]:
    """One summary per setting, sorted by data set, model, method and size; oddities go through ``log``."""
    groups: Dict[Tuple, List[Record]] = {}
    for record in records:
        groups.setdefault(tuple(identity(record.config).items()), []).append(record)
    groups = {key: _one_per_seed(group, log) for key, group in groups.items()}
    _note_names([record for group in groups.values() for record in group], log)
    settings = setting_names([group[0].config for group in groups.values()])
    whole = [group for group in groups.values() if method_name(group[0].config) == 'none']
    summaries = [_summary(group, setting, _reference(group, whole), published)
                 for group, setting in zip(groups.values(), settings)]
    data = sorted({summary.data for summary in summaries})
    if len(data) > 1:
        log(f'runs of {len(data)} data sets ({", ".join(data)}): each is reported by itself, none is compared with '
            f'another')
    missing: Dict[Tuple[str, str], Dict[str, None]] = {}
    for s in summaries:
        if s.data in PAPER_DATA and not s.published:
            missing.setdefault((s.data, s.model), {})[s.method] = None
    for (dataset, model), methods in missing.items():
        log(f'no published row for {model} on {dataset} ({", ".join(methods)}): nothing stands beside it')
    return sorted(summaries, key=lambda s: (s.data, s.model, [s.method != name for name in ORDER], s.method,
                                            s.structures, s.variant, -s.macs.mean))


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
        structures=', '.join(config.factors or kinds), variant=variant(config), setting=setting,
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
    found = partners(published, config.data, config.model, method,
                     config.structure if config.structure in shipped() else None, macs)
    return [row for row in found if row.epochs == config.epochs] or [row for row in found if row.epochs is None]
