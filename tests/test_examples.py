"""The examples: GluonCV's detector and segmentation network, trained to a budget, cut, and compared by its metrics."""
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / 'scripts/examples'
PROGRAMS = {'detect_digits': ('mAP', 0.8), 'segment_digits': ('mIoU', 0.6)}      # metric, and what it reaches at least
ROW = r'^(never cut|before removal|after removal) +{} ([\d.]+) +([\d,]+) MACs +([\d,]+) parameters +[\d.]+ ms$'


def run(name, *arguments):
    """{row of the table: [metric, MACs, parameters]} that an example prints."""
    environment = dict(os.environ, PYTHONPATH=f'{ROOT}{os.pathsep}{os.environ.get("PYTHONPATH", "")}')
    done = subprocess.run([sys.executable, str(EXAMPLES / f'{name}.py'), *arguments], env=environment,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 'has no scaling factors' not in done.stderr
    found = re.findall(ROW.format(PROGRAMS[name][0]), done.stdout, re.MULTILINE)
    return {row: [float(number.replace(',', '')) for number in numbers] for row, *numbers in found}


def compared(table):
    """The metric before removal, after it has been found equal, and what was removed, some but not all."""
    never, before, after = table['never cut'], table['before removal'], table['after removal']
    assert never[1:] == before[1:]
    assert 0.3 * before[1] < after[1] <= 0.5 * before[1]
    assert 0.05 * before[2] < after[2] < 0.9 * before[2]
    assert after[0] == pytest.approx(before[0], abs=2e-4)      # rounding may swap two boxes of equal score
    return before[0]


@pytest.mark.slow
@pytest.mark.parametrize('name', PROGRAMS)
def test_quick_examples_meet_their_budget_and_predict_the_same_after_removal(name, tmp_path):
    picture = tmp_path / 'found.png'
    compared(run(name, '--quick', *(['--picture', str(picture)] if name == 'detect_digits' else [])))
    assert name != 'detect_digits' or picture.stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize('name', PROGRAMS)
def test_examples_end_in_a_useful_network(name):
    table = run(name)
    assert compared(table) >= PROGRAMS[name][1]
    assert table['never cut'][0] >= PROGRAMS[name][1]


def test_scenes_hold_what_their_boxes_and_masks_say(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from scenes import SIDES, SIZE, scenes
    made, again, other = scenes('train', 20, seed=1), scenes('train', 20, seed=1), scenes('train', 20, seed=2)
    assert all((a == b).all() for a, b in zip(made, again)) and (made.images != other.images).any()
    for boxes, labels, mask in zip(made.boxes, made.labels[..., 0], made.masks):
        real = labels >= 0
        assert real[0] and (boxes[~real] == -1).all()
        for box, label in zip(boxes[real].astype(int), labels[real]):
            left, top, right, bottom = box
            ink = mask[top:bottom, left:right] == 1 + label
            assert min(box) >= 0 and max(box) <= SIZE and max(right - left, bottom - top) <= max(SIDES)
            assert all(edge.any() for edge in (ink[0], ink[-1], ink[:, 0], ink[:, -1]))
            mask[top:bottom, left:right][ink] = 0
        assert not mask.any()           # all ink is in a box
