"""The keyring follows its file, by a clock that only tests advance."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import resource
from pathlib import Path
from time import monotonic

import pytest

from gateway.aio import Tasks, Ticker
from gateway.auth import keys_file, keys_watch
from gateway.auth.key_format import hash_of
from gateway.auth.keyring import Keyring
from gateway.auth.keys_file import read_keys
from gateway.auth.keys_watch import LOG_AGAIN, KeysWatch
from gateway.config import ConfigError, LogSettings
from gateway.errors import Unauthenticated
from gateway.telemetry.logs import make_logger
from tests.harness.clock import until
from tests.harness.gateway import Lines
from tests.harness.key_files import NOW, entry, key, key_id, keys_text, write_keys
from tests.harness.limit_process import lag


class Watched:
    """A keys file and its watcher."""

    def __init__(self, folder):
        self.path = folder / "keys.yaml"
        self.keyring, self.lines, self.errors, self.changes = Keyring(), Lines(), [], []
        self.tasks = Tasks(self.errors.append)
        self.watch = KeysWatch(self.path, self.keyring, self.tasks, make_logger(LogSettings(), self.lines))
        self.watch.on_change.append(lambda: self.changes.append(self.valid))
        self._now = 100.0

    async def tick(self, seconds=0.25):
        """Advance the clock, tick, and wait for the tasks."""
        self._now += seconds
        self.watch.tick(self._now)
        await self.tasks.join(5)
        assert self.errors == []

    async def looks(self, count):
        for _ in range(count):
            await self.tick(0.5)

    @property
    def valid(self):
        """The numbers of the valid keys."""
        return [number for number in range(1, 6) if self._is_valid(number)]

    def _is_valid(self, number):
        try:
            return self.keyring.check(key(number), NOW).id == key_id(number)
        except Unauthenticated:
            return False


@pytest.fixture
def watched(tmp_path):
    return Watched(tmp_path)


async def test_start_reads_the_keys(watched):
    write_keys(watched.path, entry(1), entry(2))
    await watched.watch.start()
    assert watched.valid == [1, 2]
    assert [line["count"] for line in watched.lines.of("keys_loaded")] == [2]


async def test_a_folder_in_place_of_the_file_is_logged_once_and_revokes_nothing(watched):
    write_keys(watched.path, entry(1))
    await watched.watch.start()
    watched.path.unlink()
    watched.path.mkdir()
    await watched.looks(10)  # its content is compared once more after a while
    (line,) = watched.lines.of("keys_file_broken")
    assert "not a regular file" in str(line["mistakes"])
    assert watched.valid == [1]


async def test_a_missing_file_has_no_keys_until_it_is_created(watched):
    await watched.watch.start()
    await watched.looks(3)
    assert [line["count"] for line in watched.lines.all] == [0]
    write_keys(watched.path, entry(1))
    await watched.looks(2)
    assert watched.valid == [1]


async def test_it_does_not_start_with_a_broken_file(watched):
    write_keys(watched.path, entry(1, hash="x"))
    with pytest.raises(ConfigError, match=r"keys\.yaml:4: keys\[0\]\.hash: the value is not the hash"):
        await watched.watch.start()


async def test_a_change_is_applied_when_it_was_seen_twice_half_a_second_apart(watched):
    write_keys(watched.path, entry(1))
    await watched.watch.start()
    await watched.tick()
    write_keys(watched.path, entry(1), entry(2))
    await watched.tick()  # no look yet
    await watched.tick()
    await watched.tick()
    assert (watched.valid, watched.changes) == ([1], [])
    await watched.tick()
    assert (watched.valid, watched.changes) == ([1, 2], [[1, 2]])
    await watched.looks(4)
    assert len(watched.lines.of("keys_loaded")) == 2


async def test_a_revoked_key_is_refused_and_the_change_is_announced(watched):
    write_keys(watched.path, entry(1), entry(2))
    await watched.watch.start()
    write_keys(watched.path, entry(1, revoked="2026-01-31T08:00:00Z"), entry(2))
    await watched.looks(2)
    assert watched.changes == [[2]]
    assert watched.keyring.get(key_id(1), NOW) is None


async def test_an_editor_that_truncates_the_file_first_revokes_no_key(watched):
    write_keys(watched.path, entry(1))
    await watched.watch.start()
    for text in ("", keys_text(entry(1))[:30], keys_text(entry(1), entry(2))):
        watched.path.write_text(text)  # the same file, emptied first
        await watched.looks(1)
        assert watched.valid == [1]
    await watched.looks(1)
    assert watched.valid == [1, 2]
    assert watched.lines.of("keys_file_broken") == []


async def test_a_file_that_is_emptied_on_purpose_has_no_keys(watched):
    write_keys(watched.path, entry(1))
    await watched.watch.start()
    write_keys(watched.path)
    await watched.looks(2)
    assert watched.valid == []


async def test_a_change_during_the_read_is_read_again(watched, monkeypatch):
    write_keys(watched.path, entry(1))
    await watched.watch.start()
    write_keys(watched.path, entry(2))
    await watched.looks(1)

    def read_then_change(path, content):
        found = read(path, content)
        write_keys(path, entry(3), entry(4))
        return found

    read = keys_watch.parse_keys
    monkeypatch.setattr(keys_watch, "parse_keys", read_then_change)
    await watched.looks(1)
    assert (watched.valid, watched.changes) == ([1], [])
    monkeypatch.setattr(keys_watch, "parse_keys", read)
    await watched.looks(1)
    assert watched.changes == [[3, 4]]


async def test_a_broken_file_keeps_the_last_good_keys_and_is_logged_once(watched):
    write_keys(watched.path, entry(1))
    await watched.watch.start()
    write_keys(watched.path, entry(2, hash=key(2)), entry(3, created=hash_of(key(3))))
    await watched.looks(5)
    assert (watched.valid, watched.changes) == ([1], [])
    (line,) = watched.lines.of("keys_file_broken")
    assert (line["level"], line["count"], line["message"]) == ("error", 2, "the keys stay as they were")
    begins = [f"{watched.path}:4: keys[0].hash: ", f"{watched.path}:9: keys[1].created: "]
    assert all(said.startswith(begin) for said, begin in zip(line["mistakes"], begins, strict=True))
    assert key(2)[13:20] not in watched.lines.getvalue()
    assert hash_of(key(3))[7:20] not in watched.lines.getvalue()

    write_keys(watched.path, entry(2))
    await watched.looks(2)
    assert watched.valid == [2]


async def test_each_broken_change_is_logged(watched):
    await watched.watch.start()
    for text in ("keys: 1", "keys: 22"):
        watched.path.write_text(text)
        await watched.looks(2)
    assert len(watched.lines.of("keys_file_broken")) == 2


async def test_a_log_line_has_20_mistakes_and_their_total(watched):
    await watched.watch.start()
    write_keys(watched.path, *(entry(number, created="x") for number in range(30)))
    await watched.looks(2)
    (line,) = watched.lines.of("keys_file_broken")
    assert (line["count"], len(line["mistakes"])) == (30, 20)


async def test_a_deleted_file_keeps_the_last_good_keys_and_is_logged_once(watched):
    write_keys(watched.path, entry(1))
    await watched.watch.start()
    watched.path.rename(watched.path.with_name("away"))
    await watched.looks(5)
    assert (watched.valid, watched.changes) == ([1], [])
    (line,) = watched.lines.of("keys_file_broken")
    said = f"{watched.path}: the file is gone: put it back, or restart without keys"
    assert (line["level"], line["mistakes"]) == ("error", [said])
    write_keys(watched.path, entry(2))
    await watched.looks(2)
    assert watched.valid == [2]


async def test_a_file_that_is_away_for_a_moment_is_not_logged(watched):
    write_keys(watched.path, entry(1))
    await watched.watch.start()
    watched.path.rename(watched.path.with_name("away"))
    await watched.looks(1)
    watched.path.with_name("away").rename(watched.path)
    await watched.looks(3)
    assert watched.valid == [1]
    assert watched.lines.of("keys_file_broken") == []


async def test_a_file_that_cannot_be_read_keeps_the_last_good_keys(watched):
    write_keys(watched.path, entry(1))
    await watched.watch.start()
    watched.path.unlink()
    watched.path.symlink_to(watched.path)
    await watched.looks(3)
    assert watched.valid == [1]
    (line,) = watched.lines.of("keys_file_broken")
    assert "the file cannot be read (Too many levels of symbolic links)" in line["mistakes"][0]


ERRORS = [errno.EMFILE, errno.ENFILE, errno.EIO, errno.ESTALE, errno.ENOMEM, errno.EACCES, None]


@pytest.mark.parametrize(
    ("owner", "function"), [(keys_file, "_open_at_once"), (Path, "stat")], ids=["open", "stat"]
)
@pytest.mark.parametrize("number", ERRORS, ids=lambda number: errno.errorcode.get(number, "MemoryError"))
async def test_a_revocation_that_cannot_be_read_now_is_read_later(
    watched, monkeypatch, number, owner, function
):
    """Nothing changes in the file in between."""
    write_keys(watched.path, entry(1), entry(2))
    await watched.watch.start()
    write_keys(watched.path, entry(1, revoked="2026-01-31T08:00:00Z"), entry(2))
    real = getattr(owner, function)

    def fail(path, *arguments, **options):
        if Path(path) != watched.path:
            return real(path, *arguments, **options)
        raise MemoryError if number is None else OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(owner, function, fail)
        await watched.looks(4)
        assert (watched.valid, watched.changes) == ([1, 2], [])
        (line,) = watched.lines.of("keys_file_broken")
        reason = "Out of memory" if number is None else os.strerror(number)
        assert line["mistakes"][0].startswith(f"{watched.path}:1: the file cannot be read ({reason}): ")
        assert ("let the gateway's user read it" in line["mistakes"][0]) is (number == errno.EACCES)
        await watched.tick(LOG_AGAIN)
        assert len(watched.lines.of("keys_file_broken")) == 2
    await watched.looks(2)
    assert (watched.valid, watched.changes) == ([2], [[2]])


async def test_a_change_that_the_times_of_the_file_system_hide_is_found(watched, monkeypatch):
    """Whole seconds, and an edit of the same size within the second of the read."""
    real = keys_watch.file_version

    def coarse(path):
        device, inode, size, *times = real(path) or (0, 0, 0)
        return (device, inode, size, *(0 for _ in times))

    monkeypatch.setattr(keys_watch, "file_version", coarse)
    write_keys(watched.path, entry(1))
    await watched.watch.start()
    await watched.looks(1)
    write_keys(watched.path, entry(2))
    await watched.looks(3)
    assert watched.valid == [1]
    await watched.looks(4)
    assert (watched.valid, watched.changes) == ([2], [[2]])
    await watched.looks(10)
    assert len(watched.lines.of("keys_loaded")) == 2


async def test_a_file_that_changes_at_every_check_is_logged(watched):
    write_keys(watched.path, entry(1))
    await watched.watch.start()
    for number in range(30):
        write_keys(watched.path, entry(2, name=f"name-{number}"))
        await watched.looks(1)
    (line,) = watched.lines.of("keys_file_broken")
    assert "(it has changed at every check for 10 s)" in line["mistakes"][0]
    assert watched.valid == [1]
    await watched.looks(1)
    assert watched.valid == [2]


async def test_a_process_out_of_descriptors_reads_the_file_when_it_has_one_again(watched):
    write_keys(watched.path, entry(1))
    await watched.watch.start()
    write_keys(watched.path, entry(2))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, limits[1]))
    try:
        await watched.looks(3)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    (line,) = watched.lines.of("keys_file_broken")
    assert "(Too many open files)" in line["mistakes"][0]
    assert watched.valid == [1]
    await watched.looks(1)
    assert watched.valid == [2]


async def test_a_new_worker_that_cannot_read_the_file_begins_with_its_parents_keys_and_reads_it_later(
    watched, monkeypatch
):
    write_keys(watched.path, entry(1))
    known = await asyncio.to_thread(read_keys, watched.path)
    write_keys(watched.path, entry(2))
    with monkeypatch.context() as patch:
        patch.setattr(keys_watch, "file_version", unreadable_now)
        with pytest.raises(ConfigError, match="Too many open files"):
            await watched.watch.start()
        await watched.watch.start(known)
    assert watched.valid == [1]
    assert len(watched.lines.of("keys_file_broken")) == 1
    await watched.looks(2)
    assert watched.valid == [2]


def unreadable_now(_):
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@pytest.fixture
def mounted(watched, tmp_path):
    """A secret as Kubernetes mounts it: versions in folders, and a link that is swapped."""
    for name, number in (("v1", 1), ("v2", 2)):
        (tmp_path / name).mkdir()
        write_keys(tmp_path / name / "keys.yaml", entry(number))
    watched.path.symlink_to("data/keys.yaml")

    def swap(name):
        (tmp_path / "next").symlink_to(name)
        (tmp_path / "next").replace(tmp_path / "data")

    swap("v1")
    return swap


async def test_a_swap_of_a_link_in_the_path_is_a_change(watched, mounted):
    await watched.watch.start()
    assert watched.valid == [1]
    mounted("v2")
    await watched.looks(2)
    assert watched.valid == [2]


async def test_a_reverted_change_is_not_applied(watched, mounted):
    await watched.watch.start()
    for name in ("v2", "v1", "v2"):
        mounted(name)
        await watched.looks(1)
        assert watched.valid == [1]
    await watched.looks(1)
    assert watched.valid == [2]


async def test_an_edit_within_the_same_second_that_keeps_the_size_is_a_change(watched):
    write_keys(watched.path, entry(1))
    await watched.watch.start()
    before = watched.path.stat()
    write_keys(watched.path, entry(2))
    os.utime(watched.path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    after = watched.path.stat()
    assert (before.st_size, before.st_ino) == (after.st_size, after.st_ino)
    await watched.looks(2)
    assert watched.valid == [2]


@pytest.mark.parametrize("mode", [0o604, 0o660, 0o602])
async def test_a_file_that_others_can_read_or_change_is_logged_once(watched, mode):
    write_keys(watched.path, entry(1)).chmod(mode)
    await watched.watch.start()
    write_keys(watched.path, entry(1), entry(2)).chmod(mode)
    await watched.looks(2)
    assert watched.valid == [1, 2]
    (line,) = watched.lines.of("keys_file_exposed")
    assert (line["level"], line["file"]) == ("warning", str(watched.path))


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o440])
async def test_a_file_for_its_owner_and_a_group_is_not_logged(watched, mode):
    write_keys(watched.path, entry(1)).chmod(mode)
    await watched.watch.start()
    assert watched.lines.of("keys_file_exposed") == []


async def test_checks_of_a_slow_disk_do_not_overlap(watched, monkeypatch):
    await watched.watch.start()
    begun, go_on, real = [], asyncio.Event(), watched.watch._thread.run

    async def slowly(*call):
        if call[0] is keys_watch.file_version:
            begun.append(call)
        await go_on.wait()
        return await real(*call)

    monkeypatch.setattr(watched.watch._thread, "run", slowly)
    for now in (200.0, 201.0, 202.0):
        watched.watch.tick(now)
    await until(lambda: begun)
    assert watched.lines.of("keys_file_broken") == []
    for now in (211.0, 212.0):
        watched.watch.tick(now)
    (line,) = watched.lines.of("keys_file_broken")
    assert "(no answer for 10 s)" in line["mistakes"][0]
    go_on.set()
    await watched.tasks.join(5)
    assert len(begun) == 1
    watched.watch.tick(203.0)
    await watched.tasks.join(5)
    assert len(begun) == 2


async def test_a_change_is_applied_within_two_seconds_of_real_time(watched):
    write_keys(watched.path, entry(1))
    await watched.watch.start()
    ticker = Ticker([watched.watch.tick])
    ticker.start()
    try:
        await until(lambda: watched.watch._next_check)  # it runs
        write_keys(watched.path, entry(2))
        async with lag() as lost:
            began = monotonic()
            await until(lambda: watched.changes)
            assert monotonic() - began < 2 + lost.sum
    finally:
        ticker.stop()
        await watched.tasks.join(5)
    assert watched.valid == [2]


async def test_the_garbage_collector_pauses_while_the_file_is_parsed(watched, monkeypatch):
    """It would hold all threads, the loop among them, for 50 ms with 10,000 keys."""
    seen, parse = [], keys_watch.parse_keys
    monkeypatch.setattr(keys_watch, "parse_keys", lambda *args: seen.append(gc.isenabled()) or parse(*args))
    write_keys(watched.path, entry(1))
    await watched.watch.start()
    watched.path.write_text("keys: [")
    await watched.looks(2)
    assert seen == [False, False]
    assert gc.isenabled()
