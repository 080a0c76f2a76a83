"""A viewer of the live page without a browser: reads its event stream, and keeps its tables as the page does."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp


class Viewer:
    """One event stream. `tables`: rows by key; a table of one row is that row."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        self.tables: dict[str, dict[str, Any]] = {}
        self.messages: list[str] = []

    async def next(self) -> bool:
        """Take the next message; returns False at the end of the stream."""
        line = b""
        while not line.startswith(b"data: "):
            line = await self._answer.content.readuntil(b"\n")
            if not line:
                return False
        self.messages.append(line[6:].decode())
        message = json.loads(line[6:])
        if message["is_whole"]:
            self.tables = {}
        for name, changed in message["tables"].items():
            table = self.tables.setdefault(name, {})
            for key in changed["gone"]:
                del table[key]
            table.update(changed["set"])
        return True

    async def until(self, is_there: Callable[[Viewer], Any]) -> Any:
        """Take messages until this is true of the tables; returns what it is."""
        while not (self.tables and (found := is_there(self))):
            assert await self.next(), "the stream has ended"
        return found

    def rows(self, table: str, **fields: Any) -> list[dict[str, Any]]:
        """The rows with these fields."""
        return [row for row in self.tables.get(table, {}).values() if fields.items() <= row.items()]

    def one(self, table: str) -> dict[str, Any]:
        return self.tables[table][""]

    def key(self, **fields: Any) -> str:
        """The key of the only run with these fields."""
        (key,) = [key for key, row in self.tables["runs"].items() if fields.items() <= row.items()]
        return key


@asynccontextmanager
async def viewing(admin: str, token: str = "", **headers: str):
    """`async with viewing(gateway.admin) as viewer:`"""
    authorized = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        aiohttp.ClientSession(read_bufsize=2**22) as session,
        session.get(f"{admin}/page/events", headers={**authorized, **headers}) as answer,
    ):
        assert answer.status == 200, await answer.text()
        yield Viewer(answer)


async def end_run(admin: str, key: str, **headers: str) -> tuple[int, str]:
    """Ask to end the run of this row; returns the status and the text of the answer."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{admin}/page/runs/{key}/end", headers=headers) as answer,
    ):
        return answer.status, await answer.text()
