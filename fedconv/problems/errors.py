"""The one kind of error that a user's input can raise."""

from __future__ import annotations


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one sentence: what was expected, what came, and where. The command line prints it
    as it is and exits with status 2; it never shows a traceback for it.
    """
