"""The page: one file that stands alone, in which no text of a run becomes code."""
import base64
import hashlib
import re

import pytest

from sss_gluon.report import page as page_module
from sss_gluon.report.build import report

SCRIPT = page_module.SCRIPT.read_text('utf-8').strip()


def test_the_only_script_is_the_one_that_the_page_allows(reported):
    text = (reported / 'report.html').read_text('utf-8')
    allowed, = re.findall(r"script-src 'sha256-([^']+)'", text)
    script, = re.findall('<script>(.*?)</script>', text, re.DOTALL)
    assert base64.b64decode(allowed) == hashlib.sha256(script.encode()).digest()


def test_the_page_stands_alone(reported, parse_page):
    page = parse_page(reported / 'report.html')
    assert not page.tags & {'link', 'iframe', 'object', 'embed', 'img', 'metadata'} and 'svg' in page.tags
    assert page.links and all(link.startswith('#') for link in page.links)
    assert 'url(http' not in (reported / 'report.html').read_text('utf-8')
    for text in ('cifar_resnet20 on digits', '11.00 ± 1.41', 'SSS block, γ 0.1', '4 runs, 2 settings, seeds 0–1',
                 'blocks: stage1 2/3, stage2 2.5/3, stage3 3/3'):
        assert text in page.texts


def test_every_id_of_an_inlined_figure_is_its_own_or_the_same(reported):
    """Two figures in one page must not clip or draw with what the other defines."""
    text = (reported / 'report.html').read_text('utf-8')
    clips = re.findall(r'<clipPath id="([^"]+)">', text)
    assert clips and len(clips) == len(set(clips))
    markers = {}
    for name, drawn in re.findall(r'<path id="([^"]+)" d="([^"]+)"', text):
        assert markers.setdefault(name, drawn) == drawn


def test_what_comes_from_files_is_escaped(tmp_path, write_run, parse_page):
    """A model, a data set and a folder with names that would be code in HTML, Markdown or matplotlib."""
    name = '<script>alert(1)</script>&|x^'
    run = write_run(tmp_path / 'run', model='m:f', factors=['block'], data='folder', data_root='/x/$x^$<b>"&',
                    sizes={'stage<i>.0$': 1, 'b|r': 4})
    (run / 'config.yaml').write_text((run / 'config.yaml').read_text('utf-8').replace(
        'model: m:f', f"model: '{name}'"), 'utf-8')
    report([run], tmp_path / 'out', '</title><script>$y', log=pytest.fail)
    page = parse_page(tmp_path / 'out' / 'report.html')
    assert page.scripts == [SCRIPT] and not page.tags & {'b', 'i'} and f'{name} on folder $x^$<b>"&' in page.texts
    assert '</title><script>$y' in page.texts
    markdown = (tmp_path / 'out' / 'report.md').read_text('utf-8')
    assert '<' not in markdown and '&lt;script&gt;alert(1)&lt;/script&gt;&amp;\\|x^' in markdown
    assert all(path.parent == tmp_path / 'out' for path in (tmp_path / 'out').rglob('*'))


ATTACK = """"'><img src=x onerror=alert(1)>--><script>alert(2)</script>{{ 7*7 }}{% raw %}&amp;$x^$"""


def test_names_and_notes_of_runs_are_escaped(tmp_path, write_run, parse_page):
    """Run folders that carry code: one is reported, one names the source of a run, one is in a note."""
    name = ATTACK.replace('/', '|')
    for i, source in enumerate(('<i>{{ 7*7 }}&amp;', 'plain')):
        write_run(tmp_path / 'runs' / f'{name}{i}', method='l1', source=f'runs/{source}', target_macs=0.5)
    (write_run(tmp_path / 'runs' / f'{name}!') / 'evaluation.csv').unlink()
    notes = report([tmp_path / 'runs'], tmp_path / 'out', ATTACK, log=lambda note: None).notes
    assert len(notes) == 1 and name in notes[0]
    page = parse_page(tmp_path / 'out' / 'report.html')
    assert page.scripts == [SCRIPT] and not page.tags & {'img', 'i'}
    assert all(link.startswith('#') for link in page.links)
    assert page.texts.count(ATTACK) == 2 and notes[0] in page.texts          # in <title> and <h1>
    assert 'L1 block, MACs 0.5, source <i>{{ 7*7 }}&amp;' in page.texts
    markdown = (tmp_path / 'out' / 'report.md').read_text('utf-8')
    assert '<' not in markdown and '{{ 7\\*7 }}' in markdown
    assert f'{name}0' in (tmp_path / 'out' / 'runs.csv').read_text('utf-8').replace('""', '"')


def test_descriptions_of_figures_are_escaped(tmp_path, write_run, parse_page):
    run = write_run(tmp_path / 'run', data='folder', data_root='/x/"><b onclick="x">')
    report([run], tmp_path / 'out', log=pytest.fail)
    text = (tmp_path / 'out' / 'report.html').read_text('utf-8')
    assert 'b' not in parse_page(tmp_path / 'out' / 'report.html').tags
    assert 'aria-label="cifar_resnet20 on folder &#34;&gt;&lt;b onclick=&#34;x&#34;&gt;: top-1 error' in text
