"""The client's address behind proxies, from `X-Forwarded-For` or `Forwarded` (RFC 7239) (pure).

Only proxies of the configured networks are trusted, counted from the right. `X-Forwarded-For` wins: a proxy that sets
it passes on a `Forwarded` that the client has made up.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Literal

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network | Literal["unix"]
UNIX_PEER: Literal["unix"] = "unix"  # in the place of an address: a peer on this machine, whatever it is
IPV6_NETWORK = 64  # bits that belong to one site
MAX_HOPS = 16  # of proxies before the gateway; those farther away are not looked at
_FOR = re.compile(r'(?:^|;)\s*for\s*=\s*("[^"]*"|[^;\s]+)', re.IGNORECASE)


def client_address(
    peer: str, forwarded_for: Sequence[str], forwarded: Sequence[str], trusted: Sequence[Network]
) -> str:
    """The nearest address that is not a trusted proxy.

    Args:
        peer: the other end of the connection.
        forwarded_for: the values of all X-Forwarded-For fields, in order.
        forwarded: the same for Forwarded.
        trusted: the networks of trusted proxies.
    """
    client = peer
    if not is_trusted(client, trusted):
        return client
    hops = _hops(forwarded_for) if forwarded_for else map(_for_of, _hops(forwarded))
    for text in islice(hops, MAX_HOPS):
        hop = _hop(text)
        if hop is None:
            break
        client = str(hop)
        if not is_trusted(client, trusted):
            break
    return client


def _hops(fields: Sequence[str]) -> Iterator[str]:
    """The elements of a list, the last one first; each is split off when it is needed."""
    for field in reversed(fields):
        rest, comma = field, ","
        while comma:
            rest, comma, last = rest.rpartition(",")
            yield last.strip()


def _for_of(element: str) -> str:
    found = _FOR.search(element)
    return found[1].strip('"') if found else ""


def site_of(address: str) -> str:
    """What limits by address count for: the address; of IPv6 its /64 network, in which a client may choose its own."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address.partition("%")[0], IPV6_NETWORK), strict=False))
    except ValueError:
        return address


def _hop(text: str) -> Address | None:
    """The address of one hop; one with a scope id (RFC 4007 11), which may be any text, does not count."""
    return None if "%" in text else _parse(text)


def is_trusted(text: str, trusted: Sequence[Network]) -> bool:
    """Returns whether this address belongs to one of the networks."""
    if text == UNIX_PEER:
        return UNIX_PEER in trusted
    address = _parse(text)
    return address is not None and any(
        address in network for network in trusted if not isinstance(network, str)
    )


def _parse(text: str) -> Address | None:
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
