"""A fake model: the part of the OpenAI API that Flowise uses. Directives in the question control the answer.

`hi [[tokens=50 delay=0.1 cut=7 word=tok]]`: 50 tokens tok0, tok1 ..., 0.1 s apart, silent after 7 tokens. With `text=hello`
each token is this word.
`[[tool=calculator]]`: where that tool is offered, the first answer is a call of it, which counts as 3 tokens.
`[[fail=400]]`: this status in place of an answer.
`[[recall=1]]`: the earlier messages of the user, which shows what the conversation remembers.
Each answer is logged as two JSON lines: `begin` with the question, all messages and the sizes of their images, `end`
with a reason (complete, client_gone, failed) and the number of tokens sent.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import itertools
import json
import re
import struct
import time
from pathlib import Path

from aiohttp import web

SILENT_FRAME = bytes.fromhex("fffb9000") + bytes(413)  # MPEG 1 layer 3, 128 kbit/s, 44.1 kHz: 26 ms
TOOL_CALL_TOKENS = 3
DIRECTIVES = re.compile(r"(\w+)=([\w.-]+)")


class Model:
    """Answers, and logs how each answer ended."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._numbers = itertools.count(1)

    def note(self, **fields) -> None:
        with self._log.open("a") as file:
            file.write(json.dumps(fields) + "\n")

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        *earlier, question = questions(body["messages"])
        directives = dict(DIRECTIVES.findall(question.rpartition("[[")[2]))
        number, answer = next(self._numbers), answer_to(earlier, directives)
        tokens = len(answer)
        self.note(
            event="begin",
            n=number,
            stream=bool(body.get("stream")),
            last=question,
            messages=[[message["role"], text_of(message["content"])] for message in body["messages"]],
            images=[size for message in body["messages"] for size in images_of(message["content"])],
        )
        if "fail" in directives:
            self.note(event="end", n=number, reason="failed", sent=0)
            return web.json_response({"error": {"message": "fake failure"}}, status=int(directives["fail"]))
        if wants_tool(body, directives):
            return await self.call_tool(request, number, body, directives["tool"])
        words = self.words(request, number, answer, directives)
        if body.get("stream"):
            return await self.stream(request, body, words)
        content = "".join([word async for word in words])
        message = {"role": "assistant", "content": content}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return web.json_response(
            {**head(body, "chat.completion"), "choices": [choice], "usage": usage(tokens)}
        )

    async def call_tool(self, request, number, body, name):
        called = {"name": name, "arguments": '{"input":"2+2"}'}
        call = {"index": 0, "id": f"call_{number}", "type": "function", "function": called}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        self.note(event="end", n=number, reason="complete", sent=TOOL_CALL_TOKENS, tool=name)
        if not body.get("stream"):
            choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
            return web.json_response(
                {**head(body, "chat.completion"), "choices": [choice], "usage": usage(TOOL_CALL_TOKENS)}
            )
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for choices, more in (
            ([{"index": 0, "delta": message, "finish_reason": None}], {}),
            ([{"index": 0, "delta": {}, "finish_reason": "tool_calls"}], {}),
            ([], {"usage": usage(TOOL_CALL_TOKENS)}),
        ):
            chunk = {**head(body, "chat.completion.chunk"), "choices": choices, **more}
            await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response

    async def words(self, request, number, answer, directives):
        """The tokens at their times; logs the end in any case."""
        sent = 0
        try:
            for at, word in enumerate(answer):
                if at == int(directives.get("cut", -1)):
                    await asyncio.sleep(3600)
                await asyncio.sleep(float(directives.get("delay", 0.05)))
                if request.transport is None or request.transport.is_closing():
                    break
                yield word
                sent += 1
        finally:
            self.note(
                event="end", n=number, reason="complete" if sent == len(answer) else "client_gone", sent=sent
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


def wants_tool(body, directives) -> bool:
    """Whether the answer is a call of the tool: it is offered, and was not called already."""
    offered = {tool["function"]["name"] for tool in body.get("tools") or ()}
    return directives.get("tool") in offered and body["messages"][-1]["role"] != "tool"


def questions(messages) -> list[str]:
    """The messages of the user, the newest last. A chain sends images in a last message without text, which is left out."""
    texts = [text_of(message["content"]) for message in messages if message["role"] == "user"]
    return [text for text in texts if text] or [""]


def answer_to(earlier, directives) -> list[str]:
    """The tokens of an answer."""
    if "recall" not in directives:
        count = int(directives.get("tokens", 12))
        if text := directives.get("text"):
            return [f"{text} "] * count
        return [f"{directives.get('word', 'tok')}{at} " for at in range(count)]
    texts = [text.partition("[[")[0].strip() for text in earlier]
    return ["You ", "told ", "me: ", *(f"{text}; " for text in texts), "that is all."]


def text_of(content) -> str:
    """The text of a message. Its content may be a list of parts, or None in a message that calls a tool."""
    if isinstance(content, str):
        return content
    return " ".join(part.get("text", "") for part in content or ())


def images_of(content) -> list[int]:
    """The sizes of a message's images in bytes; -1 for an image given as a link."""
    parts = () if isinstance(content, str) else content or ()
    links = [part["image_url"]["url"] for part in parts if part.get("type") == "image_url"]
    pictures = (link.partition(",")[2] if link.startswith("data:") else None for link in links)
    return [-1 if picture is None else len(base64.b64decode(picture)) for picture in pictures]


def head(body, kind):
    return {
        "id": "chatcmpl-fake",
        "object": kind,
        "created": int(time.time()),
        "model": body.get("model", "fake"),
    }


def usage(tokens):
    return {"prompt_tokens": 7, "completion_tokens": tokens, "total_tokens": 7 + tokens}


async def speech(request):
    """Silence as MP3, as long as 20 characters a second take, or `text[[seconds=2]]`. A second is 25 parts of 640 bytes."""
    text = (await request.json())["input"]
    seconds = float(dict(DIRECTIVES.findall(text.rpartition("[[")[2])).get("seconds", len(text) / 20))
    response = web.StreamResponse(headers={"Content-Type": "audio/mpeg"})
    await response.prepare(request)
    parts = int(25 * seconds)
    sound = SILENT_FRAME * (640 * parts // len(SILENT_FRAME) + 1)
    for at in range(0, 640 * parts, 640):
        await response.write(sound[at : at + 640])
        await asyncio.sleep(0.04)
    return response


async def embeddings(request):
    """The same vector for every text."""
    body = await request.json()
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    vector = [0.1] * 8
    if body.get("encoding_format") == "base64":
        vector = base64.b64encode(struct.pack("<8f", *vector)).decode()
    found = [{"object": "embedding", "index": at, "embedding": vector} for at in range(len(texts))]
    return web.json_response({"object": "list", "data": found, "model": "fake", "usage": usage(0)})


async def models(_):
    return web.json_response({"object": "list", "data": [{"id": "gpt-4o-mini", "object": "model"}]})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", type=Path, required=True)
    given = parser.parse_args()
    app = web.Application(client_max_size=64 * 2**20)  # images come inside the messages
    app.add_routes(
        [
            web.get("/v1/models", models),
            web.post("/v1/chat/completions", Model(given.log).answer),
            web.post("/v1/audio/speech", speech),
            web.post("/v1/embeddings", embeddings),
        ],
    )
    # A client that hangs up cancels the answer, so that its end is noted at once.
    web.run_app(app, host="127.0.0.1", port=given.port, print=None, handler_cancellation=True)


if __name__ == "__main__":
    main()
