"""A Program as a Gluon block, and as the files that MXNet reads: symbol.json and params."""
from __future__ import annotations

import ast
import json
import os
from pathlib import Path
from typing import Any, Dict, List, Tuple

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..errors import SSSError, reason
from ..files import atomic_write, write_text
from .ir import Node, Program, to_ndarray
from .trace import INPUTS, OUTPUTS

MULTIPLIERS = (('lr_mult', '__lr_mult__'), ('wd_mult', '__wd_mult__'))


def to_block(program: Program, ctx=None) -> gluon.SymbolBlock:
    """A SymbolBlock with the program's values. It can be trained: multipliers and fixed parameters are respected."""
    return _block(program.symbol(), program.used_values(), ctx)


def as_block(symbol: mx.sym.Symbol, params=None) -> gluon.SymbolBlock:
    """A SymbolBlock that is called as the attributes of its input variables say: see ``trace``."""
    inputs, form = _called(symbol)
    block = gluon.SymbolBlock(symbol, [mx.sym.var(name, dtype='float32') for name in inputs], params=params)
    if form is not None and _leaves(form) == len(symbol.list_outputs()):
        block._out_format = form        # of a network with a cut in it, the outputs may be others
    return block


def _called(symbol: mx.sym.Symbol) -> Tuple[List[str], Any]:
    """The names of the inputs, and the form of the outputs if it is no flat list."""
    told: Dict[str, str] = {}
    for attributes in symbol.attr_dict().values():
        told.update((key, attributes[key]) for key in (INPUTS, OUTPUTS) if key in attributes)
    return told.get(INPUTS, 'data').split(','), ast.literal_eval(told.get(OUTPUTS, 'None'))


def _leaves(form) -> int:
    return sum(map(_leaves, form)) if isinstance(form, list) else max(form, 1)


def _block(symbol, values: Dict[str, np.ndarray], ctx) -> gluon.SymbolBlock:
    block = as_block(symbol)
    attributes = symbol.attr_dict()
    for name, parameter in block.collect_params().items():
        declared = attributes.get(name, {})     # SymbolBlock sets multipliers to 1 although the JSON holds them
        for field, key in MULTIPLIERS:
            if key in declared:
                setattr(parameter, field, float(declared[key]))
        if declared.get('__grad_req__') == 'null':
            parameter.grad_req = 'null'
        parameter.shape = values[name].shape
        parameter._load_init(to_ndarray(values[name].astype(parameter.dtype, copy=False)), ctx)
    return block


def export_program(program: Program, net: gluon.SymbolBlock, prefix) -> List[str]:
    """Write ``prefix-symbol.json`` and ``prefix-0000.params`` with the weights of ``net``."""
    mx.nd.waitall()
    symbol = program.symbol()
    auxiliary = set(symbol.list_auxiliary_states())
    arrays = {f'{"aux" if name in auxiliary else "arg"}:{name}': parameter.list_data()[0].as_in_context(mx.cpu())
              for name, parameter in net.collect_params().items()}
    names = [f'{prefix}-symbol.json', f'{prefix}-0000.params']
    with atomic_write(names[1]) as temporary:
        try:
            mx.nd.save(temporary, arrays)
            mx.nd.load(temporary)       # on a full disk MXNet truncates the file without an error
        except mx.base.MXNetError as error:
            raise SSSError(f'cannot write {names[1]}: {reason(error)}; is the disk full?') from error
    write_text(names[0], symbol.tojson())
    return names


def load_arrays(path) -> Dict[str, np.ndarray]:
    """{name without ``arg:`` or ``aux:``: array} of a ``.params`` file."""
    try:
        arrays = mx.nd.load(str(path))
    except (mx.base.MXNetError, UnicodeDecodeError) as error:      # the latter for a damaged name
        missing = not os.path.exists(path)
        raise SSSError(f'params file {path} does not exist' if missing else
                       f'{path} is not a readable params file, or it is damaged') from error
    if not isinstance(arrays, dict):
        raise SSSError(f'{path} holds arrays without names; save it with net.save_parameters or net.export')
    values = {name.split(':', 1)[-1] if name[:4] in ('arg:', 'aux:') else name: array.asnumpy()
              for name, array in arrays.items()}
    for name, value in values.items():
        if value.dtype.kind == 'f' and not np.isfinite(value).all():
            raise SSSError(f'{path} holds values that are not finite, in {name}: it is damaged, or training diverged')
    return values


def _check_graph(graph) -> None:
    """Refuse graphs that MXNet reads but then hangs or crashes on: cycles, and convolutions without a group."""
    for number, node in enumerate(graph['nodes']):
        if any(not 0 <= entry[0] < number for entry in node['inputs']):
            raise ValueError(f'{node["name"]} reads a later node')
        if int(node.get('attrs', {}).get('num_group', 1)) < 1:
            raise ValueError(f'{node["name"]} has no group')


def load(prefix, ctx=None, params=None) -> gluon.SymbolBlock:
    """Load an exported network. It can be trained further, with its multipliers of weight decay and learning rate.

    Parameters
    ----------
    prefix : str or Path
        As in ``prefix-symbol.json`` and ``prefix-0000.params``; or the name of the symbol file.
    ctx : mxnet.Context, optional
    params : path, optional
        The file of parameters, if it is not ``prefix-0000.params``.
    """
    prefix = str(prefix)
    if prefix.endswith('-symbol.json'):
        prefix = prefix[:-len('-symbol.json')]
    elif prefix.endswith('.json'):
        raise SSSError(f'{prefix} is not the symbol file of an exported network (...-symbol.json)')
    symbol_file = f'{prefix}-symbol.json'
    if not os.path.exists(symbol_file):
        raise SSSError(f'there is no {symbol_file}')
    try:
        text = Path(symbol_file).read_text('utf-8')
        _check_graph(json.loads(text))      # MXNet's own parser reads past the end of a damaged text
        symbol = mx.sym.load_json(text)
    except (mx.base.MXNetError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise SSSError(f'{symbol_file} is not a symbol that MXNet can read, or it is damaged ({type(error).__name__}: '
                       f'{reason(error)})') from error
    params = params or f'{prefix}-0000.params'
    values = load_arrays(params)
    inputs, _ = _called(symbol)
    names = [name for name in symbol.list_inputs() if name not in inputs]
    missing = [name for name in names if name not in values]
    if missing or len(names) != len(values):
        odd = missing[0] if missing else sorted(set(values) - set(names))[0]
        raise SSSError(f'{params} does not belong to {symbol_file}: {odd} is in only one of them')
    attributes = symbol.attr_dict()
    for name in names:
        declared, shape = Node('null', name, attributes.get(name)).get('__shape__'), values[name].shape
        if isinstance(declared, tuple) and (len(declared) != len(shape) or
                                            any(a not in (b, 0, -1) for a, b in zip(declared, shape))):
            raise SSSError(f'{params} does not belong to {symbol_file}: {name} has the shape {shape}, not '
                           f'{declared}')
    return _block(symbol, values, ctx)
