"""How operators treat channels: one rule per family of operators, for the analysis in channels.py.

The channel axis is axis 1. For each node, a rule answers five questions:

- ``applies``: does the rule hold for this form of the operator?
- ``constants``: which output channels have the same value for every image and position, in inference mode?
- ``labels``: with which input channels does each output channel live and die?
- ``require_inputs``: on which input channels do the kept outputs depend beyond that?
- ``rewrite``: which attributes and parameters change when only some of the channels are kept?

Every method gets the node and the *view*. ``node.inputs`` is the list of its input entries, and ``node.get(key,
default)`` reads an attribute as a Python value. The view is the ``Channels`` of the program being pruned. It offers:

===============================  ====================================================================================
``view.shape(entry)``            shape of an entry, which is an output of a node: ``node.inputs[i]``, ``Entry(node)``
``view.channels(entry)``         size of its channel axis C; for a vector, its length
``view.positions(entry)``        number of values per image and channel
``view.output_count(node)``      number of outputs of a node
``view.is_parameter(entry)``     True for a parameter or an auxiliary state
``view.value(entry)``            value of a parameter, a numpy array
``view.constant(entry)``         (C,) float64: the constant value of each channel, NaN where it varies
``view.label(entry)``            (C,) integers: the label of each channel
``view.new_labels(entry)``       (C,) integers: labels that are tied to nothing yet
``view.couple(a, b)``            tie labels: position by position, a and b live and die together
``view.mark_required(labels)``   keep these labels, because a kept output depends on them
``view.mark_kept(labels)``       keep these labels, with constants that are known and with any values otherwise
``view.required(labels)``        booleans: does a kept output depend on them?
``view.kept_labels(labels)``     booleans: do they remain, be it only as the last channel of a layer?
``view.kept(entry)``             (C,) booleans: the channels of an entry that remain; in ``rewrite``
``view.slice(entry, axis, m)``   cut a parameter to the mask m along an axis; in ``rewrite``
``view.shift(node, offset)``      add an array of shape (outputs,) to the bias of a layer; in ``rewrite``
``view.replace(entry, value)``    another value for a parameter that is not trained; in ``rewrite``
``view.cached(node, compute)``   the result of ``compute()``, which is called once per node
===============================  ====================================================================================

``sss_gluon.register_rule`` makes a rule known to the pass, and shows a complete example.
"""
from ..ir import Entry, Node
from .channelwise import Axes, BatchNorm, Pad, Pooling, PReLU, UpSampling
from .elementwise import Elementwise
from .linear import Linear
from .rearranging import Concat, Flatten, SliceAxis, SliceLike, Split, Take
from .rule import Channelwise, Coupled, Rule, Unknown

__all__ = ['Axes', 'BatchNorm', 'Channelwise', 'Concat', 'Coupled', 'Elementwise', 'Entry', 'Flatten', 'Linear', 'Node',
           'PReLU', 'Pad', 'Pooling', 'Rule', 'SliceAxis', 'SliceLike', 'Split', 'Take', 'Unknown',
           'UpSampling']
