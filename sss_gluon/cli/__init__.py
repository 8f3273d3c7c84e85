"""The command line: one verb per call, errors of one line, exit statuses that scripts can rely on."""
from __future__ import annotations

import argparse
import difflib
import os
import platform
import signal
import sys
import threading
import warnings
from typing import List, Optional, Sequence

import mxnet as mx

from .. import __version__
from .._platform import end_at_once
from ..errors import SSSError, nearest
from ..signals import Interrupted
from ..terminal import fitted
from ..train.config import KEYS
from .verbs import VERBS


def main(arguments=None) -> int:
    """Run one verb; an error that a user can cause is one line on stderr and exit status 2."""
    parser = argparse.ArgumentParser(prog='sss-gluon', description='Data-driven sparse structure selection.')
    parser.add_argument('--version', action='version', version=f'%(prog)s {__version__} with MXNet {mx.__version__} on '
                                                               f'Python {platform.python_version()}')
    verbs = parser.add_subparsers(dest='verb', required=True, metavar='verb')
    for name, (run, add, text) in VERBS.items():
        verb = verbs.add_parser(name, help=text, description=text)
        add(verb)
        verb.set_defaults(run=run)
    given: List[str] = sys.argv[1:] if arguments is None else list(arguments)
    if not given:
        parser.print_help()
        return 0
    if given[0] not in VERBS and not given[0].startswith('-'):
        parser.error(f'there is no verb {given[0]!r}; did you mean {nearest(given[0], VERBS)!r}? '
                     f'Verbs: {", ".join(VERBS)}')
    options, more = parser.parse_known_args(given)
    if more and (not hasattr(options, 'overrides') or any(text.startswith('-') or '=' not in text for text in more)):
        hint = _setting_meant(more, given) if hasattr(options, 'overrides') else ''
        hint = hint or _option_meant(more, verbs.choices[options.verb])
        parser.error(f'unrecognized arguments: {" ".join(more)}{hint}')
    if more:        # argparse accepts key=value only before options
        options.overrides += more
    if '' not in sys.path:
        sys.path.append('')         # model: package.module:function is found in the current folder
    if sys.stdout is None:      # closed: `sss-gluon ... >&-`
        sys.stdout = open(os.devnull, 'w')
    if hasattr(sys.stdout, 'reconfigure'):      # for γ and λ on a terminal without them; lines appear at once in logs
        sys.stdout.reconfigure(errors='backslashreplace', line_buffering=True)
    program = signal.getsignal(signal.SIGINT) is end_at_once        # not called by other Python code
    problem: Optional[str] = None
    status = 0
    try:
        if program:
            sys.unraisablehook = _interrupt_again
            warnings.formatwarning = lambda text, *place, **line: f'sss-gluon {options.verb}: warning: {text}\n'
            signal.signal(signal.SIGINT, signal.default_int_handler)
        status = options.run(options) or 0
        sys.stdout.flush()
    except Interrupted as error:
        problem, status = str(error), 128 + error.signal_number
    except SSSError as error:
        problem, status = str(error), 2
    except BrokenPipeError:     # `sss-gluon count resnet50 | head`
        status = 141
    except OSError as error:
        problem, status = f'{error.filename or "output"}: {error.strerror or error}', 2
    except MemoryError as error:
        problem, status = f'not enough memory ({error}); try smaller images, batches or networks', 2
    except KeyboardInterrupt:
        problem, status = 'stopped', 130
    if program:     # nothing is left to stop
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        sys.stdout.flush()
    except OSError:     # Python must not try again at the end of the process
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if problem is not None:
        print(fitted(f'sss-gluon {options.verb}: {" ".join(problem.splitlines())}', sys.stderr), file=sys.stderr)
    return status


def _setting_meant(more: Sequence[str], given: Sequence[str]) -> str:
    """'; settings have no dashes: epochs=3' where --epochs 3 was given."""
    for word in more:
        name, _, value = word[2:].partition('=')
        for key in difflib.get_close_matches(name.replace('-', '_'), KEYS, 1, 0.8) if word.startswith('--') else ():
            value = value or next(iter(given[given.index(word) + 1:]), '...')
            return f'; settings have no dashes: {key}={value}'
    return ''


def _option_meant(more: Sequence[str], verb: argparse.ArgumentParser) -> str:
    """'; did you mean --format onnx?' where --onnx was given."""
    options = {name: action for action in verb._actions for name in action.option_strings}
    for word in (word for word in more if word.startswith('--')):
        near = [f'{name} {word[2:]}' for name, action in options.items() if word[2:] in (action.choices or ())]
        near += difflib.get_close_matches(word, options, 1, 0.8)
        if near:
            return f'; did you mean {near[0]}?'
    return ''


def _interrupt_again(unraisable) -> None:
    """Repeat a Ctrl-C that arrived inside a ``__del__``, where Python only reports it."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(unraisable)
