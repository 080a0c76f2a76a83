"""Cross references: what two keys say against each other, in the tree as written, whatever else is wrong."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.config import values as units
from gateway.config.addresses import Address, is_shared_store, parse_listen, parse_url
from gateway.config.model import AdminSettings, ServerSettings, SessionTokenSettings
from gateway.config.problems import Mistakes, did_you_mean
from gateway.config.tree import Node, Scalar
from gateway.config.values import is_above_one, parse_duration

_COUNTS = ("requests", "tokens", "concurrent")


def check_routes(root: Node, mistakes: Mistakes) -> None:
    """Note every contradiction of a tree whose routes have `defaults` merged in."""
    routes = _items(root, "routes")
    for key in ("name", "chatflow"):
        _unique(routes, key, "another route", mistakes)
    for route in routes:
        _upstream(root, route, mistakes)
        _max_body(root, route, mistakes)
        _credentials(root, route, mistakes)
        limits = _items(route, "limits")
        _unique(limits, "name", "another limit", mistakes)
        for limit in limits:
            _limit(limit, mistakes)
    _binding(root, routes, mistakes)


def _items(node: Node, key: str) -> list[Node]:
    below = node.at(key)
    return [] if below is None else below.items


def _unique(nodes: list[Node], key: str, other: str, mistakes: Mistakes) -> None:
    first: dict[str, int] = {}
    for node in nodes:
        if text := node.text_at(key):
            line, path = node.place_of(key)
            text = text.lower() if key == "chatflow" else text
            if text in first:
                mistakes.add(line, path, f"{other}, in line {first[text]}, has it already: write another one")
            first.setdefault(text, line)


def _upstream(root: Node, route: Node, mistakes: Mistakes) -> None:
    node, upstreams = route.at("upstream"), root.at("upstreams")
    if node is None or not isinstance(node.value, Scalar) or not node.text or upstreams is None:
        return
    if upstreams.entries and node.text not in upstreams.entries:
        meant = did_you_mean(node.text, upstreams.entries)
        mistakes.add(node.line, node.path, f"there is no upstream {node.value.shown}: {meant}")


def _max_body(root: Node, route: Node, mistakes: Mistakes) -> None:
    own, largest = route.at("max_body"), root.at("server", "max_body")
    if own is None:
        return
    limit = units.format_size(ServerSettings().max_body) if largest is None else largest.text
    try:
        is_above = units.parse_size(own.text or "") > units.parse_size(limit or "")
    except ValueError:
        return
    if is_above:
        mistakes.add(
            own.line, own.path, "is above server.max_body: write at most that, or raise server.max_body"
        )


def _credentials(root: Node, route: Node, mistakes: Mistakes) -> None:
    auth, keys_file = root.at("auth"), root.at("auth", "keys_file")
    has_keys = keys_file is None or keys_file.is_broken or bool(keys_file.text)
    has_issuers = auth is not None and bool(_items(auth, "jwt"))
    for method in _items(route, "auth"):
        if method.text in ("api_key", "session") and not has_keys:
            mistakes.add(method.line, method.path, "has no source: write auth.keys_file, like keys.yaml")
        elif method.text == "jwt" and not has_issuers:
            mistakes.add(method.line, method.path, "has no source: write an issuer into auth.jwt")


def _limit(limit: Node, mistakes: Mistakes) -> None:
    if not isinstance(limit.value, dict):
        return
    counts = [key for key in _COUNTS if key in limit.entries]
    if len(counts) != 1:
        mistakes.add(
            limit.line, limit.path, "counts none or several things: write one of requests, tokens, concurrent"
        )
    for key, message in _contradictions(counts, limit.entries):
        line, path = limit.place_of(key)
        mistakes.add(line, path, message)


def _contradictions(counts: list[str], written: dict[str, Node]) -> Iterator[tuple[str, str]]:
    if counts in (["requests"], ["tokens"]) and "per" not in written:
        yield "per", "is missing: write the time in which the whole is refilled, like per: 1m"
    if counts == ["concurrent"] and "per" in written:
        yield "per", "says nothing with concurrent: leave it out"
    if counts and "requests" not in counts and "burst" in written:
        yield "burst", "belongs to requests only: leave it out"
    if counts and "tokens" not in counts and "reserve" in written:
        yield "reserve", "belongs to tokens only: leave it out"


def _binding(root: Node, routes: list[Node], mistakes: Mistakes) -> None:
    """Ids of one Flowise are either all mapped or all as they came, else both kinds of routes would mix."""
    first: dict[str, tuple[str, int]] = {}
    for route in routes:
        upstream, bind = route.text_at("upstream"), _bind(route)
        if upstream is None or bind is None:
            continue
        known, line = first.setdefault(_home(root, upstream), (bind, route.line))
        if known != bind:
            message = f"differs from the route in line {line}, of the same Flowise: write the same on both"
            mistakes.add(route.line, f"{route.path}.conversations.bind", message)


def _home(root: Node, upstream: str) -> str:
    """The Flowise behind the name of an upstream: two names may mean the same server."""
    servers = root.at("upstreams", upstream, "servers")
    try:
        return str(parse_url((servers.items[0].text_at("url") or "") if servers and servers.items else ""))
    except ValueError:
        return upstream


def _bind(route: Node) -> str | None:
    if route.at("conversations", "bind") is None:
        return "true"
    text = (route.text_at("conversations", "bind") or "").lower()
    return text if text in ("true", "false") else None


def check(root: Node, mistakes: Mistakes) -> None:
    """Note every contradiction in a tree whose routes have `defaults` merged in."""
    _listeners(root, mistakes)
    _workers(root, mistakes)
    _session_tokens(root, mistakes)
    _issuers(root, mistakes)
    for upstream in _upstreams(root):
        _authority(upstream, mistakes)
    if root.text_at("limits", "tls", "ca") and not (root.text_at("limits", "store") or "").startswith(
        "rediss://"
    ):
        line, key = root.place_of("limits", "tls", "ca")
        mistakes.add(
            line, key, "has no rediss:// store to be for: write rediss in limits.store, or leave it out"
        )
    check_routes(root, mistakes)


def _listeners(root: Node, mistakes: Mistakes) -> None:
    admin = _address(root, "admin", AdminSettings().listen)
    public = _address(root, "server", ServerSettings().listen)
    if admin and public and admin.meets(public):
        line, key = root.place_of("admin", "listen")
        mistakes.add(line, key, "is the address of server.listen, or within it: write another port")
    token = root.at("admin", "token")
    has_token = token is not None and (token.is_broken or token.text)
    if admin and not admin.is_loopback and not has_token:
        line, key = root.place_of("admin", "token")
        mistakes.add(line, key, "is needed, as admin.listen is not loopback: write token: ${ADMIN_TOKEN}")


def _address(root: Node, section: str, default: Address) -> Address | None:
    """The address of a listener, None if it is not one."""
    if root.at(section, "listen") is None:
        return default
    try:
        return parse_listen(root.text_at(section, "listen") or "")
    except ValueError:
        return None


def _workers(root: Node, mistakes: Mistakes) -> None:
    has_workers = is_above_one(root.text_at("server", "workers"))
    has_memory = (root.text_at("limits", "store") or "memory") == "memory"
    is_shared = is_shared_store(root.text_at("limits", "store"))
    if has_workers and has_memory:
        line, _ = root.place_of("server", "workers")
        message = (
            "is memory, which several workers do not share: write redis://HOST:PORT/0, or server.workers: 1"
        )
        mistakes.add(line, "limits.store", message)
    if (has_workers or is_shared) and not _has_secret(root):
        line, key = root.place_of("auth", "secret")
        mistakes.add(
            line, key, "is needed with several workers or a shared store: write secret: ${GATEWAY_SECRET}"
        )


def _has_secret(root: Node) -> bool:
    secret = root.at("auth", "secret")
    return secret is not None and bool(secret.is_broken or secret.text or secret.items)


def _session_tokens(root: Node, mistakes: Mistakes) -> None:
    tokens, default = root.at("auth", "session_tokens"), SessionTokenSettings()
    if tokens is None:
        return
    try:
        ttl = _duration(tokens, "ttl", default.ttl)
        max_ttl = _duration(tokens, "max_ttl", default.max_ttl)
    except ValueError:
        return
    if ttl > max_ttl:
        line, key = tokens.place_of("ttl")
        mistakes.add(line, key, "is longer than max_ttl: write at most that")


def _issuers(root: Node, mistakes: Mistakes) -> None:
    """The issuer that a token names says how the token is verified."""
    written = root.at("auth", "jwt")
    known: dict[str, int] = {}
    for entry in [] if written is None else written.items:
        if not (issuer := entry.text_at("issuer")):
            continue
        line, key = entry.place_of("issuer")
        if issuer in known:
            mistakes.add(line, key, f"another issuer, in line {known[issuer]}, is the same: keep one of them")
        known.setdefault(issuer, line)


def _duration(node: Node, key: str, default: float) -> float:
    return default if node.at(key) is None else parse_duration(node.text_at(key) or "")


def _upstreams(root: Node) -> list[Node]:
    upstreams = root.at("upstreams")
    return [] if upstreams is None else list(upstreams.entries.values())


def _authority(upstream: Node, mistakes: Mistakes) -> None:
    if not upstream.text_at("tls", "ca"):
        return
    servers = upstream.at("servers")
    try:
        schemes = {
            parse_url(server.text_at("url") or "").scheme for server in (servers.items if servers else [])
        }
    except ValueError:
        return
    if schemes and "https" not in schemes:
        line, key = upstream.place_of("tls", "ca")
        mistakes.add(
            line, key, "has no https server to be for: write https in the server's url, or leave it out"
        )
