"""The errors that end a command with a sentence on standard error; apart from others, so that commands load quickly."""

from __future__ import annotations

from typing import ClassVar

FAILED, WRONG = 1, 2


class CommandError(Exception):
    """The command ends with this status; the message is for the operator."""

    status: ClassVar[int] = FAILED


class CannotRunError(CommandError):
    """The process cannot start or go on."""
