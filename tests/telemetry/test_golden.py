"""The whole exposition, compared with a golden file except for times and the version.

`python -m tests.telemetry.test_golden` writes the golden file.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

from gateway.auth.caller import Caller
from gateway.causes import REFUSED
from gateway.exchange import Exchange, Timings
from gateway.flowise.outcome import Outcome
from gateway.flowise.usage import Usage
from gateway.policies.metrics import record
from gateway.telemetry.metrics import Metrics
from gateway.upstream.server_reports import ServerReports

GOLDEN = Path(__file__).parent / "golden.txt"
_VOLATILE = re.compile(
    r'^(\S*(?:_created|timestamp_seconds)(?:\{[^}]*\})?) \S+$|(version=)"[^"]+"', re.MULTILINE
)


def everything():
    """All metrics, each with one value."""
    metrics = Metrics(per_caller=True)
    timings = Timings(
        10.0, upstream_written=10.002, upstream_head=10.02, client_head=10.021, first_token=10.3, ended=11.0
    )
    exchange = Exchange(request=None, request_id="r", client="c", timings=timings)
    exchange.caller = Caller("session:backend/ann", "session", "ann", key_id="a8Xk2LmQ", key_name="backend")
    exchange.status, exchange.outcome, exchange.abort = 200, Outcome.OK, "stopped"
    exchange.upstream, exchange.server, exchange.upstream_result = "main", "127.0.0.1:3000", "ok"
    exchange.events, exchange.gaps = {"token": 2, "end": 1}, ([0, 1] + [0] * 13, 0.005)
    exchange.usage, exchange.bytes_in, exchange.bytes_out = Usage(12, 34, "reported"), 100, 90
    record(metrics, exchange)
    reports = ServerReports("main", metrics, logger=None)
    reports.connected("127.0.0.1:3000", 0.002)
    reports.standings(["127.0.0.1:3000"], [])
    reports.ejected(SimpleNamespace(label="127.0.0.1:3000"), REFUSED)
    reports.moved(REFUSED)
    metrics.reloaded(True)
    metrics.auth.labels("session", "ok").inc()
    metrics.limited.labels("support", "burst").inc()
    metrics.limit_store_errors.labels("timeout").inc()
    metrics.limit_store_seconds.observe(0.002)
    metrics.lagged(0.002)
    metrics.python_gc_collections.labels("0").inc(2)
    metrics.log_lines_lost.inc(3)
    metrics.connection_closed("slow_head")
    metrics.handshake("ok")
    metrics.certificate_expires("tls.crt", 4e9)
    metrics.traces.labels("exported").inc(5)
    metrics.conversation_waits.labels("support", "got_turn").inc()
    metrics.streams_active.labels("support").inc()
    metrics.runs_active.labels("support").inc()
    return metrics


def exposition():
    text = everything().exposition("")[0].decode()
    return _VOLATILE.sub(lambda found: f"{found[1]} *" if found[1] else 'version="*"', text)


def test_the_exposition_equals_the_golden_file():
    changed = "A metric has changed. If that is intended, run: python -m tests.telemetry.test_golden"
    assert exposition() == GOLDEN.read_text(), changed


if __name__ == "__main__":
    GOLDEN.write_text(exposition())
