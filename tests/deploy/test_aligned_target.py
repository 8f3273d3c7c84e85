"""A run with a budget of the latency is evaluated in the form that the budget measured."""
import csv
import importlib
import shutil

import pytest

from sss_gluon.cli import main
from sss_gluon.deploy import evaluate, evaluate_exported, export, prune
from sss_gluon.deploy.alignment import Alignment
from sss_gluon.train import RunFolder


@pytest.mark.parametrize('align, names', [(8, ['unpruned', 'compact', 'compact align 8']),
                                          (1, ['unpruned', 'compact'])])
def test_evaluate_shows_what_export_would_choose(align, names, finished, tmp_path, monkeypatch, capsys):
    shutil.copytree(finished, tmp_path / 'run')
    monkeypatch.chdir(tmp_path)
    run = RunFolder.open('run')
    prune(run.path, log=lambda line: None)
    monkeypatch.setattr(importlib.import_module('sss_gluon.deploy.evaluate'), 'fastest_alignment',
                        lambda *arguments: Alignment(align, {}))
    assert [row.name for row in evaluate(run.path)] == ['unpruned', 'compact']
    config = run.config()
    config.target_latency = 0.5
    run.save_config(config)
    assert main(['evaluate', str(run.path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80 and 'asked for at most 50.0 % of the latency' in ' '.join(lines)
    with open(run.path / 'evaluation.csv', newline='', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    assert [row['network'] for row in rows] == names
    assert len({row['top1'] for row in rows}) == 1
    export(run.path, align=align, log=lambda line: None)
    assert int(rows[-1]['macs']) == evaluate_exported(f'{run.deploy}-symbol.json').macs
