"""``sss-gluon train`` and what follows it, for networks with auxiliary heads."""
import numpy as np
import pytest

import sss_gluon as sss
from sss_gluon.deploy import evaluate, export, load_run, prune
from sss_gluon.methods import train
from sss_gluon.structures import MaskedCounter
from sss_gluon.train.loop import AUXILIARY

pytestmark = pytest.mark.filterwarnings('ignore')
OWN = dict(model_options={}, factors=None, gamma=0.02, learning_rate=0.1, epochs=3)


def quiet(line):
    """No log."""


@pytest.mark.parametrize('model', ['called:Auxiliary', 'called:TwoHeads'])
@pytest.mark.parametrize('asked', [dict(gamma_weighting='macs', epochs=2), dict(target_macs=0.5, search=0.5, epochs=5)],
                         ids=['macs', 'budget'])
def test_run(model, asked, configure):
    said = []
    run = train(configure(model=model, **{**OWN, **asked}), quiet)
    rows = run.metrics.rows()
    assert float(rows[-1]['train_loss']) < float(rows[0]['train_loss'])
    small = prune(run.path, said.append)
    two = model == 'called:TwoHeads'
    assert len(small.program.outputs) == 1 + two and ('head_conv' in small.structure.layers) == two
    assert any('are left out: head.norm' in line for line in said) == (not two)
    if 'target_macs' in asked:
        assert small.after.macs <= 0.5 * MaskedCounter(load_run(run.path).net, (1, 1, 8, 8)).dense.macs
    before, after = evaluate(run.path)
    assert before.accuracy.top1 == after.accuracy.top1
    if two:
        export(run.path, log=quiet)


def test_the_loss_is_that_of_both_heads(configure, monkeypatch):
    """With the weight 0 the auxiliary head does not learn, but the rest does."""
    nets = {}
    for weight in (AUXILIARY, 0.0):
        monkeypatch.setattr('sss_gluon.train.loop.AUXILIARY', weight)
        run = train(configure(f'run{weight}', model='called:Auxiliary', **{**OWN, 'weight_decay': 0.0, 'gamma': 0.0,
                                                                           'epochs': 1}), quiet)
        nets[weight] = load_run(run.path).net._collect_params_with_prefix()
    start = train(configure('start', model='called:Auxiliary', **{**OWN, 'epochs': 1, 'learning_rate': 1e-12,
                                                                  'gamma': 0.0, 'weight_decay': 0.0}), quiet)
    begun = load_run(start.path).net._collect_params_with_prefix()
    moved = {weight: np.abs(net['extra.weight'].data().asnumpy() - begun['extra.weight'].data().asnumpy()).max()
             for weight, net in nets.items()}
    assert moved[0.0] < 1e-8 and moved[AUXILIARY] > 1e-3


def test_outputs_that_are_no_classes(configure):
    with pytest.raises(sss.SSSError, match=r'called:Wrong gives an output of shape \(1, 8\) for an image of .*; all '
                                           r'outputs must be of shape \(1, 10\)'):
        train(configure(model='called:Wrong', **OWN), quiet)


def test_a_run_ends_where_it_began_to_shrink(configure):
    """The whole network and the smaller one have the same losses: the head goes on training in the smaller one."""
    settings = {**OWN, 'model': 'called:Auxiliary', 'target_macs': 0.5, 'search': 0.4, 'epochs': 5}
    rows = [train(configure(str(shrink), shrink=shrink, **settings), quiet).metrics.rows() for shrink in (True, False)]
    for shrunk, whole in zip(*rows):
        assert float(shrunk['train_loss']) == pytest.approx(float(whole['train_loss']), rel=2e-3)
