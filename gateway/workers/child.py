"""One worker as its parent sees it: a process, what is said to it, how it ended."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Mapping

from gateway.server.ipc import READY, Briefing


class Child:
    """A process from its start to its end."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self.is_ready = False

    @classmethod
    async def start(cls, briefing: Briefing, environ: Mapping[str, str]) -> Child:
        """Start a process that imports what this one would import, and brief it.

        Raises:
            OSError: the system has no room for one more.
        """
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "gateway.server.worker", str(briefing.worker)),
                stdin=theirs.fileno(),
                env={**environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                start_new_session=True,  # Ctrl-C is for the parent, who passes it on
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        writer.write(briefing.packed())
        return cls(process, reader, writer)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def ready(self) -> bool:
        """Wait until it listens; False if it died before."""
        try:
            self.is_ready = await self._reader.readline() == READY
        except ConnectionError:
            return False
        return self.is_ready

    async def ended(self) -> str:
        """Wait until it has ended; tells how: `status N`, or the name of the signal that killed it."""
        status = await self._process.wait()
        self._writer.close()
        names = {number.value: number.name for number in signal.Signals}
        return f"status {status}" if status >= 0 else names.get(-status, f"signal {-status}")

    def tell(self, word: bytes) -> None:
        """Say a word; who is dead does not hear it."""
        if not self._writer.is_closing():
            self._writer.write(word)

    def kill(self) -> None:
        """End it without asking."""
        if self._process.returncode is None:
            self._process.kill()
