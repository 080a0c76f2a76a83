"""The client's address behind proxies, from `X-Forwarded-For` or `Forwarded` (RFC 7239) (pure).

Only proxies of the configured networks are trusted, counted from the right. `X-Forwarded-For` wins: a proxy that sets
it passes on a `Forwarded` that the client has made up.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_FOR = re.compile(r'(?:^|;)\s*for\s*=\s*("[^"]*"|[^;\s]+)', re.IGNORECASE)


def client_address(
    peer: str, forwarded_for: Sequence[str], forwarded: Sequence[str], trusted: Sequence[Network]
) -> str:
    """The nearest address that is not a trusted proxy.

    Args:
        peer: the other end of the connection; empty for a connection without address.
        forwarded_for: the values of all X-Forwarded-For fields, in order.
        forwarded: the same for Forwarded.
        trusted: the networks of trusted proxies.
    """
    hops = _hops(forwarded_for) if forwarded_for else [_for_of(part) for part in _hops(forwarded)]
    client = peer
    while is_trusted(client, trusted) and hops:
        hop = _hop(hops.pop())
        if hop is None:
            break
        client = str(hop)
    return client


def _hops(fields: Sequence[str]) -> list[str]:
    return [part.strip() for field in fields for part in field.split(",")]


def _for_of(element: str) -> str:
    found = _FOR.search(element)
    return found[1].strip('"') if found else ""


def _hop(text: str) -> Address | None:
    """The address of one hop; one with a scope id (RFC 4007 11), which may be any text, does not count."""
    return None if "%" in text else _parse(text)


def is_trusted(text: str, trusted: Sequence[Network]) -> bool:
    """Returns whether this address belongs to one of the networks."""
    address = _parse(text)
    return address is not None and any(address in network for network in trusted)


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
