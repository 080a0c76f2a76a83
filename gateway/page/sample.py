"""What one process knows at one moment, in a form that another process can read (pure).

Everything in it has a bound: the number of rows, and the length of each text.
"""

from __future__ import annotations

from typing import Any

import msgspec

MOST_RUNS = 50  # oldest, and as many of the newest
MOST_WAITING = 50  # oldest requests that have not become a run
MOST_CALLERS = 50  # the latest
MOST_LIMITS = 8  # of a caller
MOST_SERVERS = 200
MOST_LINES = 100  # log lines that a process keeps, and the page shows
LONGEST_TEXT = 256  # characters


class Run(msgspec.Struct, array_like=True):
    """An open run, or a request that may become one.

    Attributes:
        key: names it among all of all processes.
        request_id, route, caller, client, agent, server: texts as in the log; `agent` is the User-Agent.
        stage: how far it is; see `sampling`.
        since: seconds since the epoch.
        first_token: seconds from then to the first token; None: none has come.
        tokens: token events so far.
        has_client: whether a client still receives the answer.
    """

    key: str
    request_id: str
    route: str
    caller: str
    client: str
    agent: str
    server: str
    stage: str
    since: float
    first_token: float | None
    tokens: int
    has_client: bool


class LimitLeft(msgspec.Struct):
    """What is left of a limit of a caller. `kind`: requests, tokens or concurrent. `reset_s`: as the client gets it."""

    name: str
    kind: str
    limit: int
    remaining: int
    reset_s: int | None


class CallerUse(msgspec.Struct):
    """What a caller has used on a route since its process began. `last`: seconds since the epoch."""

    route: str
    caller: str
    requests: int
    not_ok: int
    tokens_in: int
    tokens_out: int
    last: float
    limits: list[LimitLeft]


class ServerState(msgspec.Struct):
    """A server of an upstream as one process sees it; `reason`: why it gets no requests, empty if it does."""

    upstream: str
    server: str
    address: str
    is_up: bool
    reason: str
    runs: int


class Line(msgspec.Struct):
    """A request's log line. `number`: from 1 in each process; `ended`: seconds since the epoch."""

    number: int
    ended: float
    line: dict[str, Any]


class Sample(msgspec.Struct):
    """One process. `open_runs`, `waiting`, `callers_known`: how many there are, listed or not.

    `is_store_up`: whether it reaches the shared store; None: it counts in its own memory. `last_line`: the number of
    the last line, listed or not.
    """

    open_runs: int = 0
    waiting: int = 0
    callers_known: int = 0
    is_store_up: bool | None = None
    last_line: int = 0
    runs: list[Run] = []
    callers: list[CallerUse] = []
    servers: list[ServerState] = []
    lines: list[Line] = []


class PageQuestion(msgspec.Struct):
    """What the parent asks a worker: a sample with the lines after this one, or the end of a run.

    `key`: of the run; empty: a sample is asked for. `operator`: the address of the person who ends it.
    """

    after: int = 0
    key: str = ""
    operator: str = ""


def cut(text: str, most: int = LONGEST_TEXT) -> str:
    """The text, or its beginning and how much is missing."""
    return text if len(text) <= most else f"{text[:most]} … ({len(text) - most} more characters)"
