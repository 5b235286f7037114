"""A warning once in a process: Python's own "once" starts anew whenever somebody changes the filters, as torch does."""

import warnings

_said: set[str] = set()


def warn_once(message: str) -> None:
    if message not in _said:
        _said.add(message)
        warnings.warn(message, stacklevel=3)
