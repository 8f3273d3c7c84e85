"""Small runs that are asked for a size: settings, and what is read back of them."""
import numpy as np

from sss_gluon import get_model
from sss_gluon.structures import MaskedCounter
from sss_gluon.train.checkpoint import checkpoints, read_checkpoint

BLOCKS = dict(model_options=dict(depths=[2, 2, 2], widths=[4, 8, 8]), factors=['block'], epochs=6, search=0.5,
              target_macs=0.6)
MIXED = dict(factors=['neuron', 'block'], epochs=5, search=0.5, target_macs=0.55)
GROUPS = dict(model='cifar_resnext20', model_options=dict(depths=[2, 1, 1], widths=[8, 8, 16], groups=4),
              factors=['group', 'block'], epochs=5, search=0.5, target_macs=0.75)
NEURONS = dict(model='cifar_vgg16', factors=['neuron'], image_size=32, epochs=3, search=0.5, target_macs=0.5,
               model_options=dict(stages=[[4, 4], [6, 6], [6, 6, 6], [6, 6, 6], [6, 6, 6]]))


def network(config):
    """The network of a run on the digits, with factors 1, and its input shape."""
    net = get_model(config.model, classes=10, in_channels=1, factors=config.factors,
                    neuron_block=config.neuron_block, **config.model_options)
    net.initialize()
    return net, (1, 1, config.image_size, config.image_size)


class Asked:
    """What a finished run with a target left."""

    def __init__(self, run):
        self.run, self.config, self.rows = run, run.config(), run.metrics.rows()
        net, shape = network(self.config)
        self.counter = MaskedCounter(net, shape, weights='nonzero')
        self.kinds = {factor.name: factor.kind for factor in self.counter.factors}
        arrays, _ = read_checkpoint(checkpoints(run.checkpoints)[-1])
        self.arrays = arrays
        self.factors = {name[len('param:'):-len('.factor')]: value for name, value in arrays.items()
                        if name.startswith('param:') and name.endswith('.factor')}
        self.held = {name: arrays.get(f'state:{name}.factor@held', np.zeros(value.shape)).astype(bool)
                     for name, value in self.factors.items()}

    def share(self, which='macs', back=None):
        """What is left, with one structure of a factor back."""
        held = {name: mask.copy() for name, mask in self.held.items()}
        if back:
            held[back][np.argmax(held[back])] = False
        return getattr(self.counter.share({name: ~mask for name, mask in held.items()}), which)

    def counts(self, back):
        """Whether one structure of a factor would be part of the network again: not inside of a block that is gone."""
        masks = {name: ~mask for name, mask in self.held.items()}
        masks[back] = masks[back].copy()
        masks[back][np.argmin(masks[back])] = True
        return back in self.counter.present(masks)

    def structure(self):
        """{factor: what is held} as lists, to be compared."""
        return {name: mask.tolist() for name, mask in self.held.items()}
