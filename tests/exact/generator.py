"""Random small networks, drawn by hypothesis as lists of lines that each apply an operator to earlier results.

``networks()`` draws a ``Source``; it prints as it would be written, so that a failing example can be read:

    x: 3 x 8 x 8
    a = conv(x, width=4, kernel=3, padding=1, zeros=(0, 2))
    b = norm(a, zeros=(1,), constant=())
    -> b
"""
from __future__ import annotations

import string
from typing import Dict, List, NamedTuple, Tuple

import mxnet as mx
from drawn_operators import OPERATORS, PICKS, call
from hypothesis import strategies as st
from mxnet import gluon

NAMES = [letter for letter in string.ascii_lowercase if letter != 'x']
OFTEN = ('conv', 'conv_neuron', 'norm', 'norm_neuron', 'activation', 'pair', 'concat')      # the usual operators


class Line(NamedTuple):
    """One result: an operator of ``OPERATORS`` applied to earlier results, with arguments."""
    name: str
    operator: str
    inputs: Tuple[str, ...]
    arguments: Dict[str, object]

    def __repr__(self):
        given = [*self.inputs, *(f'{key}={value!r}' for key, value in self.arguments.items())]
        return f'{self.name} = {self.operator}({", ".join(given)})'


class Source(NamedTuple):
    """A network as text: shape of the input, lines, names of the outputs, seed of the values."""
    shape: Tuple[int, ...]
    lines: List[Line]
    outputs: Tuple[str, ...]
    seed: int

    def __repr__(self):
        return '\n'.join(['', f'x: {" x ".join(map(str, self.shape[1:]))}', *map(repr, self.lines),
                          f'-> {", ".join(self.outputs)}   (seed {self.seed})'])


def shape_after(line: Line, shapes) -> Tuple[int, ...]:
    """Shape of the result of a line, by MXNet."""
    operator, given = OPERATORS[line.operator], [shapes[name] for name in line.inputs]
    layer = operator.layer(line.arguments, *given) if operator.layer else None
    symbols = [mx.sym.var(f'input{i}', shape=shape) for i, shape in enumerate(given)]
    return operator.forward(mx.sym, layer, line.arguments, *symbols).infer_shape()[1][0]


class Draft:
    """The lines drawn so far, with the shapes of their results."""

    def __init__(self, draw):
        self.draw, self.lines, self.shapes = draw, [], {'x': (2, draw(st.integers(1, 4)), 8, 8)}

    def add(self, operator: str, inputs, **fixed) -> str:
        """Add a line with drawn arguments, except the given ones; return the name of its result."""
        arguments = OPERATORS[operator].draw(self.draw, *(self.shapes[name] for name in inputs))
        line = Line(NAMES[len(self.lines)], operator, tuple(inputs), {**arguments, **fixed})
        self.shapes[line.name] = shape_after(line, self.shapes)
        self.lines.append(line)
        return line.name

    def any(self) -> None:
        """Add a line of any operator on results that fit it."""
        possible = {name: PICKS[operator.inputs](self.shapes) for name, operator in OPERATORS.items()}
        kinds = [name for name, picks in possible.items() if picks]
        operator = self.draw(st.sampled_from(kinds + 3 * [kind for kind in kinds if kind in OFTEN]))
        latest = possible[operator][::-1]       # with equal chance the very last one, so that networks get deep
        self.add(operator, self.draw(st.one_of(st.just(latest[0]), st.sampled_from(latest[:8]))))

    def again(self) -> None:
        """Use an earlier layer again, on another input."""
        fits = [(image, line.name) for image in self.shapes for line in self.lines if line.operator == 'conv'
                and self.shapes[image] == self.shapes[line.inputs[0]]]
        if fits:
            image, layer = self.draw(st.sampled_from(fits[-6:]))
            self.lines.append(Line(NAMES[len(self.lines)], 'again', (image,), dict(layer=layer)))
            self.shapes[self.lines[-1].name] = self.shapes[layer]

    def residual(self) -> None:
        """One to three lines that keep the shape of an image, added to it."""
        image = self.draw(st.sampled_from([name for name, shape in self.shapes.items() if len(shape) == 4][::-1]))
        y = image
        for kind in self.draw(st.lists(st.sampled_from(['norm', 'conv', 'activation', 'norm_neuron', 'conv_block']),
                                       min_size=1, max_size=3)):
            kernel = self.draw(st.sampled_from([1, 3]))
            same = dict(width=self.shapes[y][1], groups=1, kernel=kernel, stride=1, padding=kernel // 2, dilation=1)
            y = self.add(kind, [y], **(same if kind.startswith('conv') else {}))
        self.add('pair', [image, y], of='add')

    def dense_connection(self) -> None:
        """Normalisation with factors, ReLU and a convolution, joined with the image that they start from."""
        possible = [name for name, shape in self.shapes.items() if len(shape) == 4 and shape[1] <= 8]
        if possible:
            image = self.draw(st.sampled_from(possible[::-1]))
            y = self.add('activation', [self.add('norm_neuron', [image])], type='relu')
            y = self.add('conv', [y], width=self.draw(st.integers(4, 8)), groups=1, kernel=3, stride=1, padding=1,
                         dilation=1, zeros=())
            self.add('concat', [image, y])


@st.composite
def networks(draw, most: int = 12) -> Source:
    """A network of about ``most`` lines at most, and dense layers; the last line is an output, others may be."""
    draft = Draft(draw)
    count = draw(st.integers(1, most))
    while len(draft.lines) < count:
        draw(st.sampled_from([draft.any] * 5 + [draft.residual] * 2 + [draft.dense_connection, draft.again]))()
    lines = draft.lines
    further = draw(st.sets(st.sampled_from([line.name for line in lines]), max_size=2))
    outputs = list(dict.fromkeys([*sorted(further - {lines[-1].name}), lines[-1].name]))
    for i, result in enumerate(outputs):        # an output keeps all its channels
        if draw(st.sampled_from([True, True, False])):
            outputs[i] = draft.add('dense', [result], flatten=True)
    return Source(draft.shapes['x'], lines, tuple(outputs), draw(st.integers(0, 2 ** 31)))


class Generated(gluon.HybridBlock):
    """The network of a Source."""

    def __init__(self, source: Source):
        super().__init__()
        self.source, shapes, self._used = source, {'x': source.shape}, {}
        with self.name_scope():
            for line in source.lines:
                if line.operator == 'again':
                    self._used[line.name] = self._used[line.arguments['layer']]
                    shapes[line.name] = shapes[line.arguments['layer']]
                    continue
                make = OPERATORS[line.operator].layer
                if make:
                    layer = make(line.arguments, *(shapes[name] for name in line.inputs))
                    setattr(self, line.name, layer)
                    self._used[line.name] = layer
                shapes[line.name] = shape_after(line, shapes)

    def hybrid_forward(self, F, x):
        results = {'x': x}
        for line in self.source.lines:
            forward = call if line.operator == 'again' else OPERATORS[line.operator].forward
            results[line.name] = forward(F, self._used.get(line.name), line.arguments,
                                         *(results[name] for name in line.inputs))
        outputs = [results[name] for name in self.source.outputs]
        return outputs[0] if len(outputs) == 1 else outputs

    def set_zeros(self) -> None:
        """Factors at zero; channels of plain convolutions; gamma, or gamma and beta, of plain norms."""
        for line in self.source.lines:
            zeros, constant = (list(line.arguments.get(key, ())) for key in ('zeros', 'constant'))
            layer = self._used.get(line.name)
            for key, where in (('factor', zeros), ('weight', zeros), ('bias', zeros), ('gamma', zeros + constant),
                               ('beta', zeros)):
                parameter = getattr(layer, key, None) if where else None
                if parameter is None or key != 'factor' and hasattr(layer, 'factor'):
                    continue
                value = parameter.data().asnumpy()
                axis = 1 if line.operator == 'transposed' and key == 'weight' else 0
                per_group = value.shape[axis]
                value[(slice(None),) * axis + (sorted({i % per_group for i in where}),)] = 0
                parameter.set_data(mx.nd.array(value))
