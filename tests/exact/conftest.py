"""Shared by the property tests: the number of examples, and the properties of every compact network.

Profile ``ci`` draws the same few examples every time. Profile ``hour`` draws new ones (``--hypothesis-seed``), keeps
those that fail in .hypothesis and tries them first the next time; scripts/property_tests.sh repeats it.
"""
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings

from sss_gluon.graph import count
from sss_gluon.graph.ir import to_json
from sss_gluon.structures import compact

COMMON = dict(deadline=None, phases=set(Phase) - {Phase.explain},      # explaining would run a slow example very often
              suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
settings.register_profile('ci', max_examples=6, derandomize=True, database=None, **COMMON)
settings.register_profile('hour', max_examples=15, print_blob=True, **COMMON)
settings.load_profile('ci')
EXAMPLES = []       # one entry for each network that passed ``check_compact``


def _worst(expected, found):
    """Largest difference of outputs over the largest output; an output that is zero must stay zero."""
    expected, found = ([y.asnumpy() for y in (y if isinstance(y, (list, tuple)) else [y])] for y in (expected, found))
    assert [y.shape for y in expected] == [y.shape for y in found]
    return max(float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-30)) for a, b in zip(expected, found))


@pytest.fixture(scope='session')
def worst():
    return _worst


@pytest.fixture(scope='session')
def check_compact(batch):
    """A function that checks equal outputs, counts by arithmetic, and that a compact network compacts to itself.

    ``same_names=False``: of a layer that is used twice, either use may give the name when one of them goes.
    """
    def check(net, small, shape, same_names=True):
        x = batch(*shape, seed=2)
        assert _worst(net(x), small.net(x)) < 1e-4
        trained = [p for p in small.net.collect_params().values() if p.grad_req != 'null']
        norms = [node.inputs[1:3] for node in small.program.nodes() if 'BatchNorm' in node.op]
        of_norms = {entry.node.name for entries in norms for entry in entries}
        assert small.after.params == sum(int(np.prod(p.shape)) for p in trained)
        assert small.after.params_without_bn == sum(int(np.prod(p.shape)) for p in trained if p.name not in of_norms)
        assert small.after.macs <= small.before.macs
        assert small.before == count(net, shape)
        again = compact(small.net, shape)
        assert again.before == again.after and again.max_difference < 1e-6
        assert again.after.params == small.after.params and again.after.macs == small.after.macs
        assert again.after.uncounted == small.after.uncounted
        for name, value in small.program.values.items():
            np.testing.assert_array_equal(again.program.values[name], value)
        if same_names:
            assert again.after == small.after == count(small.net, shape)
            assert again.unhandled == small.unhandled
            assert json.loads(to_json(again.program.outputs)) == json.loads(to_json(small.program.outputs))
        EXAMPLES.append(None)
    return check


def pytest_terminal_summary(terminalreporter):
    if EXAMPLES:        # not where other processes ran the tests
        terminalreporter.write_line(f'{len(EXAMPLES)} networks compacted and compared')
