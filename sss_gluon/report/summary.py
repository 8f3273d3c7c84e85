"""Runs that differ only in their seed, as one line: mean, standard deviation, difference to runs without factors."""
from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ..models import ARCHITECTURES
from ..structures import shipped
from ..train import Config
from .published import Published, comparable, flops_per_mac
from .reference import epochs_before, reference_of
from .runs import Log, RunResult, StructureCount
from .settings import data_name, identity, method_name, method_title, setting_names, variant

CLOSE = 0.5         # percentage points
PAPER_DATA = ('imagenet', 'cifar10', 'cifar100')
FIRST = ('none', 'sss')         # in every table; the other methods follow by name
STAGE = re.compile(r'(stage\d+)|(?<![a-z])(?:conv|norm)(\d+)_\d+')


class MeanStd(NamedTuple):
    """Mean and standard deviation (n - 1) of ``n`` values; std is None for one value."""
    mean: float
    std: Optional[float]
    n: int


def mean_std(values: Sequence[float]) -> MeanStd:
    """Mean and standard deviation of at least one value."""
    return MeanStd(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None, len(values))


def mean_std_of_known(values: Iterable[Optional[float]]) -> Optional[MeanStd]:
    """The same without the values that are None; None if no others are left."""
    known = [value for value in values if value is not None]
    return mean_std(known) if known else None


@dataclass(frozen=True)
class Summary:
    """One line of a report: the runs of one setting, which differ in their seed alone.

    Attributes
    ----------
    runs : list of RunResult
        Sorted by seed.
    data, model, method : str
        ``method`` is 'none' for networks from which nothing is removed.
    structures : str
        Kinds of structures that can be removed: 'group, block'.
    variant : str
        'fine-tuned', 'budget compute': see ``settings.variant``.
    setting : str
        The value along a curve, 'γ 0.01' or 'MACs 0.5', and other settings where two lines differ in them.
    unpruned_error, error : MeanStd, %
        Top-1 error of the network as trained, and of the network to deploy (the unpruned one of 'none').
    epochs, epochs_before : int
        Of training, and of that of the network that it starts from, if that is among the runs.
    difference : MeanStd or None, percentage points
        ``error`` minus that of the runs without factors, paired by seed; n is the number of pairs, 0 if no seed is
        common.
    params, macs : MeanStd
        Of the network to deploy.
    reference_params, reference_macs : float
        Of the runs without factors; if there are none, of the network as trained.
    published : list of Published
        Rows of the paper to compare with.
    """
    runs: List[RunResult]
    data: str
    model: str
    method: str
    structures: str
    variant: str
    setting: str
    unpruned_error: MeanStd
    error: MeanStd
    epochs: int
    epochs_before: int
    difference: Optional[MeanStd]
    params: MeanStd
    macs: MeanStd
    reference_params: float
    reference_macs: float
    published: List[Published]

    @property
    def seeds(self) -> List[int]:
        return [result.config.seed for result in self.runs]

    @property
    def series(self) -> str:
        """Name of its line in a figure: 'SSS block', 'SSL neuron, fine-tuned'."""
        return self._with_variant(f'{method_title(self.method)} {self.structures}'.strip())

    @property
    def short(self) -> str:
        """The same without structures: 'SSL, fine-tuned'."""
        return self._with_variant(method_title(self.method))

    def _with_variant(self, name: str) -> str:
        return ', '.join(filter(None, ('without factors' if self.method == 'none' else name, self.variant)))

    @property
    def names(self) -> Dict[str, str]:
        """Its first columns in every CSV file."""
        return dict(data=self.data, model=self.model, method=self.method, structures=self.structures,
                    variant=self.variant, setting=self.setting)

    @property
    def label(self) -> str:
        """'SSS block, γ 0.01'."""
        return ', '.join(filter(None, (self.series, self.setting)))

    @property
    def flops(self) -> float:
        """FLOPs by the paper's convention for this network."""
        return flops_per_mac(self.model) * self.macs.mean

    @property
    def params_left(self) -> float:
        return self.params.mean / self.reference_params

    @property
    def macs_left(self) -> float:
        return self.macs.mean / self.reference_macs

    @property
    def seconds(self) -> Optional[MeanStd]:
        return mean_std_of_known(result.seconds for result in self.runs)

    @property
    def curve(self) -> np.ndarray:
        """(epochs,) top-1 error in % after each epoch, the mean over the runs; empty if unknown."""
        curves = [result.curve for result in self.runs]
        return np.mean(curves, axis=0) if len({len(curve) for curve in curves}) == 1 else np.zeros(0)

    @property
    def is_pruned(self) -> bool:
        """Whether it is a pruned network; runs that only train with a penalty, for others to prune, are not."""
        removed = any(result.compact or result.config.structure for result in self.runs)
        return self.method != 'none' and (removed or self.macs.mean < self.reference_macs)

    def latency_left(self, batch: int) -> Optional[MeanStd]:
        """Latency in % of that of the unpruned network, which was measured in turns with it.

        Absolute latencies of different processes say little. None where what a run trained is smaller already.
        """
        if self.method == 'none':
            return MeanStd(100.0, None, len(self.runs))
        pairs = [(result.final.ms.get(batch), result.unpruned.ms.get(batch)) for result in self.runs
                 if result.compact and result.unpruned.macs >= 0.99 * self.reference_macs]
        return mean_std_of_known(100 * mine / whole if mine and whole else None for mine, whole in pairs)

    def ms(self, batch: int) -> Optional[MeanStd]:
        return mean_std_of_known(result.final.ms.get(batch) for result in self.runs)

    def structure_counts(self) -> List[StructureCount]:
        """Structure counts of every factor or layer; ``kept`` is the mean over the runs."""
        found: Dict[StructureCount, List[float]] = {}
        for result in self.runs:
            for count in result.structure_counts:
                found.setdefault(count._replace(kept=0), []).append(count.kept)
        return [count._replace(kept=float(np.mean(kept))) for count, kept in found.items()]


class Section(NamedTuple):
    """One part of a report: all results of a network on a data set, and the paper's rows with errors and counts."""
    data: str
    model: str
    summaries: List[Summary]
    published: List[Published]

    @property
    def title(self) -> str:
        return f'{self.model} on {self.data}'

    @property
    def slug(self) -> str:
        """Its name in file names."""
        return re.sub(r'[^A-Za-z0-9.]+', '-', f'{self.data}-{self.model}').strip('-')

    @property
    def pruned(self) -> List[Summary]:
        return [summary for summary in self.summaries if summary.is_pruned]

    @property
    def whole(self) -> Optional[Summary]:
        """The network without factors that trained longest."""
        return max((summary for summary in self.summaries if summary.method == 'none'), default=None,
                   key=lambda summary: summary.epochs)

    @property
    def best(self) -> Optional[Summary]:
        """The pruned network with the lowest error; of equal ones, the smallest."""
        return min(self.pruned, default=None, key=lambda summary: (summary.error.mean, summary.macs.mean))

    @property
    def smallest(self) -> Optional[Summary]:
        """The pruned network with the fewest MACs whose error is at most ``CLOSE`` above that without factors."""
        whole = self.whole
        close = [summary for summary in self.pruned if whole and summary.error.mean <= whole.error.mean + CLOSE]
        return min(close, default=None, key=lambda summary: (summary.macs.mean, summary.error.mean))


def sections(summaries: Sequence[Summary], published: Sequence[Published] = ()) -> List[Section]:
    """Group summaries by data set and model."""
    found: Dict[tuple, List[Summary]] = {}
    for summary in summaries:
        found.setdefault((summary.data, summary.model), []).append(summary)
    parts = []
    for (data, model), mine in found.items():
        datasets = {row.dataset for summary in mine for row in summary.published}
        rows = [row.sized(mine[0].reference_params, mine[0].reference_macs) for row in published
                if row.dataset in datasets and row.network == model]
        parts.append(Section(data, model, mine, [row for row in rows if row.top1_error and row.macs]))
    return parts


def stage_of(name: str) -> str:
    """'stage1' for 'stage1.0.conv2' and for 'norm1_2'; otherwise the first word of the name."""
    found = STAGE.match(name)
    return (found.group(1) or f'stage{found.group(2)}') if found else name.partition('.')[0]


def kept_in_stages(summary: Summary) -> str:
    """'blocks: stage1 0/3, stage2 2/3, stage3 3/3'; means if there are several runs."""
    counts: Dict[str, Dict[str, List[float]]] = {}
    for name, kind, kept, size in summary.structure_counts():
        entry = counts.setdefault(kind, {}).setdefault(stage_of(name), [0.0, 0])
        entry[0] += kept
        entry[1] += size
    return '; '.join(f'{kind}s: ' + ', '.join(f'{stage} {_rounded(kept)}/{size}'
                                              for stage, (kept, size) in stages.items())
                     for kind, stages in counts.items())


def _rounded(value: float) -> str:
    return f'{value:.0f}' if abs(value - round(value)) < 1e-9 else f'{value:.1f}'


def error_of(accuracy: float) -> float:
    """Top-1 error in %."""
    return 100 * (1 - accuracy)


def summarize(results: Sequence[RunResult], published: Sequence[Published], log: Log) -> List[Summary]:
    """One summary per setting, sorted by data set, model, method and size; ``log`` gets a line for each oddity."""
    groups: Dict[Tuple, List[RunResult]] = {}
    for result in results:
        groups.setdefault(tuple(identity(result.config).items()), []).append(result)
    groups = {key: _one_per_seed(group, log) for key, group in groups.items()}
    _warn_of_equal_names([result for group in groups.values() for result in group], log)
    settings = setting_names([group[0].config for group in groups.values()])
    whole = [group for group in groups.values() if method_name(group[0].config) == 'none']
    before = epochs_before(results)
    summaries = [_summary(group, setting, reference_of(group, whole, before), before, published)
                 for group, setting in zip(groups.values(), settings)]
    data = sorted({summary.data for summary in summaries})
    if len(data) > 1:
        log(f'the runs are of {len(data)} data sets ({", ".join(data)}), which are not compared with each other')
    missing: Dict[Tuple[str, str], Dict[str, None]] = {}
    for s in summaries:
        if s.data in PAPER_DATA and not s.published:
            missing.setdefault((s.data, s.model), {})[s.method] = None
    for (dataset, model), methods in missing.items():
        log(f'the paper has no row for {model} on {dataset} ({", ".join(methods)}), so nothing is compared with it')
    return sorted(summaries, key=lambda s: (s.data, s.model, [s.method != name for name in FIRST], s.method,
                                            s.structures, s.variant, numbers(s.setting), -s.macs.mean))


def numbers(text: str) -> List[float]:
    """The numbers in a setting, by which 0.03 comes before 0.1 and 3 before 10."""
    return [float(word) for word in re.findall(r'\d+\.?\d*(?:e[+-]?\d+)?', text)]


def _one_per_seed(group: List[RunResult], log: Log) -> List[RunResult]:
    """Keep the first of two runs with the same settings and seed: they are not two samples."""
    first: Dict[int, RunResult] = {}
    for result in group:
        other = first.setdefault(result.config.seed, result)
        if other is not result:
            log(f'{result.path} is left out: it has the settings and the seed of {other.path}')
    return [first[seed] for seed in sorted(first)]


def _warn_of_equal_names(results: Sequence[RunResult], log: Log) -> None:
    by_name: Dict[str, List[str]] = {}
    for result in results:
        by_name.setdefault(result.path.resolve().name, []).append(str(result.path))
    for name, paths in by_name.items():
        if len(paths) > 1:
            log(f'{len(paths)} runs are named {name} ({", ".join(paths)}); in runs.csv their paths differ')


def _difference(group: List[RunResult], reference: List[RunResult]) -> Optional[MeanStd]:
    """Over the seeds that both have; between the means if they share none."""
    whole = {result.config.seed: error_of(result.unpruned.top1) for result in reference}
    mine = {result.config.seed: error_of(result.final.top1) for result in group}
    paired = [mine[seed] - whole[seed] for seed in mine if seed in whole]
    if paired:
        return mean_std(paired)
    return MeanStd(float(np.mean(list(mine.values())) - np.mean(list(whole.values()))), None, 0)


def _summary(group: List[RunResult], setting: str, reference: Optional[List[RunResult]],
             before: Callable[[RunResult], int], published: Sequence[Published]) -> Summary:
    config, method = group[0].config, method_name(group[0].config)
    whole = [result.unpruned for result in (reference or group)]
    macs = mean_std([result.final.macs for result in group])
    whole_params, whole_macs = (float(np.mean([getattr(network, size) for network in whole]))
                                for size in ('params', 'macs'))
    kinds = sorted({count.kind for result in group for count in result.structure_counts} - {'output'})
    return Summary(
        runs=group, data=data_name(config), model=config.model, method=method,
        structures=', '.join(config.factors or kinds), variant=variant(config), setting=setting,
        unpruned_error=mean_std([error_of(result.unpruned.top1) for result in group]),
        error=mean_std([error_of(result.final.top1) for result in group]),
        epochs=group[0].epochs, epochs_before=before(group[0]),
        difference=_difference(group, reference) if reference and method != 'none' else None,
        params=mean_std([result.final.params for result in group]), macs=macs,
        reference_params=whole_params, reference_macs=whole_macs,
        published=[row.sized(whole_params, whole_macs)
                   for row in _paper_rows(config, method, macs.mean, published)])


def _paper_rows(config: Config, method: str, macs: float, published: Sequence[Published]) -> List[Published]:
    """Rows of the paper for this data set and network; none if the network or its images are not the paper's."""
    row = ARCHITECTURES.get(config.model)
    if row is None or config.model_options or config.image_size not in (None, row.size):
        return []
    found = comparable(published, config.data, config.model, method,
                       config.structure if config.structure in shipped() else None, macs)
    return [row for row in found if row.epochs == config.epochs] or [row for row in found if row.epochs is None]
