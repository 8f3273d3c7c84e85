"""structure.json: the structures of a network that are kept, and the width of every layer before and after."""
from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union

from ..errors import SSSError
from ..factors import KINDS
from ..files import write_text

FORMAT = 'sss_gluon structure 1'
FOLDER = Path(__file__).parent


def _is_model(spec) -> bool:
    """Whether it can be a ``net.spec``."""
    return spec is None or (
        isinstance(spec, dict) and isinstance(spec.get('options', {}), dict)
        and not {'name', 'classes', 'factors', 'in_channels', 'input_shape'} & set(spec.get('options', {}))
        and isinstance(spec.get('factors') or [], (list, tuple)))


def _shape(written) -> Union[Tuple[int, ...], Dict[str, Tuple[int, ...]]]:
    return {name: tuple(shape) for name, shape in written.items()} if isinstance(written, dict) else tuple(written)


def _are_sizes(values, least: int) -> bool:
    """Whether it is a list of integers, each at least ``least``."""
    return isinstance(values, (list, tuple)) and all(type(n) is int and n >= least for n in values)


@dataclass
class Structure:
    """The structures that were kept of a network.

    Attributes
    ----------
    model : dict or None
        Arguments of ``get_model`` that build the network with all its structures (``net.spec``).
    input_shape : tuple of int, or dict of str to tuple of int
        Of the only input, or of several by their names.
    factors : dict
        {factor name: {'kind': str, 'size': int, 'kept': [indices of the structures that remain]}}, and where there are
        any, 'stay': [indices of those that are zero, but whose channels something else needs]; where a neuron has
        several, 'channels': their number
    layers : dict
        {layer name: {'before': [outputs, inputs], 'after': [outputs, inputs] or None if it was removed}}; the inputs of
        a grouped convolution are those of one group, as in its weight.
    gone_with : dict
        {factor name: number of its structures that were not zero, but went with what was: the neurons inside a block}.
    params_sha256 : str or None
        SHA-256 of the ``-0000.params`` that was exported with it, to detect damage.
    """
    model: Optional[Dict[str, Any]]
    input_shape: Union[Tuple[int, ...], Dict[str, Tuple[int, ...]]]
    factors: Dict[str, Dict[str, Any]]
    layers: Dict[str, Dict[str, Optional[List[int]]]]
    params_sha256: Optional[str] = field(default=None, compare=False)
    gone_with: Dict[str, int] = field(default_factory=dict, compare=False)

    def __repr__(self):
        name = (self.model or {}).get('name', 'a network')
        return f'Structure({name}, input {self.input_shape}, {self.summary() or "no factors"})'

    def save(self, path: Union[str, Path]) -> None:
        """Write as JSON, one factor or layer per line; the file appears complete or not at all."""
        fields = dict(format=FORMAT, **asdict(self))
        for name in ('params_sha256', 'gone_with'):
            if not fields[name]:
                del fields[name]
        lines = []
        for key, value in fields.items():
            if key in ('factors', 'layers') and value:
                rows = ',\n'.join(f'    {json.dumps(name)}: {json.dumps(row)}' for name, row in value.items())
                lines.append(f'  {json.dumps(key)}: {{\n{rows}\n  }}')
            else:
                lines.append(f'  {json.dumps(key)}: {json.dumps(value)}')
        write_text(path, '{\n' + ',\n'.join(lines) + '\n}\n')

    @classmethod
    def load(cls, path: Union[str, Path]) -> 'Structure':
        """Read a structure.json; an error names the file and its fault."""
        try:
            fields = json.loads(Path(path).read_text('utf-8'))
        except OSError as error:
            raise SSSError(f'cannot read the structure {path}: {error.strerror}') from error
        except (ValueError, RecursionError) as error:
            raise SSSError(f'{path} is not a structure.json: {error}') from error
        return cls.from_dict(fields, str(path))

    @classmethod
    def from_dict(cls, fields: Any, source: str = 'structure') -> 'Structure':
        if not isinstance(fields, dict) or fields.get('format') != FORMAT:
            raise SSSError(f'{source} is not a structure of this version: its "format" should be "{FORMAT}"')
        try:
            structure = cls(fields['model'], _shape(fields['input_shape']), fields['factors'], fields['layers'],
                            fields.get('params_sha256'), fields.get('gone_with', {}))
            if not _is_model(structure.model):
                raise SSSError(f'{source}: the model {structure.model} of the structure cannot be built')
            shapes = structure.input_shape
            if not all(_are_sizes(shape, 1) and len(shape) > 1
                       for shape in (shapes.values() if isinstance(shapes, dict) else [shapes])):
                raise SSSError(f'{source}: input_shape {fields["input_shape"]} is not a shape, batch first')
            for name, row in structure.factors.items():
                if row['kind'] not in KINDS or not _are_sizes([row['size']], 1):
                    raise SSSError(f'{source}: factor {name} has kind {row["kind"]!r} and size {row["size"]!r}')
                in_order = _are_sizes(row['kept'], 0) and all(a < b for a, b in zip(row['kept'], row['kept'][1:]))
                if not in_order or max(row['kept'], default=0) >= row['size']:
                    raise SSSError(f'{source}: factor {name} keeps indices outside 0..{row["size"] - 1}')
                if not _are_sizes([row.get('channels', 1)], 1):
                    raise SSSError(f'{source}: factor {name} has neurons of {row["channels"]!r} channels')
                stay = row.get('stay', [])
                if not _are_sizes(stay, 0) or not set(stay) <= set(range(row['size'])) - set(row['kept']):
                    raise SSSError(f'{source}: factor {name} has zeros that stay outside 0..{row["size"] - 1}, or that '
                                   f'are kept')
            for name, count in structure.gone_with.items():
                gone = structure.factors[name]['size'] - len(structure.factors[name]['kept'])
                if not _are_sizes([count], 0) or count > gone:
                    raise SSSError(f'{source}: {count!r} of the {gone} that are gone of factor {name} cannot have gone '
                                   f'with others')
            for name, row in structure.layers.items():
                if not _are_sizes(row['before'], 1) or not _are_sizes(row['after'] or [], 1):
                    raise SSSError(f'{source}: layer {name} has widths that are not numbers of channels')
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SSSError(f'{source} is damaged: {type(error).__name__} {error}') from error
        return structure

    def removed(self) -> Dict[str, int]:
        """{kind: number of structures that were removed}, those that are zero but stay not among them."""
        total: Dict[str, int] = {}
        for row in self.factors.values():
            gone = row['size'] - len(row['kept']) - len(row.get('stay', ()))
            total[row['kind']] = total.get(row['kind'], 0) + gone
        return total

    def summary(self) -> str:
        """'3 of 9 blocks removed, 40 of 120 neurons of 8 channels removed'; '' without factors."""
        sizes = {kind: sum(row['size'] for row in self.factors.values() if row['kind'] == kind) for kind in KINDS}
        return ', '.join(f'{gone} of {sizes[kind]} {kind}s{self.of_channels(kind)} removed'
                         for kind, gone in self.removed().items())

    def of_channels(self, kind: str) -> str:
        """' of 8 channels' for neurons that have several, ' of 4 to 8 channels' where that differs; otherwise ''."""
        each = sorted(row.get('channels', 1) for row in self.factors.values() if row['kind'] == kind) or [1]
        return '' if each[-1] == 1 else f' of {" to ".join(map(str, dict.fromkeys((each[0], each[-1]))))} channels'


def shipped() -> List[str]:
    """Names of the structures that come with the package."""
    return sorted(path.stem for path in FOLDER.glob('*.json'))


def load_structure(source: Union[str, Path, dict, Structure]) -> Structure:
    """A structure from a shipped name (``resnet26``), a structure.json, its contents, or a Structure."""
    if isinstance(source, Structure):
        return source
    if not isinstance(source, (str, Path)):
        return Structure.from_dict(source)
    if str(source) in shipped():
        source = FOLDER / f'{source}.json'
    elif not Path(source).exists():
        raise SSSError(f'there is no structure file {source}, and the shipped ones are {", ".join(shipped())}')
    return Structure.load(source)
