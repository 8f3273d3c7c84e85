"""The one exception a user is meant to read: what was wrong, where, and what to do."""


class SSSError(Exception):
    """Wrong input or state, told in one line.

    The command line prints the message without a traceback and exits with status 2. What a user
    can cause (a bad key, a damaged file, a shape that does not fit) is meant to be raised as this class.
    """
