"""Sizes before and after pruning, for a model name, a run folder or an exported symbol."""
from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, Dict, List, Optional, Tuple

import mxnet as mx

from ..errors import SSSError
from ..graph import Count, count, load
from ..graph.trace import structural_names
from ..models import architecture, get_model, zoo
from ..structures import Structure, load_structure, remaining, set_structure
from ..train.run_folder import RunFolder
from .source import input_shape, shape_beside
from .trained_run import dense_size, load_run


def sizes(target: str, structure: Optional[str] = None, size: Optional[int] = None, channels: Optional[int] = None,
          classes: Optional[int] = None) -> Tuple[Count, Optional[Count]]:
    """Count a network before and after pruning; after is None if nothing is pruned.

    Parameters
    ----------
    target : str
        A model (``resnet50``, ``gluoncv:resnet50_v1b``, ``package.module:function``), a run folder (pruned by the zeros
        of its newest checkpoint), or a symbol.json.
    structure : str, optional
        A structure.json, or the name of a shipped structure, that prunes a model.
    size, channels, classes : int, optional
        Input and classes of a model, by default those of the structure, or 3 channels. A symbol takes size and channels
        from the structure.json beside it unless they are given.
    """
    check_target(target, structure, size, channels, classes)
    if target.endswith('.json'):
        net, shape = load(target), shape_beside(target)
        if isinstance(shape, dict):
            return count(net, shape), None
        return count(net, input_shape(target, size, channels)), None
    if os.path.isdir(target):
        trained = load_run(target)
        before, after = _spelled(trained.net, *remaining(trained.net, trained.input_shape))
        return dense_size(RunFolder(target)) or before, after
    if structure is None:
        batch, arguments = described(target, size, channels, classes)
        net = get_model(target, **dict(arguments, factors=() if zoo.is_zoo(target) else None))
        return _spelled(net, count(net, batch))[0], None
    pruned = load_structure(structure)
    batch, arguments = described(target, size, channels, classes, pruned)
    net = get_model(target, **arguments)
    net.initialize(init=mx.init.Xavier())
    try:
        set_structure(net, pruned)
    except SSSError as error:
        raise SSSError(f'{structure}: {error}') from error
    before, after = _spelled(net, *remaining(net, batch))
    return before, after


def _spelled(net, *sizes: Count) -> List[Count]:
    """With the structural names of layers, as factors have them, in place of those in an exported file."""
    layers = [name.rpartition('.')[0] for name in structural_names(net).values()]
    names = {layer.replace('.', '_'): layer for layer in layers}
    return [replace(size, layers=[layer._replace(name=names.get(layer.name, layer.name)) for layer in size.layers])
            for size in sizes]


def check_target(target: str, structure: Optional[str] = None, size: Optional[int] = None,
                 channels: Optional[int] = None, classes: Optional[int] = None) -> None:
    """Refuse what does not fit a model name, a run folder or a symbol.json; see ``sizes``."""
    for name, value in dict(size=size, channels=channels, classes=classes).items():
        if value is not None and not 1 <= value < 2 ** 31:
            raise SSSError(f'{name} {value} must be a number from 1 to {2 ** 31 - 1}')
    if structure is not None and (target.endswith('.json') or os.path.isdir(target)):
        raise SSSError(f'{target}: a structure prunes a model; name the model, e.g. resnet50')
    if target.endswith('.json') and classes:
        raise SSSError(f'{target} is a finished network: leave out classes {classes}')
    if os.path.isdir(target) and (size or channels or classes):
        raise SSSError(f'{target} is a run, whose input and classes follow from its data: leave out size, '
                       f'channels and classes')


def described(name: str, size: Optional[int] = None, channels: Optional[int] = None, classes: Optional[int] = None,
              structure: Optional[Structure] = None) -> Tuple[Tuple[int, ...], Dict[str, Any]]:
    """Shape of the input of a model and the arguments of ``get_model``, by default as its structure has them."""
    spec: dict = {}
    if structure is not None and (structure.model or {}).get('name') == name:
        spec = dict(structure.model or {})
        if isinstance(structure.input_shape, dict):
            raise SSSError(f'{name} has several inputs, which cannot be given here; use sss.rebuild and sss.count')
        channels, classes = channels or structure.input_shape[1], classes or spec.get('classes')
        sides = structure.input_shape[2:]
    else:
        sides = (zoo.size(name),) * 2 if zoo.is_zoo(name) else () if ':' in name else (architecture(name).size,) * 2
    shape = (1, channels or 3) + (_square(size, name) if size or not sides else tuple(sides))
    return shape, dict(spec.get('options', {}), classes=classes, factors=spec.get('factors'), in_channels=shape[1],
                       input_shape=shape)


def _square(size: Optional[int], target: str) -> Tuple[int, int]:
    if not size:
        raise SSSError(f'{target}: give the height and width of the input: --size 224')
    return (size, size)
