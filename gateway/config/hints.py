"""Warnings: what a configuration may say, and what is hardly meant. On the tree, like `checks`."""

from __future__ import annotations

from gateway.config.addresses import parse_url
from gateway.config.problems import EXAMPLE_CHATFLOW, Mistakes
from gateway.config.tree import Node, Scalar, ScalarKind
from gateway.config.types import FOREIGN_VARIABLE
from gateway.config.values import CHATFLOW_PLACE, PLACEHOLDER
from gateway.flowise.withheld import repeating

_NIL = "00000000-0000-0000-0000-000000000000"
_PAGES = frozenset({"/chatflows", "/agentflows", "/assistants", "/signin", "/login"})


def warn(root: Node, mistakes: Mistakes) -> None:
    """Note every warning for a tree whose routes have `defaults` merged in."""
    upstreams, routes = root.at("upstreams"), root.at("routes")
    for upstream in upstreams.entries.values() if upstreams else ():
        _foreign_variable(upstream, "api_key", mistakes)
        servers = upstream.at("servers")
        for server in servers.items if servers else ():
            _page(server, mistakes)
    if admin := root.at("admin"):
        _foreign_variable(admin, "token", mistakes)
    for route in routes.items if routes else ():
        _example_chatflow(route, mistakes)
        _public_anyway(route, mistakes)
        _repeated(route, mistakes)
        _claims_without_default(route, mistakes)


def _foreign_variable(section: Node, key: str, mistakes: Mistakes) -> None:
    """It would be sent as it is written; other keys refuse it."""
    node = section.at(key)
    is_text = node is not None and isinstance(node.value, Scalar) and node.value.kind is ScalarKind.TEXT
    if node is not None and is_text and FOREIGN_VARIABLE.fullmatch(node.text or ""):
        message = 'this looks like a variable, and is not replaced: write "${NAME}", with the quotes'
        mistakes.warn(node.line, node.path, message)


def _page(server: Node, mistakes: Mistakes) -> None:
    try:
        path = parse_url(server.text_at("url") or "").prefix
    except ValueError:
        return
    if path in _PAGES:
        message = (
            f"the URL ends in {path}, a page of Flowise: leave it out, unless Flowise is below that path"
        )
        mistakes.warn(*server.place_of("url"), message)


def _example_chatflow(route: Node, mistakes: Mistakes) -> None:
    if (route.text_at("chatflow") or "").lower() in (EXAMPLE_CHATFLOW, _NIL):
        message = f"this is the id of the example: write that of your chatflow, {CHATFLOW_PLACE}"
        mistakes.warn(*route.place_of("chatflow"), message)


def _public_anyway(route: Node, mistakes: Mistakes) -> None:
    """A credential is then checked, and gives its caller limits and conversations; but none is needed."""
    auth = route.at("auth")
    methods = [method.text for method in auth.items if method.text] if auth else []
    others = [method for method in methods if method != "anonymous"]
    if auth and others and len(others) < len(methods):
        message = f"anonymous is listed too, so anybody can call without {others[0]}: remove anonymous to require it"
        mistakes.warn(auth.line, auth.path, message)


def _claims_without_default(route: Node, mistakes: Mistakes) -> None:
    auth, variables = route.at("auth"), route.at("vars")
    methods = [method.text for method in auth.items if method.text] if auth else []
    for variable in variables.entries.values() if variables else ():
        for found in PLACEHOLDER.finditer(variable.text or ""):
            needed = {"claims": "jwt", "session": "session"}.get(found["source"] or "", "")
            others = [method for method in methods if method != needed]
            if needed and found["default"] is None and others:
                written = f"{found[0][:-1]}:-none}}"
                message = f"has {found[0]}, so that callers with {others[0]} get 403: write a default, like {written}"
                mistakes.warn(variable.line, variable.path, message)


def _repeated(route: Node, mistakes: Mistakes) -> None:
    """Whether a flow sends a trace depends on its kind, which is not known here."""
    withheld = route.at("events", "withhold")
    if withheld is None:
        return
    traces = repeating({event.text for event in withheld.items if event.text})
    if traces:
        message = (
            f"lacks {' and '.join(traces)}: agents repeat there what is withheld; add it, or clients get it"
        )
        mistakes.warn(withheld.line, withheld.path, message)
