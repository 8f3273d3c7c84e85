"""The channel analysis on small networks, see channel_cases.py and constant_cases.py."""
import json

import mxnet as mx
import numpy as np
import pytest
from channel_cases import CASES as PLAIN
from channel_cases import SHAPE, network
from constant_cases import CASES as CONSTANTS

from sss_gluon.graph import count
from sss_gluon.graph.concat import is_whole_slice
from sss_gluon.graph.ir import to_json
from sss_gluon.graph.trace import trace
from sss_gluon.structures import compact, remaining

CASES = {**PLAIN, **CONSTANTS}


def operators(program):
    """Without the slices behind concatenations of odd widths, see test_concat.py."""
    return [node.op for node in program.nodes() if not node.is_variable and not is_whole_slice(node)]


@pytest.mark.parametrize('name', CASES)
def test_what_remains(name, fill, difference, batch):
    case = CASES[name]
    net = network(case, fill)
    small = compact(net, SHAPE)
    assert {layer: row['after'] for layer, row in small.structure.layers.items()} == case.widths
    for seed in (1, 2):
        x = batch(*SHAPE, seed=seed)
        assert difference(net(x), small.net(x)) < 1e-5
    assert small.max_difference < 1e-5

    left, before = operators(small.program), operators(trace(net, SHAPE))
    assert len(left) <= len(before) + 3 * left.count('take') and set(left) <= set(before) | set(case.left)
    assert not set(case.removed) & set(left) and set(case.left) <= set(left)
    for layer, attributes in case.after.items():
        node, = (node for node in small.program.nodes() if node.name == layer)
        assert {key: node.attrs[key] for key in attributes} == attributes
    assert len(small.unhandled) == len(case.unhandled)
    for found, expected in zip(small.unhandled, case.unhandled):
        assert found.partition(':')[0] == expected or found.startswith(f'{expected}(')

    assert small.before == count(net, SHAPE) and small.after == count(small.net, SHAPE)
    again = compact(small.net, SHAPE)
    assert json.loads(to_json(again.program.outputs)) == json.loads(to_json(small.program.outputs))
    for parameter, value in small.program.values.items():
        np.testing.assert_array_equal(again.program.values[parameter], value)


def test_relu_of_relu_goes(fill):
    small = compact(network(CASES['ReLU of ReLU'], fill), SHAPE)
    assert operators(small.program).count('Activation') == 1


@pytest.mark.parametrize('chance', [0.4, pytest.param(0.8, marks=pytest.mark.slow)])
@pytest.mark.parametrize('name', CASES)
def test_random_zeros(name, chance, fill, batch):
    """The same networks with other channels at zero or constant: outputs and counts are right for any pruning."""
    random = np.random.RandomState(len(name))
    net = network(CASES[name]._replace(zeros={}, values={}), fill)
    parameters = net.collect_params()
    for key in [key for key in parameters if key.endswith('_bn_gamma')]:
        live = random.rand(parameters[key].shape[0]) >= chance
        constant = random.rand(live.size) < 0.2
        for part, mask in (('gamma', live), ('beta', live | constant)):
            parameter = parameters[key.replace('gamma', part)]
            parameter.set_data(parameter.data() * mx.nd.array(mask))
    small = compact(net, SHAPE)
    x = batch(*SHAPE)
    for expected, found in zip(outputs(net, x), outputs(small.net, x)):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert small.after.params <= small.before.params + 4 * ('broadcast_add' in operators(small.program))
    assert small.after == count(small.net, SHAPE)
    assert remaining(small.net, SHAPE) == (small.after, small.after)


def outputs(net, x):
    y = net(x)
    return [part.asnumpy() for part in (y if isinstance(y, (list, tuple)) else [y])]
