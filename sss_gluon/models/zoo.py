"""GluonCV's networks by name: ``gluoncv:resnet50_v1b``. GluonCV is imported when one of them is asked for."""
from __future__ import annotations

import os
from typing import Any, Dict, Optional

import numpy as np
from mxnet import gluon

from ..errors import SSSError, nearest, reason
from .user import call

PREFIX = 'gluoncv:'
INSTALL = 'pip install gluoncv==0.10.5'
DOWNLOADS = ('pretrained', 'pretrained_base', 'transfer', 'root', 'tag', 'ctx')     # options that load weights
SIZES = {'cifar': 32, 'inception': 299, 'xception': 299, 'ssd_300': 300, 'ssd_512': 512}     # others: 224


def is_zoo(name: str) -> bool:
    """Whether a name of ``get_model`` means a network of GluonCV."""
    return name.startswith(PREFIX)


def size(name: str) -> int:
    """Height and width of the images that a network was published for."""
    return next((side for start, side in SIZES.items() if name[len(PREFIX):].startswith(start)), 224)


def build(name: str, classes: Optional[int], options: Dict[str, Any]) -> gluon.HybridBlock:
    """A network of GluonCV, without weights; its own number of classes by default."""
    loading = sorted(set(DOWNLOADS) & set(options))
    if loading:
        raise SSSError(f'{name}: {loading[0]} cannot be set: networks are built without weights; init=gluoncv trains '
                       f"from GluonCV's")
    try:
        net = _called(name, dict(options) if classes is None else dict(options, classes=classes))
    except SSSError:
        raise
    except Exception as error:      # what a constructor of GluonCV raises for its options is anything
        raise SSSError(f'{name} cannot be built with {options or "its defaults"}'
                       f'{"" if classes is None else f" and {classes} classes"}: {reason(error)}') from error
    if not isinstance(net, gluon.HybridBlock):
        raise SSSError(f'{name} is a {type(net).__name__}, not a HybridBlock; it cannot be traced')
    return net


def pretrained(name: str, options: Dict[str, Any]) -> Dict[str, np.ndarray]:
    """{structural name: array} of the weights that GluonCV publishes for a network.

    GluonCV itself downloads them into ``~/.mxnet/models`` ($MXNET_HOME/models), unless they are there, and checks them.
    """
    folder = os.path.join(os.environ.get('MXNET_HOME', os.path.join('~', '.mxnet')), 'models')
    try:
        net = _called(name, dict(options, pretrained=True))
    except SSSError:
        raise
    except Exception as error:      # of the network, of the file, of the constructor
        raise SSSError(f"GluonCV's weights of {name} cannot be had: {' '.join(str(error).split())}; on a machine "
                       f'without network, put the .params file that another one has downloaded into '
                       f'{folder}') from error
    return {key: parameter.data().asnumpy() for key, parameter in net._collect_params_with_prefix().items()}


def _called(name: str, options: Dict[str, Any]):
    model_zoo, short = _model_zoo(), name[len(PREFIX):].lower()
    functions = model_zoo.model_zoo._models
    if short not in functions:
        raise SSSError(f'model {name!r} is unknown; did you mean {PREFIX + nearest(short, functions)!r}? GluonCV has '
                       f'{len(functions)} networks: gluoncv.model_zoo.get_model_list()')
    return call(functions[short], options, dict(pretrained_base=False))


def _model_zoo():
    try:
        from gluoncv import model_zoo
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and (error.name or '').split('.')[0] == 'gluoncv'
        raise SSSError(f'{PREFIX}NAME needs GluonCV, ' + (f'which is not installed: {INSTALL}' if missing else
                                                         f'which cannot be imported: {error}; {INSTALL}')) from error
    return model_zoo
