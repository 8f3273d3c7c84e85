"""Run folders written by hand: every number of a report can then be checked by hand."""
import json
from html.parser import HTMLParser

import pytest

from sss_gluon.report import build
from sss_gluon.train.config import Config, save_config

BLOCKS = {f'stage{s}.{b}.conv2': 1 for s in (1, 2, 3) for b in range(3)}


def _write_run(path, top1=0.9, unpruned_top1=None, params=(1000, 600), macs=(20_000, 12_000), kept=(), kind='block',
               sizes=None, ms=((2.0, 20.0), (1.0, 10.0)), seconds=10.0, epochs=2, **settings):
    """A finished run: ``top1`` of what is deployed, (unpruned, compact) params, MACs and latencies.

    ``kept``: {factor: how many}, the others of ``sizes`` ({factor: size}) keep all. Without factors there is no
    compact network.
    """
    path.mkdir(parents=True)
    config = Config(run=str(path), **dict(dict(epochs=epochs), **settings))
    (path / 'config.yaml').write_text(save_config(config), 'utf-8')
    rows = ''.join(f'{epoch},0.1,validation,0.9\n' for epoch in range(1, epochs + 1))
    (path / 'metrics.csv').write_text('epoch,learning_rate,evaluated_on,top1\n' + rows, 'utf-8')
    rows = ''.join(f'{epoch},{(seconds - 1) / epochs},100.0,{1 / epochs}\n' for epoch in range(1, epochs + 1))
    (path / 'timing.csv').write_text('epoch,train_seconds,images_per_second,evaluation_seconds\n' + rows, 'utf-8')
    whole = config.method == 'sss' and config.factors == []
    lines = ['network,images,top1,top5,loss,params,macs,ms_batch_1,ms_batch_64']
    for i, name in enumerate(('unpruned', 'compact')[:1 if whole else 2]):
        accuracy = unpruned_top1 if i == 0 and unpruned_top1 is not None else top1
        lines.append(f'{name},1000,{accuracy},0.99,0.5,{params[i]},{macs[i]},{ms[i][0]},{ms[i][1]}')
    (path / 'evaluation.csv').write_text('\n'.join(lines) + '\n', 'utf-8')
    if not whole:
        left, sizes = dict(kept), sizes or BLOCKS
        factors = {name: dict(kind=kind, size=size, kept=list(range(left.get(name, size))))
                   for name, size in sizes.items()}
        (path / 'compact').mkdir()
        structure = dict(format='sss_gluon structure 1', model=None, input_shape=[1, 3, 32, 32], factors=factors,
                         layers={})
        (path / 'compact' / 'model-structure.json').write_text(json.dumps(structure), 'utf-8')
    return path


@pytest.fixture(scope='session')
def write_run():
    return _write_run


@pytest.fixture
def notes():
    """A list, and the function that puts lines into it: notes.append."""
    return []


@pytest.fixture(autouse=True)
def without_pdf(monkeypatch):
    """Half of the time of a report goes into the fonts of its PDFs, which only the tests of ``reported`` look into."""
    save = build.save
    monkeypatch.setattr(build, 'save', lambda figure, path: path if path.suffix == '.pdf' else save(figure, path))


def _write_runs(runs):
    for seed, whole, cut in ((0, 0.91, 0.90), (1, 0.90, 0.88)):
        _write_run(runs / f'none-{seed}', top1=whole, macs=(20_000_000, 0), factors=[], seed=seed)
        _write_run(runs / f'block-{seed}', top1=cut, unpruned_top1=cut, macs=(20_000_000, 12_000_000),
                   factors=['block'], gamma=0.1, seed=seed, kept={'stage1.0.conv2': 0, 'stage2.1.conv2': seed})
    return runs


@pytest.fixture
def folder(tmp_path):
    """Two seeds with and without factors: errors 10 and 12, 9 and 10 %."""
    return _write_runs(tmp_path / 'runs')


@pytest.fixture(scope='session')
def reported(once):
    """Folder of the report of those runs, with all its files and the text; change nothing in it."""
    def fill(folder):
        result = build.report([_write_runs(folder / 'runs')], title='My_title', log=pytest.fail)
        assert result.notes == [] and {path.name for path in result.files} \
            == {path.name for path in (folder / 'runs/report').iterdir()}
        (folder / 'text.txt').write_text(result.text, 'utf-8')
    return once('reported', fill) / 'runs/report'


class Page(HTMLParser):
    """Tags in balance, texts and links of a page."""

    def __init__(self):
        super().__init__()
        self.open, self.texts, self.links, self.tags, self.scripts = [], [], [], set(), []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.links += [value for key, value in attributes if key in ('src', 'href', 'xlink:href', 'data', 'action')]
        if tag not in ('meta', 'br', 'img'):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.links += [value for key, value in attributes if key in ('src', 'href', 'xlink:href', 'data', 'action')]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        (self.scripts if self.open and self.open[-1] == 'script' else self.texts).append(data.strip())


def _parse_page(path):
    page = Page()
    page.feed(path.read_text('utf-8'))
    page.close()
    assert page.open == []
    return page


@pytest.fixture(scope='session')
def parse_page():
    return _parse_page
