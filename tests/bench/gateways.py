"""The gateway as a target: with its defaults, with everything on, and with limits in Valkey.

It writes its request log to a file, as every target's output goes to one.
"""

from __future__ import annotations

import shlex
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import yaml

from tests.bench.load import FLOW
from tests.harness.api_keys import FILE, add_key
from tests.harness.certificates import Pair
from tests.harness.ports import free_port
from tests.harness.valkey import running_valkey

MOST = 6000  # connections
_SECRET = "a secret of thirty-two bytes or more"
_PER_DAY = {"per": "1d", "by": "caller"}
_LIMITS = [
    {"name": "requests", "requests": 10_000_000, **_PER_DAY},
    {"name": "tokens", "tokens": 900_000_000, **_PER_DAY},
    {"name": "open", "concurrent": 10_000, "by": "caller"},
    {"name": "all", "requests": 10_000_000, "per": "1d", "by": "route"},
]


class Place(Protocol):
    """What a target is started with."""

    @property
    def upstream_port(self) -> int: ...

    @property
    def gateway_command(self) -> str: ...

    @property
    def pair(self) -> Pair | None: ...

    @property
    def send_s(self) -> int | None: ...


@dataclass(frozen=True)
class Started:
    """How to start a target, and the `Authorization` that its requests need; empty: none."""

    command: list[str]
    authorization: str = ""


def plain(folder: Path, port: int, site: Place, _: ExitStack) -> Started:
    """The defaults, for anybody."""
    return _gateway(folder, port, site, {}, {"auth": ["anonymous"]})


def everything(folder: Path, port: int, site: Place, _: ExitStack, store: str = "memory") -> Started:
    """An API key, four limits and conversations that belong to their caller."""
    sections = {"auth": {"secret": _SECRET, "keys_file": FILE}, "limits": {"store": store}}
    key = add_key(folder, "bench")
    route = {"auth": ["api_key"], "limits": _LIMITS, "conversations": {"bind": True}}
    return Started(_gateway(folder, port, site, sections, route).command, f"Bearer {key}")


def in_valkey(folder: Path, port: int, site: Place, stack: ExitStack) -> Started:
    """The same with its limits in a Valkey server, whose CPU time is not counted."""
    store = stack.enter_context(running_valkey(folder))
    return everything(folder, port, site, stack, store.url)


def _gateway(
    folder: Path, port: int, site: Place, sections: dict[str, object], route: dict[str, object]
) -> Started:
    config = folder / "gateway.yaml"
    upstream = {
        "servers": [{"url": f"http://127.0.0.1:{site.upstream_port}"}],
        "max_connections": MOST,
    }
    document = {
        "server": {
            "listen": f"127.0.0.1:{port}",
            "max_connections_per_address": MOST,
            "timeouts": {} if site.send_s is None else {"send": f"{site.send_s}s"},
            "tls": {} if site.pair is None else site.pair.settings,
        },
        "admin": {"listen": f"127.0.0.1:{free_port()}"},
        "upstreams": {"main": upstream},
        "routes": [{"name": "bench", "chatflow": FLOW, "upstream": "main", **route}],
        **sections,
    }
    config.write_text(yaml.safe_dump(document))
    return Started([*shlex.split(site.gateway_command), "serve", "--config", str(config)])
