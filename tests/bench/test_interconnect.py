"""The model of scaling, by hand."""
import pytest

from sss_gluon.bench.interconnect import Cluster, efficiency, exchange, gradient_bytes, prediction

CLUSTER = Cluster(step=0.1, bytes=100e6, bandwidth=1e9, latency=0.001)


@pytest.mark.parametrize('machines,expected', [(1, 0.0), (2, 0.101), (4, 0.151), (100, 0.199)])
def test_sums(machines, expected):
    assert exchange(CLUSTER, machines) == pytest.approx(expected)


@pytest.mark.parametrize('machines,overlap,expected', [
    (1, 0, 1), (2, 0, 0.1 / 0.201), (2, 0.5, 0.1 / (0.201 - 0.0505)), (2, 1, 0.1 / 0.101), (4, 1, 0.1 / 0.151),
])
def test_efficiency(machines, overlap, expected):
    assert efficiency(CLUSTER, machines, overlap) == pytest.approx(expected)


def test_prediction_for_resnet50():
    """25,549,480 parameters, 16 factors; 64 machines with 10 Gbit/s: 161 ms of sums on a step of 100 ms."""
    assert gradient_bytes('resnet50') == 4 * (25_549_480 + 16)
    rows = {gpus: pairs for gpus, *pairs in prediction(step=0.1)}
    assert list(rows) == [8, 16, 32, 64, 128, 256, 512]
    assert rows[8] == [(1, 1)] * 3
    sums = 2 * 63 / 64 * 102_197_984 / 1.25e9
    assert rows[512][0] == pytest.approx((0.1 / (0.1 + sums), 0.1 / sums))
    assert all(worst <= best <= 1 for pairs in rows.values() for worst, best in pairs)
