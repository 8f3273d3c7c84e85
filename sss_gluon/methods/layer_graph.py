"""The layer graph of a network: which layers produce its structures, and which layer reads them."""
from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Sequence

from mxnet import gluon

from ..errors import SSSError
from ..factors import ScalingFactor
from ..graph.fold import fold
from ..graph.ir import Node, Program
from ..graph.trace import structural_names, trace
from ..structures.factor_values import traced_factors

LINEAR = ('Convolution', 'FullyConnected')
CHANNELWISE = ('Activation', 'relu', 'LeakyReLU', 'Pooling', 'Flatten', 'Dropout')


class PrunableUnit(NamedTuple):
    """The structures of one factor, and the layers that produce them.

    Attributes
    ----------
    factor : ScalingFactor
    output : Node
        The BatchNorm or convolution that carries the factor.
    conv : Node or None
        The convolution that outputs them; None if something else feeds the BatchNorm.
    """
    factor: ScalingFactor
    output: Node
    conv: Optional[Node]

    @property
    def name(self) -> str:
        return self.factor.name

    @property
    def kind(self) -> str:
        return self.factor.kind

    @property
    def size(self) -> int:
        """Number of structures."""
        return self.factor.parameter.shape[0]

    @property
    def norm(self) -> Optional[Node]:
        """The BatchNorm that carries the factor; None if the convolution does."""
        return self.output if self.output.op == 'BatchNorm' else None


class LayerGraph:
    """The folded program of a network with factors, and the ``PrunableUnit`` of each factor, in forward order.

    ``program`` holds the values at construction; ``parameters`` gives the parameters of the network itself.
    """

    def __init__(self, net: gluon.HybridBlock, input_shape: Sequence[int]):
        self.net = net
        self.program: Program = fold(trace(net, input_shape))
        self.users = self.program.consumers()
        self.nodes = {node.name: node for node in self.users}
        structural = {variable: name for name, variable in self.program.variables.items()}
        names = structural_names(net)
        parameters = {names[p.name]: p for p in net.collect_params().values()}
        self._parameters = {variable: parameters[name] for variable, name in structural.items()}
        self.units: List[PrunableUnit] = [self._unit(factor) for factor in traced_factors(self.program, net)]

    def _unit(self, factor: ScalingFactor) -> PrunableUnit:
        prefix = f'{factor.name}.' if factor.name else ''
        for kind in ('gamma', 'weight'):
            variable = self.nodes.get(self.program.variables.get(f'{prefix}{kind}', ''))
            if variable is not None:
                node = self.users[variable][0][0]
                conv = node.inputs[0].node if node.op == 'BatchNorm' else node
                return PrunableUnit(factor, node, conv if conv.op == 'Convolution' else None)
        raise SSSError(f'factor {factor.name} is on a layer without weight or gamma; use method=sss')

    def parameters(self, node: Optional[Node]) -> Dict[str, gluon.Parameter]:
        """{'weight', 'bias', 'gamma', 'beta', 'running_mean' or 'running_var': network parameter} of a node."""
        if node is None:
            return {}
        variables = [entry.node for entry in node.inputs if self.program.is_parameter(entry.node)]
        return {self._role(variable): self._parameters[variable.name] for variable in variables}

    def _role(self, variable: Node) -> str:
        return next(role for role in ('weight', 'bias', 'gamma', 'beta', 'running_mean', 'running_var')
                    if variable.name.endswith(role))

    def producing(self, unit: PrunableUnit) -> List[gluon.Parameter]:
        """Filters, biases and BatchNorm's γ and β: scaled together, they scale the output of the structures.

        The first axis of each is the channel axis.
        """
        found = [*self.parameters(unit.conv).items(), *self.parameters(unit.norm).items()]
        return [parameter for role, parameter in found if role in ('weight', 'bias', 'gamma', 'beta')]

    def relu(self, unit: PrunableUnit) -> Optional[Node]:
        """The ReLU after the structures; None if there is none, or something else reads them too."""
        users = self.users[unit.output]
        node = users[0][0] if len(users) == 1 else None
        return node if node is not None and node.op in ('Activation', 'relu') \
            and node.attrs.get('act_type', 'relu') == 'relu' else None

    def consumer(self, unit: PrunableUnit) -> Node:
        """The only layer that reads the structures; it is an error if another one does too."""
        node = unit.output
        while True:
            users = self.users[node]
            if len(users) != 1 or users[0][0].op not in LINEAR + CHANNELWISE:
                names = ', '.join(f'{user.op}({user.name})' for user, _ in users)
                raise SSSError(f'the structures of {unit.name} are read by {names}, not by exactly one convolution or '
                               f'dense layer; use another method, or other kinds of structures')
            node = users[0][0]
            if node.op in LINEAR:
                if int(node.get('num_group', 1)) > 1:
                    raise SSSError(f'the structures of {unit.name} are read by {node.name}, a grouped convolution; '
                                   f'use another method, or other kinds of structures')
                return node
