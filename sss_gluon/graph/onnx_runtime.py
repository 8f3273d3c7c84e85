"""ONNX Runtime on the CPU, if it is installed."""
from __future__ import annotations

import os
from pathlib import Path
from typing import Callable, List, Union

import numpy as np

from ..errors import SSSError


def open_onnx(source: Union[str, Path, bytes]) -> Callable[[np.ndarray], List[np.ndarray]]:
    """A function that computes the outputs of an ONNX file (or its content) for a batch, with ONNX Runtime on the CPU.

    Like MXNet, it uses ``OMP_NUM_THREADS`` threads.
    """
    session = open_session(source)
    data, = (given.name for given in session.get_inputs())
    return lambda batch: session.run(None, {data: batch})


def open_session(source: Union[str, Path, bytes]):
    """The session of ONNX Runtime for an ONNX file, or its content, of any number of inputs."""
    _, runtime = packages()
    options = runtime.SessionOptions()
    threads = os.environ.get('OMP_NUM_THREADS', '').split(',')[0]
    options.intra_op_num_threads = int(threads) if threads.isdigit() else 0
    options.log_severity_level = 3
    given = source if isinstance(source, bytes) else str(source)
    return runtime.InferenceSession(given, options, providers=['CPUExecutionProvider'])


def packages():
    """The modules onnx and onnxruntime; without them, an error that says how to install them."""
    try:
        import onnx
        import onnx.checker
        import onnx.helper
        import onnx.numpy_helper
        import onnx.shape_inference
        import onnxruntime
    except ImportError as error:
        raise SSSError('ONNX needs the packages onnx and onnxruntime: '
                       f'pip install "onnx<=1.16.2" onnxruntime ({error})') from error
    return onnx, onnxruntime
