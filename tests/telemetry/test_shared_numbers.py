"""Numbers that one process writes and another reads: whole, in order, and with an error where there is no memory."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.telemetry.shared_numbers import (
    FIRST_SIZE,
    LARGEST_SIZE,
    SharedNumbers,
    anonymous_file,
    read_numbers,
    reserve,
)

ROOT = Path(__file__).parents[2]
WRITER = """
import os, signal, sys
from gateway.telemetry.shared_numbers import SharedNumbers
cell = SharedNumbers(int(sys.argv[1])).cell("runs")
while cell[0] < 1000:
    cell[0] += 1
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def memory():
    descriptor = anonymous_file("test")
    reserve(descriptor, FIRST_SIZE)
    yield descriptor
    os.close(descriptor)


def test_numbers_are_read_as_they_are_written(memory):
    assert list(read_numbers(memory)) == []
    numbers = SharedNumbers(memory)
    first, second = numbers.cell("a"), numbers.cell("häufig, und länger als acht")
    assert list(read_numbers(memory)) == [("a", 0.0), ("häufig, und länger als acht", 0.0)]
    first[0] += 1.5
    second[0] = -3.0
    assert [number for _, number in read_numbers(memory)] == [1.5, -3.0]


@pytest.mark.parametrize("length", range(18))
def test_names_of_every_length_keep_the_layout(memory, length):
    numbers = SharedNumbers(memory)
    for number in range(3):
        numbers.cell("x" * length)[0] = number
    assert list(read_numbers(memory)) == [("x" * length, number) for number in range(3)]


def test_cells_from_before_the_memory_grew_are_still_read(memory):
    numbers = SharedNumbers(memory)
    cells = [numbers.cell(f"number {number:0100}") for number in range(3000)]
    assert os.fstat(memory).st_size > 4 * FIRST_SIZE
    for number, cell in enumerate(cells):
        cell[0] = number
    assert [number for _, number in read_numbers(memory)] == list(range(3000))


def test_the_numbers_of_a_killed_process_are_complete(memory):
    killed = subprocess.run(
        [sys.executable, "-c", WRITER, str(memory)], cwd=ROOT, pass_fds=[memory], check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert list(read_numbers(memory)) == [("runs", 1000.0)]


def test_a_system_that_gives_no_more_memory_is_an_error_and_the_numbers_stay(memory):
    """The limit of a file's size, which the kernel applies to this memory too."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    numbers = SharedNumbers(memory)
    numbers.cell("kept")[0] = 7
    resource.setrlimit(resource.RLIMIT_FSIZE, (FIRST_SIZE, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            numbers.cell("x" * FIRST_SIZE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    numbers.cell("later")[0] = 8
    assert list(read_numbers(memory)) == [("kept", 7.0), ("later", 8.0)]


def test_one_process_gets_no_more_than_its_part(memory):
    with pytest.raises(OSError, match="of metrics") as refused:
        SharedNumbers(memory).cell("x" * LARGEST_SIZE)
    assert refused.value.errno == errno.ENOSPC


def test_without_anonymous_memory_it_is_a_file_without_a_name(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    descriptor = anonymous_file("test")
    reserve(descriptor, FIRST_SIZE)
    SharedNumbers(descriptor).cell("a")[0] = 1
    assert list(read_numbers(descriptor)) == [("a", 1.0)]
    assert list(tmp_path.iterdir()) == []
    os.close(descriptor)
