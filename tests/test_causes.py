"""Why there is no connection, in words: what libraries raise, in every form in which they raise it."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from gateway.causes import LABELS, UNREACHABLE, Cause, cause_of
from gateway.errors import UpstreamUnreachable
from tests.harness.certificates import Authority
from tests.harness.ports import closed_port
from tests.harness.unreachable import CAUSES, no_descriptors, serving, unreachable
from tests.test_documentation import rows, words

KEY = ConnectionKey("host", 443, True, True, None, None, None)


def raised(error, *, behind=None, is_suppressed=False):
    """The exception as a library raises it from another one."""
    if behind is not None:
        error.__context__ = behind
        error.__cause__ = None if is_suppressed else behind
    return error


def certificate_error(code):
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code = code
    return error


@pytest.mark.parametrize(
    ("error", "label", "said"),
    [
        (ConnectionRefusedError(), "refused", "connection refused"),
        (OSError(errno.ECONNREFUSED, "x"), "refused", "connection refused"),
        (OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 1), [Errno 101] x"), "refused", "connection refused"),
        (socket.gaierror(socket.EAI_NONAME, "x"), "dns", "no such name"),
        (socket.gaierror(socket.EAI_AGAIN, "x"), "dns", "no answer from a name server"),
        (UnicodeError("label empty or too long"), "dns", "no such name"),
        (certificate_error(10), "tls_expired", "certificate expired"),
        (certificate_error(19), "tls_authority", "certificate: unknown authority"),
        (certificate_error(21), "tls_authority", "certificate: unknown authority"),
        (certificate_error(23), "tls", "certificate revoked"),
        (certificate_error(62), "tls_name", "certificate: hostname mismatch"),
        (certificate_error(999), "tls", "certificate not valid"),
        (ssl.SSLError(1, "x"), "tls", "TLS failed"),
        (TimeoutError(), "timeout", "timed out"),
        (OSError(errno.ETIMEDOUT, "x"), "timeout", "timed out"),
        (OSError(errno.EMFILE, "x"), "descriptors", "too many open files"),
        (OSError(errno.ENFILE, "x"), "descriptors", "too many open files"),
        (ConnectionResetError(), "reset", "connection reset"),
        (BrokenPipeError(errno.EPIPE, "x"), "reset", "connection reset"),
        (asyncio.IncompleteReadError(b"", 1), "reset", "connection closed"),
        (aiohttp.ServerDisconnectedError(), "reset", "connection closed"),
        (OSError(errno.ENETUNREACH, "x"), "unreachable", "network is unreachable"),
        (OSError(errno.EHOSTUNREACH, "secret"), "unreachable", "no route to host"),
        (OSError("secret"), "unreachable", "unreachable"),
        (RuntimeError("secret"), "unreachable", "unreachable"),
        (aiohttp.ConnectionTimeoutError(), "timeout", "timed out"),
        (raised(aiohttp.ClientConnectorError(KEY, OSError(errno.EMFILE, "x"))), "descriptors", "too many open files"),
        (raised(aiohttp.ClientConnectorDNSError(KEY, gai := socket.gaierror(-2, "x")), behind=gai), "dns", "no such name"),
        (raised(aiohttp.ClientConnectorCertificateError(KEY, expired := certificate_error(10)), behind=expired), "tls_expired", "certificate expired"),
        (raised(Exception("wrapped"), behind=ConnectionRefusedError()), "refused", "connection refused"),
        (raised(Exception("wrapped"), behind=ConnectionRefusedError(), is_suppressed=True), "refused", "connection refused"),
    ],
)  # fmt: skip
def test_each_exception_has_a_label_and_words(error, label, said):
    assert cause_of(error) == Cause(label, said)
    assert label in LABELS


def test_exceptions_that_were_raised_from_each_other_end():
    one, other = RuntimeError(), ValueError()
    one.__cause__, other.__cause__ = other, one
    assert cause_of(one) is UNREACHABLE


@pytest.mark.parametrize("situation", CAUSES)
async def test_what_the_pool_meets(situation, tmp_path, pool_to):
    async with unreachable(situation, tmp_path) as place:
        tls = None if place.ca is None else ssl.create_default_context(cafile=str(place.ca))
        with pytest.raises(UpstreamUnreachable, match=r"^Flowise cannot be reached\.$") as raised_:
            await pool_to(place.url, tls=tls).acquire()
    label, said = CAUSES[situation]
    assert raised_.value.cause.label == label
    if label != "dns":  # a machine without a name server knows less
        assert raised_.value.cause.words == said


async def test_the_reason_of_a_strict_verification(tmp_path, pool_to):
    """From Python 3.13 on it is the default."""
    authority = Authority(tmp_path)
    tls = ssl.create_default_context(cafile=str(authority.ca))
    tls.verify_flags |= ssl.VERIFY_X509_STRICT
    async with serving(authority.without_identifier(), authority.ca) as place:
        with pytest.raises(UpstreamUnreachable) as raised_:
            await pool_to(place.url, tls=tls).acquire()
    assert raised_.value.cause == Cause("tls", "certificate: missing authority key identifier")


async def test_the_pool_meets_the_bound_of_open_files(pool_to):
    with socket.create_server(("127.0.0.1", 0)) as server:
        pool = pool_to(f"http://127.0.0.1:{server.getsockname()[1]}")
        with no_descriptors(), pytest.raises(UpstreamUnreachable) as raised_:
            await pool.acquire()
    assert raised_.value.cause == Cause("descriptors", "too many open files")


@pytest.mark.parametrize("host", ["a..b", 64 * "a" + ".example"])
async def test_a_name_that_cannot_be_one(pool_to, host):
    with pytest.raises(UpstreamUnreachable) as raised_:
        await pool_to(f"http://{host}:80").acquire()
    assert raised_.value.cause == Cause("dns", "no such name")


async def test_a_name_with_several_addresses_that_all_refuse(pool_to):
    """As `localhost` without a server: the loop joins the errors of ::1 and 127.0.0.1."""
    with closed_port() as port:
        with pytest.raises(UpstreamUnreachable) as raised_:
            await pool_to(f"http://localhost:{port}").acquire()
    assert raised_.value.cause.label == "refused"


def test_every_label_is_documented():
    (result,) = [row[2] for row in rows("Metrics") if words(row[0]) == ["upstream_requests_total"]]
    documented = set(result.rpartition("(")[2].rstrip(")").split(", "))
    assert set(LABELS) <= documented
