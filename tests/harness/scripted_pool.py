"""Requests through a pool, and a sink, a listener and a writer that record what they receive."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from gateway.relay.deadlines import Deadlines
from gateway.upstream.headers import NOWHERE, UpstreamRequest

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
FIELDS = [(b"Host", b"a")]


def url_of(listening):
    """The URL of a socket that listens."""
    return f"http://127.0.0.1:{listening.getsockname()[1]}"


def ask(body=b"{}", method="POST"):
    return UpstreamRequest(method, b"/", FIELDS, body)


class OnlyPool:
    """The connector of a call that has one server; records what the call reports of it."""

    server = SimpleNamespace(addressed=NOWHERE, label="only")

    def __init__(self, pool):
        self.pool = pool
        self.reports = []

    def take_idle(self):
        return self.pool.take_idle()

    async def connect(self, *, fresh=False):
        return await self.pool.acquire(fresh=fresh)

    def may_repeat(self, unanswered):
        return unanswered.is_stale

    def answered(self, status):
        self.reports.append(status)

    def lost(self, cause):
        self.reports.append(cause.label)

    def gave_up(self):
        self.reports.append("gave up")


async def send(call, pool, request):
    """Send a request through a pool; the call is new."""
    call.connector = OnlyPool(pool)
    return await call.send(request)


class RecordingSink:
    """Records what a connection reports."""

    def __init__(self):
        self.head = self.end = self.failure = None
        self.body = b""
        self.begun, self.over = asyncio.Event(), asyncio.Event()

    def on_head(self, head):
        assert self.head is self.end is None
        self.head = head
        self.begun.set()

    def on_body(self, data):
        assert self.head is not None
        self.body += data

    def on_end(self, end, last=b""):
        assert self.end is self.failure is None
        self.body += last
        self.end = end
        self.over.set()

    def on_failure(self, error):
        assert self.end is self.failure is self.head is None
        self.failure = error
        self.over.set()


class RecordingListener:
    """Records what a call reports."""

    def __init__(self):
        self.heads, self.ends, self.deadlines = [], [], []
        self.left = self.paused = 0
        self.over = asyncio.Event()

    def on_head(self, head):
        self.heads.append(head.status)

    def on_client_left(self):
        self.left += 1

    def on_client_paused(self):
        self.paused += 1

    def on_deadline(self, deadline):
        self.deadlines.append(deadline)

    def on_over(self, end):
        self.ends.append(end)
        self.over.set()


class RecordingWriter:
    """Records what the client would get."""

    feed_chunk = None

    def __init__(self):
        self.body, self.end_, self.message = b"", None, None

    def feed(self, data):
        self.body += data

    def end(self, end, last=b"", *, is_complete):
        self.body += last
        self.end_ = end

    def terminate(self, message):
        self.message = message

    def tick(self, now):
        pass


def deadlines():
    return Deadlines(head=10, first_event=10, idle=10, total=100, started_at=0)


async def exchange(pool, data=GET, method="GET"):
    """One request on a pooled connection; the sink once it is over."""
    connection = await pool.acquire()
    sink = RecordingSink()
    connection.start(method, data, sink)
    connection.finish_request()
    await sink.over.wait()
    return connection, sink


async def closed(connection):
    """Wait until the transport is gone."""
    for _ in range(1000):
        if connection._transport is None:
            return
        await asyncio.sleep(0)
    raise AssertionError(connection)
