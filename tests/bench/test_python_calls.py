"""Python functions that the gateway calls for a streamed request and for an event, against a budget that is lowered only.

`python_calls.toml` has the budget. Too many calls: find what adds them. Too few: write the new number there.
"""

from __future__ import annotations

import socket
import sys
import tomllib
from pathlib import Path

import pytest

from gateway.telemetry import trace_export
from tests.harness import bounds
from tests.harness.api_keys import FILE, key_of
from tests.harness.python_calls import Calls, PacedFlowise, calls_of_a_request

MEASURED_ON = (3, 11)
BUDGET = tomllib.loads(Path(__file__).with_name("python_calls.toml").read_text())
SLACK = 0.02  # of a budget that may be unused; a larger gain is written down
FEW, MORE = 1, 11  # tokens of the two requests whose difference is the cost of events
PER_DAY = {"per": "1d", "by": "caller"}
EVERYTHING_ON = {
    "auth": {"keys_file": FILE, "secret": "a secret of thirty-two bytes or more"},
    "defaults": {"conversations": {"bind": True}},
    "route": {
        "auth": ["api_key"],
        "limits": [
            {"name": "requests", "requests": 10_000, **PER_DAY},
            {"name": "tokens", "tokens": 10_000_000, **PER_DAY},
            {"name": "open", "concurrent": 100, "by": "caller"},
            {"name": "all", "requests": 10_000, "per": "1d", "by": "route"},
        ],
    },
}

pytestmark = [
    pytest.mark.skipif(sys.version_info[:2] != MEASURED_ON, reason="the budget is of Python 3.11"),
    pytest.mark.timeout(3 * bounds.TEST),
]


async def counted(start, fields, **sections):
    """The calls of a request with one token, and of each further token."""
    with PacedFlowise() as flowise:
        async with start(flowise.url, **sections) as gateway:
            few = await calls_of_a_request(gateway, flowise, FEW, **fields)
            more = await calls_of_a_request(gateway, flowise, MORE, **fields)
    return few, Calls((more.own - few.own) / (MORE - FEW), (more.all - few.all) / (MORE - FEW))


def hold(calls, budget):
    assert calls.own <= budget["own"]
    assert calls.all <= budget["all"]
    assert calls.own >= (1 - SLACK) * budget["own"], f"lower own to {calls.own:g} in python_calls.toml"
    assert calls.all >= (1 - SLACK) * budget["all"], f"lower all to {calls.all:g} in python_calls.toml"


async def test_an_anonymous_stream_calls_no_more_functions_than_its_budget(start):
    request, event = await counted(start, {})
    hold(request, BUDGET["anonymous"]["request"])
    hold(event, BUDGET["anonymous"]["event"])


async def test_a_traced_stream_calls_no_more_functions_than_its_budget(start, monkeypatch):
    """The thread that exports is not counted: it is another one. An event costs what it costs without traces."""
    monkeypatch.setattr(trace_export, "FLUSH_WITHIN", 0.0)
    monkeypatch.setattr(trace_export, "AT_ONCE", 10_000)  # it sleeps meanwhile
    monkeypatch.setattr(trace_export, "EXPORT_EVERY", bounds.TEST)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        request, event = await counted(start, {}, traces={"endpoint": endpoint})
    hold(request, BUDGET["traces"]["request"])
    hold(event, BUDGET["anonymous"]["event"])


async def test_a_stream_with_everything_on_calls_no_more_functions_than_its_budget(start, tmp_path):
    """With a key, four limits and a bound conversation."""
    key = await key_of(tmp_path, "ann")
    request, event = await counted(start, {"Authorization": f"Bearer {key}"}, **EVERYTHING_ON)
    hold(request, BUDGET["everything on"]["request"])
    hold(event, BUDGET["everything on"]["event"])
