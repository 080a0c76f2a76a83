"""What of a new configuration a running gateway can apply, and what waits for a restart (pure).

A key that waits keeps the value that is running, and so does a key that would be wrong beside it: an admin port that
other machines reach keeps its token, processes that share conversations keep their secret.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from gateway.config.model import Config
from gateway.config.section import Section

_NEEDS_RESTART = (
    ("server", "listen"),
    ("server", "socket_mode"),
    ("server", "workers"),
    ("server", "handover"),
    ("admin", "listen"),
)
_DEPTH = 2  # of the keys that are named: a section and its key, or an upstream


class Change(Struct, frozen=True):
    """The way from the running configuration to another one.

    Attributes:
        config: what runs afterwards: the new configuration, but for what needs a restart.
        needs_restart: keys whose new value is not applied.
        changed: keys that are: sections with their key, and upstreams and routes by name. Never a value.
    """

    config: Config
    needs_restart: tuple[str, ...]
    changed: tuple[str, ...]


def change(running: Config, wanted: Config, *, is_admin_local: bool = True) -> Change:
    """What becomes of `running` if it is asked to be `wanted`.

    `is_admin_local`: whether only this machine reaches the admin port, which may have been passed from outside.
    """
    kept = [keys for keys in _NEEDS_RESTART if _at(wanted, keys) != _at(running, keys)]
    if running.server.tls.is_on != wanted.server.tls.is_on:
        kept.append(("server", "tls"))
    if running.limits.store.is_shared != wanted.limits.store.is_shared:
        kept.append(("limits", "store"))
    config = _keep(wanted, running, kept)
    if ("limits", "store") in kept:
        config = _keep(config, running, [("limits", "tls")])  # belongs to the store's URL
    is_admin_local &= config.admin.listen.is_loopback
    if not is_admin_local and not config.admin.token.get_secret_value():
        kept.append(("admin", "token"))
    if (config.server.workers > 1 or config.limits.store.is_shared) and not config.auth.secret:
        kept.append(("auth", "secret"))
    config = _keep(config, running, kept)
    names = (".".join(keys) for keys in kept)
    return Change(config, tuple(sorted(names)), tuple(_differences(running, config)))


def _at(config: Config, keys: tuple[str, str]) -> Any:
    section, key = keys
    return getattr(getattr(config, section), key)


def _keep(config: Config, running: Config, kept: list[tuple[str, str]]) -> Config:
    for section, key in kept:
        above = getattr(config, section).model_copy(update={key: _at(running, (section, key))})
        config = config.model_copy(update={section: above})
    return config


def _differences(old: Any, new: Any, path: str = "", depth: int = _DEPTH) -> Iterator[str]:
    if old == new:
        return
    before, after = _entries(old), _entries(new)
    if depth == 0 or not (before or after):
        yield path
        return
    for key in dict.fromkeys((*before, *after)):
        below = f"{path}.{key}" if path else key
        if key not in before or key not in after:
            yield below
        else:
            yield from _differences(before[key], after[key], below, depth - 1)


def _entries(value: Any) -> Mapping[str, Any]:
    """What is below a key, by name; routes have one. Empty if it is a value."""
    if isinstance(value, Config | Mapping):
        return dict(value)
    if isinstance(value, tuple) and value and all(hasattr(one, "chatflow") for one in value):
        return {one.name: one for one in value}
    return dict(value) if isinstance(value, Section) else {}
