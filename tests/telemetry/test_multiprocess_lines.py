"""Lines of several processes on one pipe do not mix, at any length."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from gateway.telemetry.multiprocess import SharedLines

ROOT = Path(__file__).parents[2]
WRITERS, LINES = 3, 60
LONG, SHORT = 70_000, 100  # longer than a pipe holds, so that another process could write in between
WRITER = f"""
import sys
from pathlib import Path
from gateway.telemetry.multiprocess import SharedLines
lines = SharedLines(Path(sys.argv[1]))
for number in range({LINES}):
    lines.write(sys.argv[2] * ({LONG} if number % 2 else {SHORT}) + "\\n")
"""


def test_lines_of_several_processes_do_not_mix(tmp_path):
    reading, writing = os.pipe()
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), letter], cwd=ROOT, stdout=writing)
        for letter in "abc"
    ]
    os.close(writing)
    with os.fdopen(reading, encoding="ascii") as pipe:
        lines = Counter(line.rstrip("\n") for line in pipe)
    assert [writer.wait() for writer in writers] == [0] * WRITERS
    assert lines == {letter * length: LINES // 2 for letter in "abc" for length in (LONG, SHORT)}


def test_a_writer_that_dies_with_the_lock_blocks_no_other(tmp_path):
    dying = "import fcntl, os, signal, sys\nfrom pathlib import Path\n"
    dying += (
        "from gateway.telemetry.multiprocess import SharedLines\nlines = SharedLines(Path(sys.argv[1]))\n"
    )
    dying += "fcntl.flock(lines._lock, fcntl.LOCK_EX)\nos.kill(os.getpid(), signal.SIGKILL)\n"
    died = subprocess.run([sys.executable, "-c", dying, str(tmp_path)], cwd=ROOT, check=False)
    assert died.returncode == -9
    reading, writing = os.pipe()
    with SharedLines(tmp_path, writing) as lines:
        lines.write("a line\n")
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert pipe.read() == "a line\n"


@pytest.mark.parametrize("text", ["ä€😀\n", "half a pair \ud800\n"])
def test_any_text_is_written_whole(tmp_path, text):
    path = tmp_path / "out"
    with path.open("wb") as file, SharedLines(tmp_path, file.fileno()) as lines:
        assert lines.write(text) == len(text)
        assert not lines.isatty()
    assert path.read_bytes() == text.encode(errors="backslashreplace")


def test_a_closed_pipe_is_an_error_and_releases_the_lock(tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    with SharedLines(tmp_path, writing) as lines:
        for _ in range(2):
            with pytest.raises(BrokenPipeError):
                lines.write("lost\n")
        os.close(writing)
        with (tmp_path / "out").open("wb") as file, SharedLines(tmp_path, file.fileno()) as others:
            assert others.write("kept\n") == 5


def test_a_partially_written_line_is_completed(tmp_path, monkeypatch):
    path, write = tmp_path / "out", os.write
    monkeypatch.setattr(os, "write", lambda descriptor, text: write(descriptor, text[:7]))
    with path.open("wb") as file, SharedLines(tmp_path, file.fileno()) as lines:
        lines.write("longer than seven bytes\n")
    assert path.read_text() == "longer than seven bytes\n"
