"""The gateway alone decides which pages may call: on answers, errors and preflights."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from multidict import CIMultiDict

from gateway.config import CorsSettings
from gateway.policies.cors import check_origin
from tests.harness.gateway import FLOW
from tests.harness.raw_client import request
from tests.harness.surface import ANSWER, PREDICT, answering, answering_raw, ask

APP, EVIL = "https://app.example.com", "https://evil.example"
LISTED = {"cors": {"origins": [APP]}}
EVERY = {"cors": {"origins": ["*"]}}
EXPOSED = "X-Request-ID, X-Trace-Id, X-Gateway-Status, RateLimit, RateLimit-Policy, Retry-After"
ABORT = f"/api/v1/chatmessage/abort/{FLOW}/c"


@pytest.mark.parametrize(
    ("route", "origin", "allowed"),
    [(LISTED, APP, APP), (EVERY, EVIL, "*"), (EVERY, "null", "*"), (LISTED, None, None), ({}, EVIL, None)],
)
async def test_origin_that_may_call(route, origin, allowed, start, connect):
    async with answering() as upstream, start(upstream.url, route=route) as gateway:
        reply = await ask(connect, gateway, Origin=origin)
    assert (reply.status, reply.fields.get("access-control-allow-origin")) == (200, allowed)
    assert reply.fields.get("access-control-expose-headers") == (EXPOSED if allowed else None)
    assert reply.fields.get("vary") == ("Origin" if route else None)
    assert "access-control-allow-credentials" not in reply.fields


@pytest.mark.parametrize(
    "origin", [EVIL, "null", APP.upper(), APP + "/", APP + ":443", "http://app.example.com", ""]
)
async def test_origin_that_may_not(origin, start, connect):
    async with answering() as upstream, start(upstream.url, route=LISTED) as gateway:
        reply = await ask(connect, gateway, Origin=origin)
    assert (reply.status, reply.json()["code"]) == (403, "forbidden")
    assert "access-control-allow-origin" not in reply.fields
    assert reply.fields["vary"] == "Origin"
    assert upstream.seen == []


async def test_two_origins(start, connect):
    data = request("GET", f"/api/v1/chatflows-streaming/{FLOW}", Origin=f"{APP}\r\nOrigin: {APP}")
    async with (
        answering() as upstream,
        start(upstream.url, route=LISTED) as gateway,
        connect(gateway) as wire,
    ):
        wire.send(data)
        reply = await wire.reply()
    assert reply.status in (400, 403)
    assert upstream.seen == []


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        (PREDICT, "POST"),
        (ABORT, "PUT"),
        ("/api/v1/predictions/chat", "POST"),
        (f"/api/v1/chatflows-uploads/{FLOW}", "GET, HEAD"),
    ],
)
async def test_preflight(path, methods, start, connect):
    asked = {
        "Origin": APP,
        "Access_Control_Request_Method": "POST",
        "Access_Control_Request_Headers": "x-own, content-type",
    }
    async with answering() as upstream, start(upstream.url, route=LISTED) as gateway:
        reply = await ask(connect, gateway, "OPTIONS", path, **asked)
        line = await gateway.lines.request()
    allowed = reply.fields["access-control-allow-headers"].lower().split(", ")
    assert (reply.status, reply.body) == (204, b"")
    assert (reply.fields["access-control-allow-origin"], reply.fields["access-control-allow-methods"]) == (
        APP,
        methods,
    )
    assert {"authorization", "content-type", "x-api-key", "x-request-id", "traceparent", "x-own"} <= set(
        allowed
    )
    assert (reply.fields["access-control-max-age"], reply.fields["vary"]) == (
        "600", "Origin, Access-Control-Request-Headers, Access-Control-Request-Private-Network",
    )  # fmt: skip
    assert (line["status"], line["outcome"]) == (204, "ok")
    assert upstream.seen == []


async def test_preflight_repeats_no_odd_header_names(start, connect):
    asked = {"Origin": APP, "Access_Control_Request_Headers": 'x"y\t(z)'}
    async with answering() as upstream, start(upstream.url, route=LISTED) as gateway:
        reply = await ask(connect, gateway, "OPTIONS", **asked)
    assert "(" not in reply.fields["access-control-allow-headers"]


@pytest.mark.parametrize(
    ("route", "origin", "status"), [(LISTED, EVIL, 403), ({}, APP, 204), (LISTED, None, 204)]
)
async def test_preflight_that_allows_nothing(route, origin, status, start, connect):
    async with answering() as upstream, start(upstream.url, route=route) as gateway:
        reply = await ask(connect, gateway, "OPTIONS", Origin=origin)
    assert reply.status == status
    assert not [name for name in reply.fields if name.startswith("access-control-")]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/ping", 200),
        ("GET", "/api/v1/nothing", 404),
        ("POST", "/api/v1/prediction/other", 404),
        ("OPTIONS", "/api/v1/leads/", 204),
        ("GET", "/%2e", 400),
    ],
)
async def test_defaults_decide_where_no_route_is_known(method, path, status, start, connect):
    async with answering() as upstream, start(upstream.url, defaults=LISTED) as gateway:
        reply = await ask(connect, gateway, method, path, Origin=APP)
        refused = await ask(connect, gateway, method, path, Origin=EVIL)
    assert (reply.status, reply.fields["access-control-allow-origin"]) == (status, APP)
    assert (refused.status, "access-control-allow-origin" in refused.fields) == (403, False)


@pytest.mark.parametrize(
    ("asked", "status"), [({"method": "GET"}, 405), ({"body": b"[]"}, 400), ({"X_API_Key": "fgw_x"}, 401)]
)
async def test_refusals_can_be_read_by_the_page(asked, status, start, connect):
    async with answering() as upstream, start(upstream.url, route=LISTED) as gateway:
        reply = await ask(connect, gateway, Origin=APP, **asked)
    assert (reply.status, reply.fields["access-control-allow-origin"]) == (status, APP)
    assert reply.fields["access-control-expose-headers"] == EXPOSED


async def test_cors_headers_of_flowise_never_pass(start, connect):
    head = (
        b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\n"
        b"Vary: Accept-Encoding\r\nContent-Security-Policy: x\r\nX-Frame-Options: DENY\r\nServer: express\r\n"
        b"X-Powered-By: Express\r\nSet-Cookie: a=b\r\nContent-Length: %d\r\n\r\n" % len(ANSWER)
    )
    async with answering_raw(head + ANSWER) as upstream, start(upstream.url, route=LISTED) as gateway:
        reply = await ask(connect, gateway, Origin=APP)
    assert (reply.fields["access-control-allow-origin"], reply.fields["vary"]) == (APP, "Origin")
    assert reply.fields["server"] == "flowise-gateway"
    for name in (
        "access-control-allow-credentials",
        "content-security-policy",
        "x-frame-options",
        "x-powered-by",
        "set-cookie",
    ):
        assert name not in reply.fields


@pytest.mark.parametrize(("origin", "allowed"), [(APP, APP), (EVIL, None)])
async def test_preflight_of_a_lead_asks_all_routes(origin, allowed, start, connect):
    """The body names the flow, and a preflight has no body."""
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    async with (
        answering() as upstream,
        start(upstream.url, route=LISTED) as gateway,
        connect(gateway) as wire,
    ):
        wire.send(request("OPTIONS", "/api/v1/leads/", Origin=origin, **asked))
        reply = await wire.reply()
    assert reply.fields.get("access-control-allow-origin") == allowed
    assert reply.status == (204 if allowed else 403)


FILE = "/api/v1/get-upload-file?chatflowId=chat&chatId=c&fileName=a.png"


@pytest.mark.parametrize("default", [None, {"origins": ["https://other.example"]}])
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("OPTIONS", FILE, 204),
        ("GET", FILE, 200),
        ("GET", f"{FILE}&odd=1", 400),
        ("GET", FILE.replace("a.png", ".."), 400),
    ],
)
async def test_the_route_of_a_file_stands_in_its_query_also_if_that_is_wrong(
    method, path, status, default, start, connect
):
    sections = {"route": LISTED, "defaults": {"cors": default}}
    async with answering() as upstream, start(upstream.url, **sections) as gateway:
        reply = await ask(connect, gateway, method, path, Origin=APP)
        refused = await ask(connect, gateway, method, path, Origin=EVIL)
    assert (reply.status, reply.fields.get("access-control-allow-origin")) == (status, APP)
    assert refused.status == 403


ANOTHER = "https://two.example"
LEAD = b'{"chatflowid":"%b","name":"n"}'


@pytest.mark.parametrize(
    ("default", "second", "flow", "origin", "status", "allowed"),
    [
        (ANOTHER, APP, b"chat", APP, 200, APP),  # the route decides, not the default
        (ANOTHER, APP, b"chat", ANOTHER, 403, None),
        (None, None, b"other", EVIL, 200, None),  # a route that checks no Origin, beside one that does
        (None, None, b"chat", EVIL, 403, None),
        (None, None, b"other", APP, 200, None),
        (None, ANOTHER, b"other", APP, 403, None),
    ],
)
async def test_a_lead_may_come_from_the_pages_of_its_route(
    default, second, flow, origin, status, allowed, start, connect
):
    def route(name, chatflow, page):
        cors = {"cors": {"origins": [page]}} if page else {}
        return {"name": name, "chatflow": chatflow, "upstream": "main", "auth": ["anonymous"], **cors}

    routes = [route("chat", FLOW, APP), route("other", "12345678-1111-4222-8333-444455556666", second)]
    # a route inherits `defaults`
    sections = {"routes": routes, "defaults": {"cors": {"origins": [default]} if default else None}}
    async with answering() as upstream, start(upstream.url, **sections) as gateway:
        reply = await ask(connect, gateway, "POST", "/api/v1/leads", LEAD % flow, Origin=origin)
    assert (reply.status, reply.fields.get("access-control-allow-origin")) == (status, allowed)
    assert len(upstream.seen) == (status == 200)


@pytest.mark.parametrize("path", [PREDICT, "/api/v1/leads", "/gateway/v1/limits"])
async def test_a_preflight_where_cors_is_not_configured_is_logged_with_that_reason(path, start, connect):
    asked = {"Origin": APP, "Access_Control_Request_Method": "POST"}
    async with answering() as upstream, start(upstream.url) as gateway:
        reply = await ask(connect, gateway, "OPTIONS", path, **asked)
        line = await gateway.lines.request()
    assert (reply.status, reply.body) == (204, b"")
    assert not [name for name in reply.fields if name.startswith("access-control-")]
    assert (line["status"], line["outcome"], line["cors"]) == (204, "ok", "cors_not_configured")


@pytest.mark.parametrize(
    ("sections", "method", "headers"),
    [({"route": LISTED}, "OPTIONS", {"Origin": APP}), ({"defaults": LISTED}, "OPTIONS", {"Origin": APP}),
     ({}, "OPTIONS", {}), ({}, "POST", {"Origin": APP})],
)  # fmt: skip
async def test_no_other_request_is_logged_with_it(sections, method, headers, start, connect):
    async with answering() as upstream, start(upstream.url, **sections) as gateway:
        await ask(connect, gateway, method, **headers)
        line = await gateway.lines.request()
    assert "cors" not in line


WILD = {
    "cors": {"origins": ["https://*.example.com", "https://*.example.org:8443", "http://*.localhost:5173"]}
}
APPS = [
    "capacitor://localhost",
    "ionic://localhost",
    "tauri://localhost",
    "chrome-extension://abcdefghijklmnop",
]


@pytest.mark.parametrize(
    ("origin", "is_allowed"),
    [
        ("https://a.example.com", True),
        ("https://a-b_c9.example.com", True),
        ("https://a.example.org:8443", True),
        ("http://shop.localhost:5173", True),
        ("https://example.com", False),
        ("https://.example.com", False),
        ("https://a.b.example.com", False),
        ("https://a.example.com.attacker", False),
        ("https://evil.example.com.attacker.net", False),
        ("https://evilexample.com", False),
        ("https://evil.net/.example.com", False),
        ("https://evil.net#.example.com", False),
        ("https://evil.net?.example.com", False),
        ("https://evil.net:1.example.com", False),
        ("https://u@.example.com", False),
        ("https://*.example.com", False),
        ("https://A.example.com", False),
        ("https://é.example.com", False),
        ("https://" + "a" * 64 + ".example.com", False),
        ("http://a.example.com", False),
        ("https://a.example.com:8443", False),
        ("https://a.example.com, https://a.example.com", False),
        ("null", False),
    ],
)
async def test_one_label_in_front_of_a_host(origin, is_allowed, start, connect):
    async with answering() as upstream, start(upstream.url, route=WILD) as gateway:
        reply = await ask(connect, gateway, Origin=origin)
    assert (reply.status, reply.fields.get("access-control-allow-origin")) == (
        (200, origin) if is_allowed else (403, None)
    )
    assert reply.fields["vary"] == "Origin"
    assert len(upstream.seen) == is_allowed


@pytest.mark.parametrize("origin", [*APPS, "null"])
async def test_apps_extensions_and_files_are_listed_by_name(origin, start, connect):
    async with answering() as upstream:
        for listed, status in ((origin, 200), (APP, 403)):
            async with start(upstream.url, route={"cors": {"origins": [listed]}}) as gateway:
                reply = await ask(connect, gateway, Origin=origin)
                assert (reply.status, reply.fields.get("access-control-allow-origin")) == (
                    status, origin if status == 200 else None,
                )  # fmt: skip
    (seen,) = upstream.seen
    assert seen.fields.get("origin") == (None if origin == "null" else origin)  # null makes Flowise hang


CREDENTIALS = {"cors": {"origins": [APP, "https://*.example.com"], "credentials": True}}


@pytest.mark.parametrize("method", ["POST", "OPTIONS", "GET"])
async def test_credentials_are_allowed_where_the_route_says_so(method, start, connect):
    """On answers, preflights and errors (405)."""
    async with answering() as upstream, start(upstream.url, route=CREDENTIALS) as gateway:
        for origin in (APP, "https://b.example.com"):
            reply = await ask(connect, gateway, method, Origin=origin)
            assert reply.fields["access-control-allow-credentials"] == "true"
            assert reply.fields["access-control-allow-origin"] == origin
        for origin in (EVIL, None):
            reply = await ask(connect, gateway, method, Origin=origin)
            assert "access-control-allow-credentials" not in reply.fields


async def test_credentials_of_one_route_do_not_reach_another(start, connect):
    other = {"name": "other", "chatflow": FLOW.replace("3f", "4f"), "upstream": "main", "auth": ["anonymous"]}
    chat = {"name": "chat", "chatflow": FLOW, "upstream": "main", "auth": ["anonymous"], **CREDENTIALS}
    async with answering() as upstream, start(upstream.url, routes=[{**other, **EVERY}, chat]) as gateway:
        found = {
            flow: await ask(
                connect,
                gateway,
                path="/api/v1/leads",
                body=b'{"chatflowid":"%b"}' % flow.encode(),
                Origin=APP,
            )
            for flow in ("other", "chat")
        }
    fields = {flow: reply.fields for flow, reply in found.items()}
    assert (
        fields["other"]["access-control-allow-origin"],
        fields["chat"]["access-control-allow-origin"],
    ) == ("*", APP)
    assert ["access-control-allow-credentials" in fields[flow] for flow in ("other", "chat")] == [False, True]


@pytest.mark.parametrize(("asked", "allowed"), [("true", "true"), ("1", None), (None, None)])
async def test_a_page_of_a_public_network_may_call_a_private_address(asked, allowed, start, connect):
    async with answering() as upstream, start(upstream.url, route=LISTED) as gateway:
        headers = {"Access_Control_Request_Private_Network": asked}
        reply = await ask(connect, gateway, "OPTIONS", Origin=APP, **headers)
        refused = await ask(connect, gateway, "OPTIONS", Origin=EVIL, **headers)
        answer = await ask(connect, gateway, Origin=APP, **headers)
    assert reply.fields.get("access-control-allow-private-network") == allowed
    for other in (refused, answer):
        assert "access-control-allow-private-network" not in other.fields


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/nothing", 404),
        ("/api/v1/prediction/other", 404),
        ("/api/v1/prediction/", 404),
        ("/%2e", 400),
    ],
)
async def test_errors_for_unknown_paths_can_be_read_by_the_pages_of_every_route(path, status, start, connect):
    async with answering() as upstream, start(upstream.url, route=CREDENTIALS) as gateway:
        reply = await ask(connect, gateway, path=path, Origin=APP)
        other = await ask(connect, gateway, path=path, Origin=EVIL)
        served = await ask(connect, gateway, "GET", "/api/v1/ping", Origin=APP)
    assert (reply.status, reply.fields["access-control-allow-origin"], reply.fields["vary"]) == (
        status,
        APP,
        "Origin",
    )
    assert (other.status, "access-control-allow-origin" in other.fields) == (status, False)
    assert "access-control-allow-origin" not in served.fields  # that is for `defaults`


def test_credentials_never_go_with_the_star_though_check_already_refuses_that():
    settings = CorsSettings.model_construct(origins=("*",), credentials=True)
    exchange = SimpleNamespace(
        response_headers={}, request=SimpleNamespace(headers=CIMultiDict({"Origin": EVIL}))
    )
    check_origin(exchange, settings)
    assert exchange.response_headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in exchange.response_headers


@pytest.mark.parametrize(("origin", "allowed"), [(APP, APP), ("https://evil.example.com", None)])
async def test_an_icon_can_be_read_by_the_pages_of_every_route_and_shown_by_all(
    origin, allowed, start, connect
):
    """A page that fetches it sends its Origin; an image has none."""
    svg = answering(b"<svg/>", content_type="image/svg+xml")
    async with svg as upstream, start(upstream.url, route={"cors": {"origins": [APP]}}) as gateway:
        icon = await ask(connect, gateway, "GET", "/api/v1/node-icon/x", Origin=origin)
        asked = {"Origin": origin, "Access_Control_Request_Method": "GET"}
        preflight = await ask(connect, gateway, "OPTIONS", "/api/v1/node-icon/x", **asked)
    assert (icon.status, icon.fields.get("access-control-allow-origin")) == (200, allowed)
    assert (preflight.status, preflight.fields.get("access-control-allow-origin")) == (204, allowed)
