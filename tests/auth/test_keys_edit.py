"""A keys file on disk: changed atomically, one command at a time."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.auth.key_format import hash_of
from gateway.auth.keys_edit import KeysFileError, KeysStore
from gateway.auth.keys_file import read_keys
from gateway.auth.keys_model import ApiKey
from gateway.config import ConfigError
from tests.harness.key_files import NOW, entry, key, key_id, keys_text, write_keys


def new(number):
    return ApiKey.model_construct(
        id=key_id(number), name=f"name{number}", hash=hash_of(key(number)), created=NOW
    )


@pytest.fixture
def path(tmp_path):
    return write_keys(tmp_path / "keys.yaml", entry(1))


def add(path, number, *, lock_timeout=5.0, then=lambda editor: None):
    with KeysStore(path, lock_timeout).editing() as editor:
        editor.add(new(number))
        then(editor)


def ids(path):
    return [found.id for found in read_keys(path)]


def version(path):
    """All that a change of the file would change; not `st_atime`, which a reader changes."""
    found = path.stat()
    return found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def others_beside(path):
    """Other files in the folder of the file and its lock."""
    return {found.name for found in path.parent.iterdir()} - {path.name, f"{path.name}.lock"}


def test_a_new_file_is_readable_by_its_owner_only(tmp_path):
    add(tmp_path / "keys.yaml", 1)
    assert ids(tmp_path / "keys.yaml") == [key_id(1)]
    assert {stat.S_IMODE(found.stat().st_mode) for found in tmp_path.iterdir()} == {0o600}
    assert others_beside(tmp_path / "keys.yaml") == set()


def test_a_changed_file_is_readable_by_its_owner_only(path):
    path.chmod(0o644)
    add(path, 2)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ids(path) == [key_id(1), key_id(2)]


def test_nothing_is_written_when_nothing_was_changed(path):
    before = version(path)
    with KeysStore(path).editing() as editor:
        assert [found.id for found in editor.entries] == [key_id(1)]
    assert version(path) == before


def test_nothing_is_written_when_the_block_raises(path):
    before = path.read_bytes()

    def change_mind(_):
        raise LookupError

    with pytest.raises(LookupError):
        add(path, 2, then=change_mind)
    assert path.read_bytes() == before
    assert others_beside(path) == set()
    add(path, 3)  # the lock is free


def test_readers_see_the_old_file_or_the_new_one(path):
    with path.open() as old:
        add(path, 2)
        assert old.read() == keys_text(entry(1))


def test_windows_line_ends_stay(path):
    before = keys_text(entry(1)).replace("\n", "\r\n").encode()
    path.write_bytes(before)
    add(path, 2)
    assert path.read_bytes().startswith(before)


def test_a_file_with_mistakes_is_not_touched(path):
    path.write_text("keys:\n  - \xff")
    with pytest.raises(ConfigError, match="is a single value: write keys"):
        add(path, 2)
    path.write_bytes(b"# \xff\n")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        add(path, 2)
    assert path.read_bytes() == b"# \xff\n"


@pytest.mark.parametrize("step", ["replace", "fsync", "fdopen"])
def test_a_failure_at_any_step_leaves_the_file_as_it_was(path, monkeypatch, step):
    before, real = version(path), getattr(os, step)

    def fail(subject, *_, **__):
        if isinstance(subject, int) and step == "fdopen":
            os.close(subject)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(KeysFileError) as refused:
        add(path, 2)
    said = f"{path} is as it was and cannot be changed: No space left on device; free space on its disk"
    assert (str(refused.value), version(path), others_beside(path)) == (said, before, set())
    monkeypatch.setattr(os, step, real)
    add(path, 2)


def test_a_failed_sync_of_the_folder_is_ignored(path, monkeypatch):
    real = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    add(path, 2)
    assert len(ids(path)) == 2


def test_the_file_is_synced_before_the_rename_and_the_folder_after(path, monkeypatch):
    done, fsync, replace = [], os.fsync, os.replace

    def synced(descriptor):
        done.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def replaced(*names):
        done.append("replace")
        replace(*names)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    add(path, 2)
    assert done == ["file", "replace", "folder"]


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(
        KeysFileError,
        match=r"keys\.yaml is as it was and cannot be changed: No such file or directory; create its folder",
    ):
        add(tmp_path / "nowhere" / "keys.yaml", 1)


@contextmanager
def as_nobody():
    """Root may write everywhere, so the test runs as another user."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


def test_a_folder_of_another_user_is_an_error():
    with tempfile.TemporaryDirectory() as name:
        path = write_keys(Path(name) / "keys.yaml", entry(1))
        path.chmod(0o644)
        path.parent.chmod(0o555)
        with (
            as_nobody(),
            pytest.raises(KeysFileError, match="Permission denied; run this as the owner of its folder"),
        ):
            add(path, 2)
        path.parent.chmod(0o700)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_the_owner_stays_the_same_also_when_root_writes(path):
    os.chown(path, 12345, 54321)
    add(path, 2)
    for found in (path, path.with_name("keys.yaml.lock")):
        assert (found.stat().st_uid, found.stat().st_gid) == (12345, 54321)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_file_of_another_user_is_not_replaced_unless_it_keeps_its_owner(path, monkeypatch):
    os.chown(path, 12345, 54321)

    def fchown(*_):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "fchown", fchown)
    with pytest.raises(KeysFileError, match="it belongs to another user: run this as that user, or as root"):
        add(path, 2)
    assert ids(path) == [key_id(1)]
    os.chown(path, 0, 54321)
    add(path, 2)  # the group does not count: only the owner may read the file


def test_a_symbolic_link_stays_one_and_its_target_is_changed(path, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "keys.yaml"
    link.symlink_to("../keys.yaml")
    add(link, 2)
    assert link.is_symlink()
    assert ids(path) == ids(link) == [key_id(1), key_id(2)]
    assert others_beside(link) == set()
    assert path.with_name("keys.yaml.lock").exists()
    assert not link.with_name("keys.yaml.lock").exists()


def test_a_symbolic_link_to_nothing_gets_its_target(tmp_path):
    link = tmp_path / "link.yaml"
    link.symlink_to("keys.yaml")
    add(link, 1)
    assert link.is_symlink()
    assert ids(tmp_path / "keys.yaml") == [key_id(1)]


def test_a_symbolic_link_as_lock_file_is_not_followed(path, tmp_path):
    path.with_name("keys.yaml.lock").symlink_to(tmp_path / "other")
    with pytest.raises(KeysFileError, match="symbolic links"):
        add(path, 2)
    assert not (tmp_path / "other").exists()


def test_in_a_read_only_folder_keys_are_listed_and_an_edit_says_where_to_do_it(path, monkeypatch):
    def read_only(name, flags, *rest, **more):
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return open_(name, flags, *rest, **more)

    open_ = os.open
    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(KeysFileError, match=r"Read-only file system; .* change the file at its source"):
        add(path, 2)
    assert [entry.id for entry in KeysStore(path).entries()] == [key_id(1)]


def test_a_concurrent_edit_by_hand_is_not_lost(path):
    with pytest.raises(KeysFileError, match="it was changed at the same time: run this again"):
        add(path, 2, then=lambda _: write_keys(path, entry(1), entry(3)))
    assert ids(path) == [key_id(1), key_id(3)]


def test_an_unsupported_layout_is_refused_and_left_unchanged(path):
    inside = ", ".join(line.strip(" -") for line in entry(1).splitlines())
    text = f"keys: [{{{inside}}}]\n"
    path.write_text(text)
    with pytest.raises(KeysFileError, match=r"its layout does not allow it .*: write one key per dash"):
        add(path, 2)
    assert path.read_text() == text
    assert others_beside(path) == set()


def test_a_change_that_would_be_read_differently_is_refused(path):
    with pytest.raises(KeysFileError, match="it would be read differently"):
        add(path, 2, then=lambda editor: setattr(editor, "entries", ()))
    assert path.read_text() == keys_text(entry(1))


def test_a_command_waits_for_another_one(path):
    inside, go_on = threading.Event(), threading.Event()

    def slow():
        with KeysStore(path).editing() as editor:
            inside.set()
            go_on.wait(5)
            editor.add(new(2))

    first, second = threading.Thread(target=slow), threading.Thread(target=add, args=(path, 3))
    first.start()
    inside.wait(5)
    second.start()
    second.join(0.05)
    assert second.is_alive()
    go_on.set()
    first.join(5)
    second.join(5)
    assert ids(path) == [key_id(1), key_id(2), key_id(3)]


def test_a_command_gives_up_waiting_for_the_lock(path):
    with KeysStore(path).editing() as editor:
        with pytest.raises(KeysFileError, match=r"another command has held its lock for 0\.01 s; try again"):
            add(path, 3, lock_timeout=0.01)
        editor.add(new(2))
    add(path, 4)
    assert ids(path) == [key_id(1), key_id(2), key_id(4)]
