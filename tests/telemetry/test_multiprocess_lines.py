"""Lines of several processes on one pipe do not mix, at any length."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from gateway.telemetry import line_lock as lines_lock
from gateway.telemetry.multiprocess import SharedLines, line_lock

ROOT = Path(__file__).parents[2]
WRITERS, LINES = 3, 60
LONG, SHORT = 70_000, 100  # longer than a pipe holds, so that another process could write in between
WRITER = f"""
import sys
from gateway.telemetry.multiprocess import SharedLines
lines = SharedLines(int(sys.argv[1]))
for number in range({LINES}):
    lines.write(sys.argv[2] * ({LONG} if number % 2 else {SHORT}) + "\\n")
"""


@pytest.fixture
def lock():
    descriptor = line_lock()
    yield descriptor
    os.close(descriptor)


def test_lines_of_several_processes_do_not_mix(lock):
    reading, writing = os.pipe()
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(lock), letter], cwd=ROOT, stdout=writing, pass_fds=[lock]
        )
        for letter in "abc"
    ]
    os.close(writing)
    with os.fdopen(reading, encoding="ascii") as pipe:
        lines = Counter(line.rstrip("\n") for line in pipe)
    assert [writer.wait() for writer in writers] == [0] * WRITERS
    assert lines == {letter * length: LINES // 2 for letter in "abc" for length in (LONG, SHORT)}


def test_a_writer_that_dies_with_the_lock_blocks_no_other(lock):
    dying = "import fcntl, os, signal, sys\nfcntl.lockf(int(sys.argv[1]), fcntl.LOCK_EX)\n"
    dying += "os.kill(os.getpid(), signal.SIGKILL)\n"
    died = subprocess.run([sys.executable, "-c", dying, str(lock)], cwd=ROOT, check=False, pass_fds=[lock])
    assert died.returncode == -9
    reading, writing = os.pipe()
    SharedLines(lock, writing).write("a line\n")
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert pipe.read() == "a line\n"


HOLDING = (
    "import fcntl, sys\nfcntl.lockf(int(sys.argv[1]), fcntl.LOCK_EX)\nprint(flush=True)\nsys.stdin.read()"
)


@pytest.fixture
def holder(lock):
    """A process that holds the lock and does nothing."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLDING, str(lock)], pass_fds=[lock], **pipes) as process:
        assert process.stdout.read(1)
        yield process
        process.kill()


@pytest.mark.usefixtures("holder")
def test_a_writer_that_stands_still_with_the_lock_silences_no_other(lock, monkeypatch):
    monkeypatch.setattr(lines_lock, "STANDS_STILL_AFTER", 0.01)
    reading, writing = os.pipe()
    for _ in range(2):
        SharedLines(lock, writing).write("a line\n")
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert pipe.read() == 2 * "a line\n"


def test_a_writer_that_waits_for_the_reader_is_waited_for(lock, holder, monkeypatch):
    monkeypatch.setattr(lines_lock, "STANDS_STILL_AFTER", 0.01)
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.write(writing, b"x" * 4096)  # as much as it holds
    pauses = []

    def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 20:
            assert sum(pauses) > 2 * lines_lock.STANDS_STILL_AFTER
            os.read(reading, 4096)
            holder.kill()
            holder.wait()

    monkeypatch.setattr(lines_lock, "sleep", pause)
    SharedLines(lock, writing).write("a line\n")
    assert len(pauses) == 20
    assert os.read(reading, 100) == b"a line\n"
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("text", ["ä€😀\n", "half a pair \ud800\n"])
def test_any_text_is_written_whole(lock, tmp_path, text):
    path = tmp_path / "out"
    with path.open("wb") as file:
        lines = SharedLines(lock, file.fileno())
        assert lines.write(text) == len(text)
        assert not lines.isatty()
    assert path.read_bytes() == text.encode(errors="backslashreplace")


def test_a_closed_pipe_is_an_error_and_releases_the_lock(lock):
    reading, writing = os.pipe()
    os.close(reading)
    for _ in range(2):
        with pytest.raises(BrokenPipeError):
            SharedLines(lock, writing).write("lost\n")
    os.close(writing)
    is_free = f"import fcntl\nfcntl.lockf({lock}, fcntl.LOCK_EX | fcntl.LOCK_NB)"
    subprocess.run([sys.executable, "-c", is_free], check=True, pass_fds=[lock])


def test_a_partially_written_line_is_completed(lock, tmp_path, monkeypatch):
    path, write = tmp_path / "out", os.write
    monkeypatch.setattr(os, "write", lambda descriptor, text: write(descriptor, text[:7]))
    with path.open("wb") as file:
        SharedLines(lock, file.fileno()).write("longer than seven bytes\n")
    assert path.read_text() == "longer than seven bytes\n"


def test_half_a_line_of_one_process_spoils_no_line_of_another(lock, tmp_path, monkeypatch):
    path, write = tmp_path / "out", os.write

    def full(descriptor, text):
        if len(text) < len("lost line\n"):
            raise OSError(28, "No space left on device")
        return write(descriptor, bytes(text)[:4])

    with path.open("wb") as file:
        one, other = SharedLines(lock, file.fileno()), SharedLines(lock, file.fileno())
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            one.write("lost line\n")
        monkeypatch.setattr(os, "write", write)
        other.write("next\n")
        one.write("last\n")
    assert path.read_text() == "lost\nnext\nlast\n"
