"""The sections of the configuration, typed and frozen; the keys of a route are in `route`.

The docstring of a field is its description in the JSON Schema and in `config/README.md`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, SecretStr

from gateway.config.addresses import ADMIN_LISTEN, Store, Url
from gateway.config.listeners import ListenAddress as AnyAddress
from gateway.config.proxies import NO_PROXIES, Proxies, Proxy
from gateway.config.route import CorsSettings, Defaults, Route, null_as_none
from gateway.config.section import Section
from gateway.config.server import ServerSettings
from gateway.config.types import (
    AuthorityFile,
    DroppedLogField,
    Duration,
    HeaderSecret,
    HealthPath,
    JwtAlgorithm,
    KeepAlive,
    KeysFile,
    Listen,
    LogField,
    LogPath,
    Name,
    NewLogName,
    OptionalText,
    OptionalWebAddress,
    PositiveDuration,
    PublicUrl,
    ServerUrl,
    Share,
    SigningSecret,
    StoreUrl,
    Switch,
    Text,
    WebAddress,
    Weight,
    Whole,
    as_list,
    one_of,
    text_or_list,
)

MINUTE, HOUR = 60.0, 3600.0
KIB, MIB = 1024, 1024**2
_FORMATS = dict.fromkeys(("text", "plain", "pretty", "logfmt"), "console")
_DISCOVERIES = {
    **dict.fromkeys(("static", "off", "no", "false"), "none"),
    **dict.fromkeys(("a", "srv", "k8s", "kubernetes", "headless"), "dns"),
}
_BALANCES = {
    **dict.fromkeys(("hash", "sticky", "consistent", "ip_hash", "chat", "chatid"), "conversation"),
    **dict.fromkeys(("least_conn", "leastconn", "least_connections", "round_robin", "random"), "least_busy"),
}
_PARENTS = {
    **dict.fromkeys(("follow", "accept", "trust", "true", "on", "yes"), "continue"),
    **dict.fromkeys(("ignore", "restart", "false", "off", "no"), "link"),
}
_LEVELS = {"trace": "debug", "all": "debug", "notice": "info", "fatal": "error", "critical": "error"}


class AdminSettings(Section):
    """The listener for the live page, /metrics, /config, /openapi.json, /livez and /readyz."""

    listen: Listen = ADMIN_LISTEN
    """HOST:PORT of the admin port."""
    token: HeaderSecret = SecretStr("")
    """Bearer token for everything but the two probes; required unless listen is a loopback address."""
    page: Switch = True
    """The live page at /, with open runs, the last hour and the last requests; false: there is none."""


class UpstreamTimeouts(Section):
    """Deadlines of one prediction."""

    connect: PositiveDuration = 5.0
    """To open a connection."""
    send: PositiveDuration = 30.0
    """Between two bytes of the request that Flowise takes; a body that waits for its client does not count."""
    head: PositiveDuration = 30.0
    """From the end of the request to the response head."""
    first_event: PositiveDuration = 2 * MINUTE
    """To the first event that is not a comment."""
    idle: PositiveDuration = 2 * MINUTE
    """Between two bytes from Flowise."""
    total: PositiveDuration = 30 * MINUTE
    """For the whole response."""


class UpstreamServer(Section):
    """One server of an upstream."""

    url: ServerUrl = Field(examples=["http://127.0.0.1:3000"])
    """The URL of Flowise; a path is kept as a prefix."""
    weight: Weight = 1
    """Its share of the conversations and runs, relative to the other servers, up to 100."""


class HealthSettings(Section):
    """Checks of each server; an answer with a status below 500 counts as one that it passes."""

    path: HealthPath = "/api/v1/ping"
    """What is requested, below the path of the server's url."""
    every: Duration = 5.0
    """Between two checks of a server, per worker; 0s: none."""
    timeout: PositiveDuration = 2.0
    """To the end of the answer."""
    fall: Whole = 3
    """Failed checks in a row after which a server is down."""
    rise: Whole = 2
    """Passed checks in a row after which it is up again."""


class EjectSettings(Section):
    """When a server gets no requests for a while, by what requests meet there."""

    failures: Whole = 5
    """Failures in a row: no connection, no head in time, closed before the head, status 502, 503 or 504."""
    within: PositiveDuration = 30.0
    """The time in which they come."""
    for_: PositiveDuration = Field(default=10.0, alias="for")
    """How long it gets none; then one request tries whether it works again."""
    most: Share = 0.5
    """The share of the servers that may be out at once, rounded down: 0.5 of one server is none."""


class TlsSettings(Section):
    """Certificates for TLS connections that the gateway opens."""

    ca: AuthorityFile = None
    """File with the certificates of a private authority; empty: the authorities of the system."""


class UpstreamSettings(Section):
    """A Flowise and how the gateway calls it."""

    servers: tuple[UpstreamServer, ...] = Field(examples=[[{"url": "http://127.0.0.1:3000"}]], min_length=1)
    """The servers of this Flowise, which share its database and storage."""
    discover: Annotated[Literal["none", "dns"], one_of("none", "dns", others=_DISCOVERIES)] = "none"
    """dns: each host name stands for all its addresses, looked up every 10 s."""
    balance: Annotated[
        Literal["conversation", "least_busy"], one_of("conversation", "least_busy", others=_BALANCES)
    ] = "conversation"
    """conversation: each stays on one server while that is up; least_busy: the server with the fewest open runs."""
    health: HealthSettings = HealthSettings()
    eject: EjectSettings = EjectSettings()
    max_age: PositiveDuration = 5 * MINUTE
    """An open connection that is older gets no further request, so that a moved name is followed."""
    keepalive: KeepAlive = MINUTE
    """Silence after which TCP probes a connection, from 1s to 9h; 0s: never."""
    api_key: HeaderSecret = SecretStr("")
    """Sent with every request to Flowise; credentials of the client are never forwarded."""
    public_url: PublicUrl = None
    """Sets the Host and X-Forwarded-Proto that Flowise sees; empty: those of the server's URL."""
    timeouts: UpstreamTimeouts = UpstreamTimeouts()
    max_connections: Whole = 1000
    """Open connections to each server of this Flowise, per worker."""
    tls: TlsSettings = TlsSettings()
    """For https servers."""
    use_proxy: Switch = False
    """Connect through http_proxy or https_proxy of the environment, but for what no_proxy names."""
    _proxies: Proxies = PrivateAttr(default=NO_PROXIES)

    def proxy_of(self, url: Url) -> Proxy | None:
        """The one through which a server is connected to."""
        return self._proxies.of(url.scheme, url.host, url.port) if self.use_proxy else None

    def through(self, proxies: Proxies) -> UpstreamSettings:
        """The same in an environment with these proxies."""
        settings = self.model_copy()
        settings._proxies = proxies  # noqa: SLF001 - of its own class
        return settings


class SessionTokenSettings(Section):
    """Short-lived tokens for browser users, created with an API key."""

    ttl: PositiveDuration = 15 * MINUTE
    """Lifetime of a token whose request names none."""
    max_ttl: PositiveDuration = 24 * HOUR
    """Longest lifetime that a request may ask for."""
    per_minute: Whole = 600
    """Tokens that each API key may create in a minute, and at once."""


class JwtSettings(Section):
    """One issuer of JSON Web Tokens."""

    issuer: Text = Field(examples=["https://id.example.com"])
    """The value of the claim iss."""
    audience: Text = Field(examples=["chat"])
    """A value of the claim aud."""
    jwks_url: WebAddress = Field(examples=["https://id.example.com/jwks.json"])
    """The URL of the issuer's public keys."""
    algorithms: tuple[JwtAlgorithm, ...] = Field(default=("RS256",), min_length=1)
    """Accepted signature algorithms."""
    caller_claim: Text = "sub"
    """The claim that names the caller."""
    routes_claim: OptionalText = ""
    """The claim that lists the routes that the caller may use; empty: all routes."""
    leeway: Duration = 30.0
    """How far the clocks of issuer and gateway may differ."""


class AuthSettings(Section):
    """How callers are authenticated."""

    secret: Annotated[tuple[SigningSecret, ...], BeforeValidator(as_list)] = Field(
        default=(), json_schema_extra=text_or_list
    )
    """Text or list, 32 bytes or more each: the first signs, all verify; empty: a random one per start."""
    keys_file: KeysFile = Path("keys.yaml")
    """File with the API keys; empty: none."""
    session_tokens: SessionTokenSettings = SessionTokenSettings()
    jwt: tuple[JwtSettings, ...] = Field(
        default=(),
        examples=[
            [
                {
                    "issuer": "https://id.example.com",
                    "audience": "chat",
                    "jwks_url": "https://id.example.com/jwks.json",
                }
            ]
        ],
    )
    """Issuers of JSON Web Tokens."""
    _proxies: Proxies = PrivateAttr(default=NO_PROXIES)

    @property
    def proxies(self) -> Proxies:
        """Those of the environment, through which keys of issuers are fetched."""
        return self._proxies

    def through(self, proxies: Proxies) -> AuthSettings:
        """The same in an environment with these proxies."""
        settings = self.model_copy()
        settings._proxies = proxies  # noqa: SLF001 - of its own class
        return settings


class LimitSettings(Section):
    """Where limits are counted."""

    store: StoreUrl = Store()
    """memory, or redis://HOST:PORT/0, rediss://HOST:PORT/0, unix:///PATH."""
    when_store_fails: Annotated[Literal["local", "closed"], one_of("local", "closed")] = "local"
    """local: count in each process alone; closed: refuse with 503 store_unavailable."""
    shadow: Switch = False
    """Record what the limits would refuse, and refuse nothing."""
    max_run_tokens: Whole = 10_000_000
    """Tokens of one run in each direction that a usage from Flowise is believed; what is above is not charged."""
    tls: TlsSettings = TlsSettings()
    """For a rediss:// store."""


class LogFieldSettings(Section):
    """Which fields the JSON lines have, all of them, and by which names; deploy/README.md lists them."""

    drop: frozenset[DroppedLogField] = Field(default=frozenset(), examples=[["client", "trace_id"]])
    """Fields that are left out; time, level and event cannot be."""
    rename: Mapping[LogField, NewLogName] = Field(
        default={}, examples=[{"event": "msg", "level": "severity"}]
    )
    """The new name of each of these fields."""


class LogSettings(Section):
    """Where log lines go, and what is in them."""

    file: LogPath = None
    """File that lines are appended to, also after it was rotated; empty: standard output."""

    format: Annotated[
        Literal["auto", "json", "console"], one_of("auto", "json", "console", others=_FORMATS)
    ] = "auto"
    """json: one object per line; console: for reading; auto: console on a terminal, else json."""
    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        one_of("debug", "info", "warning", "error", others=_LEVELS),
    ] = "info"
    """The lowest level that is logged."""
    prompts: Switch = False
    """Whether the questions of predictions are logged, and error texts of Flowise, which may hold parts of them."""
    sample: Share = 1.0
    """The share of requests with outcome ok that are logged, chosen by request id; all others always are."""
    fields: LogFieldSettings = LogFieldSettings()


class MetricsSettings(Section):
    """Options of the metrics endpoint."""

    per_caller: Switch = False
    """Whether requests and tokens are also counted by the names of API keys."""


class TraceSettings(Section):
    """Traces in the form of OpenTelemetry, by OTLP over HTTP; needs the extra `otel`."""

    ratio: Share = 1.0
    """The share of requests that are exported, by their trace ids; those that fail always are."""
    parent: Annotated[Literal["continue", "link"], one_of("continue", "link", others=_PARENTS)] = "continue"
    """A caller's valid traceparent: continue: its trace goes on, exported if its flag says so; link: only a link."""
    propagate: Switch = True
    """Whether Flowise gets a traceparent of the same trace."""
    content: Switch = False
    """Whether spans have questions, answers, prompts, tool calls and Flowise's errors, each cut to 4,096 characters."""
    endpoint: OptionalWebAddress = ""
    """Where the collector takes traces; empty: OTEL_EXPORTER_OTLP_ENDPOINT, or http://localhost:4318/v1/traces."""
    service: OptionalText = ""
    """The attribute service.name; empty: OTEL_SERVICE_NAME, or flowise-gateway."""


class Config(Section):
    """The configuration of the gateway. Durations are in seconds, sizes in bytes."""

    server: ServerSettings = ServerSettings()
    admin: AdminSettings = AdminSettings()
    upstreams: Mapping[Name, UpstreamSettings] = Field(
        examples=[{"main": {"servers": [{"url": "http://127.0.0.1:3000"}]}}], min_length=1
    )
    """Each Flowise, by a name of your own."""
    auth: AuthSettings = AuthSettings()
    limits: LimitSettings = LimitSettings()
    logs: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()
    traces: Annotated[TraceSettings | None, BeforeValidator(null_as_none)] = None
    """Traces in the form of OpenTelemetry, by OTLP over HTTP; null or left out: none. Needs the extra otel."""
    defaults: Defaults = Defaults()
    """Any key of a route, for all routes that do not have it."""
    routes: tuple[Route, ...] = Field(
        examples=[[{"name": "support", "chatflow": "…", "upstream": "main", "auth": ["anonymous"]}]],
        min_length=1,
    )
    """The chatflows that clients may call."""

    def with_listen(self, addresses: tuple[AnyAddress, ...]) -> Config:
        return self.model_copy(update={"server": self.server.model_copy(update={"listen": addresses})})

    def through(self, proxies: Proxies) -> Config:
        """The same in an environment with these proxies."""
        upstreams = {name: upstream.through(proxies) for name, upstream in self.upstreams.items()}
        return self.model_copy(update={"auth": self.auth.through(proxies), "upstreams": upstreams})

    @property
    def defaults_cors(self) -> CorsSettings | None:
        """For requests that belong to no route."""
        return self.defaults.cors


def schema_json() -> str:
    """The JSON Schema of the configuration file."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
