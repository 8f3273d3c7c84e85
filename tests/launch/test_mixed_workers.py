"""Gradients that overflow in one of two workers: both skip the update, and stay alike."""
import numpy as np
import pytest

from sss_gluon.errors import SSSError
from sss_gluon.train import precision
from sss_gluon.train.precision import LOSS_SCALE

# Gives every run a loss scale, lets the second worker's loss be infinite in one step, and keeps how each worker ended.
BROKEN = '''
import numpy as np
from sss_gluon.train import loop, precision

from frozen import net  # noqa: F401

precision.loss_scaler = lambda _: precision.LossScaler(256.0)
step, finish = loop.Training.step, loop.Training.finish


def broken_step(self, epoch, number, *batch):
    scaled = self.trainer.scaled
    if (epoch, number) == (0, 3) and self.workers.rank == 1:
        self.trainer.scaled = lambda loss: scaled(loss) * np.inf
    results = step(self, epoch, number, *batch)
    self.trainer.scaled = scaled
    return results


def kept_finish(self):
    weights = {f'weight {p.name}': p.list_data()[0].asnumpy() for p in self.net.collect_params('.*weight').values()}
    np.savez(f'end-{self.workers.rank}.npz', **self.trainer.states(), **weights)
    finish(self)


loop.Training.step, loop.Training.finish = broken_step, kept_finish
'''


def bfloat16_works():
    try:
        precision.check_bfloat16()
    except SSSError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['float32', pytest.param('bfloat16', marks=pytest.mark.skipif(
    not bfloat16_works(), reason='bfloat16 needs oneDNN and a CPU with AVX-512'))])
def test_an_overflow_of_one_worker_skips_the_update_of_all(kind, folder):
    (folder.path / 'broken.py').write_text(BROKEN)
    status, output, errors = folder.launch(2, 'model=broken:net', 'model_options={}', 'factors=null', 'epochs=1',
                                           'lr_mode=constant', f'precision={kind}')
    assert status == 0, errors
    ends = []
    for rank in (0, 1):
        with np.load(folder.path / f'end-{rank}.npz') as file:
            ends.append({name: file[name] for name in file.files})
    assert list(ends[0]) == list(ends[1]) and len(ends[0]) > 10
    for name, value in ends[0].items():
        assert np.isfinite(value).all() and ends[1][name].tobytes() == value.tobytes(), name
    assert ends[0][LOSS_SCALE].tolist() == [128.0, 14, 1] and ends[0]['num_update'] == 17
    assert 'loss scale 128, 1 skipped' in output
