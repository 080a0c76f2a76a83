"""The job of the load generator, and the names of the figures that it returns."""

from __future__ import annotations

from typing import Literal

import msgspec

Figures = dict[str, float]

CPU_EVENT = "cpu_us_per_event"
LATENCY_P50 = "latency_p50_ms"
LATENCY_P99 = "latency_p99_ms"
EVENT_RATE = "events_per_s"
CPU_REQUEST = "cpu_us_per_request"
REQUEST_P50 = "request_p50_ms"
REQUEST_P99 = "request_p99_ms"
REQUEST_RATE = "requests_per_s"
CPU_SHORT = "cpu_us_per_short_stream"
SHORT_RATE = "short_streams_per_s"
SHORT_CORE = "short_streams_per_s_of_cpu"
FIRST_P50 = "first_event_p50_ms"
FIRST_P99 = "first_event_p99_ms"
IDLE_MB = "idle_mb"


def rss_figure(streams: int) -> str:
    return f"rss_kb_per_stream_{streams}"


def pss_figure(streams: int) -> str:
    return f"pss_kb_per_stream_{streams}"


def growth_figure(streams: int) -> str:
    return f"cpu_us_per_event_{streams}_streams"


class Job(msgspec.Struct, kw_only=True):
    """One measurement of one target.

    Attributes:
        kind: `streams` (CPU per event, latency), `requests` (CPU per short request), `short` (streams of `tokens` at
            once, as many as one core takes), `first` (time to the first event, one request at a time), `growth` (CPU
            per event with `streams` open) or `memory`.
        port: of the target; `upstream_port` is that of the upstream, to end streams.
        watch: process whose CPU time or memory is read, with its descendants; 0 reads none.
        streams: open at once, each with `rate` events per second.
        seconds: length of the measured window.
        requests: in total, from `concurrency` keep-alive connections.
        tokens: token events of a short request; metadata and end come after them.
        authorization: header field of every request; empty: none.
        ca: file of the authority of the target's certificate; empty: no TLS.
        levels: numbers of open streams at which memory is read, ascending.
    """

    kind: Literal["streams", "requests", "short", "first", "growth", "memory"]
    port: int
    upstream_port: int
    watch: int = 0
    streams: int = 100
    rate: float = 50
    seconds: float = 5
    requests: int = 2000
    concurrency: int = 20
    tokens: int = 6
    authorization: str = ""
    ca: str = ""
    levels: list[int] = []
