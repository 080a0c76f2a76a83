"""Every registered callback of an exchange is called whatever one raises, and each field has the writers that it names."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from gateway import exchange as exchange_file
from gateway.exchange import Exchange, Timings
from gateway.flowise.outcome import Outcome

GATEWAY = Path(exchange_file.__file__).parent


@pytest.fixture
def exchange():
    return Exchange(request=SimpleNamespace(), request_id="r", client="", timings=Timings(received=0.0))


def test_every_callback_is_called_though_one_raises(exchange):
    done = []
    exchange.on_response_done(lambda: done.append("registered first"))
    exchange.on_response_done(lambda: 1 / 0)
    exchange.on_response_done(lambda: done.append("registered last"))
    exchange.on_complete(lambda _: done.append("counted"))
    exchange.on_complete(lambda _: done.append("logged"))
    with pytest.raises(ZeroDivisionError):
        exchange.response_done()
    assert done == ["registered last", "registered first", "counted", "logged"]


def test_one_that_raises_on_completion_stops_no_other(exchange):
    done = []
    exchange.on_complete(lambda _: 1 / 0)
    exchange.on_complete(lambda _: done.append("logged"))
    with pytest.raises(ZeroDivisionError):
        exchange.response_done()
    assert done == ["logged"]


def test_an_open_run_delays_completion(exchange):
    done = []
    exchange.run_started()
    exchange.on_complete(lambda _: done.append("logged"))
    exchange.response_done()
    assert done == []
    exchange.run_completed()
    assert done == ["logged"]


def test_a_run_that_is_completed_before_the_response_waits_for_it(exchange):
    done = []
    exchange.on_complete(lambda _: done.append("logged"))
    exchange.run_started()
    exchange.run_completed()
    assert done == []
    exchange.response_done()
    assert done == ["logged"]


@pytest.mark.parametrize("times", [0, 1, 2])
def test_what_a_body_holds_is_freed_once_and_with_the_response_at_the_latest(exchange, times):
    freed = []
    exchange.release_body = lambda: freed.append("body")
    exchange.on_response_done(exchange.body_sent)
    for _ in range(times):
        exchange.body_sent()
    exchange.response_done()
    assert freed == ["body"]


def test_the_first_cause_of_an_end_wins_and_an_answer_replaces_it(exchange):
    exchange.ended(Outcome.TIMEOUT)
    exchange.ended(Outcome.CLIENT_CLOSED, "the client left")
    exchange.client_left()
    assert (exchange.status, exchange.outcome, exchange.error) == (499, Outcome.TIMEOUT, "the client left")
    exchange.answered(500, Outcome.FAILED, 7, "failed: a bug")
    assert (exchange.status, exchange.outcome, exchange.bytes_out) == (500, Outcome.FAILED, 7)
    assert exchange.error == "the client left"


# -- who writes ------------------------------------------------------------------------------------


def named_writers():
    """Field → the files that it names: in the comment behind it, or in the last line of nothing but a comment above it."""
    found, group = {}, set()
    source = Path(exchange_file.__file__).read_text()
    for line in source[source.index("class Timings") :].splitlines():
        if re.fullmatch(r"    # [a-z_/, ]+", line):
            group = set(line.strip("# ").split(", "))
        elif field := re.match(r"    (\w+): [^#]*(?:# ([a-z_/, ]+))?", line):
            behind = {
                name for name in (field[2] or "").split(", ") if (GATEWAY / f"{name.strip()}.py").exists()
            }
            found[field[1]] = behind or group
    return found


def field_of(target):
    """The field of an exchange, or of its timings, that is assigned to, directly or by item."""
    if isinstance(target, ast.Subscript):
        target = target.value
    if not isinstance(target, ast.Attribute):
        return None
    owner = ast.unparse(target.value).rpartition(".")[2]
    return target.attr if owner in ("exchange", "timings") else None


def targets(node):
    match node:
        case ast.Assign(targets=[ast.Tuple(elts=many)]):
            return many
        case ast.Assign(targets=many):
            return many
        case ast.AugAssign(target=one) | ast.AnnAssign(target=one):
            return [one]
    return []


def actual_writers():
    found = {}
    for path in GATEWAY.rglob("*.py"):
        name = path.relative_to(GATEWAY).with_suffix("").as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            for target in targets(node):
                parts = target.elts if isinstance(target, ast.Tuple) else [target]
                for field in filter(None, map(field_of, parts)):
                    found.setdefault(field, set()).add(name)
    tree = ast.parse(Path(exchange_file.__file__).read_text())
    for node in ast.walk(tree):
        for target in targets(node):
            if ast.unparse(target).startswith("self."):
                found.setdefault(target.attr, set()).add("exchange")
    return found


CREATED_BY_ROUTING = {
    "request",
    "request_id",
    "client",
    "timings",
    "trace_id",
    "trace",
    "client_certificate",
    "received",
}


def test_every_field_names_its_writers():
    named, actual = named_writers(), actual_writers()
    of_both = (*msgspec.structs.fields(Exchange), *msgspec.structs.fields(Timings))
    own = {field.name for field in of_both if not field.name.startswith("_")}
    assert own <= named.keys()
    for name in own:
        expected = named[name] - (
            {"policies/routing"} if name in CREATED_BY_ROUTING | {"response_headers"} else set()
        )
        assert actual.get(name, set()) == expected, name
