"""Events as Flowise writes them, and checks that nothing is left in a gateway."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tests.harness import bounds
from tests.harness.raw_upstream import STREAM_HEAD, Peer
from tests.harness.surface import FLOW

if TYPE_CHECKING:
    from tests.harness.gateway import RunningGateway

PATH = f"/api/v1/prediction/{FLOW}"
ABORT = f"/api/v1/chatmessage/abort/{FLOW}/chat-1"
ASK = {"question": "hi", "streaming": True, "chatId": "chat-1"}
ASK_JSON = {"question": "hi", "chatId": "chat-1"}


def event(name: str, data: str = '""') -> bytes:
    return f'message:\ndata:{{"event":"{name}","data":{data}}}\n\n'.encode()


def token(text: str) -> bytes:
    return event("token", f'"{text}"')


START, METADATA = event("start"), event("metadata", '{"chatId":"chat-1"}')
END = event("end", '"[DONE]"')
WHOLE = START + token("a") + token("b") + METADATA + END
ERROR = b'message:\ndata:{"event":"error","data":"'
ABORTED = event("error", '"Aborted"') + END


def stream(peer: Peer, *pieces: bytes) -> None:
    """A whole chunked stream in one write."""
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    peer.send(STREAM_HEAD + chunks + b"0\r\n\r\n")


def is_completed(body: bytes, whole_events: bytes) -> bool:
    """Whether the body is these events, then one error and one end."""
    rest = body.removeprefix(whole_events)
    return (
        body == whole_events + rest
        and rest.startswith(ERROR)
        and rest.endswith(END)
        and rest.count(b"\n\n") == 2
    )


class Metered:
    """The samples of one scrape, by short name and label values."""

    def __init__(self, samples: dict[str, float]) -> None:
        self._samples = samples

    def __call__(self, name: str, **labels: str) -> float:
        """A sample of the route `chat`; 0 if there is none."""
        labels = {"route": "chat", **labels}
        pairs = ",".join(f'{label}="{labels[label]}"' for label in sorted(labels))
        return self._samples.get(f"flowise_gateway_{name}{{{pairs}}}", 0.0)


async def metered(gateway: RunningGateway) -> Metered:
    return Metered(await gateway.metrics())


async def settled(gateway: RunningGateway, count: int = 1) -> list[dict[str, Any]]:
    """The request lines, once there are `count`; then nothing may be left of these requests."""
    lines = await gateway.lines.until("request", count)
    async with asyncio.timeout(bounds.STEP):
        await gateway.idle()
    scrape = await metered(gateway)
    assert len(gateway.lines.of("request")) == count
    assert (scrape("runs_active"), scrape("streams_active")) == (0, 0)
    assert (len(gateway.open_calls()), gateway.held_locks()) == (0, 0)
    assert gateway.lines.of("bug") == []
    assert gateway.lines.of("library") == []
    return lines


async def only(gateway: RunningGateway) -> dict[str, Any]:
    """The one line of the one request, with nothing left of it."""
    (line,) = await settled(gateway)
    return line
