"""Every file that the package reads, damaged at random: it is read, or refused in one sentence, in bounded memory."""
import gzip
import io
import os
import subprocess
import sys
import tarfile
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sss_gluon import SSSError
from sss_gluon.csv_files import EpochTable
from sss_gluon.data import cifar
from sss_gluon.data.idx import read_idx
from sss_gluon.data.recordio import image_record, read_index, read_list, walk
from sss_gluon.report.published import load_published
from sss_gluon.structures.structure import Structure
from sss_gluon.sweep import load_plan
from sss_gluon.train import load_config
from sss_gluon.train.checkpoint import read_checkpoint

ROOT = Path(__file__).resolve().parents[1]
MEMORY = 64 * 2 ** 20       # bytes; the files have some kilobytes
SMALL = replace(cifar.FORMATS['cifar10'], train=(('data_batch_1.bin', 2),), test=(('test_batch.bin', 1),))


def checkpoint():
    position = b'{"format": "sss_gluon checkpoint 1", "epoch": 1, "step": 0, "loss_sum": 0.5, "correct": 2.0}'
    file = io.BytesIO()
    np.savez(file, position=np.frombuffer(position, np.uint8), **{'param:weight': np.ones((3, 2), 'float32'),
                                                                   'state:num_update': np.array(3)})
    return file.getvalue()


def archive():
    file = io.BytesIO()
    with gzip.GzipFile(fileobj=file, mode='w', mtime=0) as packed, tarfile.open(fileobj=packed, mode='w') as tar:
        for name, size in SMALL.files.items():
            member = tarfile.TarInfo(f'{SMALL.folder}/{name}')
            member.size = size
            tar.addfile(member, io.BytesIO(bytes(size)))
    return file.getvalue()


def walk_all(path):
    with open(path, 'rb') as file:
        return list(walk(file))


def table(path):
    run = EpochTable(path)
    run.keep_epochs(1)
    return run.rows()


# As those of configs/plans, with few runs: each reads its configuration
PLAN = f"""title: "SSS against SSL"
smoke: {{data: digits, validation: 1000, image_size: null, epochs: 1}}
entries:
  - name: digits-dense
    config: {ROOT}/configs/digits/cifar_resnet20_dense.yaml
    grid: {{seed: [0]}}
    steps: [train, evaluate]
    smoke: &resnet20 {{gamma: 0.26, model_options: {{depths: [1, 1, 1]}}}}
  - name: digits-ssl
    config: {ROOT}/configs/digits/cifar_resnet20_dense.yaml
    grid: {{method_options.strength: [0.001], seed: [0]}}
    set: {{method: ssl, method_options: {{kinds: [neuron]}}}}
    smoke: {{<<: *resnet20, method_options.strength: 2.4}}
  - name: digits-ssl-tuned
    config: {ROOT}/configs/digits/cifar_resnet20_dense.yaml
    after: digits-ssl
    set: {{method: ssl, method_options: {{kinds: [neuron]}}, epochs: 40, lr_decay_epochs: [20, 30]}}
    smoke: *resnet20
"""

# name of the file: (what is damaged, what reads it)
PARSERS = {
    'config.yaml': ((ROOT / 'configs/digits/cifar_resnet20_dense.yaml').read_bytes(), load_config),
    'plan.yaml': (PLAN.encode(), load_plan),
    'structure.json': ((ROOT / 'sss_gluon/structures/resnet26.json').read_bytes(), Structure.load),
    'published.csv': ((ROOT / 'sss_gluon/report/published.csv').read_bytes()[:3000],
                      lambda path: load_published(path, lambda line: None)),
    'checkpoint.npz': (checkpoint(), read_checkpoint),
    'images.idx': (b'\0\0\x08\3' + bytes((0, 0, 0, 2)) * 3 + bytes(8), lambda path: read_idx(path, 3)),
    'images.idx.gz': (gzip.compress(b'\0\0\x08\3' + bytes((0, 0, 0, 9)) * 3 + bytes(729), mtime=0),
                      lambda path: read_idx(path, 3)),
    'cifar.tar.gz': (archive(), lambda path: cifar._read_archive(SMALL, path)),
    'cifar.tar': (gzip.decompress(archive()), lambda path: cifar._read_archive(SMALL, path)),   # packed when damaged
    'train.rec': (b''.join(image_record(i, 1, b'abc' * i) for i in range(5)), walk_all),
    'train.idx': (b'0\t0\n1\t60\n2\t120\n', read_index),
    'train.lst': (b'0\t1\ta/b.png\n1\t0\tc/d.png\n', read_list),
    'metrics.csv': (b'epoch,loss\n1,0.5\n2,0.25\n', table),
}

EXAMPLES = {'plan.yaml': 50}                    # it reads a configuration for each run
TOLERANT = ('published.csv', 'train.rec')       # what is damaged in them is passed over, and said or counted

PLACE = st.floats(0, 1, exclude_max=True)
DAMAGE = st.lists(st.one_of(
    st.tuples(st.just('flip'), PLACE, st.integers(0, 7)),
    st.tuples(st.just('cut'), PLACE, PLACE),
    st.tuples(st.just('put'), PLACE, st.binary(min_size=1, max_size=8)),
    st.tuples(st.just('write'), PLACE, st.sampled_from([b'\xff' * 4, b'\x7f' * 8, b'\0' * 8, b'-1', b'9' * 20, b'&a *a',
                                                        b'[' * 50, b'{' * 50, b'1e999', b'nan', b'null', b'"', b'\n'])),
    st.tuples(st.just('repeat'), PLACE, PLACE)), min_size=1, max_size=4)


def damaged(content, changes):
    for kind, place, value in changes:
        at = int(place * len(content))
        if kind == 'flip' and content:
            content = content[:at] + bytes((content[at] ^ 1 << value,)) + content[at + 1:]
        elif kind == 'cut':
            content = content[:at] + content[at + int(value * (len(content) - at)):]
        elif kind == 'put':
            content = content[:at] + value + content[at:]
        elif kind == 'write':
            content = content[:at] + value + content[at + len(value):]
        elif kind == 'repeat':
            content = content[:at] + content[int(value * at):]
    return content


@pytest.mark.parametrize('name', PARSERS)
def test_damage_is_refused_in_one_sentence(name, tmp_path):
    content, read = PARSERS[name]
    path, fine = tmp_path / name, []

    @settings(max_examples=EXAMPLES.get(name, 150), deadline=None, derandomize=True, database=None,
              suppress_health_check=list(HealthCheck))
    @given(DAMAGE)
    def attempt(changes):
        broken = damaged(content, changes)
        path.write_bytes(gzip.compress(broken) if name == 'cifar.tar' else broken)
        tracemalloc.start()
        try:
            read(path)
            fine.append(broken)
        except SSSError as error:
            assert str(error) and '\n' not in str(error)
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < MEMORY

    path.write_bytes(gzip.compress(content) if name == 'cifar.tar' else content)
    read(path)      # as it is, it is good
    attempt()
    assert name in TOLERANT or len(fine) < EXAMPLES.get(name, 150)


BOMBS = {
    'images.idx.gz': (b'\0\0\x08\3' + bytes((0, 0, 0, 9)) * 3, lambda path: read_idx(path, 3)),
    'cifar.tar.gz': (gzip.decompress(archive())[:512], lambda path: cifar._read_archive(SMALL, path)),
}


@pytest.mark.parametrize('name', BOMBS)
def test_bombs(name, tmp_path):
    """100 MB of zeros behind a good beginning."""
    start, read = BOMBS[name]
    with gzip.open(tmp_path / name, 'wb', compresslevel=1) as file:
        file.write(start)
        for _ in range(100):
            file.write(bytes(2 ** 20))
    tracemalloc.start()
    try:
        with pytest.raises(SSSError):
            read(tmp_path / name)
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()


def test_an_archive_writes_nothing(tmp_path, monkeypatch):
    """Links, absolute names and names that lead out of the folder are members that nobody asked for."""
    monkeypatch.chdir(tmp_path)
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode='w:gz') as tar:
        for name, kind in (('/etc/sss', tarfile.REGTYPE), ('../../sss', tarfile.REGTYPE),
                           (f'{SMALL.folder}/link', tarfile.SYMTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, '/etc/passwd'
            tar.addfile(member)
    (tmp_path / 'a.tar.gz').write_bytes(file.getvalue())
    with pytest.raises(SSSError, match='does not hold'):
        cifar._read_archive(SMALL, tmp_path / 'a.tar.gz')
    assert [path.name for path in tmp_path.iterdir()] == ['a.tar.gz']


PARAMS = """
import resource, sys
import sss_gluon
import mxnet as mx
import numpy as np
from sss_gluon.graph.block import load_arrays

path, whole = sys.argv[1], {'arg:weight': mx.nd.ones((3, 4, 3, 3)), 'aux:mean': mx.nd.ones(3)}
mx.nd.save(path, whole)
content = open(path, 'rb').read()
resource.setrlimit(resource.RLIMIT_AS, (6 * 2 ** 30,) * 2)
counts = {'read': 0, 'refused': 0}
for seed in range(int(sys.argv[2])):
    random, damaged = np.random.RandomState(seed), bytearray(content)
    place = random.randint(len(content))
    if seed % 3 == 0:
        del damaged[place:]
    elif seed % 3 == 1:
        damaged[place] ^= 1 << random.randint(8)
    else:
        damaged[place:place + 8] = random.bytes(8)
    open(path, 'wb').write(damaged)
    try:
        load_arrays(path)
        counts['read'] += 1
    except sss_gluon.SSSError as error:
        assert path in str(error) and '\\n' not in str(error), seed
        counts['refused'] += 1
print(*counts.values())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != 'linux', reason='limits memory as Linux does')
def test_damaged_params_neither_kill_the_process_nor_fill_the_memory(tmp_path):
    """MXNet's reader is in native code: a process of its own shows whether it survives."""
    done = subprocess.run([sys.executable, '-c', PARAMS, str(tmp_path / 'net.params'), '600'], capture_output=True,
                          text=True, env=dict(os.environ, PYTHONPATH=str(ROOT)))
    assert done.returncode == 0, done.stderr
    read, refused = map(int, done.stdout.split())
    assert read + refused == 600 and refused > 200      # a flipped bit of a weight cannot be seen
