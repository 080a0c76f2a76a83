"""The whole schema of the configuration (DESIGN.md 3): typed, frozen, closed; routes are in `route`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr

from gateway.config.addresses import Address, Store
from gateway.config.route import CorsSettings, Defaults, Route
from gateway.config.section import Section
from gateway.config.tree import Scalar
from gateway.config.types import (
    TEXT,
    AuthorityFile,
    Duration,
    HeaderSecret,
    JwtAlgorithm,
    KeysFile,
    Listen,
    Name,
    OptionalText,
    PositiveDuration,
    PublicUrl,
    ServerUrl,
    SigningSecret,
    Size,
    StoreUrl,
    Switch,
    Text,
    TrustedNetwork,
    WebAddress,
    Whole,
    one_of,
)

MINUTE, HOUR = 60.0, 3600.0
MIB = 1024**2


class ServerTimeouts(Section):
    """How long a client may take, in seconds."""

    headers: PositiveDuration = 10.0
    """For its request head."""
    body_idle: PositiveDuration = 30.0
    """Between two pieces of its body."""
    keep_alive: PositiveDuration = 75.0
    """Between two requests."""
    send: PositiveDuration = 30.0
    """While it takes no byte of the answer."""


class ServerSettings(Section):
    """The public listener."""

    listen: Listen = Address("127.0.0.1", 8080)
    """HOST:PORT, an IPv6 host in brackets."""
    workers: Whole = 1
    """Processes that share the port."""
    trusted_proxies: tuple[TrustedNetwork, ...] = ()
    """CIDRs; only these are believed about X-Forwarded-For and Forwarded."""
    max_body: Size = 50 * MIB
    """Largest body of all; routes have their own, smaller one."""
    buffered_bodies: Size = 512 * MIB
    """All bodies held in memory at once; beyond it 503 overloaded."""
    timeouts: ServerTimeouts = ServerTimeouts()
    max_connections: Whole = 10000
    max_connections_per_address: Whole = 200
    drain: Duration = 30.0
    """How long open streams may finish after SIGTERM."""
    drain_delay: Duration = 0.0
    """Readiness is off for so long before the port closes."""


class AdminSettings(Section):
    """The listener for /metrics, /livez and /readyz."""

    listen: Listen = Address("127.0.0.1", 9090)
    token: HeaderSecret = SecretStr("")
    """Bearer token for everything but the two probes; required unless the listener is on loopback."""


class UpstreamTimeouts(Section):
    """Deadlines of one prediction, in seconds."""

    connect: PositiveDuration = 5.0
    head: PositiveDuration = 30.0
    """From the moment the request body is sent."""
    first_event: PositiveDuration = 2 * MINUTE
    """Until the first event that is not a comment."""
    idle: PositiveDuration = 2 * MINUTE
    """No byte from Flowise."""
    total: PositiveDuration = 30 * MINUTE


class UpstreamServer(Section):
    """One server of an upstream."""

    url: ServerUrl = Field(examples=["http://127.0.0.1:3000"])
    """A path in the URL is kept as a prefix."""


class TlsSettings(Section):
    """For https servers."""

    ca: AuthorityFile = None
    """File with the certificates of a private authority; empty: the system's authorities."""


class UpstreamSettings(Section):
    """One Flowise."""

    servers: tuple[UpstreamServer, ...] = Field(examples=[[{"url": "http://127.0.0.1:3000"}]], min_length=1)
    api_key: HeaderSecret = SecretStr("")
    """Put on every request to Flowise; the client's own credentials never pass."""
    public_url: PublicUrl = None
    """Host and X-Forwarded-Proto that Flowise sees; empty: the server's own address."""
    timeouts: UpstreamTimeouts = UpstreamTimeouts()
    max_connections: Whole = 1000
    tls: TlsSettings = TlsSettings()


class SessionTokenSettings(Section):
    """Short-lived tokens for browser users."""

    ttl: PositiveDuration = 15 * MINUTE
    """How long one lives if the request does not say."""
    max_ttl: PositiveDuration = 24 * HOUR
    """The longest life that a request may ask for."""
    per_minute: Whole = 600
    """So many tokens may each API key mint in a minute, and so many at once."""


class JwtSettings(Section):
    """One issuer of JSON Web Tokens."""

    issuer: Text = Field(examples=["https://id.example.com"])
    audience: Text = Field(examples=["chat"])
    jwks_url: WebAddress = Field(examples=["https://id.example.com/jwks.json"])
    algorithms: tuple[JwtAlgorithm, ...] = Field(default=("RS256",), min_length=1)
    caller_claim: Text = "sub"
    """The claim that names the caller."""
    routes_claim: OptionalText = ""
    """The claim that lists the routes the caller may use; empty: all."""
    leeway: Duration = 30.0
    """How far clocks may differ."""


def _as_list(written: object) -> Any:
    if not isinstance(written, Scalar):
        return written
    return [] if written.kind in TEXT and not written.text else [written]


def _text_or_list(schema: dict[str, Any]) -> None:
    schema["anyOf"] = [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
    for key in ("type", "items"):
        schema.pop(key, None)


class AuthSettings(Section):
    """Where credentials come from."""

    secret: Annotated[tuple[SigningSecret, ...], BeforeValidator(_as_list)] = Field(
        default=(), json_schema_extra=_text_or_list
    )
    """Text or list, 32 bytes or more each: the first signs, all verify. Empty: a random one per start."""
    keys_file: KeysFile = Path("keys.yaml")
    """API keys; empty: none."""
    session_tokens: SessionTokenSettings = SessionTokenSettings()
    jwt: tuple[JwtSettings, ...] = ()


class LimitSettings(Section):
    """Where limits are counted."""

    store: StoreUrl = Store()
    """memory, or redis://HOST:PORT/0, rediss://, unix://."""
    when_store_fails: Annotated[Literal["local", "closed"], one_of("local", "closed")] = "local"
    """Count in this process alone, or refuse."""
    shadow: Switch = False
    """Decide and record, refuse nobody."""
    tls: TlsSettings = TlsSettings()
    """For a rediss:// store with a private authority."""


class LogSettings(Section):
    """One line per request."""

    format: Annotated[Literal["json", "console"], one_of("json", "console")] = "json"
    level: Annotated[
        Literal["debug", "info", "warning", "error"], one_of("debug", "info", "warning", "error")
    ] = "info"
    prompts: Switch = False
    """Whether questions stand in the log."""


class MetricsSettings(Section):
    """What /metrics tells."""

    per_caller: Switch = False
    """Whether callers are told apart, by the names of their keys."""


class Config(Section):
    """The configuration of the gateway. Durations are seconds, sizes bytes.

    `routes` have `defaults` merged in: mappings key by key at every depth, lists and single values whole.
    """

    server: ServerSettings = ServerSettings()
    admin: AdminSettings = AdminSettings()
    upstreams: Mapping[Name, UpstreamSettings] = Field(
        examples=[{"main": {"servers": [{"url": "http://127.0.0.1:3000"}]}}], min_length=1
    )
    """Each Flowise, by name."""
    auth: AuthSettings = AuthSettings()
    limits: LimitSettings = LimitSettings()
    logs: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()
    defaults: Defaults = Defaults()
    """Any key of a route, for all routes that do not have it themselves."""
    routes: tuple[Route, ...] = Field(
        examples=[[{"name": "support", "chatflow": "…", "upstream": "main", "auth": ["anonymous"]}]],
        min_length=1,
    )
    """Each chatflow that may be called."""

    def with_listen(self, address: Address) -> Config:
        """The same with another address for `server.listen`."""
        return self.model_copy(update={"server": self.server.model_copy(update={"listen": address})})

    @property
    def defaults_cors(self) -> CorsSettings | None:
        """Which web pages may call where no route is known."""
        return self.defaults.cors


def schema_json() -> str:
    """The schema as text that is always the same, with a line end."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
