"""The `keys` commands: what each changes in the keys file, refuses, and prints.

The text of a key is only in what `create` and `rotate` return.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from gateway.auth.key_format import PREFIX, hash_of, make_key, parse_key, redact_keys
from gateway.auth.keys_edit import KeysFileEditor, KeysStore
from gateway.auth.keys_model import ApiKey, format_moment, key_name
from gateway.auth.keys_owner import Owner, readers_of
from gateway.command_errors import WRONG, CommandError
from gateway.config import ConfigError, Limit, Reading
from gateway.config.problems import did_you_mean, quote

RUN_AS = "run the gateway as this user, or give it the file with --owner."
APPLIED_WITHIN = "A running gateway applies this within 2 s."


class KeysRefusedError(CommandError):
    """The command cannot be carried out; the sentence says why, and what would be right."""

    status = WRONG


class KeysCommand:
    """The commands on the keys file of one configuration; each returns the text to print.

    They raise ConfigError if the keys file has mistakes, KeysFileError if it cannot be changed, and KeysRefusedError.
    """

    def __init__(
        self,
        reading: Reading,
        config_file: Path,
        now: float,
        choose: Callable[[str], str],
        owner: Owner | None = None,
    ) -> None:
        """Mistakes elsewhere in the configuration do not matter here.

        Args:
            reading: the configuration, which names the keys file and the routes.
            config_file: its name, for messages.
            now: seconds since the epoch.
            choose: picks a letter at random, like `secrets.choice`.
            owner: gets the keys file with the change; None: a new file gets the owner of its folder.

        Raises:
            ConfigError: the configuration cannot be read, or has a mistake where it names the keys file.
        """
        if reading.of_keys:
            raise ConfigError(reading.of_keys)
        if reading.keys_file is None:
            raise KeysRefusedError(
                f"{config_file} names no keys file: write keys_file: keys.yaml in its section auth"
            )
        self._file = reading.keys_file
        self._store = KeysStore(self._file, owner=owner)
        self._route_names = reading.route_names
        self._now = float(math.floor(now))  # the file has whole seconds
        self._choose = choose

    def create(self, name: str, routes: Sequence[str], lifetime: float | None) -> str:
        """Add a key. `routes`: empty for all. `lifetime`: seconds; None: it never expires."""
        self._check_name(name)
        self._check_routes(routes)
        with self._store.editing() as editor:
            self._check_is_free(name, editor)
            is_new = not editor.text
            key, entry = self._issue(editor, name, tuple(dict.fromkeys(routes)), lifetime)
        lines = [f"This is key {entry.id} of {name}, for {_routes(entry)}; it {_end(entry)}."]
        if is_new:
            lines.append(f"{self._file} is new, and {readers_of(self._file)} can read it: {RUN_AS}")
        return self._shown(key, lines)

    def list(self) -> str:
        """A table of all keys, without their hashes."""
        entries = self._store.entries()
        if not entries:
            return f"{self._file} has no keys yet: `keys create --name N` adds one."
        heads = ("ID", "NAME", "ROUTES", "CREATED", "EXPIRES", "STATE")
        rows = [heads, *(_row(entry, self._now) for entry in entries)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )

    def list_json(self) -> str:
        """All keys as a JSON array, without their hashes; times are in UTC, no `routes` means all."""
        return json.dumps([_as_json(entry, self._now) for entry in self._store.entries()], indent=2)

    def revoke(self, key_id: str) -> str:
        """End a key, with its streams and session tokens. Its name cannot be used again."""
        with self._store.editing() as editor:
            entry = self._find(editor, key_id)
            if entry.revoked is not None:
                return f"Key {key_id} of {entry.name} was already revoked at {format_moment(entry.revoked)}."
            editor.set(key_id, revoked=self._now)
            others = [
                other.id for other in editor.entries if other.name == entry.name and other.is_valid(self._now)
            ]
        lines = [
            f"Key {key_id} of {entry.name} is revoked, with its streams and session tokens. {APPLIED_WITHIN}"
        ]
        lines += [f"Key {other} of the same name is still valid." for other in others]
        return "\n".join(lines)

    def rotate(self, key_id: str, grace: float) -> str:
        """Replace a key by a new one. The old one expires after `grace` seconds, or earlier if it was to."""
        with self._store.editing() as editor:
            old = self._find(editor, key_id)
            self._check_may_rotate(old)
            lifetime = None if old.expires is None else old.expires - old.created
            key, entry = self._issue(editor, old.name, old.routes, lifetime, old.limits)
            editor.set(key_id, replaced_by=entry.id)
            ends = self._now + math.ceil(grace)
            if old.expires is None or ends < old.expires:
                editor.set(key_id, expires=ends)
            else:
                ends = old.expires
        until = f"ends {format_moment(ends)}; until then both work" if ends > self._now else "has ended"
        return self._shown(
            key,
            [
                f"This is key {entry.id} of {old.name}, for {_routes(entry)}; it {_end(entry)}.",
                f"It replaces {key_id}, which {until}.",
            ],
        )

    def _issue(
        self,
        editor: KeysFileEditor,
        name: str,
        routes: tuple[str, ...],
        lifetime: float | None,
        limits: tuple[Limit, ...] = (),
    ) -> tuple[str, ApiKey]:
        """Add a key to the file; returns its text and its entry."""
        taken = {entry.id for entry in editor.entries}
        key = make_key(self._choose)
        while parse_key(key) in taken:
            key = make_key(self._choose)
        entry = ApiKey.model_construct(
            id=parse_key(key),
            name=name,
            hash=hash_of(key),
            created=self._now,
            expires=None if lifetime is None else self._now + math.ceil(lifetime),
            routes=routes,
            limits=limits,
        )
        editor.add(entry)
        return key, entry

    def _shown(self, key: str, lines: Sequence[str]) -> str:
        """The key on its own line, then what there is to say about it."""
        once = f"The key is shown only this once; {self._file} holds its hash. {APPLIED_WITHIN}"
        return "\n".join([key, *lines, once])

    def _check_name(self, name: str) -> None:
        try:
            key_name(name)
        except ValueError as error:
            raise KeysRefusedError(f"--name {_without_key(name)} {error}") from None

    def _check_is_free(self, name: str, editor: KeysFileEditor) -> None:
        newest = [entry for entry in editor.entries if entry.name == name and entry.replaced_by is None]
        for entry in newest:
            if entry.is_valid(self._now):
                what = f"is taken by key {entry.id}: choose another one, or run `keys rotate {entry.id}`"
            else:
                what = f"belonged to key {entry.id}, which has ended, and cannot be used again: choose another one"
            raise KeysRefusedError(f"the name {name} {what}")

    def _check_routes(self, routes: Sequence[str]) -> None:
        for route in routes:
            if route not in self._route_names:
                meant = did_you_mean(route, self._route_names)
                raise KeysRefusedError(f"--routes: there is no route {_without_key(route)}: {meant}")

    def _find(self, editor: KeysFileEditor, key_id: str) -> ApiKey:
        found = {entry.id: entry for entry in editor.entries}
        if key_id in found:
            return found[key_id]
        if key_id.startswith(PREFIX):
            raise KeysRefusedError(f"this is a key, not its id: write the 8 letters after {PREFIX}")
        if ids := [entry.id for entry in editor.entries if entry.name == key_id]:
            raise KeysRefusedError(f"{quote(key_id)} is a name: write the id of its key, {' or '.join(ids)}")
        raise KeysRefusedError(f"there is no key {quote(key_id)} in {self._file}: `keys list` shows the ids")

    def _check_may_rotate(self, entry: ApiKey) -> None:
        if entry.revoked is not None:
            what = f"was revoked at {format_moment(entry.revoked)}: create a key with another name"
        elif entry.expires is not None and not entry.is_valid(self._now):
            what = f"expired at {format_moment(entry.expires)}: create a key with another name"
        elif entry.replaced_by is not None:
            what = f"is already replaced by {entry.replaced_by}: rotate that one"
        else:
            return
        raise KeysRefusedError(f"key {entry.id} of {entry.name} {what}")


def _row(entry: ApiKey, now: float) -> tuple[str, ...]:
    expires = "never" if entry.expires is None else format_moment(entry.expires)
    routes = ",".join(entry.routes) or "all"
    return (entry.id, entry.name, routes, format_moment(entry.created), expires, _state(entry, now))


def _as_json(entry: ApiKey, now: float) -> dict[str, object]:
    def moment(seconds: float | None) -> str | None:
        return None if seconds is None else format_moment(seconds)

    return {
        "id": entry.id,
        "name": entry.name,
        "routes": [*entry.routes],
        "created": moment(entry.created),
        "expires": moment(entry.expires),
        "revoked": moment(entry.revoked),
        "replaced_by": entry.replaced_by,
        "valid": entry.is_valid(now),
    }


def _state(entry: ApiKey, now: float) -> str:
    if entry.revoked is not None:
        return f"revoked {format_moment(entry.revoked)}"
    if entry.expires is not None and not entry.is_valid(now):
        return "expired"
    if entry.replaced_by is not None:
        return f"replaced by {entry.replaced_by}, {_end(entry)}"
    return "valid"


def _routes(entry: ApiKey) -> str:
    if not entry.routes:
        return "all routes"
    return f"route{'' if len(entry.routes) == 1 else 's'} {', '.join(entry.routes)}"


def _end(entry: ApiKey) -> str:
    return "never expires" if entry.expires is None else f"expires {format_moment(entry.expires)}"


def _without_key(text: str) -> str:
    """The argument in quotes, without a key that was written in the wrong place."""
    return quote(redact_keys(text))
