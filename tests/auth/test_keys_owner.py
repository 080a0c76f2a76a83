"""Whose a keys file is after a change. Only root may give files away, so that most of this needs root."""

from __future__ import annotations

import getpass
import grp
import os
import pwd
import stat

import pytest

from gateway.auth.keys_edit import KeysFileError, KeysStore
from gateway.auth.keys_file import read_keys
from gateway.auth.keys_owner import Owner, parse_owner, permissions_for, readers_of
from gateway.config import ConfigError
from tests.harness.key_files import entry, write_keys

GATEWAY, TEAM = 10001, 10002
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


@pytest.fixture
def folder(tmp_path):
    """The folder of a service, like that of systemd's StateDirectory."""
    (tmp_path / "state").mkdir(mode=0o700)
    os.chown(tmp_path / "state", GATEWAY, TEAM)
    return tmp_path / "state"


def change(path, number, owner=None):
    with KeysStore(path, owner=owner and parse_owner(owner)).editing() as editor:
        editor.add(read_keys(write_keys(path.with_name("other.yaml"), entry(number)))[0])
    path.with_name("other.yaml").unlink()
    return path


def owned(path):
    found = path.stat()
    return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)


def of_lock(path):
    return owned(path.with_name(f"{path.name}.lock"))


def test_a_new_file_belongs_to_the_user_that_writes_it(tmp_path):
    path = change(tmp_path / "keys.yaml", 1)
    assert owned(path) == (os.geteuid(), tmp_path.stat().st_gid, 0o600)
    assert readers_of(path) == f"only {getpass.getuser()}"


@as_root
def test_a_new_file_in_the_folder_of_a_service_belongs_to_the_service(folder):
    path = change(folder / "keys.yaml", 1)
    assert owned(path) == of_lock(path) == (GATEWAY, TEAM, 0o600)
    assert readers_of(path) == f"only user {GATEWAY}"


@as_root
def test_a_changed_file_keeps_its_owner_and_what_its_group_may(folder):
    path = change(folder / "keys.yaml", 1)
    os.chown(path, 0, TEAM)
    path.chmod(0o640)
    change(path, 2)
    assert owned(path) == (0, TEAM, 0o640)
    assert of_lock(path) == (0, TEAM, 0o600)
    assert readers_of(path) == f"{pwd.getpwuid(0).pw_name} and the group {TEAM}"


@as_root
def test_a_file_for_everybody_is_for_its_owner_after_a_change(folder):
    path = change(folder / "keys.yaml", 1)
    path.chmod(0o644)
    assert owned(change(path, 2)) == (GATEWAY, TEAM, 0o600)


@as_root
@pytest.mark.parametrize(
    ("owner", "expected"),
    [
        (f"{GATEWAY}", (GATEWAY, 0, 0o600)),
        (f"{GATEWAY}:{TEAM}", (GATEWAY, TEAM, 0o640)),
        (f":{TEAM}", (0, TEAM, 0o640)),
        (f"root:{TEAM}", (0, TEAM, 0o640)),
    ],
)
def test_a_file_goes_to_the_owner_that_is_named(tmp_path, owner, expected):
    os.chown(tmp_path, 0, 0)
    path = change(tmp_path / "keys.yaml", 1, owner)
    assert owned(path) == expected
    assert of_lock(path) == (*expected[:2], 0o600)
    other = change(write_keys(tmp_path / "existing.yaml", entry(1)), 2, owner)
    assert owned(other) == expected


@as_root
def test_a_file_that_is_not_changed_goes_to_the_owner_that_is_named(folder):
    path = change(folder / "keys.yaml", 1)
    with KeysStore(path, owner=parse_owner("root:0")).editing():
        pass
    assert owned(path) == (0, 0, 0o640)


@as_root
def test_a_file_that_cannot_be_given_away_is_as_it_was(folder, monkeypatch):
    path = change(folder / "keys.yaml", 1)

    def fchown(*_):
        raise PermissionError(1, os.strerror(1))

    monkeypatch.setattr(os, "fchown", fchown)
    with pytest.raises(
        KeysFileError, match="only root can give it away: run this as root, or without --owner"
    ):
        change(path, 2, f"0:{TEAM}")
    assert (owned(path), len(read_keys(path))) == ((GATEWAY, TEAM, 0o600), 1)


@as_root
def test_a_group_that_is_lost_is_a_file_that_cannot_be_given_away(folder, monkeypatch):
    path = change(folder / "keys.yaml", 1)
    os.chown(path, 0, TEAM)
    path.chmod(0o640)

    def fchown(*_):
        raise PermissionError(1, os.strerror(1))

    monkeypatch.setattr(os, "fchown", fchown)
    with pytest.raises(KeysFileError, match="it belongs to another user"):
        change(path, 2)


@as_root
def test_a_file_that_this_user_cannot_read_is_a_mistake_with_the_remedy(folder):
    path = change(folder / "keys.yaml", 1)
    os.chown(folder, 0, 0)
    folder.chmod(0o755)
    os.chown(path, 0, 0)
    for above in list(folder.parents)[:3]:
        above.chmod(0o755)
    os.seteuid(GATEWAY)
    try:
        with pytest.raises(ConfigError) as caught:
            read_keys(path)
    finally:
        os.seteuid(0)
    assert caught.value.mistakes[0].message == (
        "the file cannot be read (Permission denied):"
        " let the gateway's user read it, with chown or with --owner of the keys commands"
    )


def test_an_owner_is_named_or_numbered():
    user, group = pwd.getpwuid(0), grp.getgrgid(0)
    assert parse_owner(user.pw_name) == parse_owner("0") == Owner(0, user.pw_gid, is_shared=False)
    assert parse_owner(f"{user.pw_name}:{group.gr_name}") == Owner(0, 0, is_shared=True)
    assert parse_owner(f"{GATEWAY}") == Owner(GATEWAY, None, is_shared=False)
    assert parse_owner(f":{TEAM}") == Owner(None, TEAM, is_shared=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no owner: write USER or USER:GROUP, like 10001:10001"),
        (":", "is no owner: write USER or USER:GROUP"),
        ("root:", "is no owner: write USER or USER:GROUP"),
        ("no-such-user", "names a user that this system does not have: write its number, or another one"),
        ("-1", "names a user that this system does not have"),
        ("4294967296", "names a user that this system does not have"),
        (
            "root:no-such-group",
            "names a group that this system does not have: write its number, or another one",
        ),
    ],
)
def test_what_is_no_owner_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_owner(text)


def test_a_folder_that_does_not_exist_has_no_permissions(tmp_path):
    with pytest.raises(FileNotFoundError):
        permissions_for(tmp_path / "none" / "keys.yaml", None)
