"""The requests of the captures by name, and the flows of the recorded servers."""

from __future__ import annotations

import json
from typing import Any

from gateway.simulator import Flow, RateLimit
from tests.harness import captures as recorded
from tests.harness.exact_client import request

UNKNOWN = "00000000-0000-4000-8000-000000000001"
CHAIN = "d70e08e3-474a-469b-bc81-780660baa5d2"
AGENTFLOW = "43764ce6-017e-442e-9c10-dacb4552faf5"
PROTECTED = "a86fb217-18b2-4d63-b67f-a3bf57e1d17e"
NOSTREAM = "3be02369-e7a7-4d24-b52d-3aadb34b1aa0"
MODEL_NOSTREAM = "e9191fd9-be75-41f5-92bd-7dc0e48beb38"
ORIGINS = "583fc7c8-371a-4b30-bb34-c998510494f0"
RATE_LIMITED = "96aede6e-b669-4729-ab0a-1b55b5acfdfd"
# a second recorded server, with the same flows
CHAIN_2 = "05912910-a2a3-460d-affb-f19b8e26abeb"
AGENTFLOW_2 = "d7dcef90-492a-41ba-8080-e3fe49d20d8f"
NOSTREAM_2 = "65260fa1-e806-4731-91f5-463759d29daa"
ORIGINS_2 = "1b2e0a6b-886a-454d-b71b-fe1030b4f149"

# a third one, with text-to-speech in one flow and a vector store in another
SPEAKING = "41de6bf0-46dc-4644-ba0a-4295d2943b2d"
LIBRARY = "00930ef0-efc9-4593-b6b2-8399174838df"
CHAIN_3 = "29789770-9f17-4aaa-b451-2bdd4b0556ff"

KEY = "the-flow-key"
SITE = {"Origin": "https://site.example"}
PREFLIGHT = {
    **SITE,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "content-type",
}
JSON = {"Content-Type": "application/json"}
UPLOAD = {"type": "file", "name": "a.png", "mime": "image/png", "data": "data:image/png;base64,aGVsbG8="}
FORM = {"a": "hi [[tokens=3]]", "b": "2"}
LEAD = {"chatflowid": CHAIN_2, "chatId": "c1", "name": "n", "email": "e@example.com", "phone": "1"}
ENDINGS = "txt html aspx asp cpp c cs css go h java js less ts php proto python py rst ruby rb rs scala sc scss sol sql"
ENDINGS += " swift markdown md tex ltx vb xml"
DOCUMENTS = {
    "isRAGFileUploadAllowed": True,
    "fileUploadSizeAndTypes": [
        {"fileTypes": [f".{ending}" for ending in ENDINGS.split()], "maxUploadSize": 500}
    ],
}
WITH_KEY = {"Authorization": f"Bearer {KEY}"}
SPEECH = {"chatflowId": SPEAKING, "chatId": "speech-1", "chatMessageId": "m-1", "text": "hi [[seconds=0.08]]"}
FILE = {"chatflowId": CHAIN_3, "chatId": "c"}


def flows() -> list[Flow]:
    configs = [
        json.loads(recorded.load(f"public-chatbotConfig-{name}").partition(b"\r\n\r\n")[2])
        for name in ("chain", "protected")
    ]
    nodes = [each.pop("flowData") for each in configs]
    for each in configs:
        del each["uploads"], each["isTTSEnabled"]
    return [
        Flow(id=CHAIN, name="chain", chatbot_config=configs[0], flow_data=nodes[0]),
        Flow(id=AGENTFLOW, name="agentflow", kind="agentflow"),
        Flow(id=PROTECTED, name="protected", needs_key=True, chatbot_config=configs[1], flow_data=nodes[1]),
        Flow(id=NOSTREAM, name="nostream", streamable=False),
        Flow(id=MODEL_NOSTREAM, name="model-nostream", model_streams=False),
        Flow(
            id=ORIGINS,
            name="origins",
            allowed_origins=("https://good.example",),
            origins_error="not from here",
        ),
        Flow(id=RATE_LIMITED, name="ratelimited", rate_limit=RateLimit(2, 60)),
        Flow(id=CHAIN_2, name="chain"),
        Flow(id=AGENTFLOW_2, name="agentflow", kind="agentflow"),
        Flow(id=NOSTREAM_2, name="nostream", streamable=False),
        Flow(id=SPEAKING, name="pictures", speaks=True),
        Flow(id=LIBRARY, name="library", stores=True, uploads=DOCUMENTS),
        Flow(id=CHAIN_3, name="chain"),
        Flow(
            id=ORIGINS_2,
            name="origins",
            allowed_origins=("https://good.example",),
            origins_error="not from here",
        ),
    ]


def get(path: str, **headers: str) -> bytes:
    return request(
        "GET", f"/api/v1/{path}", {name.replace("_", "-"): value for name, value in headers.items()}
    )


def post(path: str, body: Any, headers: dict[str, str] | None = None) -> bytes:
    return request("POST", f"/api/v1/{path}", headers, body)


def ask(flow: str, question: str = "hi", headers: dict[str, str] | None = None, **fields: Any) -> bytes:
    return post(f"prediction/{flow}", {"question": question, **fields}, headers)


def stream(flow: str, question: str = "hi", headers: dict[str, str] | None = None, **fields: Any) -> bytes:
    return ask(flow, question, headers, streaming=True, **fields)


def multipart(
    path: str,
    fields: dict[str, str],
    files: dict[str, str],
    *,
    cut: int = 0,
    headers: dict[str, str] | None = None,
) -> bytes:
    parts = [f'--x\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in fields.items()]
    about = 'Content-Disposition: form-data; name="files"; filename="{}"'
    file = f"--x\r\n{about}\r\nContent-Type: text/plain\r\n\r\n{{}}\r\n"
    parts += [file.format(name, text) for name, text in files.items()]
    body = ("".join(parts) + "--x--\r\n").encode()
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    return post(path, body[: len(body) - cut], {**kind, **(headers or {})})


THREE = "hi [[tokens=3]]"
WHOLE: dict[str, bytes] = {
    "ping": get("ping"),
    "version": get("version"),
    "ping-bad-percent": get("ping?x=%ff"),
    "ping-head": request("HEAD", "/api/v1/ping"),
    "ping-case": request("GET", "/API/V1/ping"),
    "ping-close": get("ping", Connection="close"),
    "ping-options": request("OPTIONS", "/api/v1/ping"),
    "ping-origin": get("ping", **SITE),
    "unknown-path": get("nothing"),
    "chatflows-list-no-key": get("chatflows"),
    "chatflows-list-wrong-key": get("chatflows", Authorization="Bearer wrong"),
    "chatflows-streaming-chain": get(f"chatflows-streaming/{CHAIN}"),
    "chatflows-streaming-agentflow": get(f"chatflows-streaming/{AGENTFLOW}"),
    "chatflows-streaming-nostream": get(f"chatflows-streaming/{NOSTREAM}"),
    "chatflows-streaming-model-nostream": get(f"chatflows-streaming/{MODEL_NOSTREAM}"),
    "chatflows-streaming-unknown": get(f"chatflows-streaming/{UNKNOWN}"),
    "chatflows-streaming-origin": get(f"chatflows-streaming/{CHAIN_2}", **SITE),
    "chatflows-streaming-fresh": get(
        f"chatflows-streaming/{CHAIN_2}", If_None_Match='W/"14-lg9MmnMoTXHxg+FKZoQkANSniQ0"'
    ),
    "chatflows-uploads": get(f"chatflows-uploads/{CHAIN}"),
    "chatflows-uploads-unknown": get(f"chatflows-uploads/{UNKNOWN}"),
    "public-chatbotConfig-chain": get(f"public-chatbotConfig/{CHAIN}"),
    "public-chatbotConfig-protected": get(f"public-chatbotConfig/{PROTECTED}"),
    "public-chatbotConfig-unknown": get(f"public-chatbotConfig/{UNKNOWN}"),
    "prediction-preflight": request("OPTIONS", f"/api/v1/prediction/{CHAIN}", PREFLIGHT),
    "feedback-preflight": request("OPTIONS", f"/api/v1/feedback/{CHAIN_2}", PREFLIGHT),
    "stream-chain": stream(CHAIN, "hi [[tokens=8 delay=0.1]]"),
    "stream-agentflow": stream(AGENTFLOW, "hi [[tokens=8 delay=0.1]]"),
    "nonstream-chain": ask(CHAIN, "hi [[tokens=8 delay=0.02]]"),
    "nonstream-agentflow": ask(AGENTFLOW, "hi [[tokens=8 delay=0.02]]"),
    "stream-chain-string": ask(CHAIN, "hi [[tokens=4]]", streaming="true"),
    "stream-chain-string-false": ask(CHAIN, "hi [[tokens=4]]", streaming="false"),
    "stream-chain-number": ask(CHAIN, "hi [[tokens=4]]", streaming=1),
    "stream-chain-chatid": stream(CHAIN, THREE, chatId="my-chat-1"),
    "stream-chain-chatid-number": stream(CHAIN, THREE, chatId=123),
    "stream-chain-session": stream(CHAIN, THREE, overrideConfig={"sessionId": "my-session"}),
    "stream-chain-large": stream(CHAIN, "hi [[tokens=6 size=20000 delay=0]]"),
    "stream-chain-unicode": stream(CHAIN, "hi [[tokens=3 text=é漢😀\u2028]]"),
    "stream-chain-burst": stream(CHAIN, "hi [[tokens=400 delay=0]]"),
    "stream-chain-no-tokens": stream(CHAIN_2, "hi [[tokens=0]]"),
    "stream-chain-close": stream(CHAIN, THREE, {"Connection": "close", "Accept-Encoding": "gzip, br"}),
    "stream-chain-expect": stream(CHAIN, THREE, {"Expect": "100-continue"}),
    "stream-chain-heartbeat": stream(CHAIN, "hi [[tokens=3 first=35]]"),
    "stream-chain-tokenizer-unreachable": stream(CHAIN, "hi [[tokens=4 delay=0.1]]"),
    "stream-agentflow-chatid-number": stream(AGENTFLOW_2, "hi [[tokens=1]]", chatId=987654),
    "stream-agentflow-no-question": post(f"prediction/{AGENTFLOW_2}", {"streaming": True}),
    "stream-agentflow-no-tokens": stream(AGENTFLOW_2, "hi [[tokens=0]]"),
    "stream-agentflow-form": post(f"prediction/{AGENTFLOW_2}", {"form": FORM, "streaming": True}),
    "nonstream-agentflow-form": post(f"prediction/{AGENTFLOW_2}", {"form": FORM}),
    "question-and-form": ask(AGENTFLOW_2, "hi [[tokens=1]]", form={"a": 1}),
    "question-and-form-stream": stream(AGENTFLOW_2, "hi [[tokens=1]]", form={"a": 1}),
    "nonstream-chain-chatid-number": ask(CHAIN_2, "hi [[tokens=1]]", chatId=5),
    "nonstream-origin": ask(CHAIN_2, "hi [[tokens=1]]", SITE),
    "stream-nostream": stream(NOSTREAM, "hi [[tokens=4]]"),
    "stream-model-nostream": stream(MODEL_NOSTREAM, "hi [[tokens=4]]"),
    **{
        f"stream-chain-llm-{status}": stream(CHAIN, f"hi [[fail={status}]]")
        for status in (400, 401, 404, 500)
    },
    **{
        f"stream-agentflow-llm-{status}": stream(AGENTFLOW, f"hi [[fail={status}]]")
        for status in (400, 401, 404)
    },
    **{
        f"stream-chain-llm-cut-{how}": stream(CHAIN, f"hi [[tokens=8 cut=3 how={how}]]")
        for how in ("rst", "eof", "error")
    },
    **{
        f"stream-agentflow-llm-cut-{how}": stream(AGENTFLOW, f"hi [[tokens=8 cut=3 how={how}]]")
        for how in ("rst", "eof", "error")
    },
    "nonstream-chain-llm-400": ask(CHAIN, "hi [[fail=400]]"),
    "nonstream-chain-llm-401": ask(CHAIN_2, "hi [[fail=401]]"),
    "nonstream-agentflow-llm-400": ask(AGENTFLOW, "hi [[fail=400]]"),
    "nonstream-chain-llm-cut-rst": ask(CHAIN, "hi [[tokens=8 cut=3 how=rst]]"),
    "nostream-llm-400": ask(NOSTREAM_2, "hi [[fail=400]]"),
    "key-none-nonstream": ask(PROTECTED),
    "key-wrong-nonstream": ask(PROTECTED, "hi", {"Authorization": "Bearer wrong"}),
    "key-other-nonstream": ask(PROTECTED, THREE, {"Authorization": "Bearer another"}),
    "key-wrong-stream": stream(PROTECTED, "hi", {"Authorization": "Bearer wrong"}),
    "key-right-stream": stream(PROTECTED, THREE, {"Authorization": f"Bearer {KEY}"}),
    "key-wrong-public": stream(CHAIN, THREE, {"Authorization": "Bearer wrong"}),
    "unknown-nonstream": ask(UNKNOWN),
    "unknown-string-false": ask(UNKNOWN, streaming="false"),
    "bad-id-nonstream": ask("nonsense"),
    "malformed-json": post(f"prediction/{CHAIN}", b'{"question": "hi", "streaming": tr', JSON),
    "json-array": post(f"prediction/{CHAIN}", [1]),
    "json-text": post(f"prediction/{CHAIN_2}", b'"x"', JSON),
    "json-tail": post(f"prediction/{CHAIN_2}", b'{"a":1}}', JSON),
    "json-bad-token": post(f"prediction/{CHAIN_2}", b'{"a":nope}', JSON),
    "text-plain": post(
        f"prediction/{CHAIN}",
        b'{"question": "hi [[tokens=3]]", "streaming": true}',
        {"Content-Type": "text/plain"},
    ),
    "no-body": post(f"prediction/{CHAIN}", b""),
    "no-question": post(f"prediction/{CHAIN}", {"streaming": True}),
    "urlencoded": post(
        f"prediction/{CHAIN}",
        b"question=hi+%5B%5Btokens%3D3%5D%5D&streaming=true",
        {"Content-Type": "application/x-www-form-urlencoded"},
    ),
    "prediction-no-id": post("prediction", {"question": "hi"}),
    "prediction-empty-id": post("prediction/", {"question": "x"}),
    "prediction-slash": post(f"prediction/{CHAIN}/", {"question": THREE}),
    "too-large": ask(CHAIN, "x" * (60 << 20)),
    "origin-bad-stream": stream(ORIGINS, "hi", {"Origin": "https://bad.example"}),
    "origin-bad-nonstream": ask(ORIGINS, "hi", {"Origin": "https://bad.example"}),
    "origin-good-stream": stream(ORIGINS, THREE, {"Origin": "https://good.example"}),
    "origin-null-nonstream": ask(ORIGINS_2, "x", {"Origin": "null"}),
    "multipart-stream": multipart(f"prediction/{CHAIN}", {"question": THREE, "streaming": "true"}, {}),
    "multipart-nonstream": multipart(f"prediction/{CHAIN}", {"question": THREE}, {}),
    "multipart-file-stream": multipart(
        f"prediction/{CHAIN}", {"question": THREE, "streaming": "true"}, {"a.txt": "hello"}
    ),
    "multipart-no-question-stream": multipart(
        f"prediction/{CHAIN_2}", {"streaming": "true", "sessionId": "ff"}, {"a.txt": "hello"}
    ),
    "multipart-broken": multipart(f"prediction/{CHAIN}", {"question": THREE}, {"a.txt": "hello"}, cut=7),
    "upload-in-prediction": ask(
        CHAIN_2, "hi [[tokens=1]]", chatId="upload-1", overrideConfig={"sessionId": "ss"}, uploads=[UPLOAD]
    ),
    "get-upload-file-missing": get(f"get-upload-file?chatflowId={CHAIN_2}&chatId=upload-1&fileName=none.txt"),
    "get-upload-file-no-name": get(f"get-upload-file?chatflowId={CHAIN_2}"),
    "feedback-no-message": post(f"feedback/{CHAIN_2}", {"rating": "THUMBS_UP"}),
    "leads": post("leads", LEAD),
    "leads-slash": post("leads/", LEAD),
    "leads-empty": post("leads", {}),
    "leads-partial": post("leads", {"chatflowid": CHAIN_2, "chatId": "c1"}),
    "attachments-off": multipart(f"attachments/{CHAIN_2}/chat-att", {}, {"a.txt": "hello"}),
    "attachments-unknown": multipart(f"attachments/{UNKNOWN}/chat-att", {}, {"a.txt": "hello"}),
    "chatflows-uploads-documents": get(f"chatflows-uploads/{LIBRARY}"),
    "feedback-change-unknown": request("PUT", f"/api/v1/feedback/{UNKNOWN}", JSON, b'{"content":"x"}'),
    "speech": post("text-to-speech/generate", SPEECH),
    "speech-no-text": post("text-to-speech/generate", {**SPEECH, "text": ""}),
    "speech-not-configured": post("text-to-speech/generate", {**SPEECH, "chatflowId": CHAIN_3}),
    "speech-unknown": post("text-to-speech/generate", {**SPEECH, "chatflowId": UNKNOWN}),
    "speech-abort": post("text-to-speech/abort", {**SPEECH, "chatId": "speech-2"}),
    "speech-abort-incomplete": post("text-to-speech/abort", {"chatflowId": SPEAKING, "chatId": "speech-2"}),
    "vector-upsert": multipart(
        f"vector/upsert/{LIBRARY}", {"chatId": "up-1"}, {"a.txt": "The plan: feed the cat."}, headers=WITH_KEY
    ),
    "vector-upsert-json": post(f"vector/upsert/{LIBRARY}", {"chatId": "up-1"}, WITH_KEY),
    "vector-upsert-no-key": multipart(f"vector/upsert/{LIBRARY}", {"chatId": "up-1"}, {"a.txt": "hello"}),
    "vector-upsert-no-store": post(f"vector/upsert/{CHAIN_3}", {"chatId": "up-1"}, WITH_KEY),
    "node-icon-unknown": get("node-icon/nothing"),
    "assistant-file-missing": post("openai-assistants-file/download", {**FILE, "fileName": "a.txt"}),
    "assistant-file-no-name": post("openai-assistants-file/download", FILE),
    "abort-idle": request("PUT", f"/api/v1/chatmessage/abort/{CHAIN}/no-such-chat"),
}
"""Sent as they are; the whole answer is compared."""

PAGES: dict[str, bytes] = {
    "prediction-get": get(f"prediction/{CHAIN}"),
    "prediction-head": request("HEAD", f"/api/v1/prediction/{CHAIN_2}"),
    "prediction-two-ids": post(f"prediction/{CHAIN_2}/x", {"question": "hi [[tokens=1]]"}),
    "post-ping": post("ping", {}),
    "node-icon": get("node-icon/chatOpenAI"),
    "abort-post": post(f"chatmessage/abort/{CHAIN}/no-such-chat", {}),
}
"""Answered with a file, mostly Flowise's user interface: the body and the headers that depend on it are not compared."""

SILENT: dict[str, bytes] = {
    "unknown-stream": stream(UNKNOWN),
    "unknown-number": ask(UNKNOWN, streaming=1),
    "bad-id-stream": stream("nonsense"),
    "origin-null-stream": stream(ORIGINS_2, "x", {"Origin": "null"}),
    "nostream-llm-400-asked-to-stream": stream(NOSTREAM_2, "hi [[fail=400]]"),
}
"""Never answered."""

WITH_SEVERAL_STEPS = {
    "chatflows-page",
    "chatflows-page-end",
    "abort-chain",
    "abort-agentflow",
    "abort-agentflow-nonstream",
    "assistant-file",
    "feedback",
    "feedback-change",
    "feedback-no-content",
    "feedback-unknown-message",
    "get-upload-file",
    "hangup-abort-agentflow-nonstream",
    "hangup-chain-nonstream",
    "keepalive-idle",
    "rate-limited",
    "rate-limited-stream",
    "rate-limited-forwarded",
    "same-chatid-first",
    "same-chatid-second",
    "same-chatid-two-flows",
    "server-sigkill",
    "server-sigterm",
    "speech-abort-run",
    "speech-aborted",
    "stream-chain-close-wait",
    "stream-chain-http10",
}
"""Each has its own test."""
