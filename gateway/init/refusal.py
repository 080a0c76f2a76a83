"""Why `init` and `flows` refuse their arguments; apart from them, so that other commands load it quickly."""

from __future__ import annotations

from gateway.command_errors import WRONG, CommandError


class InitRefusedError(CommandError):
    """The arguments do not fit what Flowise has; the sentence says what would."""

    status = WRONG
