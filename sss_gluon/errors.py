"""The one exception a user is meant to read: what was wrong, where, and what to do."""
import difflib
import re
from typing import Iterable


class SSSError(Exception):
    """Wrong input or state, told in one line.

    The command line prints the message without a traceback and exits with status 2. What a user
    can cause (a bad key, a damaged file, a shape that does not fit) is meant to be raised as this class.
    """


def reason(error: Exception) -> str:
    """What an error of MXNet says, on one line, without the place in its C++ source where it was noticed."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    told = [line for line in lines if 'Error' in line or 'Check failed' in line]
    text = re.sub(r'\[\d\d:\d\d:\d\d\] \S+:\d+: |OpenCV\(\S+\) \S+:\d+: error: ', '', (told or lines)[-1])
    return re.sub(r'^(\w*Error: )+', '', re.sub(r'Check failed: .*?: ', '', text)).strip()


def nearest(name, choices: Iterable[str]) -> str:
    """The choice most like a misspelt name, for messages that say "did you mean"."""
    return difflib.get_close_matches(str(name), list(choices), n=1, cutoff=0.0)[0]
