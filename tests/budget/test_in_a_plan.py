"""SSS that is asked for a size beside baselines that are asked for the same, in one plan, and in the report of it."""
import csv
from pathlib import Path

import pytest

from sss_gluon.cli import main
from sss_gluon.files import write_text
from sss_gluon.report.settings import setting_names
from sss_gluon.train import Config

PLAN = '''
title: Half of the MACs
entries:
  - {name: dense, config: small.yaml, set: {factors: [], epochs: 1}}
  - {name: asked, config: small.yaml, grid: {target_macs: [0.6, 0.4]}, set: {factors: [neuron], search: 0.5, epochs: 3}}
  - {name: l1, config: small.yaml, set: {method: l1, target_macs: 0.6}, after: dense}
  - {name: same, config: small.yaml, set: {factors: [neuron], search: 0.5}, match: asked}
smoke: {gamma: 0.02}
'''


@pytest.mark.slow
def test_a_plan_with_targets(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    write_text('small.yaml', (Path(__file__).parents[1] / 'small.yaml').read_text('utf-8'))
    write_text('plan.yaml', PLAN)
    assert main(['sweep', 'plan.yaml', '--smoke']) == 0, capfd.readouterr()
    assert main(['report', 'runs/smoke/plan', '--out', 'report']) == 0
    with open('report/runs.csv', encoding='utf-8', newline='') as table:
        rows = {row['run'].rpartition('/')[2]: row for row in csv.DictReader(table)}
    assert len(rows) == 4
    for name, row in rows.items():
        if not name.startswith('dense'):
            target = 0.5 if name.startswith('same') else 0.6        # --smoke replaces match= by half of the MACs
            assert 0.3 < float(row['macs']) / float(row['macs_unpruned']) <= target, name
    html = (tmp_path / 'report/report.html').read_text('utf-8')
    assert 'MACs 0.6' in html and 'MACs 0.5' in html


def test_a_strength_that_is_steered_is_no_setting():
    """γ is shown where it was given: without a target, or as another start."""
    runs = [Config(model='cifar_resnet20', **settings) for settings in (
        dict(), dict(gamma=0.2), dict(target_macs=0.5), dict(target_params=0.35), dict(target_latency=0.5, gamma=0.3))]
    assert setting_names(runs) == ['γ 0.01', 'γ 0.2', 'MACs 0.5', 'parameters 0.35', 'γ 0.3, latency 0.5']
