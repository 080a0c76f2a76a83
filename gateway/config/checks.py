"""Checks that compare keys with each other, on the tree, so that they run although other values are wrong."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.config.addresses import is_shared_store
from gateway.config.log_checks import check_logs
from gateway.config.model import SessionTokenSettings
from gateway.config.port_checks import check_listeners
from gateway.config.problems import Mistakes, did_you_mean
from gateway.config.remedies import ISSUER, RANDOM, SHARED_STORE, entry_in
from gateway.config.route import Limit
from gateway.config.server import ServerSettings
from gateway.config.tree import Node, Scalar
from gateway.config.upstream_checks import check_upstreams, sharing_upstreams
from gateway.config.values import PLACEHOLDER, format_size, is_above_one, parse_duration, parse_size

_DISCOVERY = "/.well-known/openid-configuration"
_ONE_ROUTE = (
    "clients name a route by it too, so write it in one route only, or duplicate the chatflow in Flowise"
)
_COUNTS = ("requests", "tokens", "concurrent")


def check(root: Node, mistakes: Mistakes) -> None:
    """Note every contradiction in a tree whose routes have `defaults` merged in."""
    check_listeners(root, mistakes)
    _workers(root, mistakes)
    _secret(root, mistakes)
    _session_tokens(root, mistakes)
    _issuers(root, mistakes)
    _store_tls(root, mistakes)
    check_logs(root, mistakes)
    check_upstreams(root, mistakes)
    routes = _items(root, "routes")
    _unique(routes, "name", "another route", mistakes)
    _unique(routes, "chatflow", "another route", mistakes, _ONE_ROUTE)
    for route in routes:
        _upstream(root, route, mistakes)
        _max_body(root, route, mistakes)
        _credentials(root, route, mistakes)
        _foreign_credentials(route, mistakes)
        _cors_credentials(route, mistakes)
        _claims(route, mistakes)
        check_limits(route, mistakes)
    if (defaults := root.at("defaults")) is not None:
        _cors_credentials(defaults, mistakes)
    _binding(root, routes, mistakes)


def check_limits(owner: Node, mistakes: Mistakes) -> None:
    """Note every contradiction in the `limits` of a route or of an API key."""
    limits = _items(owner, "limits")
    _unique(limits, "name", "another limit", mistakes)
    for limit in limits:
        if not isinstance(limit.value, dict):
            continue
        counts = [key for key in _COUNTS if key in limit.entries]
        is_noted = limit.is_partial or bool(limit.entries.keys() - Limit.model_fields.keys())
        if len(counts) != 1 and not (is_noted and not counts):
            message = f"has {len(counts) or 'none'} of requests, tokens and concurrent: write exactly one"
            mistakes.add(limit.line, limit.path, message)
        for key, message in _limit_contradictions(counts, limit.entries):
            if is_noted and key not in limit.entries:
                continue  # the key that is missing may be the one that is misspelt
            mistakes.add(*limit.place_of(key), message)


def _limit_contradictions(counts: list[str], written: dict[str, Node]) -> Iterator[tuple[str, str]]:
    if counts in (["requests"], ["tokens"]) and "per" not in written:
        yield "per", "is missing: write the time in which the limit refills, like per: 1m"
    if counts == ["concurrent"] and "per" in written:
        yield "per", "has no effect with concurrent: leave it out"
    if counts and "requests" not in counts and "burst" in written:
        yield "burst", "applies to requests only: leave it out"
    if counts and "tokens" not in counts and "reserve" in written:
        yield "reserve", "applies to tokens only: leave it out"


def _workers(root: Node, mistakes: Mistakes) -> None:
    store = (
        "" if root.nearest(("limits", "store")).is_partial else root.text_at("limits", "store") or "memory"
    )
    if not _has_several_workers(root) or store != "memory":
        return
    if root.at("limits", "store") is None:
        shared = entry_in(root, "limits", SHARED_STORE, "server")
        message = (
            f"several workers need a shared store, and limits.store is memory by default: write {shared}"
        )
        mistakes.add(*root.place_of("server", "workers"), f"{message}, or workers: 1")
        return
    one = entry_in(root, "server", "workers: 1", "limits")
    message = f"is memory, which several workers cannot share: write redis://127.0.0.1:6379/0, or {one}"
    mistakes.add(*root.place_of("limits", "store"), message)


def _secret(root: Node, mistakes: Mistakes) -> None:
    has_shared_store = is_shared_store(root.text_at("limits", "store"))
    if _is_written(root, "auth", "secret") or not (has_shared_store or _has_several_workers(root)):
        return
    reason = "a shared store" if has_shared_store else "several workers"
    secret = entry_in(root, "auth", 'secret: "${GATEWAY_SECRET}"', "auth")
    remedy = f"write {secret} and set that variable to 32 bytes or more, for example from {RANDOM}"
    other = "" if has_shared_store else f", or {entry_in(root, 'server', 'workers: 1', 'auth')}"
    mistakes.add(*root.place_of("auth", "secret"), f"is required with {reason}: {remedy}{other}")


def _has_several_workers(root: Node) -> bool:
    return is_above_one(root.text_at("server", "workers"))


def _is_written(root: Node, *keys: str) -> bool:
    """Whether a value is written and not empty, or has a mistake that is noted already."""
    if root.nearest(keys).is_partial:
        return True
    node = root.at(*keys)
    return node is not None and bool(node.is_broken or node.text or node.items)


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
        mistakes.add(*tokens.place_of("ttl"), "is longer than max_ttl: write at most that, or raise max_ttl")


def _duration(node: Node, key: str, default: float) -> float:
    return default if node.at(key) is None else parse_duration(node.text_at(key) or "")


def _issuers(root: Node, mistakes: Mistakes) -> None:
    """The issuer that a token names selects how the token is verified, so it must be unique."""
    auth = root.at("auth")
    if auth is None:
        return
    _unique(_items(auth, "jwt"), "issuer", "another entry", mistakes)
    for issuer in _items(auth, "jwt"):
        if (issuer.text_at("jwks_url") or "").partition("?")[0].endswith(_DISCOVERY):
            message = "is the discovery document: write the URL that it has as jwks_uri"
            mistakes.add(*issuer.place_of("jwks_url"), message)


def _store_tls(root: Node, mistakes: Mistakes) -> None:
    store = root.text_at("limits", "store") or ""
    if root.text_at("limits", "tls", "ca") and not store.startswith("rediss://"):
        message = "is for rediss:// stores only: write rediss:// in limits.store, or leave it out"
        mistakes.add(*root.place_of("limits", "tls", "ca"), message)


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
    limit = format_size(ServerSettings().max_body) if largest is None else largest.text
    try:
        is_above = parse_size(own.text or "") > parse_size(limit or "")
    except ValueError:
        return
    if is_above:
        message = "is above server.max_body: write at most that, or raise server.max_body"
        mistakes.add(own.line, own.path, message)


def _credentials(root: Node, route: Node, mistakes: Mistakes) -> None:
    auth = root.at("auth")
    has_keys = root.at("auth", "keys_file") is None or _is_written(root, "auth", "keys_file")
    has_issuers = auth is not None and bool(_items(auth, "jwt"))
    for method in _items(route, "auth"):
        if method.text in ("api_key", "session") and not has_keys:
            keys_file = entry_in(root, "auth", "keys_file: keys.yaml")
            message = f'"{method.text}" needs a keys file, and auth.keys_file is empty: write {keys_file}'
            mistakes.add(method.line, method.path, message)
        elif method.text == "jwt" and not has_issuers:
            message = f'"jwt" needs an issuer: write {entry_in(root, "auth", ISSUER)}'
            mistakes.add(method.line, method.path, message)


def _foreign_credentials(route: Node, mistakes: Mistakes) -> None:
    methods = {method.text for method in _items(route, "auth")}
    if "upstream" in methods and route.text_at("foreign_credentials") == "ignore":
        message = (
            "contradicts upstream in auth, which passes them to Flowise: leave it out, or leave upstream out"
        )
        mistakes.add(*route.place_of("foreign_credentials"), message)


def _claims(route: Node, mistakes: Mistakes) -> None:
    """A public route takes every valid credential, so it may have claims too."""
    methods = {method.text for method in _items(route, "auth")}
    for variable in _entries(route, "vars"):
        for found in PLACEHOLDER.finditer(variable.text or ""):
            needed = {"claims": "jwt", "session": "session"}.get(found["source"] or "", "")
            if needed and methods and not methods & {needed, "anonymous"}:
                message = f"has {found[0]}, but no caller has it: add {needed} to auth of the route, or leave it out"
                mistakes.add(variable.line, variable.path, message)


def _cors_credentials(owner: Node, mistakes: Mistakes) -> None:
    """Browsers refuse credentials with "*"; and a page of any site can send null, from a sandboxed frame."""
    cors = owner.at("cors")
    if cors is None or (cors.text_at("credentials") or "").lower() != "true":
        return
    for origin in _items(cors, "origins"):
        if origin.text in ("*", "null"):
            message = "stands for pages of any site, which credentials must not allow: list the origins"
            mistakes.add(origin.line, origin.path, message)


def _binding(root: Node, routes: list[Node], mistakes: Mistakes) -> None:
    """Routes to one Flowise either all bind conversation ids or none does: else a raw id could equal a bound one."""
    first: dict[str, tuple[str, int]] = {}
    sharing = sharing_upstreams(root)
    for route in routes:
        upstream, bind = route.text_at("upstream"), _bind(route)
        if upstream is None or bind is None:
            continue
        known, line = first.setdefault(sharing.get(upstream, upstream), (bind, route.line))
        if known != bind:
            message = f"differs from the route in line {line} to the same Flowise: write the same in both"
            mistakes.add(route.line, f"{route.path}.conversations.bind", message)


def _bind(route: Node) -> str | None:
    if route.at("conversations", "bind") is None:
        return "true"
    text = (route.text_at("conversations", "bind") or "").lower()
    return text if text in ("true", "false") else None


def _unique(
    nodes: list[Node], key: str, other: str, mistakes: Mistakes, remedy: str = "write a different one"
) -> None:
    first: dict[str, int] = {}
    for node in nodes:
        if text := node.text_at(key):
            line, path = node.place_of(key)
            text = text.lower() if key == "chatflow" else text
            if text in first:
                mistakes.add(line, path, f"is the same as in {other}, in line {first[text]}: {remedy}")
            first.setdefault(text, line)


def _items(node: Node, key: str) -> list[Node]:
    below = node.at(key)
    return [] if below is None else below.items


def _entries(node: Node, key: str) -> list[Node]:
    below = node.at(key)
    return [] if below is None else list(below.entries.values())
