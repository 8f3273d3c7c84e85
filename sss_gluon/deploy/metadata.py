"""What an ONNX file says of its network, so that a program can use it that knows nothing else."""
from __future__ import annotations

import json
from dataclasses import asdict
from typing import Dict, Iterable

from ..structures import Structure
from .source import Source


def onnx_metadata(source: Source, structure: Structure) -> Dict[str, str]:
    """Keys and values for an ONNX file. Numbers are separated by spaces; names and the structure are JSON.

    Without data, only what follows from the network is there.
    """
    known = dict(shape=_numbers(source.input_shape[1:]))
    if structure.factors:       # the widths of the layers are in the file
        fields = asdict(structure)
        known['structure'] = json.dumps({key: fields[key] for key in ('model', 'factors')})
    data = source.data
    if data is not None:
        known.update(data=data.name, mean=_numbers(data.mean), std=_numbers(data.std), range='0 255',
                     resize=_numbers(data.resized),
                     input='pixels from 0 to 255, minus mean, divided by std, per channel')
        if source.classifies:
            known.update(classes=str(data.classes))
            if data.names:
                known.update(names=json.dumps(data.names))
    return known


def _numbers(values: Iterable) -> str:
    return ' '.join(str(value) for value in values)
