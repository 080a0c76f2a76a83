"""Limits: what passes, what the response headers state, and that charges are settled and released."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.config import Limit
from tests.harness.api_keys import key_of
from tests.harness.clock import until
from tests.harness.frames import END, METADATA, PATH, START, metered, settled, stream, token
from tests.harness.gateway import FLOW
from tests.harness.held_stream import Held
from tests.harness.raw_client import request
from tests.harness.raw_upstream import STREAM_HEAD, RawUpstream
from tests.harness.surface import PREDICT, answering, answering_raw, ask

APP = "https://app.example.com"
MINT, LIMITS = "/gateway/v1/session-tokens", "/gateway/v1/limits"
ALL = ["anonymous", "api_key", "session"]


def limit(name="few", by="caller", **rule):
    return {"name": name, "by": by, **rule}


TWO = limit(requests=2, per="1h")


def route(*limits, **keys):
    return {"auth": [*ALL], "limits": list(limits), **keys}


async def statuses(connect, gateway, count, **headers):
    return [(await ask(connect, gateway, **headers)).status for _ in range(count)]


async def test_what_is_left_is_stated_and_then_requests_are_refused(start, connect):
    limits = [limit("hour", requests=2, per="1h"), limit("day", requests=5, per="1d")]
    async with (
        answering() as upstream,
        start(upstream.url, route=route(*limits, cors={"origins": [APP]})) as gateway,
    ):
        first, second, third = [await ask(connect, gateway, Origin=APP) for _ in range(3)]
        lines = await gateway.lines.until("request", 3)
        metrics = await gateway.metrics()
    for reply in (first, second, third):
        assert reply.fields["ratelimit-policy"] == '"hour";q=2;w=3600, "day";q=5;w=86400'
    assert first.fields["ratelimit"] == '"hour";r=1;t=1800, "day";r=4;t=17280'
    assert second.fields["ratelimit"] == '"hour";r=0;t=1800, "day";r=3;t=17280'
    assert third.fields["ratelimit"] == '"hour";r=0;t=1800, "day";r=3;t=17280'
    assert (third.status, third.json()["code"]) == (429, "rate_limited")
    assert third.fields["retry-after"] == "1800"
    assert third.json()["message"] == (
        'The limit "hour" is used up: 2 requests in 1 hour. Try again in 30 minutes.'
    )
    exposed = third.fields["access-control-expose-headers"]
    assert {"RateLimit", "RateLimit-Policy", "Retry-After"} <= set(exposed.split(", "))
    assert [(line["status"], line["outcome"], line["limited_by"]) for line in lines] == [
        (200, "ok", None), (200, "ok", None), (429, "refused", "hour"),
    ]  # fmt: skip
    assert metrics['flowise_gateway_limited_total{limit="hour",route="chat"}'] == 1
    assert 'flowise_gateway_limited_total{limit="day",route="chat"}' not in metrics
    assert len(upstream.seen) == 2


async def test_a_refusal_as_a_problem_and_as_the_widget_reads_it(start, connect):
    async with (
        answering() as upstream,
        start(upstream.url, route=route(limit(requests=1, per="1m"))) as gateway,
    ):
        await ask(connect, gateway)
        problem = await ask(connect, gateway, Accept="application/problem+json")
        plain = await ask(connect, gateway, Accept="text/event-stream")
    body = problem.json()
    assert body["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
    assert (body["status"], body["violated-policies"]) == (429, ["few"])
    assert (plain.status, plain.fields["content-type"]) == (429, "text/plain; charset=utf-8")
    assert plain.body == b'The limit "few" is used up: 1 request in 1 minute. Try again in 1 minute.'
    assert plain.fields["retry-after"] == "60"


async def test_a_request_refused_by_one_limit_is_not_charged_by_another(start, connect):
    limits = [limit("wide", requests=10, per="1h"), limit("narrow", requests=1, per="1h")]
    async with answering() as upstream, start(upstream.url, route=route(*limits)) as gateway:
        replies = [await ask(connect, gateway) for _ in range(4)]
    assert [reply.status for reply in replies] == [200, 429, 429, 429]
    assert replies[-1].fields["ratelimit"].startswith('"wide";r=9;')


@pytest.mark.parametrize(
    ("by", "passed"),
    [("caller", [200, 200, 200, 429]), ("address", [200, 429, 429, 429]), ("route", [200, 429, 429, 429])],
)
async def test_callers_that_share_a_limit(by, passed, start, connect, tmp_path):
    """ann, bob, an anonymous caller and ann again, from one address."""
    ann, bob = await key_of(tmp_path, "ann"), await key_of(tmp_path, "bob")
    rule = limit(by=by, requests=1, per="1h")
    async with answering() as upstream, start(upstream.url, route=route(rule)) as gateway:
        found = [
            (await ask(connect, gateway, **headers)).status
            for headers in ({"X_API_Key": ann}, {"X_API_Key": bob}, {}, {"X_API_Key": ann})
        ]
    assert found == passed


async def test_an_anonymous_caller_counts_by_address(start, connect):
    """Behind a trusted proxy; of IPv6, a /64 network is one address."""
    server = {"trusted_proxies": ["127.0.0.1"]}
    async with (
        answering() as upstream,
        start(upstream.url, route=route(limit(requests=1, per="1h")), server=server) as gateway,
    ):
        found = [
            (await ask(connect, gateway, X_Forwarded_For=address)).status
            for address in (
                "10.0.0.1",
                "10.0.0.2",
                "10.0.0.1",
                "2001:db8::1",
                "2001:db8::ffff:2",
                "2001:db8:0:1::1",
            )
        ]
    assert found == [200, 200, 429, 200, 429, 200]


async def test_two_routes_count_separately(start, connect):
    other = {"name": "other", "chatflow": "12345678-1111-4222-8333-444455556666"}
    chat = {"name": "chat", "chatflow": FLOW}
    routes = [{**each, "upstream": "main", **route(limit(requests=1, per="1h"))} for each in (chat, other)]
    async with answering() as upstream, start(upstream.url, routes=routes) as gateway:
        paths = [f"/api/v1/prediction/{name}" for name in ("chat", "other", FLOW)]
        assert [(await ask(connect, gateway, path=path)).status for path in paths] == [200, 200, 429]


async def test_a_burst_passes_at_once_and_the_rest_evenly(start, connect):
    rule = limit(requests=3600, per="1h", burst=2)
    async with answering() as upstream, start(upstream.url, route=route(rule)) as gateway:
        replies = [await ask(connect, gateway) for _ in range(3)]
        assert [reply.status for reply in replies] == [200, 200, 429]
        assert replies[0].fields["ratelimit-policy"] == '"few";q=2;w=2'
        assert replies[2].fields["retry-after"] == "1"
        while (await ask(connect, gateway)).status == 429:
            pass


@pytest.mark.parametrize(
    ("rule", "announced"),
    [
        ({"requests": 60, "per": "10s"}, '"few";q=60;w=10'),
        ({"requests": 7, "per": "1m"}, '"few";q=7;w=60'),
        ({"requests": 7, "per": "1m", "burst": 3}, '"few";q=3;w=26'),
        ({"requests": 9999, "per": "1d"}, '"few";q=9999;w=86400'),
        ({"requests": 3, "per": "500ms"}, '"few";q=3;w=1'),
        ({"tokens": 7, "per": "10s"}, '"few";q=7;w=10;qu="tokens"'),
    ],
)
async def test_the_time_of_a_limit_is_announced_as_it_is_configured(rule, announced, start, connect):
    async with answering() as upstream, start(upstream.url, route=route(limit(**rule))) as gateway:
        reply = await ask(connect, gateway)
    assert reply.fields["ratelimit-policy"] == announced


async def test_a_refusal_names_every_limit_that_refused(start, connect):
    rules = [
        limit("burst", requests=1, per="1m"),
        limit("hour", requests=1, per="1h"),
        limit("wide", requests=9, per="1h"),
    ]
    async with answering() as upstream, start(upstream.url, route=route(*rules)) as gateway:
        await ask(connect, gateway)
        refused = await ask(connect, gateway)
    assert refused.json()["message"] == (
        'The limit "burst" is used up: 1 request in 1 minute. The limit "hour" is used up: 1 request in 1 hour.'
        " Try again in 1 hour."
    )
    assert refused.fields["retry-after"] == "3600"


async def test_limits_by_address_are_checked_before_the_credential(start, connect, tmp_path):
    rule = limit(by="address", requests=2, per="1h")
    async with answering() as upstream, start(upstream.url, route=route(rule, auth=["api_key"])) as gateway:
        found = await statuses(connect, gateway, 3, X_API_Key="hunter2")
        metrics = await gateway.metrics()
    assert found == [401, 401, 429]
    assert metrics['flowise_gateway_auth_total{method="unknown",result="invalid"}'] == 2
    assert upstream.seen == []


# -- tokens ----------------------------------------------------------------------------------------


def reported(tokens_in, tokens_out):
    node = {
        "nodeId": "n",
        "data": {"output": {"usageMetadata": {"input_tokens": tokens_in, "output_tokens": tokens_out}}},
    }
    return json.dumps({"text": "hello", "agentFlowExecutedData": [node]}).encode()


async def test_tokens_are_reserved_then_settled_to_the_actual_count(start, connect):
    rule = limit(tokens=1000, per="1d", reserve=100)
    async with answering(reported(30, 20)) as upstream, start(upstream.url, route=route(rule)) as gateway:
        first = await ask(connect, gateway)
        await gateway.lines.until("request", 1)
        second = await ask(connect, gateway)
    assert first.fields["ratelimit-policy"] == '"few";q=1000;w=86400;qu="tokens"'
    assert first.fields["ratelimit"].startswith('"few";r=899;')  # 100, and 2 bytes of question
    assert second.fields["ratelimit"].startswith('"few";r=849;')  # 50 actually, and 101 reserved


async def test_a_caller_in_debt_waits_until_it_has_refilled(start, connect):
    rule = limit(tokens=1000, per="1h", reserve=0)
    async with answering(reported(1200, 500)) as upstream, start(upstream.url, route=route(rule)) as gateway:
        assert (await ask(connect, gateway)).status == 200  # the balance was above zero
        await gateway.lines.until("request", 1)
        refused = await ask(connect, gateway)
    assert refused.status == 429
    assert refused.fields["ratelimit"].startswith('"few";r=0;')
    debt = int(refused.fields["retry-after"])
    assert 2520 <= debt <= 2530  # 700 tokens too many, at 1000 an hour
    assert (
        refused.json()["message"]
        == 'The limit "few" is used up: 1000 tokens in 1 hour. Try again in 43 minutes.'
    )
    assert int(refused.fields["ratelimit"].rpartition("t=")[2]) <= debt
    assert len(upstream.seen) == 1


async def test_a_nonsense_usage_is_counted_as_implausible_and_locks_for_the_window_at_most(start, connect):
    rule = limit(tokens=1000, per="1h", reserve=0)
    nonsense = reported(10**12, 5 * 10**11)
    async with answering(nonsense) as upstream, start(upstream.url, route=route(rule)) as gateway:
        assert (await ask(connect, gateway)).status == 200
        (line,) = await gateway.lines.until("request", 1)
        refused = await ask(connect, gateway)
        scrape = await metered(gateway)
    assert refused.status == 429
    assert 3590 <= int(refused.fields["retry-after"]) <= 3600
    believed = 2_000_000 + len(nonsense) + len("hi")
    assert (line["tokens_in"], line["tokens_out"]) == (believed, believed)
    assert line["tokens_implausible"] == 15 * 10**11 - 2 * believed
    for kind, tokens in (("input", 10**12), ("output", 5 * 10**11)):
        assert scrape("tokens_total", type=kind, source="reported") == believed
        assert scrape("tokens_total", type=kind, source="implausible") == tokens - believed


async def test_an_operator_can_believe_less(start, connect):
    rule = limit(tokens=1000, per="1h", reserve=0)
    limits = {"max_run_tokens": 1100}
    async with (
        answering(reported(2000, 20)) as upstream,
        start(upstream.url, route=route(rule), limits=limits) as gateway,
    ):
        assert (await ask(connect, gateway)).status == 200
        (line,) = await gateway.lines.until("request", 1)
        refused = await ask(connect, gateway)
    assert (line["tokens_in"], line["tokens_out"], line["tokens_implausible"]) == (1100, 20, 900)
    assert 432 <= int(refused.fields["retry-after"]) <= 440  # 120 tokens too many, at 1000 an hour


@pytest.mark.parametrize("ending", ["error", "cut", "client", "timeout"])
async def test_tokens_are_settled_on_every_way_out(ending, start, connect):
    """Of a stream that ends early, the tokens that came are estimated from the size of their text."""
    go_on = asyncio.Event()

    async def script(peer, _):
        peer.send(STREAM_HEAD)
        peer.chunk(START + token("a" * 400))
        if ending == "error":
            peer.chunk(b'message:\ndata:{"event":"error","data":"x"}\n\n' + END)
            peer.chunk(b"")
        elif ending == "cut":
            peer.fin()
        else:
            await go_on.wait()
            peer.fin()

    rule = limit(tokens=1000, per="30d", reserve=500)
    timeouts = {"idle": "300ms"} if ending == "timeout" else {}
    sections = {"route": route(rule), "upstreams": {"main": {"timeouts": timeouts}}}
    async with RawUpstream(script) as upstream, start(upstream.url, **sections) as gateway:
        async with connect(gateway) as wire:
            wire.post(PATH, {"question": "hi", "streaming": True, "chatId": "chat-1"})
            assert '"few";r=499;' in (await wire.head())[1]["ratelimit"]
            if ending == "client":
                await wire.until(b"aaa")
                wire.reset()
                await upstream.aborted.wait()
            elif ending == "timeout":
                await wire.until(b'"end"')
                await upstream.aborted.wait()
            go_on.set()
            await settled(gateway)
        async with connect(gateway) as wire:
            wire.send(request("GET", LIMITS))
            (left,) = (await wire.reply()).json()["limits"]
    assert left["remaining"] == 1000 - 101  # 2 bytes of question, 400 of answer


async def test_a_request_that_never_reached_flowise_costs_no_tokens(start, connect):
    rule = limit(tokens=1000, per="30d", reserve=500)
    async with start("http://127.0.0.1:1", route=route(rule)) as gateway:
        reply = await ask(connect, gateway)
        await gateway.lines.request()
        left = (await ask(connect, gateway, "GET", LIMITS)).json()["limits"]
    assert (reply.status, left[0]["remaining"]) == (502, 1000)


# -- runs at once ----------------------------------------------------------------------------------


async def test_runs_at_once_are_counted_while_they_run(start, connect):
    go_on = asyncio.Event()

    async def script(peer, seen):
        if seen.json()["question"] == "soon":
            stream(peer, START + token("x") + METADATA + END)
            return
        peer.send(STREAM_HEAD)
        peer.chunk(START + token("a"))
        await go_on.wait()
        peer.chunk(METADATA + END)
        peer.chunk(b"")

    rule = limit("open", concurrent=2)
    async with RawUpstream(script) as upstream, start(upstream.url, route=route(rule)) as gateway:
        async with connect(gateway) as one, connect(gateway) as two, connect(gateway) as three:
            for number, wire in enumerate((one, two)):
                wire.post(PATH, {"question": "hi", "streaming": True})
                _, fields = await wire.head()
                assert fields["ratelimit-policy"] == '"open";q=2;qu="concurrent-requests"'
                assert fields["ratelimit"] == f'"open";r={1 - number}'
            three.post(PATH, {"question": "soon", "streaming": True})
            refused = await three.reply()
            assert (refused.status, refused.fields["retry-after"]) == (429, "1")
            assert refused.json()["message"] == (
                'The limit "open" is reached: 2 answers at once. Wait until one of them has ended.'
            )
            one.reset()  # the run goes on without its client, and so does its slot
            await upstream.aborted.wait()
            three.post(PATH, {"question": "soon", "streaming": True})
            assert (await three.reply()).status == 429
            go_on.set()
            await settled(gateway, 4)
            three.post(PATH, {"question": "soon", "streaming": True})
            assert (await three.reply()).status == 200
            await settled(gateway, 5)
    assert gateway.limited_runs() == 0


async def test_a_small_request_takes_no_slot_and_no_tokens(start, connect):
    rules = [
        limit("open", concurrent=1),
        limit("tokens", tokens=1, per="1h"),
        limit("few", requests=3, per="1h"),
    ]
    body = json.dumps({"chatId": "c", "messageId": "m"}).encode()
    async with answering() as upstream, start(upstream.url, route=route(*rules)) as gateway:
        replies = [await ask(connect, gateway, "POST", "/api/v1/feedback/chat", body) for _ in range(4)]
    assert [reply.status for reply in replies] == [200, 200, 200, 429]
    assert replies[0].fields["ratelimit-policy"] == '"few";q=3;w=3600'


async def test_settings_files_and_the_stop_button_are_never_refused(start, connect):
    paths = [
        ("GET", f"/api/v1/chatflows-streaming/{FLOW}"), ("GET", "/api/v1/public-chatbotConfig/chat"),
        ("GET", f"/api/v1/get-upload-file?chatflowId={FLOW}&chatId=c&fileName=a"),
        ("PUT", "/api/v1/chatmessage/abort/chat/c"), ("GET", "/api/v1/ping"), ("GET", LIMITS),
    ]  # fmt: skip
    rules = [limit(requests=1, per="1h"), limit("home", by="address", requests=1, per="1h")]
    async with answering(b"{}") as upstream, start(upstream.url, route=route(*rules)) as gateway:
        assert await statuses(connect, gateway, 2) == [200, 429]
        for method, path in paths:
            assert (await ask(connect, gateway, method, path)).status == 200


async def test_a_lead_counts_although_its_route_is_in_its_body(start, connect):
    rules = [limit("home", by="address", requests=1, per="1h"), limit(requests=5, per="1h")]
    async with answering() as upstream, start(upstream.url, route=route(*rules)) as gateway:
        found = [
            (await ask(connect, gateway, "POST", "/api/v1/leads", b'{"chatflowid":"chat","name":"n"}')).status
            for _ in range(2)
        ]
    assert found == [200, 429]


# -- keys ------------------------------------------------------------------------------------------


async def mint(connect, gateway, key, user="u"):
    return await ask(connect, gateway, "POST", MINT, json.dumps({"caller": user}).encode(), X_API_Key=key)


async def test_a_keys_own_limits_count_the_key_with_all_its_sessions(start, connect, tmp_path):
    limits = ({"name": "all", "requests": 3, "per": 3600.0},)
    key = await limited_key(tmp_path, "team", limits)
    other = await key_of(tmp_path, "other")
    async with (
        answering() as upstream,
        start(upstream.url, route=route(TWO), auth={"secret": "s" * 32}) as gateway,
    ):
        ann, bob = [(await mint(connect, gateway, key, user)).json()["token"] for user in ("ann", "bob")]
        first = await ask(connect, gateway, X_API_Key=key)
        assert first.fields["ratelimit-policy"] == '"few";q=2;w=3600, "key:all";q=3;w=3600'
        assert first.fields["ratelimit"] == '"few";r=1;t=1800, "key:all";r=2;t=1200'
        assert await statuses(connect, gateway, 1, X_API_Key=ann) == [200]
        assert await statuses(connect, gateway, 2, X_API_Key=bob) == [200, 429]
        assert await statuses(connect, gateway, 1, X_API_Key=key) == [429]
        assert await statuses(connect, gateway, 1, X_API_Key=other) == [200]
        metrics = await gateway.metrics()
    assert metrics['flowise_gateway_limited_total{limit="key:all",route="chat"}'] == 2


async def limited_key(folder, name, limits):
    return await key_of(
        folder, name, limits=tuple(Limit.model_construct(**each, _fields_set=set(each)) for each in limits)
    )


async def test_session_tokens_are_limited_for_each_key(start, connect, tmp_path):
    key, other = await key_of(tmp_path, "one"), await key_of(tmp_path, "two")
    auth = {"secret": "s" * 32, "session_tokens": {"per_minute": 2}}
    async with answering() as upstream, start(upstream.url, route=route(), auth=auth) as gateway:
        replies = [await mint(connect, gateway, key) for _ in range(3)]
        assert [reply.status for reply in replies] == [200, 200, 429]
        assert replies[0].fields["ratelimit-policy"] == '"session-tokens";q=2;w=60'
        assert replies[2].fields["retry-after"] == "30"
        assert (await mint(connect, gateway, other)).status == 200
        metrics = await gateway.metrics()
    assert metrics['flowise_gateway_limited_total{limit="session-tokens",route="none"}'] == 1


# -- shadow mode, and GET /gateway/v1/limits ------------------------------------------------------


async def test_in_shadow_mode_everything_is_recorded_and_nothing_refused(start, connect):
    limits = {"shadow": True}
    async with answering() as upstream, start(upstream.url, route=route(TWO), limits=limits) as gateway:
        replies = [await ask(connect, gateway) for _ in range(3)]
        lines = await gateway.lines.until("request", 3)
        metrics = await gateway.metrics()
    assert [reply.status for reply in replies] == [200, 200, 200]
    assert [line["limited_by"] for line in lines] == [None, None, "few"]
    assert metrics['flowise_gateway_limited_total{limit="few",route="chat"}'] == 1
    assert len(upstream.seen) == 3


async def test_what_is_left_is_listed_and_nothing_is_charged(start, connect, tmp_path):
    key = await limited_key(tmp_path, "team", ({"name": "all", "tokens": 100, "per": 60.0, "reserve": 0},))
    narrow = await key_of(tmp_path, "narrow", routes=("shop",))
    rules = [TWO, limit("open", concurrent=4), limit("home", by="address", requests=9, per="9m")]
    async with answering() as upstream, start(upstream.url, route=route(*rules)) as gateway:
        await ask(connect, gateway, X_API_Key=key)
        for _ in range(3):
            reply = await ask(connect, gateway, "GET", LIMITS, X_API_Key=key)
        anonymous = await ask(connect, gateway, "GET", LIMITS)
        nothing = await ask(connect, gateway, "GET", LIMITS, X_API_Key=narrow)
        await until(lambda: len(gateway.lines.of("request")) == 6)
    assert (reply.status, reply.fields["cache-control"]) == (200, "no-store")
    listed = reply.json()
    assert listed["caller"] == "key:team"
    assert [(one["route"], one["name"], one["by"], one["kind"], one["limit"], one["remaining"]) for one in listed["limits"]] == [
        ("chat", "few", "caller", "requests", 2, 1),
        ("chat", "open", "caller", "concurrent", 4, 4),
        ("chat", "home", "address", "requests", 9, 8),
        (None, "key:all", "key", "tokens", 100, listed["limits"][3]["remaining"]),
    ]  # fmt: skip
    assert set(listed["limits"][0]) == {
        "route",
        "name",
        "by",
        "kind",
        "limit",
        "remaining",
        "reset_s",
        "retry_after_s",
    }
    assert (listed["limits"][1]["reset_s"], listed["limits"][0]["retry_after_s"]) == (None, 0)
    assert anonymous.json()["caller"] == "anonymous"
    assert [one["name"] for one in anonymous.json()["limits"]] == ["few", "open", "home"]
    assert nothing.json() == {"caller": "key:narrow", "limits": []}


async def test_a_route_without_limits_sends_no_headers(start, connect):
    async with answering() as upstream, start(upstream.url) as gateway:
        reply = await ask(connect, gateway, path=PREDICT)
    assert not [name for name in reply.fields if name.startswith("ratelimit")]


async def test_a_session_cannot_use_up_the_session_tokens_of_its_key(start, connect, tmp_path):
    key = await key_of(tmp_path, "one")
    auth = {"secret": "s" * 32, "session_tokens": {"per_minute": 2}}
    async with answering() as upstream, start(upstream.url, route=route(), auth=auth) as gateway:
        token = (await mint(connect, gateway, key)).json()["token"]
        assert [(await mint(connect, gateway, token)).status for _ in range(3)] == [403] * 3
        assert (await mint(connect, gateway, key)).status == 200


@pytest.mark.parametrize(("ending", "charged"), [("500", 100), ("timeout", 100), ("client", 100), ("400", 0)])
async def test_a_prediction_without_a_stream_costs_its_question_once_flowise_has_it(
    ending, charged, start, connect
):
    go_on = asyncio.Event()

    async def script(peer, _):
        if ending == "400":
            peer.answer(b'{"statusCode":400}', "400 Bad Request")
            return
        if ending != "500":
            await go_on.wait()
        peer.answer(b'{"statusCode":500}', "500 Internal Server Error")

    rule = limit(tokens=1000, per="30d", reserve=500)
    timeouts = {"total": "300ms"} if ending == "timeout" else {}
    sections = {"route": route(rule), "upstreams": {"main": {"timeouts": timeouts}}}
    body = {"question": "ab c" * 100, "chatId": "chat-1"}
    async with RawUpstream(script) as upstream, start(upstream.url, **sections) as gateway:
        async with connect(gateway) as wire:
            wire.post(PATH, body)
            if ending == "client":
                await until(lambda: upstream.seen)
                wire.reset()
                await upstream.aborted.wait()
            else:
                assert (await wire.reply()).status in (400, 500, 504)
            go_on.set()
            (line,) = await settled(gateway)
        left = (await ask(connect, gateway, "GET", LIMITS)).json()["limits"]
    assert left[0]["remaining"] == 1000 - charged
    assert (line["tokens_in"], line["token_source"]) == ((charged, "estimated") if charged else (None, None))


async def test_in_shadow_mode_a_store_that_is_away_refuses_no_request(start, connect):
    limits = {"shadow": True, "store": "redis://127.0.0.1:1/0", "when_store_fails": "closed"}
    auth = {"secret": "s" * 32}
    async with (
        answering() as upstream,
        start(upstream.url, route=route(TWO), limits=limits, auth=auth) as gateway,
    ):
        assert await statuses(connect, gateway, 3) == [200, 200, 200]


async def test_in_shadow_mode_every_limit_that_would_refuse_is_logged(start, connect):
    rules = [limit("home", by="address", requests=1, per="1h"), limit(requests=1, per="1h")]
    async with (
        answering() as upstream,
        start(upstream.url, route=route(*rules), limits={"shadow": True}) as gateway,
    ):
        for _ in range(2):
            reply = await ask(connect, gateway)
        lines = await gateway.lines.until("request", 2)
    assert (reply.status, lines[1]["limited_by"]) == (200, "home,few")
    assert reply.fields["ratelimit"].startswith('"home";r=0;')


async def test_retry_after_includes_limits_that_the_refused_request_used_up(start, connect):
    rules = [
        limit("home", by="address", requests=2, per="1h"),
        limit(by="route", requests=60, per="1m", burst=1),
    ]
    async with answering() as upstream, start(upstream.url, route=route(*rules)) as gateway:
        _, second = [await ask(connect, gateway) for _ in range(2)]
    assert second.fields["ratelimit"] == '"home";r=0;t=1800, "few";r=0;t=1'
    assert (second.status, second.fields["retry-after"]) == (429, "1800")


async def test_a_run_too_many_that_used_up_another_limit_says_how_long_to_wait(start, connect):
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def script(peer, seen):
        if seen.method == "POST":
            reached.set()
            await go_on.wait()
        peer.answer(b"{}")

    rules = [limit("home", by="address", requests=2, per="1h"), limit("open", concurrent=1)]
    async with RawUpstream(script) as upstream, start(upstream.url, route=route(*rules)) as gateway:
        async with connect(gateway) as one:
            one.post(PATH, {"question": "hi"})
            await reached.wait()
            refused = await ask(connect, gateway)
            go_on.set()
    assert refused.json()["message"] == (
        'The limit "open" is reached: 1 answer at once. Try again in 30 minutes.'
    )
    assert refused.fields["retry-after"] == "1800"


@pytest.mark.parametrize("by", ["address", "route"])
async def test_a_request_that_waits_for_its_conversation_holds_no_slot(by, start, connect):
    held = Held()
    rule = limit("open", by=by, concurrent=1)
    body = {"question": "hi", "streaming": True, "chatId": "chat-1"}
    async with RawUpstream(held) as upstream, start(upstream.url, route=route(rule)) as gateway:
        async with connect(gateway) as one, connect(gateway) as two:
            one.post(PATH, body)
            await one.head()
            two.post(PATH, body)
            await until(gateway.has_waiting_request)
            held.may_finish.set()
            assert (await two.reply()).status == 200


async def test_listing_limits_is_limited_too(start, connect):
    async with (
        answering() as upstream,
        start(upstream.url, route=route(TWO)) as gateway,
        connect(gateway) as wire,
    ):
        found = []
        for _ in range(121):
            wire.send(request("GET", LIMITS))
            found.append((await wire.reply()).status)
    assert found == [200] * 120 + [429]


FIVE = limit(requests=5, per="1h")


@pytest.mark.parametrize(
    ("answer", "headers", "status"),
    [
        (b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\n{}", {}, 500),
        (b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\n{}", {}, 404),
        (b"nonsense\r\n\r\n", {}, 502),
        (b"nonsense\r\n\r\n", {"Accept": "text/event-stream"}, 200),
        (STREAM_HEAD + b"0\r\n\r\n", {}, 200),
    ],
)
async def test_every_kind_of_response_has_the_headers(answer, headers, status, start, connect):
    async with answering_raw(answer) as upstream, start(upstream.url, route=route(FIVE)) as gateway:
        reply = await ask(connect, gateway, **headers)
    assert (reply.status, reply.fields["ratelimit"]) == (status, '"few";r=4;t=720')
    assert reply.fields["ratelimit-policy"] == '"few";q=5;w=3600'
