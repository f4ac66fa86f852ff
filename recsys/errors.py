"""Everything that can go wrong on purpose: one exception a kind of trouble, each with its exit code.

In: a message that says what is wrong, where, and what to do. Out: the same message on the command line and in Python.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RecsysError(Exception):
    """A failure with a message for the user; nothing was published.

    The first argument is one line that says what is wrong and what to do about it.
    """

    exit_code = 1


class UsageError(RecsysError):
    """The call itself is off: a missing file, an unknown name, options that exclude each other."""

    exit_code = 2


class ConfigError(UsageError):
    """A setting is unknown, misspelt or out of range."""


class NotFoundError(UsageError):
    """A product, user, run or model that was asked for by name does not exist."""


class DataContractError(RecsysError):
    """The data cannot be used: an empty catalogue, no events, or more rejects than allowed."""

    exit_code = 3


class PublishGuardError(RecsysError):
    """A finished run did not pass the guards, so the published one stays."""

    exit_code = 4


class NothingNewError(RecsysError):
    """There was nothing to do and the caller asked to be told so."""

    exit_code = 5


class TemporaryError(RecsysError):
    """The same call may succeed later: a lease is held, the database is away, the disk is full."""

    exit_code = 75


class DatabaseUnavailableError(TemporaryError):
    """The database does not answer."""


class BusyDatabaseError(TemporaryError):
    """Another transaction was in the way; nothing of this one is left, and it can be made again at once."""


class LeaseHeldError(TemporaryError):
    """Another process works on this store."""


class DegenerateLossError(RecsysError):
    """Training was stopped because the loss is no longer a number."""


class ModelFolderError(RecsysError):
    """A model or index folder is missing, incomplete, altered, or made for something else."""


class InterruptedRunError(RecsysError):
    """A signal stopped the work after a clean checkpoint; the same command resumes it."""

    def __init__(self, message: str, *, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return `"; did you mean 'x'?"` for the known name nearest to `name`, or an empty string."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""
