"""Cross references: what two keys say against each other, in the tree as written, whatever else is wrong."""

from __future__ import annotations

from gateway.config.addresses import Address, is_shared_store, parse_listen, parse_url
from gateway.config.check_routes import check_routes
from gateway.config.model import AdminSettings, ServerSettings, SessionTokenSettings
from gateway.config.problems import Mistakes
from gateway.config.tree import Node
from gateway.config.units import parse_duration
from gateway.config.values import is_above_one


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
