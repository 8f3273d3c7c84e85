"""ONNX Runtime, if it is installed; on the CPU unless another execution provider is named."""
from __future__ import annotations

import os
from pathlib import Path
from typing import Callable, List, Optional, Sequence, Union

import numpy as np

from ..errors import SSSError

CPU = 'CPUExecutionProvider'


def open_onnx(source: Union[str, Path, bytes], provider: str = CPU, provider_options: Optional[dict] = None,
              cores: Sequence[int] = ()) -> Callable[[np.ndarray], List[np.ndarray]]:
    """A function that computes the outputs of an ONNX file (or its content) for a batch, with ``open_session``."""
    session = open_session(source, provider, provider_options, cores)
    data, = (given.name for given in session.get_inputs())
    return lambda batch: session.run(None, {data: batch})


def placed(session, batch: np.ndarray, device: str = 'cpu',
           number: int = 0) -> Callable[[], list]:
    """A function that computes the outputs of one batch where it lies, in the memory of a device, and leaves them
    there.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
        Of one input.
    batch : numpy.ndarray
        Copied to the device once.
    device : {'cpu', 'cuda'}
        Where the session computes.
    number : int
        Of the card.

    Returns
    -------
    callable
        Without arguments; it waits for the outputs and returns them, as ``onnxruntime.OrtValue``.
    """
    _, runtime = packages()
    binding = session.io_binding()
    binding.bind_ortvalue_input(session.get_inputs()[0].name,
                                runtime.OrtValue.ortvalue_from_numpy(batch, device, number))
    for output in session.get_outputs():
        binding.bind_output(output.name, device, number)

    def call() -> list:
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return binding.get_outputs()

    return call


def open_session(source: Union[str, Path, bytes], provider: str = CPU, provider_options: Optional[dict] = None,
                 cores: Sequence[int] = ()):
    """The session of ONNX Runtime for an ONNX file, or its content, of any number of inputs.

    Like MXNet, it uses ``OMP_NUM_THREADS`` threads; or, with ``cores``, the thread that calls it and one bound to each
    of them. It is an error if the execution provider cannot be used; ONNX Runtime itself would compute on the CPU
    without a word.
    """
    _, runtime = packages()
    if provider != CPU and hasattr(runtime, 'preload_dlls'):
        runtime.preload_dlls()          # CUDA and cuDNN of NVIDIA's Python packages, which no linker finds
    options = runtime.SessionOptions()
    threads = os.environ.get('OMP_NUM_THREADS', '').split(',')[0]
    options.intra_op_num_threads = int(threads) if threads.isdigit() else 0
    if cores:
        options.intra_op_num_threads = 1 + len(cores)
        options.add_session_config_entry('session.intra_op_thread_affinities',
                                         ';'.join(str(core + 1) for core in cores))     # it counts from 1
    options.log_severity_level = 3
    given = source if isinstance(source, bytes) else str(source)
    providers = [(provider, provider_options or {}), *([CPU] if provider != CPU else [])]
    session = runtime.InferenceSession(given, options, providers=providers)
    if session.get_providers()[0] != provider:
        raise SSSError(f'ONNX Runtime cannot use its {provider} here; its own messages say which library is missing')
    return session


def installed_providers() -> List[str]:
    """Full names of the execution providers of the installed ONNX Runtime; none where it is not installed."""
    try:
        return packages()[1].get_available_providers()
    except SSSError:
        return []


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
