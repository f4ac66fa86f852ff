"""Messages for people, always on stderr: levels, secrets masked, control characters stripped.

In: log records of any room (`logging.getLogger("recsys...")`). Out: one line each on stderr.
"""

from __future__ import annotations

import logging
import re
import sys

_URL_PASSWORD = re.compile(r"(?P<head>[a-zA-Z][a-zA-Z0-9+.\-]*://[^\s:/@]*:)[^\s@]*(?=@)")
_KEYWORD_SECRET = re.compile(r"(?i)\b(password|passwd|pwd|secret|token|api_?key)(\s*[=:]\s*)([^\s,;&'\"]+)")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def redact(text: str) -> str:
    """Mask passwords in database URLs and `password=...` pairs; the one place that does."""
    return _KEYWORD_SECRET.sub(r"\1\2***", _URL_PASSWORD.sub(r"\g<head>***", text))


def printable(text: str) -> str:
    """Strip control characters and direction overrides, so that data cannot steer a terminal."""
    return _CONTROL.sub("", text.replace("\t", " ").replace("\n", " ").replace("\r", " "))


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def set_up(verbosity: int) -> None:
    """Send the package's log to stderr: -1 only errors, 0 warnings, 1 what is being done, 2 details."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(levelname)s %(name)s: %(message)s" if verbosity > 1 else "%(message)s"))
    logger = logging.getLogger("recsys")
    logger.handlers[:] = [handler]
    levels = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO, 2: logging.DEBUG}
    logger.setLevel(levels[max(-1, min(2, verbosity))])
    logger.propagate = False
