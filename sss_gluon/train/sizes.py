"""Size of a network before and after, whatever it is named by: a model, a run folder or an exported symbol."""
from __future__ import annotations

from pathlib import Path
from typing import Optional, Tuple

import mxnet as mx

from ..errors import SSSError
from ..graph import Count, Structure, count, load, remaining
from ..models import architecture, get_model
from ..structures import load_structure, set_structure
from .deploy import load_run


def sizes(target: str, structure: Optional[str] = None, size: Optional[int] = None, channels: int = 3,
          classes: Optional[int] = None) -> Tuple[Count, Optional[Count]]:
    """(before, after); after is None where nothing says what goes.

    Parameters
    ----------
    target : str
        A model (``resnet50``, ``package.module:function``), a run folder (cut by the zeros of its newest
        checkpoint), or a symbol.json.
    structure : str, optional
        structure.json, or the name of a shipped one, that cuts a model.
    size, channels, classes : int, optional
        Input and classes of a model; size and channels also of a symbol without its structure.json.
    """
    if structure is not None and (target.endswith('.json') or Path(target).is_dir()):
        raise SSSError(f'{target}: a structure cuts a model; name the model, e.g. resnet50')
    if target.endswith('.json'):
        net, beside = load(target), Path(target.replace('-symbol.json', '-structure.json'))
        if beside.is_file() and not size:
            return count(net, Structure.load(beside).input_shape), None
        return count(net, (1, channels) + _square(size, target)), None
    if Path(target).is_dir():
        trained = load_run(target)
        return remaining(trained.net, trained.input_shape)
    if ':' not in target:
        size = size or architecture(target).size
    net = get_model(target, classes, in_channels=channels)
    shape = (1, channels) + _square(size, target)
    if structure is None:
        return count(net, shape), None
    net.initialize(init=mx.init.Xavier())
    set_structure(net, load_structure(structure))
    return remaining(net, shape)


def _square(size: Optional[int], target: str) -> Tuple[int, int]:
    if not size:
        raise SSSError(f'{target}: give the height and width of the input: --size 224')
    return (size, size)
