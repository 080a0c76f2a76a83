"""The owner and permissions of a keys file: the user of the gateway must be able to read it, and no others.

A changed file keeps its owner, and its group's right to read. A new file that root writes into the folder of another
user gets that user, so that a service can read the keys that root creates in its folder.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

OWNER_ONLY = stat.S_IRUSR | stat.S_IWUSR
WITH_GROUP = OWNER_ONLY | stat.S_IRGRP
_ROOT = 0


class Owner(Struct, frozen=True):
    """The owner that a command names.

    Attributes:
        user: None: as it is.
        group: None: as it is.
        is_shared: whether the group may read the file.
    """

    user: int | None
    group: int | None
    is_shared: bool


class Permissions(Struct, frozen=True):
    """What a file gets: `mode` is `OWNER_ONLY` or `WITH_GROUP`."""

    user: int
    group: int
    mode: int

    def give(self, descriptor: int) -> bool:
        """Give them to an open file; returns whether its readers are the right ones."""
        found = os.fstat(descriptor)
        os.fchmod(descriptor, OWNER_ONLY)
        if (found.st_uid, found.st_gid) != (self.user, self.group):
            try:
                os.fchown(descriptor, self.user, self.group)
            except PermissionError:
                return found.st_uid == self.user and self.mode == OWNER_ONLY
        os.fchmod(descriptor, self.mode)
        return True


def parse_owner(text: str) -> Owner:
    """An owner written as `USER`, `USER:GROUP` or `:GROUP`, by names or numbers; a user alone has its first group.

    Raises:
        ValueError: the rest of a sentence that begins with the text.
    """
    user_name, colon, group_name = text.partition(":")
    if not (user_name or group_name) or (colon and not group_name):
        raise ValueError("is no owner: write USER or USER:GROUP, like 10001:10001")
    user, group = None, None
    if user_name:
        user, group = _user(user_name)
    if group_name:
        group = _group(group_name)
    return Owner(user, group, is_shared=bool(group_name))


def _user(name: str) -> tuple[int, int | None]:
    with suppress(KeyError):
        found = pwd.getpwnam(name)
        return found.pw_uid, found.pw_gid
    number = _number(name, "user")
    with suppress(KeyError):
        return number, pwd.getpwuid(number).pw_gid
    return number, None


def _group(name: str) -> int:
    with suppress(KeyError):
        return grp.getgrnam(name).gr_gid
    return _number(name, "group")


def _number(name: str, kind: str) -> int:
    if not (name.isascii() and name.isdigit() and len(name) <= 9):
        raise ValueError(f"names a {kind} that this system does not have: write its number, or another one")
    return int(name)


def permissions_for(path: Path, owner: Owner | None) -> Permissions:
    """What a keys file gets that replaces the one at a path, or is new there.

    Raises:
        OSError: the folder does not exist, or cannot be searched.
    """
    try:
        old = path.stat()
    except FileNotFoundError:
        folder, is_root = path.parent.stat(), os.geteuid() == _ROOT
        user = folder.st_uid if is_root else os.geteuid()
        group = folder.st_gid if is_root else os.getegid()
        mode = OWNER_ONLY
    else:
        user, group = old.st_uid, old.st_gid
        is_for_group = old.st_mode & stat.S_IRGRP and not old.st_mode & stat.S_IRWXO
        mode = WITH_GROUP if is_for_group else OWNER_ONLY
    if owner is None:
        return Permissions(user, group, mode)
    return Permissions(
        user if owner.user is None else owner.user,
        group if owner.group is None else owner.group,
        WITH_GROUP if owner.is_shared else mode,
    )


def readers_of(path: Path) -> str:
    """The users that may read a file, for a message."""
    found = path.stat()
    user = _name_of(found.st_uid)
    return (
        f"{user} and the group {_group_name(found.st_gid)}"
        if found.st_mode & stat.S_IRGRP
        else f"only {user}"
    )


def _name_of(user: int) -> str:
    with suppress(KeyError):
        return pwd.getpwuid(user).pw_name
    return f"user {user}"


def _group_name(group: int) -> str:
    with suppress(KeyError):
        return grp.getgrgid(group).gr_name
    return str(group)
