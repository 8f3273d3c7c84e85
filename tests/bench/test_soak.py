"""The watch over a long training: slope by hand, a real one of seconds, and trainings that end."""
import pytest

from sss_gluon import SSSError
from sss_gluon.bench import soak as module
from sss_gluon.bench.soak import Sample, slope, soak
from sss_gluon.cli.bench import describe_soak

MIB = 2 ** 20


def samples(sizes, seconds=360.0):
    return [Sample(i * seconds, 10 * i, int(size * MIB), 5, 9) for i, size in enumerate(sizes)]


@pytest.mark.parametrize('sizes,expected', [
    ([50] + [100] * 10, 0), ([50, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109], 10),
    ([50] + 2 * [101, 100, 101, 100, 101], 0),
])
def test_slope(sizes, expected):
    """A sample every tenth of an hour; the first one is warm-up."""
    assert slope(samples(sizes)) / MIB == pytest.approx(expected)


def test_text():
    assert describe_soak(samples([50, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109])) == (
        '100 epochs in 1.00 h\n'
        'memory: 50.0 MiB at first, 100.0 after a tenth of the time, 109.0 at the end; since that tenth +10.00 MiB per '
        'hour\nthreads: 5 to 5, open files: 9 to 9')


@pytest.mark.slow
def test_a_training_is_watched(monkeypatch):
    monkeypatch.setattr(module, 'SAMPLES', 20)
    seen = []
    found = soak(4 / 3600, seen.append)
    assert seen == found and len(found) == 21
    assert found[-1].epochs > found[0].epochs >= 1 and 3.9 < found[-1].seconds < 10
    assert all(30 * MIB < sample.bytes < 4000 * MIB and sample.threads > 1 and sample.files > 2 for sample in found)


@pytest.mark.slow
def test_a_training_that_ends_says_why(monkeypatch):
    monkeypatch.setitem(module.CONFIG, 'data', 'digit')
    with pytest.raises(SSSError, match='ended by itself, with status 2: .*digit'):
        soak(1 / 3600)
    monkeypatch.setitem(module.CONFIG, 'data', 'digits')
    monkeypatch.setitem(module.CONFIG, 'epochs', 2)
    with pytest.raises(SSSError, match='ended by itself, with status 0'):
        soak(1)


@pytest.mark.parametrize('hours', [0, -1, float('nan'), float('inf')])
def test_wrong_hours(hours):
    with pytest.raises(SSSError, match='number of hours'):
        soak(hours)
