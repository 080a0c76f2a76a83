"""Checks of the listeners and of `server.tls`, on the tree, like `checks`; they read the files of the certificate."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

from gateway.config.addresses import Address, parse_listen
from gateway.config.listeners import ListenAddress, UnixAddress, format_mode, meet, parse_listener
from gateway.config.model import AdminSettings
from gateway.config.problems import Kind, Mistakes
from gateway.config.server import PortTlsSettings, ServerSettings
from gateway.config.tree import Node

_UNIX = "unix"  # of trusted_proxies
_OTHERS = ("client_ca", "min_version")  # of tls, besides certificate and key
_MISSING = {
    "certificate": "is missing: write the file of the certificate that the key is for, like certificate: tls.crt",
    "key": "is missing: write the file of the certificate's private key, like key: tls.key",
}


def check_listeners(root: Node, mistakes: Mistakes) -> None:
    """Note listeners that cannot be opened together, and an admin port that others reach without a token."""
    admin, public = _admin(root), _public(root)
    for at, (line, path, listener) in enumerate(public):
        if any(meet(listener, other) for _, _, other in public[:at]):
            mistakes.add(line, path, "overlaps an entry before it: write another address, or leave it out")
    if admin and any(meet(admin, listener) for _, _, listener in public):
        message = "overlaps server.listen: write another port"
        mistakes.add(*root.place_of("admin", "listen"), message)
    if admin and not admin.is_loopback and not _is_written(root, "admin", "token"):
        remedy = (
            f'write token: "${{ADMIN_TOKEN}}" and set that variable, or write listen: 127.0.0.1:{admin.port}'
        )
        message = f"is required unless only this machine can reach admin.listen: {remedy}"
        mistakes.add(*root.place_of("admin", "token"), message)
    _unix(root, mistakes)


def _unix(root: Node, mistakes: Mistakes) -> None:
    sockets = [(line, path) for line, path, one in _public(root) if isinstance(one, UnixAddress)]
    proxies = root.at("server", "trusted_proxies")
    is_decided = proxies is not None and not proxies.items  # none, or a mistake that is noted
    trusted = [one.text for one in proxies.items] if proxies else []
    if sockets and _UNIX not in trusted and not is_decided:
        line, path = sockets[0]
        message = (
            'all requests over it have one client address, "unix": write unix into trusted_proxies, so that'
            " X-Forwarded-For of the proxy counts; without a proxy in front write trusted_proxies: []"
        )
        mistakes.warn(line, path, message)
    mode = root.text_at("server", "socket_mode")
    if not sockets and mode is not None and mode != format_mode(ServerSettings().socket_mode):
        message = "is for unix sockets, and server.listen has none: leave it out"
        mistakes.add(*root.place_of("server", "socket_mode"), message)


def _admin(root: Node) -> Address | None:
    """The address of the admin port; None if it is not valid."""
    if root.at("admin", "listen") is None:
        return AdminSettings().listen
    try:
        return parse_listen(root.text_at("admin", "listen") or "")
    except ValueError:
        return None


def _public(root: Node) -> list[tuple[int, str, ListenAddress]]:
    """Line, key and address of each listener that is valid."""
    node = root.at("server", "listen")
    if node is None:
        return [(*root.place_of("server", "listen"), one) for one in ServerSettings().listen]
    found: list[tuple[int, str, ListenAddress]] = []
    for one in node.items or [node]:
        try:
            found.append((one.line, one.path, parse_listener(one.text or "")))
        except ValueError:
            continue
    return found


def _is_written(root: Node, *keys: str) -> bool:
    """Whether a value is written and not empty, or has a mistake that is noted already."""
    if root.nearest(keys).is_partial:
        return True
    node = root.at(*keys)
    return node is not None and bool(node.is_broken or node.text or node.items)


def check_tls(root: Node, folder: Path, mistakes: Mistakes) -> None:
    """Note keys of `server.tls` that contradict each other, and what is wrong with the certificate."""
    tls = root.at("server", "tls")
    if tls is None or tls.is_partial:
        return
    given = [key for key in _MISSING if _is_written(tls, key)]
    if not given:
        for key in _OTHERS:
            if _is_written(tls, key) and tls.text_at(key) != PortTlsSettings().min_version:
                message = "has no effect without certificate and key: write both, or leave it out"
                mistakes.add(*tls.place_of(key), message)
        return
    for key, message in _MISSING.items():
        if key not in given:
            mistakes.add(*tls.place_of(key), message)
    if not any(isinstance(one, Address) for *_, one in _public(root)) and _public(root):
        message = (
            "is for HOST:PORT, and server.listen has Unix sockets only: add an address, or leave tls out"
        )
        mistakes.add(tls.line, tls.path, message)
    if len(given) == len(_MISSING):
        _certificate(tls, folder, mistakes)


def _certificate(tls: Node, folder: Path, mistakes: Mistakes) -> None:
    from gateway.config import certificates as of  # noqa: PLC0415 - large, and few files have one

    certificate, key = (folder / (tls.text_at(name) or "") for name in _MISSING)
    try:
        chain, private = of.read_chain(of.read_file(certificate)), of.read_key(of.read_file(key))
    except ValueError:  # noted by its type
        return
    if message := of.misfit(chain, private):
        mistakes.add(*tls.place_of("key"), message)
        return
    for message in of.lapses(chain, datetime.now(UTC)):
        mistakes.add(*tls.place_of("certificate"), message, Kind.LAPSED)
    for message in of.gaps(chain):
        mistakes.warn(*tls.place_of("certificate"), message)
    try:
        of.server_context(certificate, key, None, next(iter(of.MIN_VERSIONS)))
    except ssl.SSLError as error:
        mistakes.add(*tls.place_of("certificate"), of.refusal(error))
    except OSError:  # gone since it was read; the next reading says so
        return
