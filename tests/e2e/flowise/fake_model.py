"""A model without internet: as much of the OpenAI API as Flowise asks for; it does what the question tells it.

`hi [[tokens=50 delay=0.1 cut=7]]` has 50 tokens, a tenth of a second apart, and goes silent after 7. Each answer
is logged as two JSON lines: `begin` with the question, `end` with a reason (complete, client_gone) and what was sent.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import re
import time
from pathlib import Path

from aiohttp import web

WISHES = re.compile(r"(\w+)=([\w.]+)")


class Model:
    """Answers, and writes down how each answer ended."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._numbers = itertools.count(1)

    def note(self, **fields) -> None:
        with self._log.open("a") as file:
            file.write(json.dumps(fields) + "\n")

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        question = text_of(body["messages"][-1]["content"])
        wishes = dict(WISHES.findall(question.partition("[[")[2]))
        number, tokens = next(self._numbers), int(wishes.get("tokens", 12))
        self.note(event="begin", n=number, stream=bool(body.get("stream")), last=question)
        words = self.words(request, number, tokens, wishes)
        if body.get("stream"):
            return await self.stream(request, body, words)
        content = "".join([word async for word in words])
        message = {"role": "assistant", "content": content}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return web.json_response(
            {**head(body, "chat.completion"), "choices": [choice], "usage": usage(tokens)}
        )

    async def words(self, request, number, tokens, wishes):
        """The tokens in their time; notes the end, whichever it is."""
        sent = 0
        try:
            for at in range(tokens):
                if at == int(wishes.get("cut", -1)):
                    await asyncio.sleep(3600)
                await asyncio.sleep(float(wishes.get("delay", 0.05)))
                if request.transport is None or request.transport.is_closing():
                    break
                yield f"tok{at} "
                sent += 1
        finally:
            self.note(
                event="end", n=number, reason="complete" if sent == tokens else "client_gone", sent=sent
            )

    async def stream(self, request, body, words):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)

        async def send(choices, **more):
            chunk = {**head(body, "chat.completion.chunk"), "choices": choices, **more}
            await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")

        sent = 0
        async for word in words:
            await send([{"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": None}])
            sent += 1
        await send([{"index": 0, "delta": {}, "finish_reason": "stop"}])
        if (body.get("stream_options") or {}).get("include_usage"):
            await send([], usage=usage(sent))
        await response.write(b"data: [DONE]\n\n")
        return response


def text_of(content) -> str:
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)


def head(body, kind):
    return {
        "id": "chatcmpl-fake",
        "object": kind,
        "created": int(time.time()),
        "model": body.get("model", "fake"),
    }


def usage(tokens):
    return {"prompt_tokens": 7, "completion_tokens": tokens, "total_tokens": 7 + tokens}


async def models(_):
    return web.json_response({"object": "list", "data": [{"id": "gpt-4o-mini", "object": "model"}]})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", type=Path, required=True)
    given = parser.parse_args()
    app = web.Application()
    app.add_routes(
        [web.get("/v1/models", models), web.post("/v1/chat/completions", Model(given.log).answer)],
    )
    # A client that hangs up cancels the answer, so that its end is noted at once.
    web.run_app(app, host="127.0.0.1", port=given.port, print=None, handler_cancellation=True)


if __name__ == "__main__":
    main()
