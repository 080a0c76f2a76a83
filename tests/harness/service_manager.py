"""A small service manager: passes listening sockets to gateways, and receives what they say."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from contextlib import asynccontextmanager
from pathlib import Path

from tests.harness.processes import ENVIRON, ROOT, Served

# Puts the descriptors of its first arguments at 3, 4, …, and becomes the gateway, so that LISTEN_PID is its own.
_LAUNCH = """
import fcntl, os, sys
count = int(sys.argv[1])
high = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 100) for number in sys.argv[2 : 2 + count]]
for at, number in enumerate(high):
    os.dup2(number, 3 + at)
    os.close(number)
for name in ("LISTEN_PID", "WATCHDOG_PID"):
    if os.environ.get(name) == "own":
        os.environ[name] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-m", "gateway", *sys.argv[2 + count :]])
"""


class Manager:
    """Its sockets, by name, and the messages of the gateways that it starts."""

    def __init__(self, folder: Path, *names: str, is_abstract: bool = False) -> None:
        self.sockets = [(name, _listening()) for name in names]
        self.messages: list[dict[str, str]] = []
        self._address = f"\0{folder}/notify" if is_abstract else f"{folder}/notify"
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._channel.bind(self._address)

    def __enter__(self) -> Manager:
        return self

    def __exit__(self, *_: object) -> None:
        for _, bound in self.sockets:
            bound.close()
        self._channel.close()

    def port(self, name: str) -> int:
        return dict(self.sockets)[name].getsockname()[1]

    @property
    def environment(self) -> dict[str, str]:
        passed = {
            "LISTEN_PID": "own",
            "LISTEN_FDS": str(len(self.sockets)),
            "LISTEN_FDNAMES": ":".join(name for name, _ in self.sockets),
        }
        return {"NOTIFY_SOCKET": self._address.replace("\0", "@"), **(passed if self.sockets else {})}

    @asynccontextmanager
    async def start(self, *arguments: str, **environment: str):
        """A gateway, with the sockets and with this environment beside the manager's own."""
        numbers = [bound.fileno() for _, bound in self.sockets]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _LAUNCH, str(len(numbers)), *map(str, numbers), *arguments),
            cwd=ROOT,
            env={**ENVIRON, **os.environ, **self.environment, **environment},
            pass_fds=numbers,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=2**20,
        )
        child = Served(process)
        try:
            yield child
        finally:
            await child.end()

    async def until(self, name: str, value: str | None = None) -> dict[str, str]:
        """The first message, of those not yet returned, with this assignment."""
        while True:
            content = await asyncio.get_running_loop().sock_recv(self._channel, 4096)
            message = dict(line.split("=", 1) for line in content.decode().split("\n"))
            self.messages.append(message)
            if name in message and value in (None, message[name]):
                return message


def _listening() -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", 0))
    bound.listen(4096)
    return bound
