"""Why there is no connection: turns a library's exception into a word for metrics and a few for the log.

Used wherever such an exception becomes ours. The client gets neither.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple


class Cause(NamedTuple):
    """`label`: of metrics, one of `LABELS`. `words`: for the log; they name no host, path or secret."""

    label: str
    words: str


class ProxyError(OSError):
    """A proxy cannot be reached, or refuses. `words`: why; they name nothing of it."""

    def __init__(self, words: str) -> None:
        super().__init__(words)
        self.words = words


UNREACHABLE = Cause("unreachable", "unreachable")
REFUSED = Cause("refused", "connection refused")
NO_NAME = Cause("dns", "no such name")
NO_NAME_SERVER = Cause("dns", "no answer from a name server")
WRONG_NAME = Cause("tls_name", "certificate: hostname mismatch")
EXPIRED = Cause("tls_expired", "certificate expired")
NOT_YET_VALID = Cause("tls", "certificate not valid yet")
UNKNOWN_AUTHORITY = Cause("tls_authority", "certificate: unknown authority")
TLS = Cause("tls", "TLS failed")
TIMED_OUT = Cause("timeout", "timed out")
NO_DESCRIPTORS = Cause("descriptors", "too many open files")
RESET = Cause("reset", "connection reset")
CLOSED = Cause("reset", "connection closed")
LABELS = (
    *("refused", "dns", "tls_name", "tls_expired", "tls_authority", "tls", "timeout", "descriptors"),
    *("reset", "unreachable", "proxy"),
)

# OpenSSL's X509_V_ERR codes, which `SSLCertVerificationError.verify_code` has.
_BY_VERIFY_CODE: Mapping[int, Cause] = MappingProxyType(
    {
        2: UNKNOWN_AUTHORITY,
        7: UNKNOWN_AUTHORITY,  # another one with the name of a trusted one
        9: NOT_YET_VALID,
        10: EXPIRED,
        18: Cause("tls_authority", "certificate: self-signed"),
        19: UNKNOWN_AUTHORITY,  # the chain ends in a root that is not trusted
        20: UNKNOWN_AUTHORITY,
        21: UNKNOWN_AUTHORITY,  # the server left out the intermediate certificates
        23: Cause("tls", "certificate revoked"),
        62: WRONG_NAME,
        64: WRONG_NAME,  # of an IP address
    }
)
_BY_ERRNO: Mapping[int, Cause] = MappingProxyType(
    {
        errno.ECONNREFUSED: REFUSED,
        errno.ECONNRESET: RESET,
        errno.EPIPE: RESET,
        errno.ECONNABORTED: RESET,
        errno.ETIMEDOUT: TIMED_OUT,
        errno.EMFILE: NO_DESCRIPTORS,
        errno.ENFILE: NO_DESCRIPTORS,
    }
)
# Those without a number.
_BY_TYPE: tuple[tuple[type[BaseException], Cause], ...] = (
    (TimeoutError, TIMED_OUT),
    (UnicodeError, NO_NAME),  # of a host name that cannot be one
    (ConnectionRefusedError, REFUSED),
    (ConnectionError, RESET),
    (EOFError, CLOSED),
)
# Event loops join the errors of several addresses of one name into a text.
_ERRNO_IN_TEXT = re.compile(r"\[Errno (\d+)\]")


def cause_of(error: BaseException) -> Cause:
    """The cause that an exception, or the one behind it, states."""
    chain = [*_chain(error)]
    for each in chain:
        if (cause := _cause(each)) is not None:
            return cause
    return TLS if any(isinstance(each, ssl.SSLError) for each in chain) else UNREACHABLE


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The exception and those that it was raised from; libraries put theirs around the one that says more."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _cause(error: BaseException) -> Cause | None:
    """None: this exception says nothing."""
    if isinstance(error, ssl.SSLError):
        return _cause_in_tls(error)
    if isinstance(error, ProxyError):
        return Cause("proxy", f"proxy: {error.words}")
    if (cause := _cause_in_aiohttp(error)) is not None:
        return cause
    if isinstance(error, socket.gaierror):
        return NO_NAME_SERVER if error.errno == socket.EAI_AGAIN else NO_NAME
    if isinstance(error, OSError) and (number := _errno(error)) is not None:
        return _BY_ERRNO.get(number) or Cause("unreachable", os.strerror(number).lower())
    return next((cause for kind, cause in _BY_TYPE if isinstance(error, kind)), None)


def _cause_in_aiohttp(error: BaseException) -> Cause | None:
    """None: it is another one, or a copy of the real one."""
    from aiohttp import (  # noqa: PLC0415 - large, and `check` loads this file
        ClientHttpProxyError,
        ClientProxyConnectionError,
        ServerDisconnectedError,
    )

    if isinstance(error, ServerDisconnectedError):
        return CLOSED
    if isinstance(error, ClientHttpProxyError):
        return Cause("proxy", f"proxy: status {error.status}")
    if isinstance(error, ClientProxyConnectionError):
        return Cause("proxy", f"proxy: {cause_of(error.os_error).words}")
    return None


def _cause_in_tls(error: ssl.SSLError) -> Cause | None:
    """None: aiohttp's copy of the real one, which follows in the chain."""
    if isinstance(error, ssl.SSLCertVerificationError):
        code: int | None = getattr(error, "verify_code", None)
        return None if code is None else _BY_VERIFY_CODE.get(code) or Cause("tls", _refusal(error))
    reason = getattr(error, "reason", None)
    return None if reason is None else Cause("tls", f"TLS: {reason.lower().replace('_', ' ')}")


def _refusal(error: ssl.SSLCertVerificationError) -> str:
    """OpenSSL's own words, which are fixed for each code that is not in the table."""
    words: str = getattr(error, "verify_message", "")
    return f"certificate: {words.lower()}" if words else "certificate not valid"


def _errno(error: OSError) -> int | None:
    """None: there is none. Negative ones are those of name servers, in aiohttp's copy of the real error."""
    if error.errno is not None:
        return error.errno if error.errno > 0 else None
    found = _ERRNO_IN_TEXT.search(str(error))
    return int(found[1]) if found else None
