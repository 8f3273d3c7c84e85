"""Configurations outside of a test's own folder."""
import pytest

from sss_gluon.train import Config

SMALL = dict(model='cifar_resnet20', model_options=dict(depths=[1, 1, 1], widths=[8, 8, 16]), image_size=8,
             augment_pad=1, augment_flip=False, batch_size=64, lr_mode='constant', learning_rate=0.05, gamma=0.02)


@pytest.fixture(scope='session')
def small():
    """A function that makes the configuration of a small run in a given folder."""
    def make(folder, **settings):
        return Config(run=str(folder), **dict(SMALL, **settings))
    return make
