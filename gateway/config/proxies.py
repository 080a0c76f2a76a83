"""The proxies of the environment: `http_proxy`, `https_proxy`, `no_proxy`, or the same in capitals (pure)."""

from __future__ import annotations

import ipaddress
import re
from base64 import b64encode
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote_to_bytes

from msgspec import Struct, field

from gateway.config.addresses import HIGHEST_PORT, parse_url
from gateway.config.problems import quote
from gateway.records import DiscreetRecord

DEFAULT_PORT = 80
_SCHEMES = ("http", "https")
_USERINFO = re.compile(r"(?P<scheme>[a-z]+://)(?P<userinfo>[^/@]*)@")
_RULE = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:]+|[0-9A-Fa-f:.]+)(:(?P<port>[0-9]{1,5}))?")
_ADDRESS = re.compile(r"\[.*|.*:.*|[0-9.-]+")  # or what is meant for one
_DOMAIN = re.compile(r"\*?\.?[\w-]+(\.[\w-]+)*\.?")

_NO_NETWORK = "is no network: write one like 10.0.0.0/8, or remove it"
_NO_ENTRY = (
    "is no domain, address or network: write entries like example.com or 10.0.0.0/8, with commas between"
)


class Proxy(DiscreetRecord, frozen=True):
    """An HTTP proxy.

    Attributes:
        host, port: where it is.
        authorization: the value of Proxy-Authorization; empty: none.
        url: with user and password, as it is in the environment.
    """

    host: str
    port: int
    authorization: str = ""
    url: str = ""

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be shown."""
        userinfo = _USERINFO.match(self.url)
        written = userinfo["userinfo"].partition(":")[2] if userinfo else ""
        return (written, self.authorization.removeprefix("Basic ")) if written else ()


class Proxies(Struct, frozen=True):
    """What the environment says.

    Attributes:
        by_scheme: the proxy for URLs of a scheme.
        exceptions: the entries of `no_proxy`.
        mistakes: by scheme, what is wrong with its variable.
        unreadable: what is wrong with entries of `no_proxy`, which then match nothing.
    """

    by_scheme: Mapping[str, Proxy] = field(default_factory=lambda: MappingProxyType({}))
    exceptions: tuple[str, ...] = ()
    mistakes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    unreadable: tuple[str, ...] = ()

    def __reduce__(self) -> tuple[type[Proxies], tuple[Any, ...]]:
        """For workers: the mappings have no pickle of their own."""
        return Proxies, (dict(self.by_scheme), self.exceptions, dict(self.mistakes), self.unreadable)

    def of(self, scheme: str, host: str, port: int) -> Proxy | None:
        """The proxy for a server; None: it is connected to directly."""
        if any(_covers(rule, host.lower(), port) for rule in self.exceptions):
            return None
        return self.by_scheme.get(scheme)


NO_PROXIES = Proxies()


def read_proxies(environ: Mapping[str, str]) -> Proxies:
    """Those of these variables."""
    found: dict[str, Proxy] = {}
    mistakes: dict[str, str] = {}
    for scheme in _SCHEMES:
        name, text = _variable(environ, f"{scheme}_proxy")
        if not text:
            continue
        try:
            found[scheme] = parse_proxy(text)
        except ValueError as error:
            mistakes[scheme] = f"the environment variable {name} {error}"
    name, exceptions = _variable(environ, "no_proxy")
    rules = [rule for entry in exceptions.split(",") if (rule := entry.strip().lower())]
    unreadable = [
        f"the environment variable {name} has {_shown(rule, at)}, which {message}"
        for at, rule in enumerate(rules, 1)
        if (message := _mistake_in(rule))
    ]
    return Proxies(found, tuple(rules), mistakes, tuple(unreadable))


def _variable(environ: Mapping[str, str], name: str) -> tuple[str, str]:
    """Name and value; empty if it is not set. Small letters count first, as for curl."""
    for spelling in (name, name.upper()):
        if text := environ.get(spelling, "").strip():
            return spelling, text
    return name, ""


def parse_proxy(text: str) -> Proxy:
    """An HTTP proxy, with or without `http://` in front.

    Raises:
        ValueError: the rest of a sentence that begins with its name.
    """
    url = text if "://" in text else f"http://{text}"
    userinfo = _USERINFO.match(url)
    bare = url if userinfo is None else userinfo["scheme"] + url[userinfo.end() :]
    try:
        parsed = parse_url(bare)
    except ValueError:
        parsed = None
    if parsed is None or parsed.scheme != "http" or parsed.prefix:
        raise ValueError("is not the URL of an HTTP proxy: write one like http://proxy.example.com:3128")
    authorization = ""
    if userinfo is not None:
        user, _, password = userinfo["userinfo"].partition(":")
        pair = unquote_to_bytes(user) + b":" + unquote_to_bytes(password)  # a colon in any case: RFC 7617, 2
        authorization = f"Basic {b64encode(pair).decode()}"
    return Proxy(parsed.host, parsed.port, authorization, url)


def _shown(rule: str, at: int) -> str:
    """The entry; only its place where it may be a URL with a password."""
    return f"entry {at}" if "@" in rule else quote(rule)


def _mistake_in(rule: str) -> str:
    """What is wrong with an entry of `no_proxy`, behind "which"; empty: nothing."""
    if rule == "*":
        return ""
    parts = _RULE.fullmatch(rule)
    try:
        if "/" in rule:
            ipaddress.ip_network(rule, strict=False)
        elif parts is None or int(parts["port"] or 0) > HIGHEST_PORT:
            return _NO_ENTRY
        elif _ADDRESS.fullmatch(parts["host"]):
            ipaddress.ip_address(parts["host"].strip("[]"))
        elif not _DOMAIN.fullmatch(parts["host"]):
            return _NO_ENTRY
    except ValueError:
        return _NO_NETWORK if "/" in rule else _NO_ENTRY
    return ""


def _covers(rule: str, host: str, port: int) -> bool:
    """Whether an entry of `no_proxy` is about this server: `*`, a domain with all below it, an address or a network."""
    if rule == "*":
        return True
    if "/" in rule:
        return _is_in(rule, host)
    parts = _RULE.fullmatch(rule)
    if parts is None or not 0 <= int(parts["port"] or port) <= HIGHEST_PORT:
        return False
    if parts["port"] is not None and int(parts["port"]) != port:
        return False
    named = parts["host"].strip("[]").removeprefix("*").removeprefix(".")
    return host == named or host.endswith(f".{named}")


def _is_in(network: str, host: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
