"""What the READMEs show is what happens: code runs, commands parse, links lead somewhere, tables are counted again."""
import csv
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from sss_gluon import ARCHITECTURES, Structure, cli, count, get_model, load_structure, rebuild
from sss_gluon.structures import shipped
from sss_gluon.sweep import load_plan
from sss_gluon.train import load_config

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ('.github', 'configs', 'scripts', 'sss_gluon', 'tests')
PAGES = {str(path.relative_to(ROOT)): path.read_text('utf-8')
         for path in [*ROOT.glob('*.md'), *(page for folder in FOLDERS for page in (ROOT / folder).rglob('*.md'))]}
README, PACKAGE, BUDGET, MODELS, DIGITS = (PAGES[f'{folder}README.md'] for folder in (
    '', 'sss_gluon/', 'sss_gluon/budget/', 'sss_gluon/models/', 'configs/digits/'))
MODULES = ['setup.py', *(path.relative_to(ROOT).as_posix() for folder in FOLDERS
                       for path in (ROOT / folder).rglob('*.py'))]
PROGRAMS = ('sss-gluon', 'bash', 'sbatch', 'pip', 'python')


def blocks(page):
    """The Python programs of a page."""
    return re.findall(r'```python\n(.*?)```', page, re.DOTALL)


def commands(page):
    """The commands of a page, split into words, without variables set in front and comments behind."""
    found = []
    for line in re.findall(r'^    (\S.*)$', page, re.MULTILINE):
        words = re.sub(r'^(?:[A-Z_]+=\S+ )+', '', line)
        if words.split()[0] in PROGRAMS:
            found.append(shlex.split(words, comments=True))
    return found


COMMANDS = {' '.join(words): words for page in PAGES.values() for words in commands(page)}


def arguments(words):
    """The arguments of ``sss-gluon`` that a command comes to; None where it runs something else."""
    if words[0] == 'sss-gluon':
        return words[1:]
    if words[0] not in ('bash', 'sbatch'):
        return None
    script = next(i for i, word in enumerate(words) if word.endswith('.sh'))
    name, rest = Path(words[script]).stem, words[script + 1:]
    if (ROOT / f'configs/plans/{name}.yaml').exists():
        return ['sweep', f'configs/plans/{name}.yaml', *rest]
    if name == 'slurm_array':
        return ['sweep', *rest]
    if 'bench' in rest:
        return rest[rest.index('bench'):]
    return ['train', *rest[[word.startswith('configs/') for word in rest].index(True):]] if '_train' in name else None


def parse(words, monkeypatch):
    """The options that the real parser of ``sss-gluon`` reads; no verb runs."""
    read = []
    for name, (_, *rest) in cli.VERBS.items():
        monkeypatch.setitem(cli.VERBS, name, (read.append, *rest))
    assert cli.main(words) == 0
    return read[0]


@pytest.mark.parametrize('words', COMMANDS.values(), ids=list(COMMANDS))
def test_commands_name_what_exists(words, monkeypatch):
    monkeypatch.chdir(ROOT)
    for word in words:
        if re.match(r'(configs|scripts|sss_gluon|tests)/', word):
            assert Path(word).exists(), word
    words = arguments(words)
    if words is None:
        return
    options = parse(words, monkeypatch)
    if options.verb == 'launch':
        options = parse(options.arguments, monkeypatch)
    if options.verb == 'train':
        settings = [*options.overrides, *([options.config] if '=' in options.config else [])]
        load_config(options.config if options.config.endswith('.yaml') else None, settings)
    elif options.verb == 'sweep' and (options.overrides or options.only):      # all plans are read in test_configs
        assert load_plan(options.plan, overrides=options.overrides).select(options.only, options.shard)
    elif getattr(options, 'structure', None):
        load_structure(options.structure)


def anchors(page):
    """What GitHub calls the headings of a page."""
    headings = re.findall(r'^#+ (.*)$', page, re.MULTILINE)
    return {re.sub(r'[^\w -]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('name', PAGES)
def test_links_scripts_and_modules_exist(name):
    here = (ROOT / name).parent
    for link in re.findall(r'\]\(([^)\s]+)\)|srcset="([^"]+)"|src="([^"]+)"', PAGES[name]):
        target, _, heading = ''.join(link).partition('#')
        if ':' in target:
            continue
        path = (here / target).resolve() if target else ROOT / name
        assert path.exists(), link
        if heading:
            assert heading in anchors(path.read_text('utf-8')), link
    for script in re.findall(r'\bscripts/[\w/]+\.sh', PAGES[name]):
        assert (ROOT / script).is_file(), script
    for module in re.findall(r'`([\w/]+\.py)`', PAGES[name]):
        assert any(module == path or path.endswith(f'/{module}') for path in MODULES), module


def test_the_main_page_is_short_and_leads_everywhere():
    assert len(README.splitlines()) <= 150
    for name in PAGES:
        if name not in ('README.md', 'CHANGELOG.md'):
            assert f'({name})' in README or f'({name}#' in README, name


@pytest.mark.parametrize('page', PAGES)
def test_programs_compile(page):
    for number, program in enumerate(blocks(PAGES[page])):
        compile(program, f'{page}, program {number}', 'exec')


# --- programs that run to their end ---

def run(arguments, folder):
    environment = dict(os.environ, PYTHONPATH=f'{ROOT}{os.pathsep}{os.environ.get("PYTHONPATH", "")}')
    done = subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_library_example_ends_in_a_useful_network(tmp_path):
    """The program of the package, the budgets and checkpoints of its neighbour, and what follows."""
    program, after = blocks(PACKAGE)
    (tmp_path / 'example.py').write_text(''.join([program, *blocks(BUDGET), after]), 'utf-8')
    said = run(['example.py'], tmp_path)
    before, left, accuracy = re.search(r'([\d,]+) -> ([\d,]+) MACs, accuracy ([\d.]+) %', said).groups()
    assert 0.3 * 10_195_584 < int(left.replace(',', '')) <= 0.5 * int(before.replace(',', '')) == 0.5 * 10_195_584
    assert float(accuracy) >= 95
    assert 0 < Structure.load(tmp_path / 'resnet20-small-structure.json').removed()['block'] < 9


def test_the_lines_of_the_main_page_run(tmp_path):
    """Two batches are enough: the test above runs the whole program, which holds the same lines."""
    setup = 'import mxnet as mx\nschedule, search = None, 2\n' \
            'batches = [(mx.nd.random.normal(shape=(4, 1, 16, 16)), mx.nd.array([0, 1, 2, 3]))] * 2\n'
    snippet = blocks(README)[0]
    (tmp_path / 'snippet.py').write_text(snippet.replace('from mxnet', f'{setup}from mxnet', 1), 'utf-8')
    run(['snippet.py'], tmp_path)
    assert (tmp_path / 'resnet20-small-0000.params').exists()
    mine, program = ({re.sub(r'\s+#.*', '', line) for line in page.splitlines() if re.match('net|trainer|budget', line)}
                     for page in (snippet, blocks(PACKAGE)[0]))
    assert len(mine) == 4 and mine <= program


@pytest.mark.slow
def test_own_network_ends_in_a_useful_network(tmp_path):
    (tmp_path / 'mynet.py').write_text(next(block for block in blocks(MODELS) if 'class ' in block), 'utf-8')
    shutil.copytree(ROOT / 'configs/digits', tmp_path / 'configs/digits')
    own = [words for words in commands(MODELS) if 'runs/mynet' in ' '.join(words)]
    assert [words[1] for words in own] == ['train', 'prune', 'evaluate']
    for words in own:
        said = run(['-m', 'sss_gluon.cli', *words[1:]], tmp_path)
    top1 = {name: float(value) for name, value in re.findall(r'^(unpruned|compact) +([\d.]+)%', said, re.MULTILINE)}
    assert top1['compact'] == top1['unpruned'] >= 90
    removed = Structure.load(tmp_path / 'runs/mynet/compact/model-structure.json').removed()
    assert 0 < removed['block'] < 6
    pytest.importorskip('onnxruntime')
    assert 'model.onnx' in run(['-m', 'sss_gluon.cli', 'export', 'runs/mynet', '--format', 'onnx'], tmp_path)


def test_the_picture_is_drawn_again_from_its_table(tmp_path):
    folder = tmp_path / 'configs/digits/quickstart'
    shutil.copytree(ROOT / 'configs/digits/quickstart', folder)
    before = {path: path.read_bytes() for path in folder.rglob('*') if path.is_file()}
    program, = (words[2] for words in commands(DIGITS) if words[:2] == ['python', '-c'])
    run(['-c', program], tmp_path)
    assert (tmp_path / 'runs/figures/factors.png').stat().st_size > 10_000
    assert {path: path.read_bytes() for path in folder.rglob('*') if path.is_file()} == before


# --- tables ---

@pytest.mark.parametrize('name', ARCHITECTURES)
def test_table_of_networks(name):
    row = re.search(rf'^\| `{name}` \|(.*)\|$', MODELS, re.MULTILINE).group(1)
    size, params, without_bn, macs, factors = (cell.strip() for cell in row.split('|'))
    counted = count(get_model(name), (1, 3, int(size), int(size)))
    assert [f'{n:,}' for n in (counted.params, counted.params_without_bn, counted.macs)] == [params, without_bn, macs]
    assert ', '.join(ARCHITECTURES[name].factors) == factors


@pytest.mark.parametrize('name', shipped())
def test_table_of_structures(name):
    params, macs = re.search(rf'^\| `{name}` \| `\w+` \| ([\d,]+) \| ([\d,]+) \|', MODELS, re.MULTILINE).groups()
    counted = count(rebuild(name), load_structure(name).input_shape)
    assert (f'{counted.params_without_bn:,}', f'{counted.macs:,}') == (params, macs)


def rows(path):
    with open(ROOT / 'configs' / path, encoding='utf-8', newline='') as file:
        return list(csv.DictReader(file))


def spread(values, digits=2):
    return f'{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}'


def test_results_of_digits_are_those_of_the_seeds():
    seeds = rows('digits/cifar_resnet20_seeds.csv')
    for config in ('paper', 'block'):
        mine = [row for row in seeds if row['config'] == f'cifar_resnet20_{config}']
        before, after = ([100 * float(row[key]) for row in mine] for key in ('top1_without_factors', 'top1_compact'))
        left = statistics.mean(int(row['macs_compact']) / int(row['macs']) for row in mine)
        difference = spread([b - a for a, b in zip(before, after)]).replace('-', '−')
        assert len(mine) == 5 and f'| {spread(before)} % | 100 % |' in DIGITS
        assert f'| {spread(after)} % | {100 * left:.0f} % | {difference} points |' in DIGITS
    line, = (line for line in README.splitlines() if line.startswith('| ResNet-20, digits'))
    errors = spread([100 - top1 for top1 in before]), spread([100 - top1 for top1 in after])
    assert f'| {100 * left:.0f} % | {errors[0]} % | {errors[1]} % |' in line


def test_the_picture_shows_the_blocks_that_the_first_seed_removed():
    last = rows('digits/quickstart/factors.csv')[-1]
    zero = [name[:-3] for name, value in last.items() if name != 'epoch' and float(value) == 0]
    assert rows('digits/cifar_resnet20_seeds.csv')[0]['removed'] == f'5 of 9 blocks ({", ".join(zero)})'
    assert f'removed: 5 of 9 blocks ({", ".join(zero)})' in ' '.join(DIGITS.split())


FASHION = PAGES['configs/fashion-mnist/README.md']
METHODS = {'none': 'without factors (100 %)', 'sss': 'SSS, asked for a size', 'taylor': 'Taylor', 'ssl': 'SSL',
           'scratch': 'the structure that it found, from scratch', 'l1': 'L1', 'slimming': 'slimming',
           'blocks': '… with 8 adjacent channels as one neuron'}
NETWORKS = {'resnet20': '| ResNet-20, blocks ', 'vgg16': '| narrow VGG-16, neurons '}


def test_speeds_on_an_h100_are_those_of_the_table():
    with (ROOT / 'sss_gluon/bench/h100.csv').open(encoding='utf-8') as file:
        compact = [row for row in csv.DictReader(file) if row['form'] == 'compact']
    page = PAGES['sss_gluon/bench/README.md'].split('### On an H100')[1].split('\n### ')[0]
    lines = [[cell.strip() for cell in line.strip('|').split('|')] for line in page.splitlines() if line[:1] == '|'][2:]
    commands = dict.fromkeys(row['command'] for row in compact)         # in the order of the lines
    assert len(lines) == len(commands) == 8
    for line, command in zip(lines, commands):
        found = {(row['precision'], row['batch']): row for row in compact if row['command'] == command}
        assert line[1] == f'{float(found["float32", "1"]["macs_ratio"]):.2f}'
        for cell, precision, column in (*zip(line[2:], ('float32', 'float16'), ['speedup'] * 2),
                                        (line[4], 'float32', 'ms_p50')):
            given = cell.split(', ')
            assert len(given) == 4
            for text, batch in zip(given, ('1', '8', '64', '256')):
                decimals = len(text.partition('.')[2])
                assert text == f'{float(found[precision, batch][column]):.{decimals}f}'


def sizes_on_digits():
    """{(network, method, share asked for): (percent left, error)}, and for a γ (network, 'γ', γ)."""
    return {(row['network'], *(('γ', row['setting'].split()[1]) if row['method'] == 'gamma' else
                               (row['method'].replace('dense', 'none'), row['setting'].replace('target_macs ', '')))):
            (f'{float(row["macs_left_percent"]):.1f}', f'{row["top1_error_percent"]} ± {row["top1_error_std"]}')
            for row in rows('digits/budgets.csv')}


def sizes_on_fashion_mnist(seeds='012'):
    groups = {}
    for row in rows('fashion-mnist/results/budgets.csv'):
        if row['seed'] not in seeds:
            continue
        kind, *words = row['setting'].split(',')[0].split()
        name = {'epochs': ('none', ''), 'γ': ('γ', words[-1])}.get(
            kind, ('blocks' if 'neuron_block=8' in row['command'] else row['method'], words[-1]))
        groups.setdefault((row['model'].replace('cifar_', ''), *name), []).append(row)
    assert {len(runs) for runs in groups.values()} == {3} or seeds != '012'
    return {name: (f'{100 * statistics.mean(int(row["macs"]) / int(row["macs_unpruned"]) for row in runs):.1f}',
                   spread([float(row['top1_error']) for row in runs])) for name, runs in groups.items()}


@pytest.mark.parametrize('page, found, count', [(DIGITS, sizes_on_digits, 30),
                                                (FASHION, sizes_on_fashion_mnist, 30)])
def test_sizes_asked_for_are_those_of_the_runs(page, found, count):
    found = found()
    assert len(found) == count
    for network, head in NETWORKS.items():
        if network not in {name[0] for name in found}:
            continue
        table = page.split(f'{head}| MACs left, asked for 50 %')[1].split('\n\n')[0].splitlines()
        asked = {method: {share: found[network, method, share] for share in ('0.5', '0.35')}
                 for other, method, share in found if other == network and share in ('0.5', '0.35')}
        assert len(table) == 3 + len(asked)
        for method, shares in asked.items():
            cells = ' | '.join(f'{left} % | {error} %' for left, error in shares.values())
            assert f'| {METHODS[method]} | {cells} |' in table
        assert f'| {METHODS["none"]} | | {found[network, "none", ""][1]} % | | |' in table
    words = ' '.join(page.split())
    for (network, method, gamma), (left, error) in found.items():
        if method == 'γ':
            assert left.replace('100.0', '100') in words and error in words, (network, gamma)


def test_five_seeds_of_vgg_are_those_of_the_runs():
    words = ' '.join(FASHION.split())
    for name, (_, error) in sizes_on_fashion_mnist('01234').items():
        if name[0] == 'vgg16' and name[1:] in (('sss', '0.35'), ('scratch', '0.35')):
            assert f'{error} % with five seeds' in words, name


def test_sizes_on_the_main_page_are_those_of_the_runs():
    found = sizes_on_fashion_mnist()
    for (network, method, share), (left, error) in found.items():
        if method == 'sss':
            name = {'resnet20': 'ResNet-20', 'vgg16': 'VGG-16'}[network]
            line, = (line for line in README.splitlines() if line.startswith(f'| {name}, Fashion-MNIST') and
                     f'asked for {100 * float(share):.0f} %' in line)
            assert f'| {float(left):.0f} % | {found[network, "none", ""][1]} % | {error} % |' in line


def test_results_of_cifar10_are_those_of_the_runs():
    """Each line of the tables: MACs left, error, and the number of seeds of one setting."""
    groups = {}
    for row in rows('cifar10-short/results/runs.csv'):
        groups.setdefault((row['model'], re.sub(r'-seed\d', '', row['run'])), []).append(row)
    found = {}
    for (model, _), runs in groups.items():
        left = statistics.mean(int(row['macs']) / int(row['macs_unpruned']) for row in runs)
        errors = [float(row['top1_error']) for row in runs]
        error = spread(errors) if len(errors) > 1 else f'{errors[0]:.2f}'
        found.setdefault(model, set()).add(f'| {100 * left:.1f} % | {error} % | {len(runs)} |')
    page = PAGES['configs/cifar10-short/README.md']
    for name, model, number in (('ResNet-20', 'cifar_resnet20', 13), ('VGG-16', 'cifar_vgg16', 10)):
        lines = re.search(rf'^\| {name}.*\n.*\n((\|.*\n)+)', page, re.MULTILINE).group(1).splitlines()
        assert len(lines) == number and {'|' + line.split('|', 2)[2] for line in lines} <= found[model]
    whole, sss = (spread([float(row['top1_error']) for row in groups['cifar_resnet20', f'runs/budgets_cifar10/{name}']])
                  for name in ('resnet20-dense', 'resnet20-sss-target_macs0.4516'))
    assert f'| 43 % | {whole} % | {sss} % |' in README


@pytest.mark.parametrize('label, model, setting, in_readme', [('ResNet-20', 'cifar_resnet20', 'γ 0.1', False),
                                                              ('ResNeXt-20', 'cifar_resnext20', 'γ 0.005', True),
                                                              ('VGG-16', 'cifar_vgg16', 'γ 0.002', False)])
def test_results_of_fashion_mnist_are_those_of_the_runs(label, model, setting, in_readme):
    runs = [row for row in rows('fashion-mnist/results/runs.csv') if row['model'] == model]
    dense = [float(row['top1_error']) for row in runs if row['method'] == 'none']
    pruned = [row for row in runs if row['method'] == 'sss' and row['setting'] == setting]
    assert len(dense) == len(pruned) == 3
    left = statistics.mean(int(row['macs']) / int(row['macs_unpruned']) for row in pruned)
    errors = spread(dense), spread([float(row['top1_error']) for row in pruned])
    if in_readme:
        line, = (line for line in README.splitlines() if line.startswith(f'| {label}, Fashion-MNIST'))
        assert f'| {100 * left:.0f} % | {errors[0]} % | {errors[1]} % |' in line
    assert f'| 100 % | {errors[0]} % |' in FASHION and f'| {100 * left:.1f} % | {errors[1]} % |' in FASHION
