"""The one exception a user is meant to read: what was wrong, where, and what to do."""
import re


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
