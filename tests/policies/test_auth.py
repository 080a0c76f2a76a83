"""Authentication of requests: what each credential allows, how wrong ones are refused, and that none is passed on."""

from __future__ import annotations

import base64
import hmac
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.auth.key_format import make_key
from gateway.auth.session_tokens import SessionGrant, SessionTokens
from tests.harness.api_keys import change_key, key_of
from tests.harness.gateway import FLOW
from tests.harness.issuer import Issuer, private_key
from tests.harness.raw_client import request
from tests.harness.surface import ANSWER, JSON_KEYS, PREDICT, QUESTION, answering, ask

SECRET = "s" * 32
ALL = ["api_key", "session", "jwt"]
APP = "https://app.example.com"
CHALLENGE = 'Bearer realm="flowise-gateway"'
HOURS = 3600


class World:
    """Credentials of every kind, and their sources."""

    def __init__(self, issuer, folder):
        self.issuer, self.folder = issuer, folder
        self.tokens = SessionTokens([SECRET.encode()])

    async def make(self):
        self.key = await key_of(self.folder, "backend")
        self.narrow = await key_of(self.folder, "narrow", routes=("other",))
        self.revoked = await key_of(self.folder, "gone")
        await change_key(self.folder, self.revoked, revoked=time.time())
        self.expired = await key_of(self.folder, "old", expires=float(int(time.time())) - 1)
        self.jwt = self.issuer.token()

    @property
    def auth(self):
        return {"secret": SECRET, "jwt": [self.issuer.settings]}

    def session(self, key=None, user="ann", routes=None, seconds=HOURS):
        now = int(time.time())
        key_id = (key or self.key)[4:12]
        return self.tokens.issue(SessionGrant(key_id, user, routes, expires_at=now + seconds, issued_at=now))


@pytest.fixture
async def world(tmp_path):
    async with Issuer() as issuer:
        made = World(issuer, tmp_path)
        await made.make()
        yield made


def bearer(text):
    return {"Authorization": f"Bearer {text}"}


VALID = {
    "key": (lambda world: bearer(world.key), "key:backend", "api_key"),
    "key, other case of Bearer": (
        lambda world: {"Authorization": f"bEARER  {world.key}"}, "key:backend", "api_key",
    ),
    "key in its own header": (lambda world: {"X_API_Key": world.key}, "key:backend", "api_key"),
    "session": (lambda world: bearer(world.session()), "session:backend/ann", "session"),
    "session in the key's header": (
        lambda world: {"X_API_Key": world.session()}, "session:backend/ann", "session",
    ),
    "session of a strange user": (
        lambda world: bearer(world.session(user="a/b:ç 😀")), "session:backend/a/b:ç 😀", "session",
    ),
    "session for this route": (
        lambda world: bearer(world.session(routes=frozenset({"chat", "other"}))), "session:backend/ann", "session",
    ),
    "jwt": (lambda world: bearer(world.jwt), "jwt:https://id.example.com:ann", "jwt"),
}  # fmt: skip


@pytest.mark.parametrize("name", VALID)
async def test_a_valid_credential_is_accepted(name, world, start, connect):
    make, caller, method = VALID[name]
    headers = make(world)
    async with answering() as upstream, start(upstream.url, route={"auth": ALL}, auth=world.auth) as gateway:
        for _ in range(2):  # seen for the first time, and seen before
            reply = await ask(connect, gateway, **headers)
            assert (reply.status, reply.body) == (200, ANSWER)
        lines = await gateway.lines.until("request", 2)
        metrics = await gateway.metrics()
    assert [(line["caller"], line["auth"]) for line in lines] == [(caller, method)] * 2
    assert metrics[f'flowise_gateway_auth_total{{method="{method}",result="ok"}}'] == 2
    secret = next(iter(headers.values())).split()[-1]
    output = gateway.lines.getvalue() + "".join(metrics)
    assert secret not in output
    for seen in upstream.seen:
        assert secret.encode() not in seen.head + seen.body
        assert "authorization" not in seen.fields


def unsigned(header, claims):
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part(header)}.{part(claims)}."


def claims_of(world):
    return jwt.decode(world.jwt, options={"verify_signature": False})


def signed_with_the_public_key(world):
    """The classic confusion: HS256 with the public RSA key as its secret."""
    pem = world.issuer.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head = unsigned({"alg": "HS256", "kid": "k1"}, claims_of(world)).rstrip(".")
    tag = base64.urlsafe_b64encode(hmac.digest(pem, head.encode(), "sha256")).rstrip(b"=").decode()
    return f"{head}.{tag}"


def of_another_key(world, **headers):
    return jwt.encode(
        claims_of(world), private_key("another"), algorithm="RS256", headers={"kid": "k1", **headers}
    )


def changed(text, at=-1, to="A", other="B"):
    """The text with one letter exchanged."""
    letters = list(text)
    letters[at] = other if letters[at] == to else to
    return "".join(letters)


def made_of(letters):
    """A key of the right form with this id and secret."""
    left = iter(letters)
    return make_key(lambda _: next(left))


NOT_VALID = "unknown, revoked or expired"
PAST, FUTURE = 1_000_000_000, 4_000_000_000
# name: what is sent, what the message must say
WRONG = {
    "key: unknown": (lambda world: bearer(made_of("0" * 40)), NOT_VALID),
    "key: of a known id": (lambda world: bearer(made_of(world.key[4:12] + "0" * 32)), NOT_VALID),
    "key: revoked": (lambda world: bearer(world.revoked), NOT_VALID),
    "key: expired": (lambda world: bearer(world.expired), NOT_VALID),
    "key: typo": (lambda world: bearer(changed(world.key, 20)), "typo"),
    "key: typo in the checksum": (lambda world: bearer(changed(world.key)), "typo"),
    "key: cut": (lambda world: bearer(world.key[:-1]), "not an API key"),
    "key: longer": (lambda world: bearer(world.key + "x"), "not an API key"),
    "key: other case": (lambda world: bearer(world.key.upper()), "no key of this gateway"),
    "key: prefix alone": (lambda world: bearer("fgw_"), "not an API key"),
    "key: huge": (lambda world: bearer("fgw_" + "a" * 8000), "not an API key"),
    "key: without Bearer": (lambda world: {"Authorization": world.key}, "cannot be read"),
    "key: as Basic": (lambda world: {"Authorization": f"Basic {world.key}"}, "cannot be read"),
    "key: with words behind it": (lambda world: bearer(f"{world.key} x"), "cannot be read"),
    "key: in a list": (lambda world: bearer(f"{world.key}, {world.key}"), "cannot be read"),
    "key: not ASCII": (lambda world: bearer(world.key[:-1] + "é"), "cannot be read"),
    "nothing behind Bearer": (lambda world: {"Authorization": "Bearer"}, "no key of this gateway"),
    "empty Authorization": (lambda world: {"Authorization": ""}, "no key of this gateway"),
    "empty X-API-Key": (lambda world: {"X_API_Key": ""}, "no key of this gateway"),
    "session: expired": (lambda world: bearer(world.session(seconds=0)), "has expired"),
    "session: of a revoked key": (lambda world: bearer(world.session(world.revoked)), "no longer valid: its API key"),
    "session: of an expired key": (lambda world: bearer(world.session(world.expired)), "no longer valid: its API key"),
    "session: of an unknown key": (lambda world: bearer(world.session("fgw_00000000")), "no longer valid: its API key"),
    "session: forged": (lambda world: bearer(changed(world.session(), 10)), "signature is wrong"),
    "session: other signature": (lambda world: bearer(changed(world.session(), -10)), "signature is wrong"),
    "session: of another secret": (
        lambda world: bearer(SessionTokens([b"x" * 32]).issue(SessionGrant(world.key[4:12], "ann", None, FUTURE, 1))),
        "signature is wrong",
    ),
    "session: prefix alone": (lambda world: bearer("fgs_"), "malformed"),
    "session: without signature": (lambda world: bearer(world.session().partition(".")[0]), "malformed"),
    "session: huge": (lambda world: bearer("fgs_" + "a" * 7000), "too long"),
    "session: padded": (lambda world: bearer(world.session() + "="), "malformed"),
    "jwt: alg none": (lambda world: bearer(unsigned({"alg": "none"}, claims_of(world))), "algorithm"),
    "jwt: alg None": (lambda world: bearer(unsigned({"alg": "None", "kid": "k1"}, claims_of(world))), "algorithm"),
    "jwt: no alg": (lambda world: bearer(unsigned({"kid": "k1"}, claims_of(world))), "algorithm"),
    "jwt: HS256 with the public key": (lambda world: bearer(signed_with_the_public_key(world)), "algorithm"),
    "jwt: no signature": (lambda world: bearer(world.jwt.rpartition(".")[0] + "."), "signature is wrong"),
    "jwt: another key": (lambda world: bearer(of_another_key(world)), "signature is wrong"),
    "jwt: its own key along": (
        lambda world: bearer(of_another_key(world, jwk=world.issuer.jwk)), "signature is wrong",
    ),
    "jwt: its own key's address along": (
        lambda world: bearer(of_another_key(world, jku=world.issuer.settings["jwks_url"])), "signature is wrong",
    ),
    "jwt: kid with a path": (
        lambda world: bearer(world.issuer.token(headers={"kid": "../../../etc/passwd"})), "does not publish",
    ),
    "jwt: kid with SQL": (
        lambda world: bearer(world.issuer.token(headers={"kid": "k1' OR '1'='1"})), "does not publish",
    ),
    "jwt: crit": (lambda world: bearer(world.issuer.token(headers={"crit": ["exp"]})), "extension"),
    "jwt: expired": (lambda world: bearer(world.issuer.token(exp=PAST)), "has expired"),
    "jwt: no expiry": (lambda world: bearer(world.issuer.token(exp=None)), "no expiry"),
    "jwt: not yet": (lambda world: bearer(world.issuer.token(nbf=FUTURE)), "not valid yet"),
    "jwt: of the future": (lambda world: bearer(world.issuer.token(iat=FUTURE)), "not valid yet"),
    "jwt: other audience": (lambda world: bearer(world.issuer.token(aud="shop")), "audience"),
    "jwt: no audience": (lambda world: bearer(world.issuer.token(aud=None)), "audience"),
    "jwt: other issuer": (lambda world: bearer(world.issuer.token(iss="https://evil.example")), "issuer"),
    "jwt: no issuer": (lambda world: bearer(world.issuer.token(iss=None)), "issuer"),
    "jwt: no subject": (lambda world: bearer(world.issuer.token("")), "name its caller"),
    "jwt: a caller of two lines": (lambda world: bearer(world.issuer.token("ann\nbob")), "name its caller"),
    "jwt: a caller too long": (lambda world: bearer(world.issuer.token("a" * 240)), "too long"),
    "jwt: two parts": (lambda world: bearer("a.b"), "no key of this gateway"),
    "jwt: five parts": (lambda world: bearer("a.b.c.d.e"), "no key of this gateway"),
    "jwt: no base64": (lambda world: bearer("!.!.!"), "malformed"),
    "jwt: no JSON": (lambda world: bearer("YWJj.YWJj.YWJj"), "malformed"),
    "word": (lambda world: bearer("hunter2"), "no key of this gateway"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
async def test_an_invalid_credential_is_refused(name, world, start, connect):
    make, words = WRONG[name]
    headers = make(world)
    route = {"auth": ALL, "cors": {"origins": [APP]}}
    async with answering() as upstream, start(upstream.url, route=route, auth=world.auth) as gateway:
        reply = await ask(connect, gateway, Origin=APP, **headers)
        line = await gateway.lines.request()
    assert (reply.status, reply.fields["www-authenticate"]) == (401, CHALLENGE)
    assert reply.fields["access-control-allow-origin"] == APP
    body = reply.json()
    assert (list(body), body["code"]) == (JSON_KEYS, "unauthenticated")
    assert words in body["message"]
    assert (line["status"], line["outcome"], line["caller"]) == (401, "refused", None)
    secret = next(iter(headers.values())).split(" ")[-1]
    if len(secret) > 8:
        assert secret not in gateway.lines.getvalue() + reply.body.decode()
    assert upstream.seen == []


async def test_the_error_does_not_reveal_whether_a_key_exists(world, start, connect):
    keys = [made_of("0" * 40), made_of(world.key[4:12] + "0" * 32), world.revoked, world.expired]
    async with answering() as upstream, start(upstream.url, route={"auth": ALL}, auth=world.auth) as gateway:
        replies = [await ask(connect, gateway, X_API_Key=key) for key in keys]
    assert len({(reply.status, reply.json()["message"]) for reply in replies}) == 1


TWICE = {
    "key and key": lambda world: bearer(world.key) | {"X_API_Key": world.key},
    "key and session": lambda world: bearer(world.session()) | {"X_API_Key": world.key},
    "two X-API-Keys": lambda world: {"X_API_Key": f"{world.key}\r\nX-API-Key: {world.key}"},
    "two Authorizations": lambda world: {"Authorization": f"Bearer {world.key}\r\nAuthorization: Bearer {world.key}"},
    "wrong and right": lambda world: {"Authorization": "Basic x", "X_API_Key": world.key},
}  # fmt: skip


@pytest.mark.parametrize("name", TWICE)
async def test_two_valid_credentials_are_refused(name, world, start, connect):
    async with answering() as upstream, start(upstream.url, route={"auth": ALL}, auth=world.auth) as gateway:
        reply = await ask(connect, gateway, **TWICE[name](world))
    assert (reply.status, reply.json()["code"]) == (400, "bad_request")
    assert world.key not in gateway.lines.getvalue() + reply.body.decode()
    assert upstream.seen == []


async def test_a_token_in_the_path_and_a_header_are_two_credentials(world, start, connect):
    async with answering() as upstream, start(upstream.url, route={"auth": ALL}, auth=world.auth) as gateway:
        path = f"/t/{world.session()}{PREDICT}"
        reply = await ask(connect, gateway, path=path, **bearer(world.session()))
    assert (reply.status, "more than one credential" in reply.json()["message"]) == (400, True)
    assert upstream.seen == []


FORBIDDEN = {
    "key of another route": ({"auth": ALL}, lambda world: bearer(world.narrow), "not for this chatflow"),
    "session of a key of another route": (
        {"auth": ALL}, lambda world: bearer(world.session(world.narrow)), "not for this chatflow",
    ),
    "session that asks for more than its key may": (
        {"auth": ALL}, lambda world: bearer(world.session(world.narrow, routes=frozenset({"chat"}))),
        "not for this chatflow",
    ),
    "session for another route": (
        {"auth": ALL}, lambda world: bearer(world.session(routes=frozenset({"other"}))), "not for this chatflow",
    ),
    "narrow key on a public route": (
        {"auth": ["anonymous"]}, lambda world: bearer(world.narrow), "not for this chatflow",
    ),
    "key where sessions are wanted": (
        {"auth": ["session"]}, lambda world: bearer(world.key), "does not accept an API key; it requires a session token",
    ),
    "session where keys are wanted": (
        {"auth": ["api_key"]}, lambda world: bearer(world.session()), "does not accept a session token",
    ),
    "jwt where keys and sessions are wanted": (
        {"auth": ["api_key", "session"]}, lambda world: bearer(world.jwt),
        "does not accept a JWT; it requires an API key or a session token",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORBIDDEN)
async def test_a_credential_for_another_route_or_kind_is_refused(name, world, start, connect):
    route, make, words = FORBIDDEN[name]
    async with answering() as upstream, start(upstream.url, route=route, auth=world.auth) as gateway:
        for _ in range(2):
            reply = await ask(connect, gateway, **make(world))
            assert (reply.status, reply.json()["code"]) == (403, "forbidden")
            assert words in reply.json()["message"]
        metrics = await gateway.metrics()
        lines = await gateway.lines.until("request", 2)
    method = lines[0]["auth"]
    assert metrics[f'flowise_gateway_auth_total{{method="{method}",result="forbidden"}}'] == 2
    assert lines[0]["caller"]
    assert upstream.seen == []


@pytest.mark.parametrize("claim", [["chat"], "other chat"])
async def test_a_jwt_that_names_this_route(claim, world, start, connect):
    auth = {"jwt": [{**world.issuer.settings, "routes_claim": "routes", "caller_claim": "email"}]}
    token = world.issuer.token(routes=claim, email="ann@example.com")
    async with answering() as upstream, start(upstream.url, route={"auth": ["jwt"]}, auth=auth) as gateway:
        assert (await ask(connect, gateway, **bearer(token))).status == 200
        line = await gateway.lines.request()
    assert line["caller"] == "jwt:https://id.example.com:ann@example.com"


@pytest.mark.parametrize("claim", [["other"], "other", [], None, 5, {"chat": 1}])
async def test_a_jwt_that_does_not_name_this_route(claim, world, start, connect):
    auth = {"jwt": [{**world.issuer.settings, "routes_claim": "routes"}]}
    async with answering() as upstream, start(upstream.url, route={"auth": ["jwt"]}, auth=auth) as gateway:
        reply = await ask(connect, gateway, **bearer(world.issuer.token(routes=claim)))
    assert (reply.status, upstream.seen) == (403, [])


async def test_a_missing_credential_is_refused(world, start, connect):
    route = {"auth": ["session", "jwt"]}
    async with answering() as upstream, start(upstream.url, route=route, auth=world.auth) as gateway:
        reply = await ask(connect, gateway)
        line = await gateway.lines.request()
        metrics = await gateway.metrics()
    assert (reply.status, reply.fields["www-authenticate"]) == (401, CHALLENGE)
    assert "requires a session token or a JWT" in reply.json()["message"]
    assert (line["caller"], line["auth"]) == ("anonymous", "anonymous")
    assert metrics['flowise_gateway_auth_total{method="anonymous",result="missing"}'] == 1
    assert upstream.seen == []


async def test_the_body_of_an_unauthenticated_request_is_not_read(world, start, connect):
    """Not even `100 Continue` is sent."""
    async with (
        answering() as upstream,
        start(upstream.url, route={"auth": ALL}, auth=world.auth) as gateway,
        connect(gateway) as wire,
    ):
        wire.send(request("POST", PREDICT, QUESTION, Expect="100-continue")[: -len(QUESTION)])
        assert (await wire.reply()).status == 401
    assert upstream.seen == []


@pytest.mark.parametrize("route", [{"auth": ["anonymous"]}, {"auth": ["anonymous", "jwt"]}])
async def test_a_public_route_authenticates_a_credential(route, world, start, connect):
    async with answering() as upstream, start(upstream.url, route=route, auth=world.auth) as gateway:
        for headers in ({}, bearer(world.key), bearer(world.session()), bearer(world.jwt)):
            assert (await ask(connect, gateway, **headers)).status == 200
        assert (await ask(connect, gateway, **bearer(world.revoked))).status == 401
        lines = await gateway.lines.until("request", 5)
    assert [line["caller"] for line in lines] == [
        "anonymous", "key:backend", "session:backend/ann", "jwt:https://id.example.com:ann", None,
    ]  # fmt: skip


PUBLIC = ["chatflows-streaming", "chatflows-uploads", "public-chatbotConfig"]


@pytest.mark.parametrize("path", [f"/api/v1/{name}/{FLOW}" for name in PUBLIC] + ["/api/v1/ping"])
async def test_what_official_clients_request_without_a_key(path, world, start, connect):
    async with (
        answering(b"{}") as upstream,
        start(upstream.url, route={"auth": ALL}, auth=world.auth) as gateway,
    ):
        assert (await ask(connect, gateway, "GET", path)).status == 200
        assert (await ask(connect, gateway, "GET", path, **bearer(world.key))).status == 200
        assert (await ask(connect, gateway, "GET", path, **bearer(world.revoked))).status == 401
        assert (await ask(connect, gateway, "GET", f"/t/{world.session()}{path}")).status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"/api/v1/prediction/{FLOW}"),
        ("PUT", f"/api/v1/chatmessage/abort/{FLOW}/c"),
        ("POST", "/api/v1/feedback/chat"),
        ("POST", "/api/v1/leads"),
        ("POST", "/api/v1/leads/"),
        ("POST", "/api/v1/attachments/chat/c"),
        ("GET", f"/api/v1/get-upload-file?chatflowId={FLOW}&chatId=c&fileName=a"),
        ("POST", "/gateway/v1/session-tokens"),
    ],
)
async def test_what_requires_a_credential(method, path, world, start, connect):
    body = json.dumps({"chatflowid": "chat", "chatId": "c", "messageId": "m", "question": "q"}).encode()
    async with answering() as upstream, start(upstream.url, route={"auth": ALL}, auth=world.auth) as gateway:
        reply = await ask(connect, gateway, method, path, body)
    assert (reply.status, reply.json()["code"]) == (401, "unauthenticated")
    assert (upstream.seen, upstream.aborts) == ([], [])


async def test_a_lead_names_its_route_in_its_body(world, start, connect):
    """So it is authorized only then. With a public route, the body of an anonymous request is read first."""
    public = {"name": "open", "chatflow": "12345678-1111-4222-8333-444455556666", "upstream": "main"}
    lead = b'{"chatflowid":"%b","name":"n"}'
    async with (
        answering() as upstream,
        start(upstream.url, auth=world.auth, routes=_routes(public)) as gateway,
    ):
        for flow, headers, status in (
            (b"chat", {}, 401), (b"open", {}, 200), (b"chat", bearer(world.narrow), 403),
            (b"chat", bearer(world.key), 200), (b"open", bearer(world.revoked), 401),
        ):  # fmt: skip
            reply = await ask(connect, gateway, "POST", "/api/v1/leads", lead % flow, **headers)
            assert reply.status == status
    assert len(upstream.seen) == 2


def _routes(public):
    chat = {"name": "chat", "chatflow": FLOW, "upstream": "main", "auth": ALL}
    return [chat, {**public, "auth": ["anonymous"]}]


async def test_the_widget_receives_a_plain_sentence(world, start, connect):
    headers = {"Accept": "text/event-stream"}
    async with answering() as upstream, start(upstream.url, route={"auth": ALL}, auth=world.auth) as gateway:
        reply = await ask(connect, gateway, **headers)
        forbidden = await ask(connect, gateway, **headers, **bearer(world.narrow))
    assert (reply.status, reply.fields["content-type"]) == (401, "text/plain; charset=utf-8")
    assert reply.body.decode().startswith("This chatflow requires an API key or a session token or a JWT")
    assert (forbidden.status, forbidden.fields["content-type"]) == (403, "text/plain; charset=utf-8")


async def test_a_key_in_a_query_is_refused_and_not_repeated(world, start, connect):
    async with answering() as upstream, start(upstream.url, route={"auth": ALL}, auth=world.auth) as gateway:
        reply = await ask(connect, gateway, path=f"{PREDICT}?api_key={world.key}")
    assert reply.status == 400
    assert world.key not in gateway.lines.getvalue() + reply.body.decode()
    assert upstream.seen == []


async def test_an_issuer_that_was_never_reached_is_503_so_that_pages_do_not_log_out(world, start, connect):
    auth = {"jwt": [{**world.issuer.settings, "jwks_url": "http://127.0.0.1:1/jwks.json"}]}
    async with answering() as upstream, start(upstream.url, route={"auth": ["jwt"]}, auth=auth) as gateway:
        reply = await ask(connect, gateway, **bearer(world.jwt))
        widget = await ask(connect, gateway, Accept="text/event-stream", **bearer(world.jwt))
        expired = await ask(connect, gateway, **bearer(world.issuer.token(exp=1)))
        (line, *_) = await gateway.lines.until("jwks_unavailable")
        (logged, *_) = await gateway.lines.until("request", 3)
        counted = (await gateway.metrics())['flowise_gateway_auth_total{method="jwt",result="unavailable"}']
    assert (reply.status, reply.json()["code"]) == (503, "auth_unavailable")
    assert "not available at the moment" in reply.json()["message"]
    assert 1 <= int(reply.fields["retry-after"]) <= 30
    assert "www-authenticate" not in reply.fields
    assert (widget.status, widget.fields["x-gateway-status"]) == (200, "503")
    assert expired.status == 401
    assert line["issuer"] == "https://id.example.com"
    assert (logged["status"], logged["outcome"], logged["auth"]) == (503, "refused", "jwt")
    assert counted == 2
    assert upstream.seen == []


async def test_known_keys_stay_in_use_while_the_issuer_is_down(world, start, connect):
    async with (
        answering() as upstream,
        start(upstream.url, route={"auth": ["jwt"]}, auth=world.auth) as gateway,
    ):
        assert (await ask(connect, gateway, **bearer(world.issuer.token("ann")))).status == 200
        world.issuer._server.close()
        assert (await ask(connect, gateway, **bearer(world.issuer.token("bob")))).status == 200
        unknown = await ask(connect, gateway, **bearer(world.issuer.token(headers={"kid": "k2"})))
    assert (unknown.status, unknown.json()["code"]) == (401, "unauthenticated")


async def test_many_requests_share_one_fetch_of_keys(world, start, connect):
    async with (
        answering() as upstream,
        start(upstream.url, route={"auth": ["jwt"]}, auth=world.auth) as gateway,
    ):
        for subject in "abcde":
            assert (await ask(connect, gateway, **bearer(world.issuer.token(subject)))).status == 200
        for _ in range(3):
            unknown = world.issuer.token(headers={"kid": "k2"})
            assert (await ask(connect, gateway, **bearer(unknown))).status == 401
    assert world.issuer.fetches <= 2


async def test_a_jwt_with_many_groups_is_accepted(world, start, connect):
    groups = [f"group-{number:05}" for number in range(700)]
    token = world.issuer.token(groups=groups)
    assert 12_000 < len(token) < 16_000
    async with (
        answering() as upstream,
        start(upstream.url, route={"auth": ["jwt"]}, auth=world.auth) as gateway,
    ):
        assert (await ask(connect, gateway, **bearer(token))).status == 200
