"""Checks that compare the keys of an upstream, and upstreams with each other; on the tree, like `checks`."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import replace

from gateway.config.addresses import Url, parse_url
from gateway.config.model import HealthSettings
from gateway.config.problems import Kind, Mistakes
from gateway.config.tree import Node, Scalar, ScalarKind
from gateway.config.values import format_duration, parse_duration

_PATH_OF_FLOWISE = re.compile(
    r"(?P<first>/api)/v[0-9]+(/|$)|(?P<second>/(v2/)?(chatbot|canvas|agentcanvas|agentflows|chatflows))/[^/]+$"
)


def check_upstreams(root: Node, mistakes: Mistakes) -> None:
    """Note every contradiction in the upstreams."""
    upstreams = root.at("upstreams")
    for upstream in upstreams.entries.values() if upstreams is not None else ():
        _upstream_tls(upstream, mistakes)
        _health(upstream, mistakes)
        _same_servers(upstream, mistakes)
        is_discovered = upstream.text_at("discover") == "dns"
        for server in _servers(upstream):
            _server_path(server, mistakes)
            if is_discovered:
                _discoverable(server, mistakes)


def sharing_upstreams(root: Node) -> Mapping[str, str]:
    """For each upstream the first of those that it shares a server with, directly or through others."""
    upstreams = root.at("upstreams")
    first: dict[str, str] = {}
    owner: dict[tuple[str, int, str], str] = {}
    for name, upstream in upstreams.entries.items() if upstreams is not None else ():
        urls = [url for server in _servers(upstream) if (url := _url(server)) is not None]
        places = [(url.host.lower(), url.port, url.prefix) for url in urls]
        met = sorted({first[owner[place]] for place in places if place in owner}, key=list(first).index)
        first[name] = met[0] if met else name
        first |= {other: met[0] for other, known in first.items() if known in met}
        owner |= dict.fromkeys(places, name)
    return first


def _servers(upstream: Node) -> list[Node]:
    servers = upstream.at("servers")
    return [] if servers is None else servers.items


def _url(server: Node) -> Url | None:
    """None: it has none, or one that is not valid."""
    try:
        return parse_url(server.text_at("url") or "")
    except ValueError:
        return None


def _same_servers(upstream: Node, mistakes: Mistakes) -> None:
    """The same place twice would be two servers to the gateway alone."""
    first: dict[tuple[str, int, str], int] = {}
    for server in _servers(upstream):
        url = _url(server)
        if url is None:
            continue
        line, path = server.place_of("url")
        place = (url.host.lower(), url.port, url.prefix)
        if place in first:
            message = f"is the server of line {first[place]} again: leave it out, or write weight for a larger share"
            mistakes.add(line, path, message)
        first.setdefault(place, line)


def _discoverable(server: Node, mistakes: Mistakes) -> None:
    url = _url(server)
    if url is not None and _is_address(url.host):
        message = "is an address, and discover: dns looks up names: write a host name, or discover: none"
        mistakes.add(*server.place_of("url"), message)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _health(upstream: Node, mistakes: Mistakes) -> None:
    """Checks of one server must not overlap."""
    health, default = upstream.at("health"), HealthSettings()
    if health is None:
        return
    try:
        every = _duration(health, "every", default.every)
        limit = _duration(health, "timeout", default.timeout)
    except ValueError:
        return
    if 0 < every < limit:
        longest = format_duration(every)
        message = (
            f"is longer than every, so that checks would overlap: write at most {longest}, or raise every"
        )
        mistakes.add(*health.place_of("timeout"), message)


def _duration(node: Node, key: str, default: float) -> float:
    return default if node.at(key) is None else parse_duration(node.text_at(key) or "")


def _server_path(server: Node, mistakes: Mistakes) -> None:
    """The URL of the API, a flow or a page was copied, not that of the server."""
    node = server.at("url")
    try:
        url = parse_url(server.text_at("url") or "")
    except ValueError:
        return
    found = _PATH_OF_FLOWISE.search(url.prefix)
    if node is None or found is None or not isinstance(node.value, Scalar):
        return
    right = f"write {replace(url, prefix=url.prefix[: found.start()])}"
    if node.value.kind is ScalarKind.EXPANDED:
        right = f"leave out everything from {found['first'] or found['second']} on"
    message = f"{node.value.shown} contains a path of Flowise ({found['first'] or found['second']}…): {right}"
    mistakes.add(node.line, node.path, message, Kind.FUTILE)


def _upstream_tls(upstream: Node, mistakes: Mistakes) -> None:
    if not upstream.text_at("tls", "ca"):
        return
    try:
        schemes = {parse_url(server.text_at("url") or "").scheme for server in _servers(upstream)}
    except ValueError:
        return
    if schemes and "https" not in schemes:
        message = "is for https servers only: write https in the server's url, or leave it out"
        mistakes.add(*upstream.place_of("tls", "ca"), message)
