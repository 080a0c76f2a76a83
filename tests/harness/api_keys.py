"""API keys for tests, written as the `keys` commands do, off the event loop."""

from __future__ import annotations

import asyncio
import secrets
import time
from pathlib import Path
from typing import Any

from gateway.auth.key_format import hash_of, make_key, parse_key
from gateway.auth.keys_edit import KeysStore
from gateway.auth.keys_model import ApiKey

FILE = "keys.yaml"


def add_key(folder: Path, name: str, **more: Any) -> str:
    """Add a key to the keys file of the configuration in this folder; returns its text."""
    key = make_key(secrets.choice)
    entry = ApiKey.model_construct(
        **{
            **_DEFAULTS,
            "id": parse_key(key),
            "name": name,
            "hash": hash_of(key),
            "created": float(int(time.time())),
            **more,
        }
    )
    with KeysStore(folder / FILE).editing() as editor:
        editor.add(entry)
    return key


async def key_of(folder: Path, name: str, **more: Any) -> str:
    """`add_key` off the loop."""
    return await asyncio.to_thread(add_key, folder, name, **more)


def mistyped(key: str) -> str:
    """The key with another letter at its end."""
    return key[:-1] + ("x" if key[-1] != "x" else "y")


async def two_keys(folder: Path) -> tuple[str, str]:
    """The keys of ann and bob."""
    return await key_of(folder, "ann"), await key_of(folder, "bob")


async def change_key(folder: Path, key: str, **values: Any) -> None:
    """Set values of a key's entry: `revoked=`, `expires=` (seconds since the epoch)."""

    def change() -> None:
        with KeysStore(folder / FILE).editing() as editor:
            whole = {
                name: float(int(value)) if isinstance(value, float) else value
                for name, value in values.items()
            }
            editor.set(parse_key(key), **whole)  # the file has whole seconds

    await asyncio.to_thread(change)


_DEFAULTS = {
    name: field.get_default() for name, field in ApiKey.model_fields.items() if not field.is_required()
}
