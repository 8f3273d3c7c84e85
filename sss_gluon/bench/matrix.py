"""The table of what is measured of one network: what for, in which form, where, and in which precision."""
from __future__ import annotations

from typing import List, NamedTuple, Optional, Sequence, Tuple

from ..errors import SSSError
from ..graph.onnx_runtime import installed_providers
from ..train.devices import contexts
from ..train.precision import PRECISIONS, check_bfloat16, check_devices

TRAINING, INFERENCE = 'training', 'inference'
WITHOUT, WITH, CUT = 'without factors', 'with factors', 'with factors, cut'
DENSE, COMPACT = 'dense', 'compact'
FORMS = {TRAINING: (WITHOUT, WITH, CUT), INFERENCE: (DENSE, COMPACT)}
MXNET, ONNX = 'MXNet', 'ONNX Runtime'
CALLS = {TRAINING: 1, INFERENCE: 10}    # consecutive ones in a turn: a deployed network has the caches to itself
ENOUGH = 0.3        # seconds after which no further call follows in a turn


class Provider(NamedTuple):
    """An execution provider of ONNX Runtime, the kind of device that it is for, and what it computes in."""
    name: str
    full_name: str
    kind: str
    precisions: Tuple[str, ...]


PROVIDERS = (       # OpenVINO's and TensorRT's were never run
    Provider('CPU', 'CPUExecutionProvider', 'cpu', ('float32',)),
    Provider('OpenVINO', 'OpenVINOExecutionProvider', 'cpu', ('float32',)),
    Provider('CUDA', 'CUDAExecutionProvider', 'gpu', ('float32', 'float16')),
    Provider('TensorRT', 'TensorrtExecutionProvider', 'gpu', ('float32', 'float16')),
)


class Cell(NamedTuple):
    """One thing to measure, at every batch size. The first form of a use is what the others are compared with."""
    use: str
    form: str
    runtime: str
    provider: str       # '' for MXNet
    precision: str
    devices: Tuple[str, ...]

    @property
    def baseline(self) -> 'Cell':
        return self._replace(form=FORMS[self.use][0])

    @property
    def less(self) -> bool:
        """Whether it has only what is left after the cut."""
        return self.form in (CUT, COMPACT)


def cells(devices: Sequence[str], precisions: Sequence[str]) -> Tuple[List[Cell], Optional[str]]:
    """All that can be measured on these devices in these precisions; and why MXNet cannot, if it cannot.

    Training runs on the first device, and where there are several on all of them too; inference runs on the first.

    Raises
    ------
    SSSError
        A device or a precision is unknown or cannot be had, and no runtime can use it.
    """
    for precision in precisions:
        if precision not in PRECISIONS:
            raise SSSError(f'precision {precision!r} is unknown; use {", ".join(PRECISIONS)}')
        check_devices(precision, devices)
    kinds = {name[:3] for name in devices}
    if len(kinds) > 1:
        raise SSSError(f'devices {",".join(devices)} are CPUs and GPUs; measure them one after the other')
    onnx = [Cell(INFERENCE, form, ONNX, provider.name, precision, tuple(devices[:1]))
            for provider in PROVIDERS if provider.kind in kinds and provider.full_name in installed_providers()
            for precision in precisions if precision in provider.precisions for form in FORMS[INFERENCE]]
    try:
        contexts(devices)
        if 'bfloat16' in precisions:
            check_bfloat16()
    except SSSError as error:
        if 'gpu' not in kinds or not onnx:
            raise
        return onnx, str(error)     # ONNX Runtime has code for newer cards than MXNet
    places = dict.fromkeys((tuple(devices[:1]), tuple(devices)))
    mxnet = [Cell(use, form, MXNET, '', precision, place)
             for use in FORMS for place in places if use == TRAINING or len(place) == 1
             for precision in precisions for form in FORMS[use]]
    return mxnet + onnx, None


def provider_of(cell: Cell) -> Tuple[str, dict]:
    """Full name and options of the execution provider of a cell."""
    row = next(row for row in PROVIDERS if row.name == cell.provider)
    number = ''.join(filter(str.isdigit, cell.devices[0])) or '0'
    return row.full_name, dict(device_id=number) if row.kind == 'gpu' else {}
