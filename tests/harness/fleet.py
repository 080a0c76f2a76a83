"""Several gateway processes in front of one Flowise that share a limit store."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from tests.harness.processes import Served, serving
from tests.harness.raw_client import request

SECRET = "a secret of thirty-two bytes or more"


@asynccontextmanager
async def fleet(
    folder: Path, count: int, upstream: str, store: str, *, module: str = "gateway", **sections: Any
):
    """`count` gateways, whose output is discarded; sections as for `configuration`.

    Another `module` than the gateway's own: their output is kept.
    """
    limits = {"store": store, **sections.pop("limits", {})}
    shared = {"auth": {"secret": SECRET}, "limits": limits, **sections}
    async with AsyncExitStack() as stack:

        async def begin(number: int) -> Served:
            own = folder / str(number)
            own.mkdir()
            child = await stack.enter_async_context(serving(own, upstream, module=module, **shared))
            if module == "gateway":
                child.forget_output()
            return child

        yield await asyncio.gather(*(begin(number) for number in range(count)))


async def status_of(gateway: Served, path: str, **body: Any) -> int:
    """The status of one prediction on a new connection, read to its end; 0 if the connection broke."""
    content = json.dumps({"question": "hi", **body}).encode()
    writer = None
    try:
        reader, writer = await asyncio.open_connection(gateway.host, gateway.port)
        writer.write(request("POST", path, content, Connection="close"))
        answer = await reader.read()
        return int(answer[9:12] or 0)
    except OSError:
        return 0
    finally:
        if writer is not None:
            writer.close()


async def statuses(gateways: list[Served], path: str, count: int) -> list[int]:
    """The statuses of `count` concurrent predictions, spread evenly over the gateways."""
    spread = (gateways[number % len(gateways)] for number in range(count))
    return list(await asyncio.gather(*(status_of(gateway, path) for gateway in spread)))
