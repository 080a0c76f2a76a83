"""Compares this machine's clock with another one (pure)."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

from gateway.doctor.report import Finding, failed, ok, warning

NOTICED, TOO_MUCH = 5.0, 30.0  # seconds; 30 is the leeway of JSON Web Tokens unless another one is configured


def seconds_of(date: str) -> float | None:
    """The time of a `Date` field (RFC 9110 5.6.7), in seconds since the epoch; None if it cannot be read."""
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError):
        return None


def compare(subject: str, now: float, theirs: float | None) -> list[Finding]:
    """A line on the difference of two clocks; none if the other one is not known."""
    if theirs is None:
        return []
    off = now - theirs
    if abs(off) < NOTICED:
        return [ok("clock", subject, "shows the same time as this machine")]
    how = f"is {abs(off):.0f} s {'behind' if off > 0 else 'ahead of'} the clock of this machine."
    sentence = f"Its clock {how} Tokens and keys expire at the wrong time: set both by NTP."
    return [(failed if abs(off) > TOO_MUCH else warning)("clock", subject, sentence)]
