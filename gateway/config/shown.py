"""The configuration for people to look at: as JSON, in the notation of the file, without secrets (pure).

Redacted are all secrets, a password in the URL of the store, password and query in the URLs of an issuer's keys and of
a collector, and the texts of `vars`, which a flow may use as credentials.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr

from gateway.config.addresses import Store
from gateway.config.model import Config
from gateway.config.section import Section

REDACTED = "***"
_CREDENTIALS = re.compile(r"(?<=://)[^/@]*@(?=[^@]*$)|\?.*$")
_TEMPLATE = re.compile(r"(\{[a-z]+\})+")


def shown(config: Config) -> dict[str, Any]:
    """Every key with the value that is in effect."""
    return _section(config, config.model_dump(mode="json"))


def fingerprint(content: Mapping[str, Any]) -> str:
    """The SHA-256 of what `shown` returns, in hexadecimal digits: equal for equal configurations, on every machine.

    Secrets do not count, as a short one could be guessed from it.
    """
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()


def _section(section: Section, written: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _value(key, getattr(section, key), written[key]) for key in written}


def _value(key: str, value: Any, written: Any) -> Any:
    """`written`: as JSON, with its secrets."""
    if isinstance(value, Section):
        return _section(value, written)
    if isinstance(value, tuple):
        return [_value(key, below, one) for below, one in zip(value, written, strict=True)]
    if isinstance(value, Mapping):
        below_key = key if key == "vars" else ""
        return {name: _value(below_key, below, written[name]) for name, below in value.items()}
    return sorted(written) if isinstance(value, frozenset) else _single(key, value, written)


def _single(key: str, value: Any, written: Any) -> Any:
    if isinstance(value, SecretStr):
        return REDACTED if value.get_secret_value() else ""
    if isinstance(value, Store) or key in ("jwks_url", "endpoint"):
        return _CREDENTIALS.sub(_without, written)
    if key == "vars" and not _TEMPLATE.fullmatch(value):
        return REDACTED
    return "" if value is None and written is not None else written  # a file or URL that is not set


def _without(found: re.Match[str]) -> str:
    return f"?{REDACTED}" if found[0].startswith("?") else f"{REDACTED}@"
