"""The optimizers: accelerated proximal gradient (APG) for scaling factors, Nesterov (NAG) for weights.

Equation numbers are those of Huang & Wang, "Data-Driven Sparse Structure Selection for Deep Neural Networks".
Both are registered with ``mx.optimizer``, as ``apg`` (every parameter is a factor) and ``apgnag``.
"""
from __future__ import annotations

from typing import Dict, Iterable, Optional, Sequence, Union

import mxnet as mx
import numpy as np
from mxnet import nd

from .errors import SSSError


@mx.optimizer.Optimizer.register
class APG(mx.optimizer.Optimizer):
    """The paper's modified stochastic APG on λ, eq. 10-12, with the projection of the authors' code.

    S_α(z) = sign(z)·max(0, |z| − α).

    Parameters
    ----------
    gamma : float
        Sparsity strength γ >= 0 of the penalty γ‖λ‖₁.
    momentum : float
        μ in [0, 1).
    non_negative : bool
        λ ← max(0, λ) after eq. 12; the momentum is not changed. Without it a factor overshoots zero, and swings around
        it for some steps before it stays there.
    gamma_mult : dict of int to float or numpy.ndarray, optional
        Multiplier of γ by parameter index, one number or one for each entry; 1 where absent.
    **kwargs
        ``learning_rate``, ``wd``, ``clip_gradient``, ``rescale_grad``, ``lr_scheduler``, ``multi_precision`` of
        ``mx.optimizer.Optimizer``.

    Notes
    -----
    The parameter holds the look-ahead point λ_t (as in NAG). The state is v, shaped like λ. Multipliers are stored by
    index in the optimizer itself, because pickling it (for a parameter server) drops MXNet's ``param_dict`` and
    ``idx2name``.
    """

    def __init__(self, gamma: float = 0.01, momentum: float = 0.9, non_negative: bool = True,
                 gamma_mult: Optional[Dict[int, Union[float, np.ndarray]]] = None, **kwargs):
        super().__init__(**kwargs)
        if not gamma >= 0 or gamma == float('inf'):
            raise SSSError(f'gamma={gamma}: the sparsity strength must be a finite number >= 0')
        if not 0 <= momentum < 1:
            raise SSSError(f'momentum={momentum} must be in [0, 1)')
        if self.clip_gradient is not None and not self.clip_gradient > 0:
            raise SSSError(f'clip_gradient={self.clip_gradient} must be more than 0, or None for no bound')
        self.gamma, self.momentum, self.non_negative = gamma, momentum, non_negative
        self.gamma_mult = dict(gamma_mult or {})
        self.held: Dict[int, np.ndarray] = {}       # by parameter index: True where a factor is held at zero
        self.train_factors = True                   # otherwise they keep their values
        self.changes = 0        # to be raised whenever ``held`` or ``gamma_mult`` changes
        # The multipliers that remain after pickling; until then MXNet reads those of the parameters.
        self.lr_mult = {index: p.lr_mult for index, p in self.param_dict.items()}
        self.wd_mult = {index: p.wd_mult for index, p in self.param_dict.items()}

    def create_state(self, index, weight):
        return nd.zeros_like(weight)

    def update(self, index, weight, grad, state):
        self._update_count(index)
        if not self.train_factors:
            return
        lr = self._get_lr(index)
        threshold = self.threshold(index, lr)
        if np.ndim(threshold):
            threshold = nd.array(threshold, ctx=weight.context).reshape(weight.shape)
        self.update_factor(weight, grad, state, lr, self._get_wd(index), threshold)

    def threshold(self, index, lr: float) -> Union[float, np.ndarray]:
        """The threshold ηγ of one factor array, which eq. 10 subtracts from |z|; an array if its entries differ.

        It is infinite where a factor is held: with λ = 0 and v = 0, eq. 10 to 12 then give 0 for any gradient.
        """
        threshold = lr * self.gamma * self.gamma_mult.get(index, 1.0)
        return np.where(self.held[index], np.inf, threshold) if index in self.held else threshold

    def thresholds(self, indices: Sequence[int], sizes: Sequence[int], lr: float) -> np.ndarray:
        """``threshold`` of several factor arrays, one after the other, as float32."""
        each = [np.broadcast_to(self.threshold(index, lr), size) for index, size in zip(indices, sizes)]
        return np.concatenate(each).astype('float32')

    def update_factor(self, factor, grad, v, lr: float, wd: float, threshold) -> None:
        """One step of eq. 10-12 on an array of factors; ``threshold`` is ηγ, one number or one per factor.

        The gradient is clip(rescale_grad·grad) + wd·λ, where wd is 0 for factors unless their wd_mult is set. The
        arrays are all of MXNet or all of NumPy; both give the same numbers.
        """
        f = np if isinstance(factor, np.ndarray) else nd
        grad = grad * self.rescale_grad
        if self.clip_gradient is not None:
            grad = f.clip(grad, -self.clip_gradient, self.clip_gradient)
        if wd:
            grad = grad + wd * factor
        # λ − S(z) is computed as one small number (λ where S(z) is 0): zeros are exact, rounding does not add up.
        change = lr * grad
        z = factor - change                                         # eq. 10
        near = f.maximum(f.minimum(z, threshold), -threshold)       # z − S(z)
        change = f.where(near == z, factor, change + near)          # λ_{t−1} − S(z_t)
        v *= self.momentum                                          # eq. 11:  v_t = S(z_t) − λ_{t−1} + μ v_{t−1}
        v -= change
        ahead = factor - change + self.momentum * v                 # eq. 12:  λ_t = S(z_t) + μ v_t
        if self.non_negative:
            ahead = f.maximum(ahead, 0)                             # authors' code
        factor[:] = ahead


@mx.optimizer.Optimizer.register
class APGNAG(APG):
    """The authors' NAG for weights and APG for factors in one optimizer.

    Weights:  v ← μv + g,  W ← W − η(g + μv)  with  g = clip(rescale_grad·∇) + wd·W. The velocity has the unit
    of the gradient, so a lower learning rate acts at once (the velocity of MXNet's ``nag`` contains η).

    Parameters
    ----------
    factors : iterable of int
        Indices of the parameters that are scaling factors. Required, so that no factor is trained as a weight by
        accident; ``sss_gluon.make_trainer`` sets it. () trains every parameter with NAG.
    gamma, momentum, non_negative, gamma_mult, **kwargs :
        As for ``APG``; the momentum is that of both.
    """

    def __init__(self, factors: Iterable[int], **kwargs):
        super().__init__(**kwargs)
        self.factors = frozenset(factors)

    def update(self, index, weight, grad, state):
        if index in self.factors:
            super().update(index, weight, grad, state)
            return
        self._update_count(index)
        self.update_weight(weight, grad, state, self._get_lr(index), self._get_wd(index))

    def update_weight(self, weight, grad, v, lr: float, wd: float, ahead=None) -> None:
        """One step of NAG on an array of weights; ``ahead`` is a buffer of the same shape, allocated if not given.

        ``update_weight_numpy`` gives the same numbers.
        """
        # g = v_t − μv_{t−1}, so W_t = W + ημv_{t−1} − η(1+μ)v_t: three fused operators, and no decay factor 1 − η·wd,
        # whose rounding would add up over thousands of steps.
        ahead = nd.sgd_update(weight, v, out=ahead, lr=_exact(-lr * self.momentum), wd=0.0)
        nd.sgd_mom_update(weight, grad, v, out=weight, lr=-1.0, momentum=_exact(self.momentum),   # for v ← μv + g only
                          wd=_exact(wd), rescale_grad=_exact(self.rescale_grad),
                          clip_gradient=-1.0 if self.clip_gradient is None else _exact(self.clip_gradient))
        nd.sgd_update(ahead, v, out=weight, lr=_exact(lr * (1 + self.momentum)), wd=0.0)

    def update_weight_numpy(self, weight: np.ndarray, grad: np.ndarray, v: np.ndarray, lr: float, wd: float,
                            ahead: np.ndarray, change: np.ndarray) -> None:
        """``update_weight`` on float32 arrays of NumPy, bit for bit: every operation, and its order, is the same.

        ``ahead`` and ``change`` are buffers of the same shape.
        """
        np.multiply(v, lr * self.momentum, out=ahead)
        np.add(weight, ahead, out=ahead)
        np.multiply(v, self.momentum, out=v)
        np.multiply(weight, wd, out=change)
        np.add(v, change, out=v)
        np.multiply(grad, self.rescale_grad, out=change)
        if self.clip_gradient is not None:
            np.clip(change, -self.clip_gradient, self.clip_gradient, out=change)
        np.add(v, change, out=v)
        np.multiply(v, lr * (1 + self.momentum), out=change)
        np.subtract(ahead, change, out=weight)


def _exact(value: float) -> str:
    """A number as MXNet reads it without an error: it misreads the last bit of every tenth number otherwise."""
    return f'{np.float32(value):.19f}'
