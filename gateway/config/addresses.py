"""Where something listens or is reached: addresses, URLs, origins, networks, stores (pure).

Every `ValueError` here is the rest of a sentence that begins with the text that was parsed; none repeats the text.
What may be the default of a key is a dataclass, which pydantic can write into a JSON Schema.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Literal

from yarl import URL

Network = ipaddress.IPv4Network | ipaddress.IPv6Network | Literal["unix"]

HIGHEST_PORT = 65535
LONGEST_HOST = 253
HTTP_PORTS = {"http": 80, "https": 443}
REDIS_PORT = 6379

_LISTEN_LIST = '["0.0.0.0:8080", "[::]:8080"]'
_LISTEN_EXAMPLE = "write HOST:PORT, like 127.0.0.1:8080, or [::1]:8080 for IPv6"
_URL_EXAMPLE = "write one like http://127.0.0.1:3000"
_ORIGIN_EXAMPLE = 'write scheme://host[:port], like https://app.example.com, or "*"'
_APP_SCHEMES = (
    "capacitor",
    "ionic",
    "tauri",
    "app",
    "chrome-extension",
    "moz-extension",
    "safari-web-extension",
)
_ANY_LABEL = "*."  # in front of a host: one label
_LABEL = re.compile(r"[a-z0-9_-]{1,63}")
_STORE_EXAMPLE = "write memory, redis://HOST:PORT/0, rediss://HOST:PORT/0 or unix:///PATH"

_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^\[\]:]*)(:(?P<port>[^:]*))?")
_PORT = re.compile(r"[0-9]{1,5}")
_HOST_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")
_IPV4_LIKE = re.compile(r"[0-9.]+")
_IPV6_LIKE = re.compile(r"\[([0-9A-Fa-f:.]+)\]")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@-]+)*/?")
_STORE = re.compile(r"rediss?://(?:[^\s/?#@]*@)?(?P<authority>[^\s/?#@]+)(?:/[0-9]{1,5})?|unix:///\S+")
_ANY_IPV4, _ANY_IPV6 = "0.0.0.0", "::"  # noqa: S104 - compared, never bound


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. An IPv6 host has no brackets; port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect to it."""
        ip = _ip_address(self.host)
        return self.host == "localhost" if ip is None else ip.is_loopback

    def meets(self, other: Address) -> bool:
        """Whether the two cannot be bound at the same time."""
        is_same_host = self.host == other.host or self._covers(other) or other._covers(self)
        return self.port == other.port != 0 and is_same_host

    def _covers(self, other: Address) -> bool:
        ip = _ip_address(other.host)
        if self.host == "localhost":
            return other.is_loopback
        if self.host == _ANY_IPV4:
            return ip is None or ip.version == 4
        return self.host == _ANY_IPV6 and (ip is None or ip.version == 6)


LISTEN, ADMIN_LISTEN = (
    Address("127.0.0.1", 8080),
    Address("127.0.0.1", 9090),
)  # unless the configuration has others


@dataclass(frozen=True, slots=True)
class Url:
    """An http or https server; `prefix` is its path without the last slash, often empty."""

    scheme: str
    host: str
    port: int
    prefix: str = ""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}{self.prefix}"

    @property
    def netloc(self) -> str:
        """The value of a Host field: the port is left out where it is the default of the scheme."""
        url = URL.build(scheme=self.scheme, host=self.host, port=self.port)
        return url.host_port_subcomponent or ""


@dataclass(frozen=True, slots=True)
class Store:
    """Where limits are counted: `memory`, or the URL of a Redis or Valkey, which may hold a password."""

    url: str = field(default="memory", repr=False)

    @property
    def is_shared(self) -> bool:
        """Whether several processes can count in it together."""
        return self.url != "memory"


def parse_listen(text: str) -> Address:
    """An address like `127.0.0.1:8080`, `[::1]:8080` or `localhost:8080`.

    Raises:
        ValueError: it has no host or no port, or one that is not valid.
    """
    if text.startswith("unix:"):
        raise ValueError(f"is a Unix socket, which server.listen alone takes: {_LISTEN_EXAMPLE}")
    if "," in text:
        raise ValueError(
            f"is more than one address: write one, or in server.listen a list, like {_LISTEN_LIST}"
        )
    parts = _AUTHORITY.fullmatch(text)
    if parts is None or not parts["port"]:
        raise ValueError(f"is not an address with a port: {_LISTEN_EXAMPLE}")
    if not parts["host"]:
        raise ValueError("has no host: write 127.0.0.1 before the colon, or 0.0.0.0 for all addresses")
    host, port = _host(parts["host"], _LISTEN_EXAMPLE), _port(parts["port"], lowest=0)
    if isinstance(ip := _ip_address(host), ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        raise ValueError(
            f"is an IPv4 address in the form of IPv6, which takes no connection: write {ip.ipv4_mapped}:{port}"
        )
    return Address(host, port)


def parse_url(text: str) -> Url:
    """The URL of an http or https server; its path is kept as the prefix.

    Raises:
        ValueError: another scheme, credentials, a query, or a host or path that is not valid.
    """
    url = _http_url(text, f"is not an http or https URL: {_URL_EXAMPLE}")
    if "@" in url.raw_authority:
        raise ValueError("has credentials in it: leave them out, a key for Flowise belongs in api_key")
    if "?" in text or "#" in text:
        raise ValueError("has a query or fragment: leave it out")
    if not _PREFIX.fullmatch(url.raw_path) or {".", ".."} & set(url.raw_parts):
        raise ValueError("has a path that cannot be a prefix: write plain segments, like /flowise")
    host, port = _host_and_port(url.raw_authority, HTTP_PORTS[url.scheme], _URL_EXAMPLE)
    return Url(url.scheme, host, port, url.raw_path.rstrip("/"))


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
    """An Origin as browsers send it (RFC 6454 6.2), `null`, one with `*.` in front of its host, or `*` for all.

    Apps and extensions have schemes of their own, like `capacitor://localhost`; pages from files send `null`.

    Raises:
        ValueError: not scheme://host[:port].
    """
    if text in ("*", "null"):
        return text
    scheme, separator, host = text.partition("://")
    if separator and scheme.lower() in _APP_SCHEMES:
        if not _HOST_NAME.fullmatch(host):
            raise ValueError(
                f"is not an origin of an app: write {scheme.lower()}://HOST, like capacitor://localhost"
            )
        return f"{scheme.lower()}://{host.lower()}"
    if host.startswith(_ANY_LABEL):
        return _any_label(parse_origin(f"{scheme}://{host.removeprefix(_ANY_LABEL)}"))
    if "*" in text:
        raise ValueError(
            "has a * that is not one label in front of the host: write https://*.example.com, each origin in full, or"
            ' "*" for all'
        )
    url = _http_url(text, f"is not an origin: {_ORIGIN_EXAMPLE}")
    if "@" in url.raw_authority:
        raise ValueError(f"is not an origin: {_ORIGIN_EXAMPLE}")
    host, port = _host_and_port(url.raw_authority, HTTP_PORTS[url.scheme], _ORIGIN_EXAMPLE)
    if text.count("/") > 2 or "?" in text or "#" in text:
        raise ValueError(f"has a slash or path after the host: {_ORIGIN_EXAMPLE}")
    return str(Url(url.scheme, host, port))


def _any_label(origin: str) -> str:
    scheme, _, rest = origin.partition("://")
    name = rest.partition(":")[0]
    if "*" in rest or "[" in rest or _IPV4_LIKE.fullmatch(name) or ("." not in name and name != "localhost"):
        raise ValueError(
            "has a * for more than the pages of one domain: write one like https://*.example.com"
        )
    return f"{scheme}://{_ANY_LABEL}{rest}"


def covers_origin(pattern: str, origin: str) -> bool:
    """Whether a configured origin is this one, or has `*.` in front of its host where this one has one label."""
    before, star, after = pattern.partition("*")
    if not star:
        return pattern == origin
    if not (after and origin.startswith(before) and origin.endswith(after)):
        return False
    return _LABEL.fullmatch(origin[len(before) : len(origin) - len(after)]) is not None


def parse_network(text: str) -> Network:
    """A network in CIDR form; one address alone is a network of its own. `unix`: peers of Unix sockets.

    Raises:
        ValueError: not a network, or one with bits set behind its mask.
    """
    if text == "unix":
        return "unix"
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError("is not a network: write a CIDR, like 10.0.0.0/8 or fd00::/8") from None
    raise ValueError(
        "has bits set behind its mask: write the network's address, like 10.0.0.0/8 for 10.1.2.3/8"
    )


def parse_store(text: str) -> Store:
    """`memory`, or the URL of a Redis or Valkey.

    Raises:
        ValueError: neither.
    """
    if text == "memory":
        return Store(text)
    parts = _STORE.fullmatch(text)
    if parts is None:
        if re.match(r"rediss?://[^@]*[#?/@%\s].*@", text):
            raise ValueError(
                "has a password with special characters: write them in percent-encoding, like %23 for #"
            )
        raise ValueError(f"is not a store: {_STORE_EXAMPLE}")
    if parts["authority"]:
        _host_and_port(parts["authority"], REDIS_PORT, _STORE_EXAMPLE)
    return Store(text)


def is_shared_store(text: str | None) -> bool:
    """Whether the text has the form of a store that several processes can count in."""
    return _STORE.fullmatch(text or "") is not None


def _http_url(text: str, refusal: str) -> URL:
    """The parts of a URL as written: nothing is decoded or normalized but the case of the scheme.

    yarl drops line ends, and blanks in front; here they are refused.
    """
    if not text.isprintable() or text[:1].isspace():
        raise ValueError(refusal)
    try:
        url = URL(text, encoded=True)
    except (ValueError, IndexError):  # IndexError: http://[]@
        raise ValueError(refusal) from None
    if url.scheme not in HTTP_PORTS or not text[len(url.scheme) :].startswith("://"):
        raise ValueError(refusal)
    return url


def _host_and_port(authority: str, default_port: int, example: str) -> tuple[str, int]:
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None or not parts["host"] or parts["port"] == "":
        raise ValueError(f"has no host, or an empty port: {example}")
    port = default_port if parts["port"] is None else _port(parts["port"], lowest=1)
    return _host(parts["host"], example), port


def _host(text: str, example: str) -> str:
    """A host name in lower case, or an IP address in its shortest form, without brackets."""
    if (inside := _IPV6_LIKE.fullmatch(text)) or _IPV4_LIKE.fullmatch(text):
        ip = _ip_address(inside[1] if inside else text)
        if ip is None:
            raise ValueError(f"has a host that is not an IP address: {example}")
        return str(ip)
    if _HOST_NAME.fullmatch(text) and len(text) <= LONGEST_HOST:
        return text.lower()
    raise ValueError(f"has a host that is not valid: {example}")


def _ip_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _port(text: str, *, lowest: int) -> int:
    if not _PORT.fullmatch(text) or not lowest <= int(text) <= HIGHEST_PORT:
        raise ValueError(f"has a port that is not valid: write a number from {lowest} to {HIGHEST_PORT}")
    return int(text)
