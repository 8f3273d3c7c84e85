"""Rules of operators that treat every channel on its own."""
from __future__ import annotations

import numpy as np

from ..ir import Entry
from .rule import Channelwise


class Pooling(Channelwise):
    """Max pooling pads with −∞, and global pooling does not pad; average pooling may count the zeros of the padding."""

    def _function(self, node, view):
        kind = node.get('pool_type', 'max')
        whole = node.get('global_pool', False) or not any(np.ravel(node.get('pad', 0))) \
            and node.get('pooling_convention', 'valid') == 'valid'
        exact = kind == 'max' or kind == 'avg' and (whole or node.get('count_include_pad', True) is False)
        return (lambda _, value: value) if exact else None


class UpSampling(Channelwise):
    """One input, upsampled by repetition. The bilinear form is a grouped convolution with its own weights: unknown."""

    def applies(self, node, view):
        return len(node.inputs) == 1


class Pad(Channelwise):
    """Padding of the positions, not of the batch or the channels."""

    def _function(self, node, view):
        if node.get('mode') in ('edge', 'reflect'):
            return lambda _, value: value
        return None if float(node.get('constant_value', 0)) == 0 else lambda _, value: np.nan * value

    def applies(self, node, view):
        return not any(node.get('pad_width', (1,))[:4])


class PReLU(Channelwise):
    """All forms of LeakyReLU; the slopes of ``prelu``, one per channel, are cut with the channels."""

    def _function(self, node, view):
        slope = node.get('slope', 0.25)
        return {'leaky': lambda _, v: np.where(v > 0, v, slope * v),
                'elu': lambda _, v: np.where(v > 0, v, slope * np.expm1(np.minimum(v, 0)))
                }.get(node.get('act_type', 'leaky'))

    def rewrite(self, node, view):
        if node.get('act_type') == 'prelu' and view.shape(node.inputs[1])[0] > 1:
            view.slice(node.inputs[1], 0, view.kept(node.inputs[0]))
        return {}


class BatchNorm(Channelwise):
    """In inference β + γ·(x − mean)/√(var + eps). Where γ is 0 the channel is the constant β, in training too."""

    def applies(self, node, view):
        return node.get('axis', 1) == 1 and view.output_count(node) == 1 \
            and all(view.is_parameter(entry) for entry in node.inputs[1:])

    def constants(self, node, view):
        gamma, beta, mean, var = (view.value(entry).astype('float64') for entry in node.inputs[1:5])
        if node.get('fix_gamma', True):
            gamma = np.ones_like(gamma)
        value = view.constant(node.inputs[0])
        with np.errstate(all='ignore'):
            result = beta + gamma * (value - mean) / np.sqrt(var + node.get('eps', 1e-3))
        result = np.where(gamma == 0, beta, result)
        return [np.maximum(result, 0) if 'ReLU' in node.op else result]

    def rewrite(self, node, view):
        for entry in node.inputs[1:]:
            view.slice(entry, 0, view.kept(node.inputs[0]))
        return {}


class Axes(Channelwise):
    """Reductions and new axes that leave batch and channel axes alone."""

    def applies(self, node, view):
        before, after = view.shape(node.inputs[0]), view.shape(Entry(node))
        axes = np.ravel(node.get('axis', ()) if node.get('axis', ()) is not None else ())
        return len(after) >= 2 and before[:2] == after[:2] and axes.size > 0 and (axes > 1).all() \
            and not node.get('exclude', False)
