"""The whole report: files, numbers in them, one page that stands alone; bad input costs its run and nothing else."""
import csv
import re
import struct
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_hex

from sss_gluon.cli import main
from sss_gluon.deploy import evaluate, prune
from sss_gluon.errors import SSSError
from sss_gluon.methods import METHODS, train
from sss_gluon.report.build import report
from sss_gluon.report.plots import error_figure, kept_figures
from sss_gluon.report.published import TABLE
from sss_gluon.report.runs import find_runs, read_runs
from sss_gluon.report.style import LOOKS, OTHER
from sss_gluon.report.summary import sections, summarize
from sss_gluon.report.tables import sentence
from sss_gluon.train import Config


def table(path):
    with open(path, newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def test_every_file_is_there_and_named(reported):
    assert {path.name for path in reported.iterdir()} == {
        'results.csv', 'runs.csv', 'kept.csv', 'report.md', 'report.html',
        *(f'{name}-digits-cifar-resnet20.{end}' for end in ('png', 'svg', 'pdf')
          for name in ('error-params', 'error-macs', 'error-ms', 'curves', 'kept-blocks'))}


def test_the_numbers_of_the_csv_files(reported):
    none, block = table(reported / 'results.csv')
    assert (none['method'], none['difference'], none['seeds'], none['runs']) == ('none', '', '0 1', '2')
    assert (block['method'], block['structures'], block['setting']) == ('sss', 'block', 'γ 0.1')
    numbers = {key: float(block[key]) for key in ('top1_error', 'top1_error_std', 'difference', 'difference_std',
                                                  'difference_pairs', 'macs', 'macs_left', 'params', 'params_left',
                                                  'ms_batch_64', 'seconds', 'flops_as_the_paper_counts')}
    assert numbers == pytest.approx(dict(
        top1_error=11, top1_error_std=2 ** 0.5, difference=1.5, difference_std=0.5 ** 0.5, difference_pairs=2,
        macs=12e6, macs_left=0.6, params=600, params_left=0.6, ms_batch_64=10, seconds=10,
        flops_as_the_paper_counts=12e6))
    rows = table(reported / 'runs.csv')
    assert [(row['run'].rpartition('/')[2], row['seed'], row['top1_error']) for row in rows] \
        == [('none-0', '0', '9'), ('none-1', '1', '10'), ('block-0', '0', '10'), ('block-1', '1', '12')]
    assert rows[2]['kept'] == 'blocks: stage1 2/3, stage2 2/3, stage3 3/3'
    kept = {row['factor']: row['kept'] for row in table(reported / 'kept.csv')}
    assert len(kept) == 9 and (kept['stage1.0.conv2'], kept['stage2.1.conv2'], kept['stage3.2.conv2']) \
        == ('0', '0.5', '1')


def test_the_text_and_the_markdown_say_the_same(reported):
    text = (reported.parents[1] / 'text.txt').read_text('utf-8')
    markdown = (reported / 'report.md').read_text('utf-8')
    for part in ('11.00 ± 1.41', '+1.50 ± 0.71', '12.00 M', '60.0%', 'blocks: stage1 2/3, stage2 2.5/3, stage3 3/3',
                 '0–1'):
        assert part in text and part in markdown
    assert markdown.startswith('# My\\_title\n') and '| SSS block, γ 0.1 ' in markdown
    for name in re.findall(r'!\[.*\]\((.*)\)', markdown):
        assert (reported / name).is_file()


def test_figures_are_readable_files_and_the_same_every_time(reported, tmp_path, monkeypatch):
    monkeypatch.undo()          # with its PDFs
    report([reported.parent], tmp_path, 'My_title', log=pytest.fail)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in reported.iterdir()}
    for path in sorted(reported.iterdir()):
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()
        if path.suffix == '.svg':
            assert ElementTree.parse(path).getroot().tag == '{http://www.w3.org/2000/svg}svg'
        if path.suffix == '.png':
            pixels = matplotlib.image.imread(str(path))[..., :3]
            assert struct.unpack('>II', path.read_bytes()[16:24])[0] >= 600
            assert b'pHYs' + struct.pack('>II', 11811, 11811) in path.read_bytes()      # 300 dots per inch
            assert 0.005 < (pixels < 0.9).any(axis=2).mean() < 0.9
            edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
            assert (edge > 0.99).all()          # nothing is cut off


IMAGENET = dict(data='imagenet', model='resnet50')


def test_the_paper_is_beside_its_own_data_set(tmp_path, write_run):
    """ResNet-32 printed 25.82 %, 18.6 M, 2.82 G; ours 26.00 %, 18.7 M and 2.85 G: +0.18, +0.5 %, +1.1 %."""
    write_run(tmp_path / 'runs/a', top1=0.74, params=(25_549_480, 18_700_000), macs=(4_089_184_256, 2_850_000_000),
              factors=['block'], **IMAGENET)
    write_run(tmp_path / 'runs/b', top1=0.9, factors=['block'], data='fashion-mnist', model='cifar_resnet20')
    notes = []
    result = report([tmp_path / 'runs'], log=notes.append)
    row, = table(tmp_path / 'runs/report/paper.csv')
    assert (row['published_row'], row['top1_status'], row['counts_status']) == ('ResNet-32', 'cited', 'derived')
    assert [float(row[key]) for key in ('top1_error_published', 'top1_error', 'top1_error_difference',
                                        'params_published', 'params_difference', 'macs_published', 'macs_difference')] \
        == pytest.approx([25.82, 26.0, 0.18, 18.6e6, 1e5, 2.82e9, 3e7])
    lines = [line for line in result.text.splitlines() if 'SSS block' in line and 'ResNet-32' in line]
    assert ' '.join(line.split('ResNet-32')[1] for line in lines).split() \
        == '25.82 26.00 +0.18 18.60 M 18.70 M +0.5 % 2.82 G 2.85 G +1.1 % error cited, counts derived'.split()
    assert max(map(len, result.text.splitlines())) <= 80
    assert len(notes) == 1 and '2 data sets (fashion-mnist, imagenet)' in notes[0]
    drawn = words(tmp_path / 'runs/report/error-macs-imagenet-resnet50.svg')
    assert {'ResNet-26 (cited)', 'ResNet-32 (cited)', 'ResNet-50 (plot)', 'ResNet-50-pruned-A (recalled)',
            'published (status)', 'γ 0.01'} <= set(drawn)
    other = (tmp_path / 'runs/report/error-macs-fashion-mnist-cifar-resnet20.svg').read_text('utf-8')
    assert 'published' not in other and 'cited' not in other


def test_published_percentages_are_those_of_our_network(tmp_path, write_run):
    """5.78 % with 53.53 % of the MACs and 84.75 % of the parameters; ours 6.00 %, 132,565,504 and 1,440,282."""
    write_run(tmp_path / 'runs/a', top1=0.94, params=(1_703_258, 1_440_282), macs=(247_646_720, 132_565_504),
              factors=['block'], data='cifar10', model='cifar_resnet164')
    report([tmp_path / 'runs'], log=pytest.fail)
    row, = table(tmp_path / 'runs/report/paper.csv')
    assert (row['published_row'], row['top1_status'], row['counts_status']) == ('ResNet-164 SSS', 'cited', 'cited')
    assert [float(row[key]) for key in ('top1_error_published', 'top1_error_difference', 'params_published',
                                        'macs_published', 'macs_difference')] == pytest.approx(
        [5.78, 0.22, 0.8475 * 1_703_258, 0.5353 * 247_646_720, 132_565_504 - 0.5353 * 247_646_720])
    svg = (tmp_path / 'runs/report/error-macs-cifar10-cifar-resnet164.svg').read_text('utf-8')
    assert 'ResNet-164 SSS' in svg


BAD = {         # what is done to the folder of four good runs: a part of the one line, how many runs are left
    'incomplete': (lambda runs: (runs / 'block-1/evaluation.csv').unlink(), 'not evaluated', 3),
    'another version': (lambda runs: (runs / 'block-1/config.yaml').write_text('sparsity: 1\n'),
                        "setting 'sparsity'", 3),
    'no folder': (lambda runs: None, 'there is no folder', 4),
}


@pytest.mark.parametrize('case', BAD)
def test_bad_runs_cost_one_line_each(folder, case, capsys, parse_page):
    damage, message, left = BAD[case]
    damage(folder)
    arguments = ['report', str(folder)] + (['gone', '--out', str(folder / 'report')] if case == 'no folder' else [])
    assert main(arguments) == 0
    printed = capsys.readouterr()
    line, = printed.err.splitlines()
    assert line.startswith('sss-gluon report: ') and message in line
    assert len(table(folder / 'report/runs.csv')) == left
    page = parse_page(folder / 'report/report.html')
    assert any(message in text for text in page.texts)                  # a note in the page too
    assert message in (folder / 'report/report.md').read_text('utf-8').replace('\\', '')
    assert f'written: {folder}/report/report.html' in printed.out


@pytest.mark.parametrize('arguments, message', [
    ([], 'name run folders'), (['gone'], 'no run could be used'),
    (['--counts', '--published', 'gone.csv'], 'no published row could be read'),
])
def test_nothing_to_report_is_status_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(['report', *arguments]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith('sss-gluon report: ') and message in line
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_published_table_does_not_stop_the_report(folder, tmp_path, capsys):
    text = TABLE.read_text('utf-8').replace(',27.54,', ',many,')
    (tmp_path / 'mine.csv').write_text(text, 'utf-8')
    assert main(['report', str(folder), '--published', str(tmp_path / 'mine.csv')]) == 0
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith(f"sss-gluon report: {tmp_path}/mine.csv, line 2: top1_error 'many'")


def test_counts_without_runs(tmp_path, capsys, parse_page):
    lines = TABLE.read_text('utf-8').splitlines()
    lines = [line for line in lines if re.search('^table|ResNet-(50,|26,sss)|-38', line)]
    (tmp_path / 'mine.csv').write_text('\n'.join(lines) + '\n', 'utf-8')
    assert main(['report', '--counts', '--out', str(tmp_path), '--published', str(tmp_path / 'mine.csv')]) == 0
    printed = capsys.readouterr()
    assert printed.err == '' and all(re.search(f'ResNet-50 .* {number}', printed.out)
                                     for number in ('25,503,912', r'\+0.02 %', '4.09 G', '4,089,184,256'))
    rows = {(row['table'], row['model']): row for row in table(tmp_path / 'counts.csv')}
    assert rows['imagenet', 'ResNet-26']['macs'] == '2329411584' and len(rows) == 4
    assert 'structure not published' in parse_page(tmp_path / 'report.html').texts
    assert sorted(path.name for path in tmp_path.iterdir()) == ['counts.csv', 'mine.csv', 'report.html',
                                                                  'report.md']


def test_a_full_disk_leaves_no_half_page(folder, monkeypatch):
    (folder / 'report').mkdir()
    (folder / 'report/report.html').write_text('of yesterday')

    def full(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('os.replace', full)
    with pytest.raises(SSSError, match='No space left on device'):
        report([folder], log=pytest.fail)
    assert (folder / 'report/report.html').read_text() == 'of yesterday'


def test_many_methods_and_settings_are_told_apart(tmp_path, write_run):
    """Twelve lines: each method has a colour and a marker of its own."""
    for i, method in enumerate(('sss', 'ssl', 'slimming', 'l1', 'taylor', 'apoz', 'ista', 'thinet', 'lasso', 'random',
                                'uniform', 'scratch')):
        write_run(tmp_path / method, top1=0.9 - i / 100, method=method, factors=['block'],
                  source=None if method == 'sss' else 'a')
    report([tmp_path], log=pytest.fail)
    svg = (tmp_path / 'report/error-macs-digits-cifar-resnet20.svg').read_text('utf-8')
    drawn = set(words(tmp_path / 'report/error-macs-digits-cifar-resnet20.svg'))
    assert {'SSS', 'SSL, fine-tuned', 'uniform', 'scratch'} <= drawn
    looks = [*LOOKS.values(), OTHER]
    assert set(METHODS) < set(LOOKS) and all(len(set(part)) == len(looks) for part in zip(*looks))
    for method in METHODS:
        assert LOOKS[method][0] in svg, method


def test_markers_move_only_where_they_would_cover_others(tmp_path, write_run):
    """L1 and Taylor have the same size and error, random the same size; a single run has no bar and no caps."""
    for method, top1 in dict(l1=0.9, taylor=0.9, random=0.8).items():
        write_run(tmp_path / method, top1=top1, macs=(100, 40), method=method, source='x', target_macs=0.4)
    section, = sections(summarize(read_runs(find_runs([tmp_path], pytest.fail), pytest.fail), [], pytest.fail))
    axes, = error_figure(section, 'macs').axes
    moved = {}
    for bars in axes.containers:
        line, caps, _ = bars
        place = line.get_xydata()
        moved[bars.get_label()] = (line.get_transform().transform(place) - axes.transData.transform(place))[0]
        assert all(np.isnan(cap.get_xydata()).any(axis=1).all() for cap in caps)
    assert not moved['L1'].any() and not moved['random'].any() and moved['Taylor'][0] and not moved['Taylor'][1]


def test_a_method_looks_the_same_in_every_figure(tmp_path, write_run):
    """Beside other methods, in two lines that differ in their fill, and in the bars of what it kept."""
    def lines(name, **runs):
        for run, settings in runs.items():
            write_run(tmp_path / name / run, **dict(dict(factors=['block'], source='x', target_macs=0.5), **settings))
        section, = sections(summarize(read_runs(find_runs([tmp_path / name], pytest.fail), pytest.fail), [],
                                      pytest.fail))
        drawn = {bars.get_label(): bars[0] for bars in error_figure(section, 'macs').axes[0].containers}
        bars = [axes.patches[-1].get_facecolor() for axes in kept_figures(section)['block'].axes]
        return {label: (line.get_color(), line.get_marker(), line.get_fillstyle())
                for label, line in drawn.items()}, {to_hex(colour) for colour in bars}

    kept = {'stage1.0.conv2': 0}
    one, bars = lines('one', b=dict(method='taylor', kept=kept))
    two, both = lines('two', a=dict(method='l1', kept=kept), b=dict(method='taylor', kept=kept))
    assert one['Taylor'] == two['Taylor'] == (*LOOKS['taylor'], 'full') and two['L1'] == (*LOOKS['l1'], 'full')
    assert bars == {LOOKS['taylor'][0]} and both == {LOOKS['taylor'][0], LOOKS['l1'][0]}
    three, _ = lines('three', a=dict(method='scratch', target_macs=None, method_options=dict(budget='epochs')),
                     b=dict(method='scratch', target_macs=None, method_options=dict(budget='compute')))
    assert sorted(look[2] for look in three.values()) == ['full', 'none']
    assert {look[:2] for look in three.values()} == {LOOKS['scratch']}


def test_what_the_axes_do_not_say_is_a_label(tmp_path, write_run):
    """Values of γ stand beside their points; a share of the MACs is where the point is."""
    for name, settings in dict(a=dict(gamma=0.1, kind='neuron', factors=['neuron']), b=dict(gamma=0.2),
                               c=dict(method='l1', source='x', target_macs=0.5),
                               d=dict(method='taylor', source='x', target_macs=0.5)).items():
        write_run(tmp_path / name, **dict(dict(factors=['block']), **settings))
    report([tmp_path], log=pytest.fail)
    drawn = words(tmp_path / 'report/error-macs-digits-cifar-resnet20.svg')
    assert {'γ 0.1', 'γ 0.2'} <= set(drawn) and 'MACs 0.5' not in drawn
    assert drawn.count('L1 block') == drawn.count('Taylor block') == drawn.count('SSS neuron') == 1


def test_one_failed_run_does_not_flatten_the_others(tmp_path, write_run):
    """The axis of errors ends near 12 %, and an arrow says 90.0."""
    for i, top1 in enumerate((0.9, 0.895, 0.89, 0.1)):
        write_run(tmp_path / str(i), top1=top1, gamma=0.1 * (i + 1), factors=['block'], macs=(20_000, 12_000 - i))
    section, = sections(summarize(read_runs(find_runs([tmp_path], pytest.fail), pytest.fail), [], pytest.fail))
    axes, = error_figure(section, 'macs').axes
    assert 11 < axes.get_ylim()[1] < 20 and '90.0' in {text.get_text() for text in axes.texts}


def test_what_the_results_say(folder, write_run):
    """Errors of 9.5 % without factors and 11 % with 60 % of the MACs; then 9.6 % with 50 % and 9.8 % with 40 %."""
    def said():
        section, = sections(summarize(read_runs(find_runs([folder], pytest.fail), pytest.fail), [], pytest.fail))
        return sentence(section)
    first = said()
    assert re.search(r'9\.50 ± 0\.71 %.*20\.00 M', first) and re.search(r'11\.00 ± 1\.41 %.*60\.0%', first)
    assert 'None comes within 0.5 points' in first
    for macs, top1 in ((10_000_000, 0.904), (8_000_000, 0.902)):
        write_run(folder / str(macs), top1=top1, macs=(20_000_000, macs), factors=['block'], gamma=macs / 1e7)
    second = said()
    assert re.search(r'9\.60 %.*50\.0%.*\(SSS block, γ 1\).*at most 0\.5.*40\.0%.*9\.80 %', second)
    assert '11.00' not in second and 'None' not in second


def words(path):
    """The texts in an SVG."""
    return [''.join(text.itertext()) for text in ElementTree.parse(path).iter('{http://www.w3.org/2000/svg}text')]


@pytest.mark.parametrize('methods', [('l1', 'taylor'), ('ssl', 'slimming', 'ista', 'l1', 'taylor')])
def test_the_legend_is_not_wider_than_the_figure(tmp_path, write_run, methods):
    for method in methods:
        write_run(tmp_path / method, method=method, factors=['neuron', 'group', 'block'], source='x', target_macs=0.5,
                  method_options=dict(order='a long word'))
    section, = sections(summarize(read_runs(find_runs([tmp_path], pytest.fail), pytest.fail), [], pytest.fail))
    figure = error_figure(section, 'macs')
    figure.draw_without_rendering()
    box = figure.axes[0].get_legend().get_window_extent()
    assert 0 <= box.x0 and box.x1 <= figure.bbox.x1 and 0 <= box.y0
    assert 0.6 * figure.bbox.width < figure.axes[0].get_window_extent().width


@pytest.mark.slow
def test_real_runs(tmp_path, capsys):
    """Two seeds on digits through train, prune and evaluate: the report repeats what evaluation.csv says."""
    small = dict(model='cifar_resnet20', model_options=dict(depths=[1, 1, 1], widths=[8, 8, 16]), image_size=8,
                 augment_pad=1, augment_flip=False, lr_mode='constant', learning_rate=0.05, epochs=2)
    for seed in (0, 1):
        for name, settings in (('none', dict(factors=[])), ('block', dict(factors=['block'], gamma=0.05))):
            run = tmp_path / 'runs' / f'{name}-{seed}'
            train(Config(run=str(run), seed=seed, **small, **settings), log=lambda line: None)
            if seed and settings['factors']:
                prune(run, log=lambda line: None)
            if seed:
                evaluate(run, log=lambda line: None)
    assert main(['report', str(tmp_path / 'runs')]) == 0
    assert capsys.readouterr().err.count('add --evaluate') == 2
    assert main(['report', '--evaluate', str(tmp_path / 'runs')]) == 0
    assert capsys.readouterr().err == ''
    found = {row['run'].rpartition('/')[2]: row for row in table(tmp_path / 'runs/report/runs.csv')}
    assert set(found) == {'none-0', 'none-1', 'block-0', 'block-1'}
    for name, row in found.items():
        networks = {line['network']: line for line in table(tmp_path / 'runs' / name / 'evaluation.csv')}
        final = networks.get('compact', networks['unpruned'])
        assert float(row['top1_error']) == pytest.approx(100 * (1 - float(final['top1'])))
        assert (row['params'], row['macs'], row['images']) == (final['params'], final['macs'], final['images'])
        assert (row['kept'] != '') == name.startswith('block')
    errors = [float(found[f'block-{seed}']['top1_error']) - float(found[f'none-{seed}']['top1_error'])
              for seed in (0, 1)]
    block = table(tmp_path / 'runs/report/results.csv')[1]
    assert float(block['difference']) == pytest.approx(sum(errors) / 2)
    assert float(block['difference_std']) == pytest.approx(abs(errors[0] - errors[1]) / 2 ** 0.5)
