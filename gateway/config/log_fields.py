"""The names of all fields of log lines, and which of them lines may be without (pure).

`logs.fields` drops and renames them, so a name that stands here is what a version promises. deploy/README.md has the
same lists, and a test compares both with the code.
"""

from __future__ import annotations

import re

from gateway.config.problems import closest

# of the line of a request; some of them are in other lines, too
REQUEST_FIELDS = frozenset(
    {
        *(
            "time",
            "level",
            "event",
            "worker",
            "request_id",
            "trace_id",
            "route",
            "endpoint",
            "client",
            "caller",
        ),
        *("auth", "status", "outcome", "error", "streaming", "events", "bytes_out", "upstream", "server"),
        *(
            "tts_seconds",
            "tts_bytes",
            "duration_s",
            "ttft_s",
            "overhead_s",
            "waited_s",
            "tokens_in",
            "tokens_out",
        ),
        *(
            "token_source",
            "tokens_implausible",
            "uncounted",
            "abort",
            "limited_by",
            "cors",
            "foreign_credential",
        ),
        *("client_certificate", "dropped", "prompt", "sample"),
    }
)
# of other lines only
OTHER_FIELDS = frozenset(
    {
        *("added", "admin", "by", "changed", "chatflow", "conversations", "count", "cpu_s", "delay_s"),
        *(
            "drain_s",
            "exception",
            "file",
            "has_addresses",
            "how",
            "issuer",
            "key",
            "keys",
            "lag_s",
            "left_out",
        ),
        *(
            "library",
            "limit",
            "line",
            "locks",
            "message",
            "mistakes",
            "needed",
            "next_start_s",
            "operator",
            "pid",
            "public",
        ),
        *("expires", "names", "result"),  # of certificates and handshakes
        *("reason", "removed", "sha256", "signal", "silent_s", "slots", "task", "type", "where"),
    }
)
NEEDED = ("time", "level", "event")  # without them a line says nothing
_NEW_NAME = re.compile(r"[A-Za-z_@][A-Za-z0-9_.@-]{0,63}")


def log_field(written: str) -> str:
    """The name of a field.

    Raises:
        ValueError: the rest of a sentence that begins with it.
    """
    known = REQUEST_FIELDS | OTHER_FIELDS
    if written in known:
        return written
    meant = closest(written, known)
    advice = f"did you mean {meant}?" if meant else "write a name that a line of the log has"
    raise ValueError(f"is not a field of the log: {advice}")


def dropped_log_field(written: str) -> str:
    """The name of a field that lines may be without. Raises as `log_field`."""
    if log_field(written) in NEEDED:
        raise ValueError("is needed in every line: leave it out here, or give it another name under rename")
    return written


def new_log_name(written: str) -> str:
    """Another name for a field. Raises as `log_field`."""
    if not _NEW_NAME.fullmatch(written):
        raise ValueError(
            "is no name of a field: write 1 to 64 of A-Z a-z 0-9 _ . @ -, beginning with a letter, _ or @"
        )
    return written
