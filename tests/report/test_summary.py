"""Means, standard deviations and differences by hand."""
import math

import pytest

from sss_gluon.report.published import load_published
from sss_gluon.report.runs import read_runs
from sss_gluon.report.summary import MeanStd, mean_std_of_known, summarize


@pytest.mark.parametrize('values, expected', [
    ([], None), ([None], None), ([3.0], MeanStd(3.0, None, 1)), ([1.0, 2.0, 6.0], MeanStd(3.0, math.sqrt(7), 3)),
    ([2.0, None, 4.0], MeanStd(3.0, math.sqrt(2), 2)),
])
def test_mean_std(values, expected):
    """1, 2, 6: deviations -2, -1, 3, squares 14, over n - 1 = 2."""
    found = mean_std_of_known(values)
    assert found == expected if expected is None or expected.std is None else found == pytest.approx(expected)


@pytest.fixture
def summaries(tmp_path, write_run, notes):
    """A function of keyword arguments of runs, {name: arguments}, to summaries."""
    def make(**runs):
        paths = [write_run(tmp_path / name, **settings) for name, settings in runs.items()]
        return summarize(read_runs(paths, notes.append), load_published(log=notes.append), notes.append)
    return make


WHOLE = dict(factors=[], model='cifar_resnet20')
CUT = dict(factors=['block'], model='cifar_resnet20', gamma=0.1)


def test_runs_that_differ_in_their_seed_are_one_line(summaries, notes):
    """Errors 10, 8, 6 and 12, 9, 9 %: means 8 and 10, differences 2, 1, 3."""
    whole, cut = summaries(
        c=dict(CUT, seed=2, top1=0.91, unpruned_top1=0.92, macs=(20, 9), devices=['gpu1']),
        a=dict(CUT, seed=0, top1=0.88, unpruned_top1=0.90, macs=(20, 12), devices=['gpu0']),
        b=dict(CUT, seed=1, top1=0.91, unpruned_top1=0.91, macs=(20, 9), devices=['gpu0']),
        x=dict(WHOLE, seed=0, top1=0.90, macs=(20, 0)), y=dict(WHOLE, seed=1, top1=0.92, macs=(20, 0)),
        z=dict(WHOLE, seed=2, top1=0.94, macs=(20, 0)))
    assert (whole.method, whole.label, whole.difference) == ('none', 'without factors', None)
    assert whole.error == pytest.approx((8.0, 2.0, 3)) and whole.seeds == [0, 1, 2]
    assert (cut.method, cut.structures, cut.label, cut.seeds) == ('sss', 'block', 'SSS block, γ 0.1', [0, 1, 2])
    assert cut.error == pytest.approx((10.0, math.sqrt(3), 3))
    assert cut.unpruned_error == pytest.approx((9.0, 1.0, 3))
    assert cut.difference == pytest.approx((2.0, 1.0, 3))
    assert cut.macs == pytest.approx((10.0, math.sqrt(3), 3)) and cut.macs_left == pytest.approx(0.5)
    assert cut.params_left == pytest.approx(0.6) and cut.seconds.mean == pytest.approx(10)
    assert cut.ms(64) == pytest.approx((10.0, 0.0, 3)) and cut.ms(8) is None
    assert cut.latency_left(64) == pytest.approx((50.0, 0.0, 3)) and cut.latency_left(8) is None    # 10 of 20 ms
    assert notes == []


def test_differences_are_of_common_seeds(summaries):
    """Seeds 1 and 2 against 0 and 1: only seed 1 is a pair."""
    _, cut = summaries(a=dict(CUT, seed=1, top1=0.80), b=dict(CUT, seed=2, top1=0.90), x=dict(WHOLE, seed=0, top1=0.5),
                       y=dict(WHOLE, seed=1, top1=0.85))
    assert cut.difference.mean == pytest.approx(5.0) and cut.difference[1:] == (None, 1)


def test_without_common_seeds_means_are_compared(summaries):
    _, cut = summaries(a=dict(CUT, seed=1, top1=0.80), b=dict(CUT, seed=2, top1=0.90), x=dict(WHOLE, seed=0, top1=0.9))
    assert cut.difference.mean == pytest.approx(5.0) and cut.difference[1:] == (None, 0)


@pytest.mark.parametrize('other', [dict(data='fashion-mnist'), dict(model='cifar_resnet164'), dict(image_size=8),
                                   dict(model_options=dict(depths=[1, 1, 1])), dict(validation=100)])
def test_another_task_is_no_reference(summaries, other):
    found = summaries(a=dict(CUT), x=dict(WHOLE, **other))
    assert all(summary.difference is None for summary in found)
    assert all(summary.macs_left == pytest.approx(0.6) for summary in found if summary.method == 'sss')


def test_the_nearest_run_without_factors_is_the_reference(summaries):
    """Of two, the one with as many epochs and the same rate."""
    found = summaries(a=dict(CUT, epochs=3, top1=0.8), x=dict(WHOLE, epochs=4, top1=0.5),
                      y=dict(WHOLE, epochs=3, top1=0.9), z=dict(WHOLE, epochs=3, learning_rate=0.2, top1=0.6))
    assert found[-1].difference.mean == pytest.approx(10.0)


L1 = dict(method='l1', target_macs=0.5)


@pytest.mark.parametrize('a, before, difference', [
    ({}, 0, 30), (dict(L1, source='half'), 3, 10), (dict(L1, source='{tmp_path}/half/'), 3, 10),
    (dict(L1, source='/moved/half'), 3, 10), (dict(L1, source='elsewhere'), 0, 30), (dict(L1, source='a'), 0, 30),
    (dict(L1, source='half', epochs=6), 3, 10), (dict(L1, source='twice'), 5, 10),
    (dict(method='scratch', source='half'), 0, 30), (dict(init='half/compact/model-0000.params'), 3, 10),
    (dict(structure='half/compact/model-structure.json'), 0, 30)])
def test_epochs_of_the_network_that_it_starts_from_count(a, before, difference, summaries, tmp_path, monkeypatch):
    """Errors 40 %, and without factors 10 % after 3 epochs and 30 % after 6."""
    monkeypatch.chdir(tmp_path)
    a = {key: value.format(tmp_path=tmp_path) if isinstance(value, str) else value for key, value in a.items()}
    found = summaries(a=dict(dict(CUT, epochs=3, top1=0.6), **a), half=dict(WHOLE, epochs=3, top1=0.9),
                      whole=dict(WHOLE, epochs=6, top1=0.7), twice=dict(CUT, gamma=1.0, epochs=2, init='half/'))
    [mine] = [s for s in found if s.runs[0].path.name == 'a']
    assert (mine.epochs, mine.epochs_before) == (a.get('epochs', 3), before)
    assert mine.difference.mean == pytest.approx(difference)


def test_a_given_structure_is_no_reference(summaries, notes):
    """The compact network from scratch has no factors either, but is not the whole network."""
    cut, scratch, tuned = summaries(a=dict(CUT, top1=0.8), x=dict(WHOLE, structure='resnet26'),
                                    y=dict(WHOLE, structure='resnet26', init='runs/a/compact/model-0000.params'))
    assert [s.method for s in (cut, scratch, tuned)] == ['sss', 'fine-tuned', 'scratch'] and cut.difference is None


def test_paths_of_a_runs_own_seed_do_not_tell_seeds_apart(summaries):
    settings = dict(model='cifar_resnet20', method='l1', target_macs=0.5)
    found = summaries(**{f'r{seed}': dict(settings, seed=seed, source=f'runs/plan/cifar10-block-gamma0.1-seed{seed}')
                         for seed in range(3)})
    assert len(found) == 1 and found[0].seeds == [0, 1, 2] and found[0].setting == 'MACs 0.5'
    found = summaries(**{f's{i}': dict(settings, seed=0, source=f'runs/plan/{name}-seed0/')
                         for i, name in enumerate(('first', 'second'))})
    assert sorted(s.setting for s in found) == ['MACs 0.5, source first', 'MACs 0.5, source second']
    found = summaries(**{f't{i}': dict(settings, seed=0, source=f'runs/{name}-seed0')
                         for i, name in enumerate(('vgg16-a-strength0.01', 'vgg16-a-strength0.02', 'v2-a-seed9'))})
    assert sorted(s.setting for s in found) == [
        f'MACs 0.5, source {words}' for words in ('v2-seed 9', 'vgg16-strength 0.01', 'vgg16-strength 0.02')]


def test_runs_matched_to_others_are_one_line_whatever_these_have_left(summaries):
    """L1 at the MACs that SSS leaves, seed by seed: 40 % and 60 %; a second γ is matched by a second line."""
    settings = dict(model='cifar_resnet20', method='l1')
    found = summaries(**{f'{gamma}-{seed}': dict(settings, seed=seed, macs=(100, 40 + 20 * seed),
                                                 source=f'r/dense-{seed}', match=f'runs/sss-gamma{gamma}-seed{seed}')
                         for gamma in (0.1, 0.2) for seed in (0, 1)})
    assert [s.setting for s in found] == [f'equal MACs, match γ {gamma}' for gamma in (0.1, 0.2)]
    assert all(s.macs == pytest.approx((50, math.sqrt(200), 2)) for s in found)
    found, = summaries(**{f'one-{seed}': dict(settings, seed=seed, match=f'runs/a-seed{seed}') for seed in (0, 1, 2)})
    assert (found.label, found.seeds) == ('L1 block, equal MACs', [0, 1, 2])


def test_lines_of_the_same_strength_say_what_else_differs(summaries):
    found = summaries(a=dict(CUT, epochs=3), b=dict(CUT, epochs=4), c=dict(CUT, gamma=0.2))
    assert sorted(s.setting for s in found) == ['γ 0.1, epochs 3', 'γ 0.1, epochs 4', 'γ 0.2']


@pytest.mark.parametrize('one, other', [(dict(), dict(factors=None)), (dict(), dict(image_size=16)),
                                        (dict(data='imagenet'), dict(data='imagenet', image_size=224))])
def test_a_default_is_the_same_when_it_is_named(summaries, one, other):
    found, = summaries(a=dict(CUT, seed=0, **one), b=dict(dict(CUT, seed=1), **other))
    assert found.seeds == [0, 1] and found.data == one.get('data', 'digits')


def test_options_of_a_method_are_its_setting(summaries):
    found, = summaries(a=dict(model='cifar_vgg16', method='ssl', method_options=dict(strength=0.001, kinds='neuron'),
                              kind='neuron'))
    assert found.label == 'SSL neuron, strength 0.001'
    assert found.flops == 2 * found.macs.mean       # VGG


def test_what_is_fine_tuned_and_other_variants_are_lines_of_their_own(summaries):
    """SSL as it comes out of training, and cut and fine-tuned; scratch training with two budgets."""
    ssl = dict(model='cifar_vgg16', method='ssl', factors=['neuron'], kind='neuron')
    found = summaries(a=dict(ssl, method_options=dict(strength=0.001)), b=dict(ssl, source='runs/a', match='runs/s'),
                      c=dict(ssl, source='runs/a', method_options=dict(images=9, ignored_layers=['norm5_']),
                             target_macs=0.5),
                      e=dict(ssl, method='scratch', source='runs/s', method_options=dict(budget='epochs')),
                      f=dict(ssl, method='scratch', source='runs/s', method_options=dict(budget='compute')),
                      g=dict(ssl, method='l1', source='runs/d', target_macs=0.5),
                      h=dict(ssl, method='sss', neuron_block=8, target_macs=0.5))
    assert [(s.series, s.setting) for s in found] == [
        ('SSS neuron, to a budget, 8 channels a neuron', 'MACs 0.5'), ('L1 neuron', 'MACs 0.5'),
        ('scratch neuron, budget compute', ''), ('scratch neuron, budget epochs', ''),
        ('SSL neuron', 'strength 0.001'), ('SSL neuron, fine-tuned', 'equal MACs'),
        ('SSL neuron, fine-tuned', 'MACs 0.5')]
    assert found[5].label == 'SSL neuron, fine-tuned, equal MACs'


def test_the_same_run_twice_is_one_sample(summaries, notes, tmp_path):
    found, = summaries(a=dict(CUT, top1=0.8), b=dict(CUT, top1=0.9))
    assert found.error.mean == pytest.approx(20.0) and found.error.n == 1
    assert len(notes) == 1 and notes[0].startswith(f'{tmp_path}/b is left out') and f'{tmp_path}/a' in notes[0]


def test_two_runs_of_one_name_are_told_apart(summaries, notes, tmp_path):
    found = summaries(**{'a/run': dict(CUT), 'b/run': dict(CUT, gamma=0.2)})
    assert len(found) == 2
    assert len(notes) == 1 and f'named run ({tmp_path}/a/run, {tmp_path}/b/run)' in notes[0]


def test_data_sets_are_never_mixed(summaries, notes):
    found = summaries(a=dict(CUT, data='digits'), x=dict(WHOLE, data='digits', image_size=8),
                      b=dict(CUT, data='folder', data_root='/data/birds'),
                      c=dict(CUT, data='folder', data_root='/d/cars'))
    assert [s.data for s in found] == ['digits', 'digits 8x8', 'folder birds', 'folder cars']
    assert len(notes) == 1 and '4 data sets (digits, digits 8x8, folder birds, folder cars)' in notes[0]


@pytest.mark.parametrize('settings, models', [
    (dict(WHOLE, model='resnet50', data='imagenet'), ['ResNet-50']),
    (dict(CUT, model='resnet50', data='imagenet', macs=(4_089_184_256, 2_800_000_000)), ['ResNet-32']),
    (dict(WHOLE, model='resnet50', data='imagenet', image_size=224, structure='resnet41'), ['ResNet-41 scratch-E']),
    (dict(WHOLE, model='resnet50', data='imagenet', structure='resnet41', epochs=117), ['ResNet-41 scratch-B']),
    (dict(CUT, model='resnet50', data='imagenet', image_size=64), []),
    (dict(CUT, model='resnet50', data='imagenet', model_options=dict(depths=[1, 1, 1, 1])), []),
    (dict(CUT, model='resnet50', data='folder'), []),
    (dict(CUT, model='resnet50', data='fashion-mnist'), []),
])
def test_the_paper_stands_beside_its_own_data_and_networks_only(summaries, settings, models):
    found, = summaries(a=settings)
    assert [row.model for row in found.published] == models


def test_a_missing_published_row_is_one_line(summaries, notes):
    summaries(a=dict(CUT, data='cifar100', model='cifar_vgg16'),
              b=dict(CUT, data='cifar100', model='cifar_vgg16', gamma=0.2))
    assert len(notes) == 1 and 'no row for cifar_vgg16 on cifar100 (sss)' in notes[0]
    summaries(**{'c/a': dict(CUT, data='cifar10'), 'c/b': dict(CUT, data='cifar10', method='l1', source='x'),
                 'c/c': dict(WHOLE, data='cifar10', structure='cifar10_resnet86')})
    assert len(notes) == 2 and 'no row for cifar_resnet20 on cifar10 (l1, scratch)' in notes[1]


def test_networks_of_a_given_structure_are_pruned_ones(summaries):
    """Without a run of the whole network beside them, too; a run that trains for another one is none."""
    scratch, = summaries(a=dict(WHOLE, structure='resnet26', macs=(12, 0)))
    assert scratch.method == 'scratch' and scratch.is_pruned
    whole, source = summaries(b=dict(WHOLE), c=dict(CUT, method='ssl', macs=(20_000, 20_000)))
    assert not whole.is_pruned and source.is_pruned      # it was pruned, although nothing went
