"""The tables and arrays that a run on the digits wrote, and comparisons of arrays by name."""
import numpy as np

STEPS = 1197 // 64      # of an epoch


def quiet(line):
    pass


def arrays(run, name=None):
    """All arrays of a checkpoint, the newest by default."""
    path = run.checkpoints / name if name else sorted(run.checkpoints.iterdir())[-1]
    with np.load(path) as file:
        return {key: file[key] for key in file.files if key != 'position'}


def tables(run):
    return [(run.path / name).read_bytes() for name in ('metrics.csv', 'factors.csv')]


def assert_close(found, expected, tolerance=2e-5):
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert np.abs(found[name] - value).max() <= tolerance * max(1, np.abs(value).max()), name


def assert_equal(found, expected):
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].tobytes() == value.tobytes(), name
