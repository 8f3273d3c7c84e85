"""Tables, bar charts and the page of measurements made by hand."""
import re

import pytest

from sss_gluon.bench.host import host
from sss_gluon.csv_files import read_csv
from sss_gluon.report.bench import bench_tables, title, where, write_bench
from sss_gluon.report.bench_bars import bars

SHARED = dict(model='resnet50', structure='resnet26', cut='to resnet26', precision='float32', image='3x224x224',
              params='25000000', rounds='20', quick='no', failed='', **host((0, 1)))


def row(use, form, runtime='MXNet', provider='', batch=8, devices='cpu', ms=10.0, speedup='', macs=4_000_000_000,
        failed=''):
    found = dict(
        SHARED, use=use, form=form, runtime=runtime, provider=provider, devices=devices, batch=str(batch),
        macs=str(macs), ms_p50=f'{ms}', ms_p95=f'{1.5 * ms}', ms_low=f'{0.9 * ms}', ms_high=f'{1.1 * ms}',
        images_per_second=f'{1000 * batch / ms}', memory_mib='100.5', speedup='', speedup_low='', speedup_high='',
        macs_ratio='', gain='', failed=failed)
    if speedup:
        found.update(speedup=f'{speedup}', speedup_low=f'{0.9 * speedup}', speedup_high=f'{1.2 * speedup}',
                     macs_ratio='2.0', gain=f'{speedup / 2}')
    if failed:
        found.update(dict.fromkeys(('ms_p50', 'ms_p95', 'ms_low', 'ms_high', 'images_per_second', 'memory_mib'), ''))
    return found


ROWS = [row('training', 'without factors', devices='gpu0 gpu1', ms=1234.0),
        row('training', 'with factors', devices='gpu0 gpu1', ms=1250.0, speedup=0.99),
        row('inference', 'dense', 'ONNX Runtime', 'CUDA'),
        row('inference', 'compact', 'ONNX Runtime', 'CUDA', ms=4.0, speedup=2.5, macs=2_000_000_000),
        row('inference', 'dense', batch=64, failed='out of memory'),
        row('inference', 'compact', batch=64, failed='out of memory')]
SCALING = [dict(SHARED, use='scaling', form=form, runtime='MXNet', provider='', devices='cpu0 cpu1', batch='8',
                workers='2', macs='4000000000', ms_p50='100', images_per_second='160', speedup='3.6', efficiency=value,
                efficiency_low='0.85', efficiency_high='0.95', predicted='0.93', share='0.07', megabytes='102')
           for form, value in (('weak', '0.9'), ('strong', '0.8'))]


def test_where():
    assert [where(ROWS[i]) for i in (0, 2)] == ['MXNet on gpu0 and gpu1, float32', 'ONNX Runtime CUDA, float32']
    assert title(ROWS) == 'resnet50, to resnet26: 4.00 G to 2.00 G MACs'


def test_tables():
    training, inference = bench_tables(ROWS)
    assert training.text[1] == ['with factors', 'MXNet on gpu0 and gpu1, float32', '8', '1,250', '1,875',
                                '1,125–1,375', '6', '100', '0.99', '0.89–1.19', '2.00']
    assert inference.text[0][-4:] == ['–'] * 4 and inference.text[1][-1] == '1.25' and len(inference.text) == 2
    assert 'dense, MXNet, float32, batch 64; compact, MXNet, float32, batch 64: out of memory.' in inference.note
    assert 'MXNet 1.9.1' in inference.note and 'MXNet 1.9.1' not in training.note
    assert inference.data == ROWS[2:]


def test_scaling_is_a_table_of_its_own():
    table, = bench_tables(SCALING)
    assert table.text[0] == ['weak', '8', '2', '2', '100', '160', '3.60', '90%', '85%–95%', '93%', '7%', '102']


@pytest.mark.parametrize('rows, panels', [(ROWS, 3), (SCALING, 1), (ROWS + SCALING, 4)])
def test_bars_are_as_high_as_the_numbers(rows, panels):
    figure = bars(rows, title(rows), where)
    assert len(figure.axes) == panels
    heights = [[round(bar.get_height(), 2) for bar in axes.patches] for axes in figure.axes]
    if rows[0] is ROWS[0]:
        assert heights[:3] == [[6.48, 6.4], [800.0, 2000.0], [2.5]]
    if rows[-1] is SCALING[-1]:
        assert heights[-1] == [0.9, 0.93, 0.8, 0.93]


def test_a_folder_has_one_page_of_all_its_measurements(tmp_path):
    (tmp_path / 'notes.csv').write_text('a,b\n1,2\n')
    write_bench(ROWS, tmp_path, 'first')
    files = write_bench(SCALING, tmp_path, 'second')
    assert {path.name for path in files} == {'second.csv', 'second.png', 'second.pdf', 'second.svg', 'bench.md',
                                             'bench.html'}
    assert all(path.stat().st_size > 0 for path in files) and (tmp_path / 'first.pdf').read_bytes()[:4] == b'%PDF'
    assert [found for _, found in read_csv(tmp_path / 'first.csv')] == ROWS
    page = (tmp_path / 'bench.html').read_text('utf-8')
    assert page.count('<svg role="img"') == 2 and len(re.findall('<section', page)) == 2
    assert '2 measurements on' in page and 'predicts 2.50 to 2.50 times as fast' in page and 'out of memory' in page
    assert '![' in (tmp_path / 'bench.md').read_text('utf-8')
