"""A loop of one's own in two workers: factors get the same updates on both, on the workers and on the store."""
import json

import numpy as np
import pytest

LOOP = '''
import json, sys
import sss_gluon as sss
import mxnet as mx
import numpy as np
from mxnet import autograd, gluon

on_store = sys.argv[1] == 'True'
store = mx.kv.create('dist_sync')
mx.random.seed(0)
net = sss.get_model('cifar_resnet20', classes=10, in_channels=1, factors=['neuron', 'block'], depths=[1, 1, 1],
                    widths=[4, 4, 8])
net.initialize()
schedule = mx.lr_scheduler.MultiFactorScheduler(step=[10], factor=0.5, base_lr=0.1)
trainer = sss.make_trainer(net, gamma=0.08, momentum=0.9, wd=1e-4, kvstore=store, lr_scheduler=schedule,
                           update_on_kvstore=on_store)
loss = gluon.loss.SoftmaxCrossEntropyLoss()
random = np.random.RandomState(7 + store.rank)      # other images in each
for _ in range(20):
    images, labels = mx.nd.array(random.randn(8, 1, 8, 8)), mx.nd.array(random.randint(0, 10, 8))
    with autograd.record():
        error = loss(net(images), labels)
    error.backward()
    trainer.step(16)
mx.nd.waitall()
trained = {name: p.data().asnumpy().ravel().tolist() for name, p in net._collect_params_with_prefix().items()
           if p.grad_req != 'null'}
with open(f'{sys.argv[2]}/{store.rank}.json', 'w') as file:
    json.dump(trained, file)
'''


@pytest.mark.slow
def test_updates_on_the_workers_and_on_the_store_agree(tmp_path, workers):
    found = {}
    for on_store in (False, True):
        folder = tmp_path / str(on_store)
        folder.mkdir()
        workers(LOOP, folder, on_store, folder)
        found[on_store] = [json.loads((folder / f'{rank}.json').read_text()) for rank in range(2)]
        assert found[on_store][0] == found[on_store][1]
    factors = {name: np.array(values) for name, values in found[False][0].items() if name.endswith('factor')}
    zeros = sum((values == 0).sum() for values in factors.values())
    assert 0 < zeros < sum(values.size for values in factors.values())
    for name, values in found[False][0].items():
        np.testing.assert_allclose(found[True][0][name], values, rtol=2e-4, atol=2e-6, err_msg=name)
    for name, values in factors.items():
        np.testing.assert_array_equal(np.array(found[True][0][name]) == 0, values == 0, err_msg=name)
