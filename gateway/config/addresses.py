"""Where something listens or is reached: addresses, URLs, origins, networks, stores (pure).

Every `ValueError` here is the rest of a sentence that begins with what was written; none repeats it.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

HIGHEST_PORT = 65535
DEFAULT_PORTS = {"http": 80, "https": 443}
LONGEST_HOST = 253
_ANY_IPV4, _ANY_IPV6 = "0.0.0.0", "::"  # noqa: S104 - compared, never bound
_HOST_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")
_IPV4_LIKE = re.compile(r"[0-9.]+")
_IPV6_LIKE = re.compile(r"\[([0-9A-Fa-f:.]+)\]")
_PORT = re.compile(r"[0-9]{1,5}")
_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^\[\]:]*)(:(?P<port>[^:]*))?")
_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?P<rest>.*)", re.DOTALL
)
_PATH = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@-]+)*/?")
_STORE = re.compile(r"rediss?://(?:[^\s/?#@]*@)?(?P<authority>[^\s/?#@]+)(?:/[0-9]{1,5})?|unix:///\S+")
_STORE_EXAMPLE = "write memory, redis://HOST:PORT/0, rediss://HOST:PORT/0 or unix:///PATH"
REDIS_PORT = 6379


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; an IPv6 host stands without its brackets. Port 0: the system chooses."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{_bracketed(self.host)}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host == "localhost" or (_is_ip(self.host) and ipaddress.ip_address(self.host).is_loopback)

    def meets(self, other: Address) -> bool:
        """Whether both cannot be listened on at once."""
        is_same_host = self.host == other.host or self._covers(other) or other._covers(self)
        return self.port == other.port != 0 and is_same_host

    def _covers(self, other: Address) -> bool:
        if self.host == "localhost":
            return other.is_loopback
        if self.host == _ANY_IPV4:
            return ":" not in other.host
        return self.host == _ANY_IPV6 and (":" in other.host or not _is_ip(other.host))


@dataclass(frozen=True, slots=True)
class Url:
    """An http or https server; `prefix` is its path without a last slash, often empty."""

    scheme: str
    host: str
    port: int
    prefix: str = ""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}{self.prefix}"

    @property
    def netloc(self) -> str:
        """The value of a Host field: the port only where it is not the scheme's own."""
        host = _bracketed(self.host)
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Store:
    """Where limits are counted: `memory`, or the URL of a Redis or Valkey (which may hold a password)."""

    url: str = field(default="memory", repr=False)

    @property
    def is_shared(self) -> bool:
        """Whether several processes count together there."""
        return self.url != "memory"


def parse_listen(text: str) -> Address:
    """An address like `127.0.0.1:8080`, `[::1]:8080` or `localhost:8080`.

    Raises:
        ValueError: the rest of a sentence that begins with the text: what is wrong, what would be right.
    """
    example = "write HOST:PORT, like 127.0.0.1:8080, or [::1]:8080 for IPv6"
    parts = _AUTHORITY.fullmatch(text)
    if parts is None or not parts["port"]:
        raise ValueError(f"is not an address with a port: {example}")
    if not parts["host"]:
        raise ValueError("has no host: write 127.0.0.1 before the colon, or 0.0.0.0 for all addresses")
    return Address(_host(parts["host"], example), _port(parts["port"], lowest=0))


def parse_url(text: str) -> Url:
    """The URL of a server, for http or https; the path is kept as the prefix.

    Raises:
        ValueError: another scheme, credentials, a query, a host or path that cannot be.
    """
    example = "write one like http://127.0.0.1:3000"
    parts = _URL.fullmatch(text)
    if parts is None or parts["scheme"].lower() not in DEFAULT_PORTS:
        raise ValueError(f"is not an http or https URL: {example}")
    if "@" in parts["authority"]:
        raise ValueError("has credentials in it: leave them out, a key for Flowise belongs into api_key")
    if parts["rest"]:
        raise ValueError("has a query or fragment: leave it out")
    segments = parts["path"].split("/")
    if not _PATH.fullmatch(parts["path"]) or {".", ".."} & set(segments):
        raise ValueError("has a path that cannot be a prefix: write plain segments, like /flowise")
    scheme = parts["scheme"].lower()
    host, port = _authority(parts["authority"], DEFAULT_PORTS[scheme], example)
    return Url(scheme, host, port, parts["path"].rstrip("/"))


def parse_public_url(text: str) -> Url | None:
    """The address under which Flowise is known, or None for an empty text.

    Raises:
        ValueError: not an http or https URL, or one with a path.
    """
    if not text:
        return None
    url = parse_url(text)
    if url.prefix:
        raise ValueError("has a path: write scheme and host only, like https://flowise.example.com")
    return url


def parse_origin(text: str) -> str:
    """An Origin as browsers send it (RFC 6454 6.2), or `*` for all of them.

    Raises:
        ValueError: not scheme://host[:port]; what would be right is told.
    """
    if text == "*":
        return text
    example = 'write scheme://host[:port], like https://app.example.com, or "*"'
    parts = _URL.fullmatch(text)
    if parts is None or parts["scheme"].lower() not in DEFAULT_PORTS or "@" in parts["authority"]:
        raise ValueError(f"is not an origin: {example}")
    scheme = parts["scheme"].lower()
    origin = str(Url(scheme, *_authority(parts["authority"], DEFAULT_PORTS[scheme], example)))
    if parts["path"] or parts["rest"]:
        raise ValueError(f"has a slash or path after the host: {example}")
    return origin


def parse_network(text: str) -> Network:
    """A network in CIDR form; one address alone is a network of its own.

    Raises:
        ValueError: not a network, or one with bits behind its mask.
    """
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError("is not a network: write a CIDR, like 10.0.0.0/8 or fd00::/8") from None
    raise ValueError(
        "has bits behind its mask: write the network's own address, as 10.0.0.0/8 for 10.1.2.3/8"
    )


def parse_store(text: str) -> Store:
    """`memory`, or where a Redis or Valkey is.

    Raises:
        ValueError: neither.
    """
    found = None if text == "memory" else _STORE.fullmatch(text)
    if text != "memory" and found is None:
        raise ValueError(f"is not a store: {_STORE_EXAMPLE}")
    if found is not None and found["authority"]:
        _authority(found["authority"], REDIS_PORT, _STORE_EXAMPLE)
    return Store(text)


def is_shared_store(text: str | None) -> bool:
    """Whether it is a store that several processes count in; what is no store is none."""
    return _STORE.fullmatch(text or "") is not None


def _authority(text: str, default_port: int, example: str) -> tuple[str, int]:
    parts = _AUTHORITY.fullmatch(text)
    if parts is None or not parts["host"] or parts["port"] == "":
        raise ValueError(f"has no host, or a port that is none: {example}")
    port = default_port if parts["port"] is None else _port(parts["port"], lowest=1)
    return _host(parts["host"], example), port


def _host(text: str, example: str) -> str:
    """A host name in lower case, or an IP address in its shortest form, without brackets."""
    if inside := _IPV6_LIKE.fullmatch(text):
        return _ip(inside[1], example)
    if _IPV4_LIKE.fullmatch(text):
        return _ip(text, example)
    if _HOST_NAME.fullmatch(text) and len(text) <= LONGEST_HOST:
        return text.lower()
    raise ValueError(f"has a host that cannot be one: {example}")


def _ip(text: str, example: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError(f"has a host that is no IP address: {example}") from None


def _port(text: str, *, lowest: int) -> int:
    if not _PORT.fullmatch(text) or not lowest <= int(text) <= HIGHEST_PORT:
        raise ValueError(f"has a port that is none: write a number from {lowest} to {HIGHEST_PORT}")
    return int(text)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_ip(host: str) -> bool:
    return ":" in host or _IPV4_LIKE.fullmatch(host) is not None
