"""The configuration: a YAML file becomes an immutable, typed `Config`, or a list of every mistake in it.

The names are loaded when they are used: the `health` command reads one key of a file, and has no time for types.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.config.addresses import Address, Network, Store, Url, parse_listen
    from gateway.config.listeners import ListenAddress, UnixAddress, parse_listener
    from gateway.config.loader import Reading, load, load_environment, read, read_environment, usable
    from gateway.config.model import (
        AdminSettings,
        AuthSettings,
        Config,
        EjectSettings,
        HealthSettings,
        JwtSettings,
        LimitSettings,
        LogFieldSettings,
        LogSettings,
        MetricsSettings,
        SessionTokenSettings,
        TlsSettings,
        TraceSettings,
        UpstreamServer,
        UpstreamSettings,
        UpstreamTimeouts,
        schema_json,
    )
    from gateway.config.problems import ConfigError, Kind, Mistake
    from gateway.config.route import (
        BodySettings,
        ConversationSettings,
        CorsSettings,
        EventSettings,
        Limit,
        OverrideSettings,
        Route,
    )
    from gateway.config.server import PortTlsSettings, ServerSettings, ServerTimeouts
else:

    def __getattr__(name: str) -> object:
        for module in _MODULES if name in __all__ else ():  # others are modules, which `import` finds itself
            loaded = importlib.import_module(f"{__name__}.{module}")
            if hasattr(loaded, name):
                return getattr(loaded, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


_MODULES = ("addresses", "listeners", "problems", "loader", "model", "server", "route")

__all__ = [
    "Address",
    "AdminSettings",
    "AuthSettings",
    "BodySettings",
    "Config",
    "ConfigError",
    "ConversationSettings",
    "CorsSettings",
    "EjectSettings",
    "EventSettings",
    "HealthSettings",
    "JwtSettings",
    "Kind",
    "Limit",
    "LimitSettings",
    "ListenAddress",
    "LogFieldSettings",
    "LogSettings",
    "MetricsSettings",
    "Mistake",
    "Network",
    "OverrideSettings",
    "PortTlsSettings",
    "Reading",
    "Route",
    "ServerSettings",
    "ServerTimeouts",
    "SessionTokenSettings",
    "Store",
    "TlsSettings",
    "TraceSettings",
    "UnixAddress",
    "UpstreamServer",
    "UpstreamSettings",
    "UpstreamTimeouts",
    "Url",
    "load",
    "load_environment",
    "parse_listen",
    "parse_listener",
    "read",
    "read_environment",
    "schema_json",
    "usable",
]
