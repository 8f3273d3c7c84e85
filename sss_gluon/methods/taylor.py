"""Taylor criterion: the first-order change of the loss when a structure is removed.

Equation    Θ_j = (1/T) Σ_t | Σ_positions a_j · ∂L_t/∂a_j |, over T images t; divided by √Σ_j Θ_j² in each layer; the
            smallest of the whole network are removed.
            With the structure's output a_j = λ_j·z_j and λ_j = 1 the inner sum equals λ_j · ∂L_t/∂λ_j, the first-order
            change of the loss when λ_j goes from 1 to 0. The code computes this. It is the same before and after the
            ReLU, whose derivative is 1 where the output is not 0.
Source      [29] Molchanov et al., "Pruning Convolutional Neural Networks for Resource Efficient Inference", ICLR
            2017, section 2.2: equations 7 and 8, and the normalisation of layers.
Differs     - The paper also averages over positions, a factor per layer that its normalisation cancels.
            - The paper removes one feature map every few updates and fine-tunes in between; here all are ranked once,
              with ``images`` training images, and fine-tuned afterwards. There is no FLOPs regularisation, because
              the budget is in MACs.
            - BatchNorm uses its running statistics (inference mode), because each image is differentiated alone.
"""
from __future__ import annotations

from typing import Dict, List

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon

from ..graph.ir import Entry, Node, Program, rewritten
from .layer_graph import PrunableUnit
from .method import Case, PruningMethod, Scores
from .ranking import normalised

BATCH = 32


def first_order(case: Case) -> Scores:
    """{factor: (images, size) array of λ·∂L/∂λ}.

    Each image of a batch has its own λ, on the activations, so that the gradients of images stay separate.
    """
    units = {unit.output: unit for unit in case.units}
    program = _with_lambdas(case.layer_graph.program, units)
    symbol = program.symbol()
    names, network = symbol.list_inputs(), mx.nd.CachedOp(symbol)
    constants = {name: mx.nd.array(value) for name, value in program.values.items()}
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    rows: Dict[str, List[np.ndarray]] = {unit.name: [] for unit in case.units}
    images = case.images()
    for start in range(0, len(images.x), BATCH):
        x, y = (mx.nd.array(part[start:start + BATCH]) for part in images)
        lambdas = {}
        for node, unit in units.items():
            _, *sizes = _per_channel(case.layer_graph.program, node)
            lambdas[_lambda_name(unit)] = mx.nd.ones((len(x), *sizes))
            lambdas[_lambda_name(unit)].attach_grad()
        arrays = dict(constants, data=x, **lambdas)
        with autograd.record():
            total = loss(network(*[arrays[name] for name in names]), y).sum()
        total.backward()
        for unit in case.units:
            gradient = lambdas[_lambda_name(unit)].grad.asnumpy().astype('float64')
            rows[unit.name].append(gradient.reshape(len(x), unit.size, -1).sum(axis=2))
    return {name: np.concatenate(values) for name, values in rows.items()}


def _lambda_name(unit: PrunableUnit) -> str:
    return f'lambda_of_{unit.name}'


def _per_channel(program: Program, node: Node):
    """(1, C, 1, 1), with one axis for each axis of the node's output."""
    shape = program.shapes()[Entry(node)]
    return (1, shape[1]) + (1,) * (len(shape) - 2)


def _with_lambdas(program: Program, units: Dict[Node, PrunableUnit]) -> Program:
    """The program with every structure's output multiplied by its λ, and each BatchNorm as a scale and a shift.

    MXNet 1.9.1 gives wrong gradients for a BatchNorm that is recorded in inference mode.
    """
    values = dict(program.values)

    def parameter(node: Node, name: str, value: np.ndarray) -> Entry:
        values[name] = value.astype('float32').reshape(_per_channel(program, node))
        return Entry(Node('null', name))

    def replace(node: Node, inputs):
        if node.op == 'Dropout':
            return {0: inputs[0]}
        new = Node(node.op, node.name, node.attrs, inputs, node.extra)
        if node.op == 'BatchNorm':
            gamma, beta, mean, var = (program.value(entry).astype('float64') for entry in node.inputs[1:5])
            gamma = np.ones_like(gamma) if node.get('fix_gamma', True) else gamma
            scale = gamma / np.sqrt(var + node.get('eps', 1e-3))
            shift = parameter(node, f'{node.name}_t', beta - mean * scale)
            scale = parameter(node, f'{node.name}_s', scale)
            scaled = Node('broadcast_mul', f'{node.name}_scaled', {}, [inputs[0], scale])
            new = Node('broadcast_add', node.name, {}, [Entry(scaled), shift])
        if node not in units:
            return new
        variable = Entry(Node('null', _lambda_name(units[node])))
        return Node('broadcast_mul', f'{node.name}_times_lambda', {}, [Entry(new), variable])

    result = Program(rewritten(program.outputs, replace), values, program.inputs)
    names = {node.name for node in result.nodes()}
    result.values = {name: value for name, value in values.items() if name in names}
    return result


def score(case: Case) -> Scores:
    changes = first_order(case)
    return normalised({name: np.abs(values).mean(axis=0) for name, values in changes.items()}, case.units)


METHOD = PruningMethod('taylor', ('neuron', 'group', 'block'), dict(images=256, scope='global'), score=score,
                       title='Taylor')
