"""The CPU time of single steps of a request, in µs per call, against the project's targets."""

from __future__ import annotations

import io
import json
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from gateway.admission.gcra import SECOND
from gateway.admission.limiter import Limiter
from gateway.admission.memory import MemoryStore
from gateway.admission.quotas import LimitResolver
from gateway.aio import Tasks, WorkThread
from gateway.auth.authenticator import Authenticator
from gateway.auth.conversation_ids import ConversationIds
from gateway.auth.jwks import IssuerKeys
from gateway.auth.jwt import JsonWebTokens
from gateway.auth.key_format import hash_of, make_key, parse_key
from gateway.auth.key_set import KeySet
from gateway.auth.keyring import Keyring
from gateway.auth.keys_model import ApiKey
from gateway.auth.session_tokens import SessionGrant, SessionTokens
from gateway.config import JwtSettings, Limit, LogSettings, Route, UpstreamServer, UpstreamSettings, Url
from gateway.exchange import Exchange, Timings
from gateway.flowise.outcome import Outcome
from gateway.flowise.usage import Usage
from gateway.policies.access_log import request_line
from gateway.policies.metrics import record
from gateway.telemetry.logs import make_logger
from gateway.telemetry.metrics import Metrics
from gateway.upstream.choice import Choice
from gateway.upstream.servers import Servers
from gateway.upstream.upstream import Upstream
from tests.bench.report import Verdict

ROUNDS = 15
MANY = 400
_NEVER = 4_000_000_000
_ALGORITHMS = ("RS256", "ES256", "EdDSA")
_FIRST, _AGAIN = 150.0, 20.0  # µs allowed


Measured = tuple[str, float | None, Callable[[], Iterator[Callable[[], object]]]]


@dataclass(frozen=True)
class Cost:
    """One kind of call: µs of CPU, and the target in µs (None: no target)."""

    name: str
    us: float
    allowed: float | None


def measure() -> list[Cost]:
    return [
        Cost(name, _us(work), allowed)
        for name, allowed, work in (*_identity(), *_limits(), *_balance(), *_telemetry())
    ]


def verdicts(costs: list[Cost]) -> list[Verdict]:
    return [
        Verdict(f"{cost.name} <= {cost.allowed:g} µs", f"{cost.us:.1f}", cost.us <= cost.allowed)
        for cost in costs
        if cost.allowed is not None
    ]


def render(costs: list[Cost]) -> str:
    return "\n".join(["CPU per call", *(f"  {cost.name:<44}{cost.us:>8.1f} µs" for cost in costs)])


def _us(work: Callable[[], Iterator[Callable[[], object]]]) -> float:
    """The fastest of several rounds: other processes slow a round down. The calls are prepared before the clock starts."""
    rounds = []
    for _ in range(ROUNDS):
        calls = list(work())
        began = time.process_time_ns()
        for call in calls:
            call()
        rounds.append((time.process_time_ns() - began) / len(calls) / 1000)
    return min(rounds)


def _identity() -> Iterator[Measured]:
    credentials = _Credentials()
    yield "API key", _AGAIN, lambda: _repeat(credentials.known, credentials.key)
    yield "session token, first time", _FIRST, lambda: _each(credentials.known, credentials.sessions())
    yield "session token, again", _AGAIN, lambda: _repeat(credentials.known, credentials.session)
    for algorithm in _ALGORITHMS:
        yield (
            f"JWT {algorithm}, first time",
            _FIRST,
            lambda name=algorithm: _each(credentials.asked, credentials.jwts(name)),
        )
    yield "JWT, again", _AGAIN, lambda: _repeat(credentials.known, credentials.jwt)
    ids = ConversationIds(b"s" * 32)
    yield (
        "conversation id, mapped",
        None,
        lambda: _each(lambda raw: ids.mapped("key:ann", raw), map(str, range(MANY))),
    )
    own = ids.mapped("key:ann", "a")
    yield (
        "conversation id, the caller's own",
        None,
        lambda: _repeat(lambda raw: ids.mapped("key:ann", raw), own),
    )


def _limits() -> Iterator[Measured]:
    """Four limits of a request in memory, from the lookup of the limits to the release."""
    limits = (
        Limit.model_construct(name="burst", requests=10**9, per=60.0, by="caller"),
        Limit.model_construct(name="daily", tokens=10**9, per=86400.0, by="caller", reserve=1000),
        Limit.model_construct(name="open", concurrent=10**6, by="caller"),
        Limit.model_construct(name="all", requests=10**9, per=60.0, by="route"),
    )
    resolver = LimitResolver(
        [Route.model_construct(name="support", limits=limits, auth=frozenset({"anonymous"}))]
    )
    limiter = Limiter(MemoryStore(30 * SECOND), "bench")

    def one(name: str) -> None:
        limits = resolver.post_auth("support", f"key:{name}", "10.0.0.1")
        charges = [limit.quota.charge(limit.subject, 100) for limit in limits]
        try:
            limiter.admit(charges).send(None)
        except StopIteration as admitted:
            admitted.value.settle(500)
            admitted.value.release()

    yield (
        "four limits in memory, admit to release",
        30.0,
        lambda: _each(one, [str(n % 50) for n in range(MANY)]),
    )


def _balance() -> Iterator[Measured]:
    """The choice of a server and what it hears of the request, all but the connection itself."""
    for count, balance, allowed in (
        (1, "conversation", None),
        (8, "conversation", 5.0),
        (8, "least_busy", None),
    ):
        servers = _servers(count, balance)

        def one(chat_id: str, servers: Servers = servers) -> None:
            choice = Choice(servers, chat_id)
            servers.has_another((choice.server,))
            choice.answered(200)
            choice.gave_up()

        yield (
            f"server of {count}, {balance}",
            allowed,
            lambda one=one: _each(one, [f"3f6a9b1c-2222-4333-8444-{n:012}" for n in range(MANY)]),
        )


def _servers(count: int, balance: str) -> Servers:
    entries = tuple(
        UpstreamServer.model_construct(url=Url("http", f"flowise-{number}", 3000), weight=number % 3 + 1)
        for number in range(count)
    )
    settings = UpstreamSettings.model_construct(servers=entries, balance=balance)
    logger = make_logger(LogSettings(), io.StringIO())
    return Upstream("main", settings, Metrics(), logger).servers


def _telemetry() -> Iterator[Measured]:
    """The metrics and the log line at the end of a request."""
    metrics, sink = Metrics(), io.StringIO()
    logger = make_logger(LogSettings(), sink)
    exchange = _ended_exchange()

    def one(_: str) -> None:
        record(metrics, exchange)
        logger.info("request", **request_line(exchange, with_prompt=False))

    yield "metrics and log line of a request", 60.0, lambda: _repeat(one, "")


def _ended_exchange() -> Exchange:
    timings = Timings(
        1.0, upstream_written=1.1, upstream_head=1.2, client_head=1.3, first_token=1.4, ended=2.0
    )
    exchange = Exchange(request=None, request_id="r" * 32, client="10.0.0.1", timings=timings)  # type: ignore[arg-type]  # not used
    exchange.status, exchange.outcome, exchange.is_streaming = 200, Outcome.OK, True
    exchange.events, exchange.gaps = (
        {"start": 1, "token": 60, "metadata": 1, "end": 1},
        ([0, 59] + [0] * 13, 1.0),
    )
    exchange.usage, exchange.upstream, exchange.server = Usage(100, 200, "reported"), "main", "127.0.0.1:3000"
    exchange.upstream_result, exchange.bytes_out = "ok", 4000
    return exchange


def _repeat(call: Callable[[str], object], text: str) -> Iterator[Callable[[], object]]:
    return _each(call, [text] * MANY)


def _each(call: Callable[[str], object], texts: Iterator[str] | list[str]) -> Iterator[Callable[[], object]]:
    return (lambda text=text: call(text) for text in texts)


class _Credentials:
    """Credentials, and an authenticator that accepts them."""

    def __init__(self) -> None:
        self.key = make_key(secrets.choice)
        self._keys = {
            "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
            "ES256": ec.generate_private_key(ec.SECP256R1()),
            "EdDSA": ed25519.Ed25519PrivateKey.generate(),
        }
        self._tokens = SessionTokens([b"s" * 32])
        key = ApiKey.model_construct(id=parse_key(self.key), name="bench", hash=hash_of(self.key))
        ring = Keyring([key])
        self._authenticator = Authenticator(
            ring, self._tokens, JsonWebTokens([self._issuer()], time.monotonic), time.time
        )
        self.known = self._authenticator.authenticate_cached
        self.session, self.jwt = next(self.sessions()), next(self.jwts("RS256"))
        self.asked(self.jwt)

    def asked(self, token: str) -> None:
        """Authenticate a new token without an event loop: nothing in it has to wait."""
        if self.known(token) is None:
            try:
                self._authenticator.authenticate(token).send(None)
            except StopIteration:
                return

    def sessions(self) -> Iterator[str]:
        """New session tokens, each for a different user."""
        key_id = parse_key(self.key)
        for number in range(MANY):
            user = f"user-{number}-{secrets.token_hex(4)}"
            yield self._tokens.issue(SessionGrant(key_id, user, frozenset({"support"}), _NEVER, 1))

    def jwts(self, algorithm: str) -> Iterator[str]:
        """New JWTs, each for a different user."""
        for _ in range(MANY):
            claims = {
                "iss": "https://id",
                "aud": "chat",
                "sub": secrets.token_hex(8),
                "iat": 1,
                "exp": _NEVER,
            }
            yield jwt.encode(claims, self._keys[algorithm], algorithm=algorithm, headers={"kid": algorithm})

    def _issuer(self) -> IssuerKeys:
        settings = JwtSettings.model_construct(
            issuer="https://id", audience="chat", jwks_url="", algorithms=_ALGORITHMS,
            caller_claim="sub", routes_claim="", leeway=30.0,
        )  # fmt: skip
        issuer = IssuerKeys(settings, _unused, WorkThread("jwks"), Tasks(_unexpected), structlog.get_logger())
        writers = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}
        keys = [
            {**writers[name].to_jwk(key.public_key(), as_dict=True), "kid": name}
            for name, key in self._keys.items()
        ]
        issuer.current = KeySet.read(json.dumps({"keys": keys}).encode(), _ALGORITHMS)
        return issuer


async def _unused(_: str) -> bytes:
    raise AssertionError("the keys are known already")


def _unexpected(error: BaseException) -> None:
    raise error
