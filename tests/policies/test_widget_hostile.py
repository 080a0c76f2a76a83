"""Hostile requests for what the widget calls: each has its exact answer, and nothing of it reaches Flowise."""

from __future__ import annotations

import json

from gateway.policies.feedback import NOT_GIVEN
from tests.harness.api_keys import key_of
from tests.harness.gateway import FLOW, running
from tests.harness.predictions import bearer
from tests.harness.raw_upstream import RawUpstream
from tests.harness.surface import JSON_KEYS, ask

SECRET = "a secret of thirty-two bytes or more"
PLAIN = "87654321-1111-4222-8333-444455556666"
OTHER = "12345678-1111-4222-8333-444455556666"
GIVEN = "9b2c5e8d-1111-4222-8333-444455556666"
PAGE, EVIL = "https://app.example.com", "https://evil.example.com"
FORM = "multipart/form-data; boundary=b"
FEEDBACK, SPEAK, STOP = (
    f"/api/v1/feedback/{GIVEN}",
    "/api/v1/text-to-speech/generate",
    "/api/v1/text-to-speech/abort",
)
UPSERT, FILE = "/api/v1/vector/upsert/chat", "/api/v1/openai-assistants-file/download"
IDS = {"chatflowId": "chat", "chatId": "c", "chatMessageId": "m"}
SPEECH = {**IDS, "text": "t"}
WANTED = {"chatflowId": "chat", "chatId": "c", "fileName": "a.txt"}
ID_FORM = "must be 1 to 128 of the characters A-Z a-z 0-9 . _ + @ - without '..'."
BOUND_FORM = "chatId must be 1 to 256 characters without control characters or half surrogate pairs."
NAME_FORM = "fileName must be a bare file name: 1 to 255 bytes of UTF-8 without control characters, '/', '\\' or '..'."
TAKES_SPEECH = "It takes chatflowId, chatId, chatMessageId, text."
NO_FLOW = "There is no such chatflow here. Name a route of this gateway, or its chatflow id."
NO_ICON_NAME = "The path must end in the name of a node: 1 to 64 of the characters A-Z a-z 0-9 _."
NO_ID = "The path must end in the id of a feedback, as the answer to POST has it, like 2c5e8d0a-…."
ONE_TYPE = "The body needs one Content-Type, which must be {}."
JSON_ONLY = ONE_TYPE.format("application/json")
STORAGE = "FILE-STORAGE::, which no client may send. Remove it."


def part(name, content, more=""):
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n{content}\r\n'.encode()


DOCUMENT = part("files", "hello", '; filename="a.txt"')
END = b"--b--\r\n"


def case(method, path, body, status, code, message, **headers):
    content = json.dumps(body).encode() if isinstance(body, dict | list) else body
    return method, path, content, headers, status, code, message


def put(body, status, code, message, path=FEEDBACK, **headers):
    return case("PUT", path, body, status, code, message, **headers)


def speak(changes, status, code, message, path=SPEAK, **headers):
    body = {name: value for name, value in (SPEECH | changes).items() if value is not ...}
    return case("POST", path, body, status, code, message, **headers)


def store(body, status, code, message, path=UPSERT, **headers):
    kind = {"Content_Type": FORM} if isinstance(body, bytes) else {}
    return case("POST", path, body, status, code, message, **{**kind, **headers})


def load(changes, status, code, message, **headers):
    body = {name: value for name, value in (WANTED | changes).items() if value is not ...}
    return case("POST", FILE, body, status, code, message, **headers)


BAD, LARGE, UNKNOWN = (400, "bad_request"), (413, "too_large"), (404, "unknown_route")
CASES = {
    # the comment behind a thumb; ann has given the one with the id GIVEN, bob calls
    "the feedback of another caller": put({"content": "x"}, *UNKNOWN, NOT_GIVEN),
    "a feedback that nobody has given": put(
        {"content": "x"}, *UNKNOWN, NOT_GIVEN, path=FEEDBACK.replace("9", "8")
    ),
    "a name in place of the id": put({"content": "x"}, *BAD, NO_ID, path="/api/v1/feedback/chat"),
    "an id in capitals": put({"content": "x"}, *BAD, NO_ID, path=f"/api/v1/feedback/{GIVEN.upper()}"),
    "a path in the id": put(
        {"content": "x"},
        *BAD,
        "The path must not have empty segments, '.' or '..'.",
        path="/api/v1/feedback/..",
    ),
    "a query behind the id": put(
        {"content": "x"},
        *BAD,
        "This path takes no query. Remove everything from '?' on.",
        path=f"{FEEDBACK}?id=1",
    ),
    "all feedback of a chatflow": case(
        "GET",
        f"/api/v1/feedback/{FLOW}",
        b"",
        405,
        "method_not_allowed",
        "This path takes POST and PUT only.",
    ),
    "speech without a text": speak(
        {"text": ...}, *BAD, f"text is missing. This request takes {TAKES_SPEECH[9:]}"
    ),
    "speech of nothing": speak(
        {"text": " "}, *BAD, "text is empty. Send the answer that is to be read aloud."
    ),
    "speech with a credential of its own": speak(
        {"credentialId": OTHER}, *BAD, f"credentialId is not a field of this request. {TAKES_SPEECH}"
    ),
    "speech by another provider": speak(
        {"provider": "openai"}, *BAD, f"provider is not a field of this request. {TAKES_SPEECH}"
    ),
    "speech in another voice": speak(
        {"voice": "x"}, *BAD, f"voice is not a field of this request. {TAKES_SPEECH}"
    ),
    "speech without a chatflow": speak(
        {"chatflowId": ...}, *BAD, "chatflowId must be a string: the route's name or its chatflow id."
    ),
    "speech of a chatflow as a number": speak(
        {"chatflowId": 7}, *BAD, "chatflowId must be a string: the route's name or its chatflow id."
    ),
    "speech of an unknown chatflow": speak({"chatflowId": GIVEN}, *UNKNOWN, NO_FLOW),
    "speech of a chatflow of others": speak(
        {"chatflowId": "other"},
        403,
        "forbidden",
        "This credential is not for this chatflow; use one that allows its route.",
    ),
    "speech without a conversation": speak(
        {"chatId": ...}, *BAD, f"chatId is missing. This request takes {TAKES_SPEECH[9:]}"
    ),
    "speech of an empty conversation": speak(
        {"chatId": ""}, *BAD, f"chatId is missing. This request takes {TAKES_SPEECH[9:]}"
    ),
    "speech of a conversation with a line break": speak({"chatId": "a\n"}, *BAD, BOUND_FORM),
    "speech of a list of conversations": speak({"chatId": ["c"]}, *BAD, "chatId must be a string."),
    "speech of a message in a folder": speak({"chatMessageId": "../m"}, *BAD, f"chatMessageId {ID_FORM}"),
    "speech of a message as an object": speak({"chatMessageId": {}}, *BAD, "chatMessageId must be a string."),
    "a long text": speak(
        {"text": "a " * 600}, *LARGE, "text holds 1200 characters of text. At most 1000 are allowed."
    ),
    "a long word": speak(
        {"text": "a" * 500},
        *LARGE,
        "text has a word of 500 characters. At most 256 without white space are allowed.",
    ),
    "a text that is a stored file": speak({"text": "FILE-STORAGE::x"}, *BAD, f"text holds {STORAGE}"),
    "a text as a number": speak({"text": 7}, *BAD, "text must be a string."),
    "speech as a form": speak({}, *BAD, JSON_ONLY, Content_Type=FORM),
    "speech from another page": speak(
        {},
        403,
        "forbidden",
        "This Origin is not allowed here. The route's `cors.origins` must list it.",
        Origin=EVIL,
    ),
    "speech where it is off": speak(
        {"chatflowId": "plain"}, *BAD, "Reading aloud is off on this route (its key speech)."
    ),
    "twice the same conversation": case(
        "POST",
        SPEAK,
        b'{"chatflowId":"chat","chatId":"c","chatId":"d","chatMessageId":"m","text":"t"}',
        *BAD,
        "The body has the name chatId twice. Send it once.",
    ),
    "speech as a list": case("POST", SPEAK, [SPEECH], *BAD, "The body must be a JSON object, `{…}`."),
    "an abort of speech with a text": speak(
        {},
        *BAD,
        "text is not a field of this request. It takes chatflowId, chatId, chatMessageId.",
        path=STOP,
    ),
    "an abort of speech without its message": case(
        "POST",
        STOP,
        {"chatflowId": "chat", "chatId": "c"},
        *BAD,
        "chatMessageId is missing. This request takes chatflowId, chatId, chatMessageId.",
    ),
    "an abort of speech where it is off": case(
        "POST",
        STOP,
        {**IDS, "chatflowId": "plain"},
        *BAD,
        "Reading aloud is off on this route (its key speech).",
    ),
    "the voices of a provider": case(
        "GET",
        "/api/v1/text-to-speech/voices?provider=openai",
        b"",
        *UNKNOWN,
        "This path is not served here. A prediction is POST /api/v1/prediction/{route name or chatflow id}.",
    ),
    # documents for the vector store
    "documents where they are off": store(
        part("chatId", "c") + DOCUMENT + END,
        *BAD,
        "Documents for the vector store are off on this route (its key upsert).",
        path="/api/v1/vector/upsert/plain",
    ),
    "a document by a path": store(
        part("files", "x", '; filename="../a.txt"') + END,
        *BAD,
        f"The file name in the part files {NAME_FORM.removeprefix('fileName ')}",
    ),
    "a document in a part of another name": store(
        part("file", "x", '; filename="a.txt"') + END,
        *BAD,
        "Files must be sent in parts named files, not file.",
    ),
    "an override beside a document": store(
        part("txtFile", "x") + DOCUMENT + END,
        *BAD,
        "overrideConfig may not set txtFile on this route. Allowed: sessionId. Leave out the others, or add them to override_config.allow of the route.",
    ),
    "a stored file beside a document": store(
        part("question", "FILE-STORAGE::x") + DOCUMENT + END, *BAD, f"question holds {STORAGE}"
    ),
    "two conversations before a document": store(
        part("chatId", "c") + part("chatId", "d") + DOCUMENT + END,
        *BAD,
        "The form has the field chatId twice. Send it once.",
    ),
    "an override as JSON": store(
        {"chatId": "c", "overrideConfig": {"openAIApiKey": "k"}},
        *BAD,
        "overrideConfig may not set openAIApiKey on this route. Allowed: sessionId. Leave out the others, or add them to override_config.allow of the route.",
    ),
    "a conversation as a number": store({"chatId": 7}, *BAD, "chatId must be a string."),
    "documents as text": store(
        b"x",
        *BAD,
        ONE_TYPE.format("application/json or application/x-www-form-urlencoded or multipart/form-data"),
        Content_Type="text/plain",
    ),
    "documents of a chatflow of others": store(
        {"chatId": "c"},
        403,
        "forbidden",
        "This credential is not for this chatflow; use one that allows its route.",
        path="/api/v1/vector/upsert/other",
    ),
    # files of assistants, icons
    "a file by a path": load({"fileName": "../../.env"}, *BAD, NAME_FORM),
    "a file by a path of another system": load({"fileName": "..\\x"}, *BAD, NAME_FORM),
    "a file with a line break": load({"fileName": "a\r\nX: y"}, *BAD, NAME_FORM),
    "a file without a name": load(
        {"fileName": ...}, *BAD, "fileName is missing. This request takes chatflowId, chatId, fileName."
    ),
    "a file of no conversation": load(
        {"chatId": ...}, *BAD, "chatId is missing. This request takes chatflowId, chatId, fileName."
    ),
    "a file of an unknown chatflow": load({"chatflowId": "../x"}, *UNKNOWN, NO_FLOW),
    "a file with something else": load(
        {"orgId": "x"}, *BAD, "orgId is not a field of this request. It takes chatflowId, chatId, fileName."
    ),
    "a file from another page": load(
        {},
        403,
        "forbidden",
        "This Origin is not allowed here. The route's `cors.origins` must list it.",
        Origin=EVIL,
    ),
    "an icon by a path": case(
        "GET",
        "/api/v1/node-icon/..%2f..%2fetc",
        b"",
        *BAD,
        "A path segment must not hold an encoded '/', '\\', '%' or a control character.",
    ),
    "an icon with a dot": case("GET", "/api/v1/node-icon/a.svg", b"", *BAD, NO_ICON_NAME),
    "an icon with a long name": case("GET", f"/api/v1/node-icon/{'a' * 65}", b"", *BAD, NO_ICON_NAME),
}


def test_there_are_enough_of_them():
    assert len(CASES) >= 40


def route(name, chatflow, **keys):
    pages = {"cors": {"origins": [PAGE]}, "conversations": {"bind": True}}
    return {"name": name, "chatflow": chatflow, "upstream": "main", "auth": ["api_key"], **pages, **keys}


async def test_a_hostile_request_gets_its_answer_and_reaches_nothing(tmp_path, connect):
    async def script(peer, _):
        peer.answer(json.dumps({"id": GIVEN}).encode())

    ann, bob = await key_of(tmp_path, "ann"), await key_of(tmp_path, "bob", routes=("chat", "plain"))
    on = {"speech": True, "upsert": True, "uploads": True, "max_question": 1000, "max_word": 100}
    routes = [route("chat", FLOW, **on), route("plain", PLAIN), route("other", OTHER, **on)]
    wrong = {}
    async with (
        RawUpstream(script) as upstream,
        running(tmp_path, upstream.url, routes=routes, auth={"secret": SECRET}) as gateway,
    ):
        rating = b'{"chatId":"c","messageId":"m"}'
        await ask(connect, gateway, "POST", "/api/v1/feedback/chat", rating, **bearer(ann))
        for name, (method, path, body, headers, status, code, message) in CASES.items():
            reply = await ask(connect, gateway, method, path, body, **bearer(bob), **headers)
            got = reply.json()
            if (reply.status, got["code"], got["message"]) != (status, code, message) or list(
                got
            ) != JSON_KEYS:
                wrong[name] = (reply.status, got)
    assert wrong == {}
    assert len(upstream.seen) == 1
