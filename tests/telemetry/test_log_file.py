"""A log file: followed through every kind of rotation, whole lines of all writers, and nothing lost silently."""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from gateway.command_errors import CannotRunError
from gateway.config import LogSettings
from gateway.telemetry import line_lock, log_file
from gateway.telemetry.log_file import COMPLAIN_EVERY, GRACE, LogFile, check_log_file, complain_on_stderr
from gateway.telemetry.log_writer import LogWriter
from gateway.telemetry.logs import LogOutput, make_logger

NO_SPACE = OSError(errno.ENOSPC, "No space left on device")


class Log:
    """A log file with a clock, and what it has complained of."""

    def __init__(self, path):
        self.path, self.now, self.complaints = path, 100.0, []
        self.file = LogFile(path, self.complaints.append, lambda: self.now)

    def write(self, text):
        self.file.write(f"{text}\n")

    @property
    def text(self):
        return self.path.read_text()


@pytest.fixture
def log(tmp_path):
    log = Log(tmp_path / "gateway.log")
    yield log
    log.file.close()


@pytest.fixture
def full_disk(monkeypatch):
    """Lets a disk take this many bytes more."""
    write, space = os.write, None

    def limited(descriptor, content):
        nonlocal space
        if space is None:
            return write(descriptor, content)
        if not space:
            raise NO_SPACE
        written = write(descriptor, bytes(content)[:space])
        space -= written
        return written

    def left(count):
        nonlocal space
        space = count

    monkeypatch.setattr(os, "write", limited)
    return left


# -- rotation --------------------------------------------------------------------------------------


def test_a_rotation_that_makes_the_new_file_loses_no_line_and_needs_no_signal(tmp_path):
    path = tmp_path / "gateway.log"
    with LogWriter(io.StringIO()) as writer:
        writer.divert(LogFile(path))
        for number in range(2000):
            writer.write(f"{number}\n")
            if number % 500 == 250:
                with suppress(FileNotFoundError):  # the thread has not begun
                    path.rename(tmp_path / f"gateway.log.{number}")
                path.touch()
    files = [*sorted(tmp_path.glob("*.log.*"), key=lambda file: int(file.suffix[1:])), path]
    lines = "".join(file.read_text() for file in files).splitlines()
    assert lines == [str(number) for number in range(2000)]
    assert writer.lost == 0


def test_the_next_line_after_a_rename_and_a_new_file_is_in_the_new_one(log):
    log.write("one")
    old = log.path.rename(f"{log.path}.1")
    log.write("two")  # between the two steps of logrotate
    log.path.touch()
    log.write("three")
    assert (old.read_text(), log.text, log.complaints) == ("one\ntwo\n", "three\n", [])


def test_a_path_that_stays_missing_is_made_after_a_while_and_at_once_when_asked(log):
    log.write("one")
    old = log.path.rename(f"{log.path}.1")
    log.write("two")
    log.now += GRACE
    log.write("three")
    assert (old.read_text(), log.text) == ("one\ntwo\n", "three\n")
    old = log.path.rename(f"{log.path}.2")
    log.file.reopen()
    assert log.text == ""
    log.write("four")
    assert (old.read_text(), log.text) == ("three\n", "four\n")


def test_a_deleted_file_is_made_again_at_once(log):
    log.write("one")
    log.path.unlink()
    log.write("two")
    assert log.text == "two\n"


def test_a_file_that_was_copied_and_emptied_goes_on_at_its_beginning(log):
    log.write("one")
    os.truncate(log.path, 0)
    log.write("two")
    assert log.text == "two\n"


def test_a_new_file_is_for_its_group_to_read(log):
    mask = os.umask(0o022)
    try:
        log.write("one")
    finally:
        os.umask(mask)
    assert log.path.stat().st_mode & 0o777 == 0o640


# -- what cannot be written ------------------------------------------------------------------------


def test_a_folder_that_is_gone_loses_lines_says_so_once_and_comes_back(tmp_path):
    folder, complaints = tmp_path / "logs", []
    folder.mkdir()
    path = folder / "gateway.log"
    with LogWriter(io.StringIO()) as writer:
        writer.divert(LogFile(path, complaints.append))
        logger = make_logger(LogSettings(), writer)
        logger.info("listening")
        until(lambda: path.exists() and path.stat().st_size)
        path.unlink()
        folder.rmdir()
        for count in (1, 2, 3):
            logger.info("request")
            until(lambda count=count: writer.lost == count)
        folder.mkdir()
        logger.info("stopped")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["event"], line.get("count")) for line in lines] == [
        ("log_lines_lost", 3),
        ("stopped", None),
    ]
    assert complaints == [
        f"The log file {path} cannot be written (No such file or directory): lines are lost, and counted, until it can."
    ]


def until(condition):
    waiting = threading.Event()
    while not condition():
        waiting.wait(0.001)


def test_a_new_file_that_must_not_be_opened_loses_nothing(log):
    log.write("one")
    old = log.path.rename(f"{log.path}.1")
    log.path.mkdir()  # opens for nobody, not even for root
    log.write("two")
    log.write("three")
    assert old.read_text() == "one\ntwo\nthree\n"
    reason = "cannot be opened (Is a directory): lines go on into the file that had this name."
    assert log.complaints == [f"The log file {log.path} {reason}"]
    old.unlink()  # from here on they would be lost
    with pytest.raises(IsADirectoryError):
        log.write("four")
    assert log.complaints[1].endswith("lines are lost, and counted, until it can.")
    log.path.rmdir()
    log.write("five")
    assert log.text == "five\n"


def test_a_full_disk_has_no_half_line_whichever_process_writes_next(tmp_path, full_disk):
    one, other = Log(tmp_path / "log"), Log(tmp_path / "log")
    one.write("first")
    full_disk(len("second\nthi"))
    with pytest.raises(OSError, match="No space"):
        one.file.write("second\nthird\n")
    assert one.file.whole_lines == 1
    full_disk(None)
    other.write("fourth")
    one.write("fifth")
    assert one.text == "first\nsecond\nfourth\nfifth\n"


def test_half_a_line_that_has_others_behind_it_stays_and_ends_there(log, full_disk, monkeypatch):
    full_disk(3)
    seek = os.lseek

    def behind(descriptor, *where):  # another program appends at this moment
        with log.path.open("a") as file:
            file.write("foreign\n")
        return seek(descriptor, *where)

    monkeypatch.setattr(os, "lseek", behind)
    with pytest.raises(OSError, match="No space"):
        log.write("lost line")
    full_disk(None)
    log.write("next")
    assert log.text == "losforeign\n\nnext\n"


def test_the_same_fault_is_complained_of_once_a_minute(log, full_disk):
    full_disk(0)
    for wait in (0, COMPLAIN_EVERY / 2, COMPLAIN_EVERY / 2):
        log.now += wait
        with pytest.raises(OSError, match="No space"):
            log.write("lost")
    assert len(log.complaints) == 2


def test_a_file_that_fails_when_it_is_closed_is_let_go_of_and_said(log, monkeypatch):
    close, closed = os.close, []

    def failing(descriptor):
        closed.append(descriptor)
        close(descriptor)
        raise OSError(errno.EIO, "Input/output error")

    log.write("1")
    log.path.rename(log.path.with_suffix(".1"))
    log.path.touch()
    with monkeypatch.context() as patched:
        patched.setattr(os, "close", failing)
        log.write("2")
        log.file.close()
        log.file.close()
    assert log.text == "2\n"
    assert len(closed) == 2
    assert log.complaints == [
        f"The log file {log.path} cannot be closed (Input/output error): its last lines may be lost."
    ]


def test_a_complaint_is_one_line_on_standard_error(capfd):
    complain_on_stderr("The log file \udcff cannot be written.")
    assert capfd.readouterr() == ("", "flowise-gateway: The log file \\udcff cannot be written.\n")


def test_a_standard_error_that_nobody_reads_delays_no_line(monkeypatch):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    monkeypatch.setattr(log_file, "STANDARD_ERROR", writing)
    complain_on_stderr("This would wait for ever.")
    os.close(reading)
    os.close(writing)


def test_a_log_file_that_cannot_be_opened_is_an_error_with_what_would_be_right(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "no" / "file")
    for name, reason in {
        "no/file": "No such file or directory): create its folder.",
        ".": "Is a directory): name a file.",
        "pipe": "No such device or address): name a regular file.",
        "dangling": "No such file or directory): create its folder.",
        "x" * 300: "File name too long): mend that, or name another file.",
    }.items():
        with pytest.raises(CannotRunError) as caught:
            check_log_file(tmp_path / name)
        assert str(caught.value) == f"The log file {tmp_path / name} cannot be opened ({reason}"
    with pytest.raises(CannotRunError, match="not a regular file"):
        check_log_file(Path("/dev/null"))
    check_log_file(None)
    check_log_file(tmp_path / "file")
    assert (tmp_path / "file").exists()


# -- several writers -------------------------------------------------------------------------------


def test_lines_of_several_writers_do_not_mix_although_each_takes_several_writes(tmp_path, monkeypatch):
    path, write, others = tmp_path / "log", os.write, threading.Event()

    def short(descriptor, content):
        others.wait(1e-5)  # lets the others run
        return write(descriptor, bytes(content)[:100])

    def fill(name):
        file = LogFile(path)
        for number in range(10):
            file.write(f"{name * 400} {number}\n")
            if number == 5 and name == "a":
                path.rename(f"{path}.1")
                path.touch()
        file.close()

    monkeypatch.setattr(os, "write", short)
    threads = [threading.Thread(target=fill, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = (tmp_path / "log.1").read_text().splitlines() + path.read_text().splitlines()
    assert sorted(lines) == sorted(f"{name * 400} {number}" for name in "abc" for number in range(10))


def test_a_writer_that_stands_still_with_the_lock_silences_no_other(tmp_path, monkeypatch, full_disk):
    monkeypatch.setattr(line_lock, "STANDS_STILL_AFTER", 0.01)
    log = Log(tmp_path / "log")
    log.write("one")
    with log.path.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        log.write("two")
        full_disk(3)
        with pytest.raises(OSError, match="No space"):
            log.write("three")
        full_disk(None)
        log.write("four")  # without the lock nothing is taken back: it could be the line of another
    log.file.close()
    assert log.text == "one\ntwo\nthr\nfour\n"


# -- the output ------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_file_takes_the_place_of_the_terminal_and_gives_it_back(tmp_path):
    terminal, path, other = Terminal(), tmp_path / "log", tmp_path / "other"
    with LogWriter(terminal) as writer:
        output = LogOutput(LogSettings(), writer, has_colors=True)
        logger = output.logger()
        for number, file in enumerate((None, path, path, other, None)):
            output.use(LogSettings.model_construct(file=file))
            logger.info("listening", number=number)
        output.reopen()  # does nothing where there is no file
    assert not [name for name in descriptors() if name.startswith(str(tmp_path))]
    assert [json.loads(line)["number"] for line in path.read_text().splitlines()] == [1, 2]
    assert [json.loads(line)["number"] for line in other.read_text().splitlines()] == [3]
    assert ["number=" in line and "\x1b[" in line for line in terminal.getvalue().splitlines()] == [
        True,
        True,
    ]


def descriptors():
    names = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the listing
            names.append(str(descriptor.readlink()))
    return names


def test_a_file_that_was_renamed_is_made_again_on_demand_without_a_line(tmp_path):
    path = tmp_path / "log"
    with LogWriter(io.StringIO()) as writer:
        output = LogOutput(LogSettings.model_construct(file=path), writer)
        output.logger().info("listening")
        until(lambda: path.exists() and path.stat().st_size)
        path.rename(f"{path}.1")
        output.reopen()
    assert path.read_text() == ""


def test_lines_for_reading_in_a_file_have_no_colours(tmp_path):
    with LogWriter(Terminal()) as writer:
        settings = LogSettings.model_construct(file=tmp_path / "log", format="console")
        LogOutput(settings, writer, has_colors=True).logger().info("listening")
    assert (tmp_path / "log").read_text().endswith(" listening\n")
