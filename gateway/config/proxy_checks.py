"""Checks of `use_proxy` and of the proxies in the environment; on the tree, like `checks`."""

from __future__ import annotations

from gateway.config.addresses import Url, parse_url
from gateway.config.problems import Mistakes
from gateway.config.proxies import Proxies
from gateway.config.tree import Node


def check_proxies(root: Node, proxies: Proxies, mistakes: Mistakes) -> None:
    """Note what contradicts a proxy, and proxies that cannot be used."""
    upstreams = root.at("upstreams")
    for upstream in upstreams.entries.values() if upstreams is not None else ():
        if (upstream.text_at("use_proxy") or "").lower() == "true":
            _upstream(upstream, proxies, mistakes)
    auth = root.at("auth")
    issuers = auth.at("jwt") if auth is not None else None
    for issuer in issuers.items if issuers is not None else ():
        scheme = (issuer.text_at("jwks_url") or "").partition("://")[0].lower()
        if scheme in proxies.mistakes:
            message = f"the keys are fetched without a proxy: {proxies.mistakes[scheme]}"
            mistakes.warn(*issuer.place_of("jwks_url"), message)
        for message in proxies.unreadable if scheme in proxies.by_scheme else ():
            mistakes.warn(*issuer.place_of("jwks_url"), f"the keys may be fetched through a proxy: {message}")


def _upstream(upstream: Node, proxies: Proxies, mistakes: Mistakes) -> None:
    place = upstream.place_of("use_proxy")
    urls = _urls(upstream)
    if upstream.text_at("discover") == "dns":
        message = "contradicts discover: dns, because the proxy looks up the names: leave one of them out"
        mistakes.add(*place, message)
        return
    wrong = [
        proxies.mistakes[scheme] for scheme in sorted({url.scheme for url in urls} & {*proxies.mistakes})
    ]
    if any(url.scheme in proxies.by_scheme for url in urls):
        wrong += proxies.unreadable
    for message in wrong:
        mistakes.add(*place, f"cannot be followed: {message}")
    used = [url for url in urls if proxies.of(url.scheme, url.host, url.port) is not None]
    if urls and not used and not wrong:
        names = " and ".join(sorted({f"{url.scheme}_proxy" for url in urls}))
        message = f"has no effect: {names} is not set for these servers, or no_proxy names them"
        mistakes.warn(*place, message)
    if upstream.text_at("public_url") and any(url.scheme == "http" for url in used):
        message = "does not set the Host that Flowise sees, because the proxy of an http server replaces it"
        mistakes.warn(*upstream.place_of("public_url"), message)


def _urls(upstream: Node) -> list[Url]:
    servers = upstream.at("servers")
    found = []
    for server in servers.items if servers is not None else ():
        try:
            found.append(parse_url(server.text_at("url") or ""))
        except ValueError:
            continue
    return found
