"""Why a layer of a known kind keeps all its channels: what is unusual about it."""
from __future__ import annotations

from .ir import Entry, Node
from .operators import RULES

COMPUTED = ('Convolution', 'Deconvolution', 'FullyConnected', 'BatchNorm')     # by layers that are pruned otherwise


def why_kept(node: Node, view) -> str:
    """': over axis 3', or whatever the reason is; '' for an operator without a rule.

    Parameters
    ----------
    node : Node
    view : Channels
        Of the program that the node belongs to.
    """
    if node.operator not in RULES:
        return ''
    return f': {_shared(node, view) or _layout(node, view) or _axes(node, view) or "this form of it is unknown"}'


def _shared(node: Node, view) -> str:
    shared = [view.program.spelled(entry.node.name) for entry in node.inputs if entry.node in view.shared]
    return f'shares {", ".join(shared)} with another layer' if shared else ''


def _layout(node: Node, view) -> str:
    layout = str(node.get('layout') or 'NC')
    if not layout.startswith('NC'):
        return f'layout {layout}, and channels are known as axis 1 only'
    if node.op in COMPUTED and not all(view.is_parameter(entry) for entry in node.inputs[1:]):
        names = [view.program.spelled(entry.node.name) for entry in node.inputs[1:] if not view.is_parameter(entry)]
        return f'its parameter {", ".join(names)} depends on the input'
    if node.op == 'FullyConnected':
        return f'flatten=False, over the last of {len(view.shape(node.inputs[0]))} axes'
    return ''


def _axes(node: Node, view) -> str:
    if node.op in ('Reshape', 'reshape'):
        batch = node.get('shape', (0,))
        fixed = isinstance(batch, tuple) and batch[:1] > (0,)
        return f'shape={node.attrs.get("shape")} fixes the batch size' if fixed else \
            f'shape={node.attrs.get("shape")} moves the channels to other axes'
    if node.op == 'Pad' or node.op == 'pad':
        return 'pads the batch or the channels'
    axis = node.get('axis', node.get('dim'))
    if axis is not None:
        return f'over axis {axis}' + (' is excluded' if node.get('exclude', False) else '')
    inputs = {len(view.shape(entry)) for entry in node.inputs}
    if len(inputs) > 1 and node.op not in COMPUTED:
        return f'its inputs have {" and ".join(map(str, sorted(inputs)))} axes'
    return 'over all axes' if len(view.shape(Entry(node))) < 2 else ''
