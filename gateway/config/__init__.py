"""The configuration: a YAML file becomes an immutable, typed `Config`, or a list of every mistake in it."""

from gateway.config.addresses import Address, Network, Store, Url, parse_listen
from gateway.config.loader import load
from gateway.config.model import (
    AdminSettings,
    AuthSettings,
    Config,
    JwtSettings,
    LimitSettings,
    LogSettings,
    MetricsSettings,
    ServerSettings,
    ServerTimeouts,
    SessionTokenSettings,
    TlsSettings,
    UpstreamServer,
    UpstreamSettings,
    UpstreamTimeouts,
    schema_json,
)
from gateway.config.problems import ConfigError, Mistake
from gateway.config.route import (
    BodySettings,
    ConversationSettings,
    CorsSettings,
    EventSettings,
    Limit,
    OverrideSettings,
    Route,
)

__all__ = [
    "Address",
    "AdminSettings",
    "AuthSettings",
    "BodySettings",
    "Config",
    "ConfigError",
    "ConversationSettings",
    "CorsSettings",
    "EventSettings",
    "JwtSettings",
    "Limit",
    "LimitSettings",
    "LogSettings",
    "MetricsSettings",
    "Mistake",
    "Network",
    "OverrideSettings",
    "Route",
    "ServerSettings",
    "ServerTimeouts",
    "SessionTokenSettings",
    "Store",
    "TlsSettings",
    "UpstreamServer",
    "UpstreamSettings",
    "UpstreamTimeouts",
    "Url",
    "load",
    "parse_listen",
    "schema_json",
]
