"""The exception that users read: what was wrong, where, and what to do."""
import difflib
import re
from typing import Iterable


class SSSError(Exception):
    """Wrong input or state, described in one line.

    Everything that a user can cause (a bad key, a damaged file, a shape that does not fit) is raised as this class. The
    command line prints the message without a traceback and exits with status 2.
    """


def reason(error: Exception) -> str:
    """The message of an MXNet error in one line, without the position in the C++ source."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    told = [line for line in lines if 'Error' in line or 'Check failed' in line]
    text = re.sub(r'\[\d\d:\d\d:\d\d\] \S+:\d+: |OpenCV\(\S+\) \S+:\d+: error: ', '', (told or lines)[-1])
    return re.sub(r'^(\w*Error: )+', '', re.sub(r'Check failed: .*?: ', '', text)).strip()


def nearest(name, choices: Iterable[str]) -> str:
    """The choice most similar to a misspelt name, for messages that ask "did you mean"; there must be a choice."""
    choices = list(choices)
    with_it = [choice for choice in choices if str(name) in str(choice).split('_')]      # macs: target_macs
    return difflib.get_close_matches(str(name), with_it or choices, n=1, cutoff=0.0)[0]
