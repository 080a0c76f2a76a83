from __future__ import annotations

import asyncio
import threading
import tracemalloc
from contextlib import suppress

import aiohttp
import pytest
from aiohttp.base_protocol import BaseProtocol
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadRequest, TooLarge
from gateway.flowise.prediction import Changes
from gateway.flowise.raw_json import HEAVY
from gateway.policies import body_form
from gateway.policies.body_form import FormLimits, PartStream, form_reader, open_attachments, open_upload
from tests.harness.body_rules import body_rules

RULES = body_rules(overrides=("sessionId", "temperature", "vars.a"), uploads=True)
LIMITS = FormLimits(max_body=1_000_000)
NOTHING = Changes()
MEGABYTE = 1024 * 1024


def stream_of(limit=2**16):
    protocol = BaseProtocol(asyncio.get_running_loop())
    protocol.connection_made(asyncio.Transport())
    return aiohttp.StreamReader(protocol, limit, loop=asyncio.get_running_loop())


def parts_on(stream, limits=LIMITS):
    return PartStream(form_reader("multipart/form-data; boundary=b", stream), limits)


def parts_of(body):
    stream = stream_of()
    stream.feed_data(body)
    stream.feed_eof()
    return parts_on(stream)


def field(name, text):
    return f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'.encode()


def file(content=b"hello", name="a.txt", field_name="files", kind="text/plain"):
    disposition = f'form-data; name="{field_name}"; filename="{name}"'
    return (
        f"--b\r\nContent-Disposition: {disposition}\r\nContent-Type: {kind}\r\n\r\n".encode()
        + content
        + b"\r\n"
    )


def form(*parts):
    return b"".join(parts) + b"--b--\r\n"


async def sent(body, changes=NOTHING, rules=RULES):
    """What Flowise gets, with the gateway's random boundary replaced by `b`."""
    upload = await open_upload(parts_of(body), rules)
    content = b"".join([chunk async for chunk in upload.chunks(changes)])
    boundary = upload.content_type.partition("boundary=")[2]
    return content.replace(boundary.encode(), b"b")


async def collect(chunks, into):
    async for chunk in chunks:
        into.append(chunk)


async def test_the_upload_of_the_capture_is_rewritten_with_the_same_parts():
    body = form(field("question", "hi"), field("streaming", "true"), file())
    upload = await open_upload(parts_of(body), RULES)
    assert (upload.files, upload.prediction.streaming, upload.prediction.question) == (True, True, "hi")
    assert await sent(body) == body


async def test_a_form_without_files_is_a_prediction_for_json():
    upload = await open_upload(parts_of(form(field("question", "hi"), field("streaming", "true"))), RULES)
    assert upload.files is False
    assert upload.prediction.encode(NOTHING) == b'{"question":"hi","streaming":"true"}'


async def test_an_empty_file_input_of_a_browser_is_no_file():
    blank = file(b"", "", kind="application/octet-stream")
    upload = await open_upload(parts_of(form(field("question", "hi"), blank)), RULES)
    assert upload.files is False
    assert await sent(form(file(), blank, file(b"2"))) == form(file(), file(b"2"))


async def test_the_ids_and_streaming_are_set_before_the_files():
    body = form(field("chatId", "c"), field("sessionId", "s"), field("vars", '{"a": 1}'), file())
    changes = Changes(chat_id="m", session_id="n", streaming=True, vars={"u": "w"})
    expected = (("streaming", "true"), ("chatId", "m"), ("sessionId", "n"), ("vars", '{"a": 1,"u":"w"}'))
    got = await sent(body, changes)
    assert sorted(got.split(b"--b\r\n")) == sorted(
        form(*[field(*pair) for pair in expected], file()).split(b"--b\r\n")
    )
    assert got.endswith(file() + b"--b--\r\n")


async def test_question_and_overrides_may_follow_the_files_as_in_flowises_documentation():
    body = form(file(), field("question", "hi"), field("temperature", "0.5"), file(b"2", "b.txt"))
    upload = await open_upload(parts_of(body), RULES)
    assert upload.prediction.question == ""
    assert b"".join([chunk async for chunk in upload.chunks(NOTHING)]).count(b"form-data") == 4
    assert upload.prediction.question == "hi"
    assert await sent(body) == body
    assert await sent(body, Changes(chat_id="m")) == form(field("chatId", "m"))[:-7] + body


async def test_legacy_fields_are_removed_before_and_after_the_files_and_listed():
    body = form(field("history", "x"), file(), field("evaluation", "true"))
    upload = await open_upload(parts_of(body), RULES)
    assert upload.prediction.dropped == ("history",)
    assert b"evaluation" not in b"".join([chunk async for chunk in upload.chunks(NOTHING)])
    assert upload.prediction.dropped == ("history", "evaluation")


@pytest.mark.parametrize("name", ["chatId", "streaming", "sessionId", "vars"])
async def test_fields_that_decide_about_the_run_must_precede_the_files(name):
    with pytest.raises(
        BadRequest, match=rf"^{name} came after a file\. Put chatId, streaming, sessionId and vars before"
    ):
        await sent(form(file(), field(name, "x")))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([field("mcpServerConfig", "x"), file()], "may not set mcpServerConfig"),
        ([file(), field("mcpServerConfig", "x")], "may not set mcpServerConfig"),
        ([file(), field("question", "FILE-STORAGE::x")], "FILE-STORAGE"),
        ([field("sessionId", "FILE-STORAGE::x"), file()], "FILE-STORAGE"),
        ([field("question", "a"), file(), field("question", "b")], "question twice"),
        ([file(), field("a[b]", "x")], "has brackets"),
        ([file(field_name="upload")], "parts named files, not upload"),
        ([file(), file(field_name="upload")], "parts named files, not upload"),
        ([file(field_name="files[]")], "has brackets"),
        ([file(name="")], "no file name"),
        ([file(name="../x")], "must be a bare file name"),
        ([file(name="a\\\\b")], "must be a bare file name"),
        ([field("chatId", "a/b"), file()], "chatId must be"),
    ],
)
async def test_what_is_not_allowed_is_refused_and_named(parts, message):
    with pytest.raises(BadRequest, match=message):
        await sent(form(*parts))


@pytest.mark.parametrize(("name", "files"), [("read_fields", []), ("read_upload_fields", [file()])])
async def test_many_fields_are_read_in_a_thread(name, files, monkeypatch):
    threads, read = [], getattr(body_form, name)

    def noticed(*arguments):
        threads.append(threading.current_thread() is threading.main_thread())
        return read(*arguments)

    monkeypatch.setattr(body_form, name, noticed)
    for size in (HEAVY // 2, HEAVY // 2 + 1):
        fields = [field(name, "x" * size) for name in ("history", "evaluation")]
        stream = stream_of(2**20)
        stream.feed_data(form(*fields, *files))
        stream.feed_eof()
        await open_upload(parts_on(stream), RULES)
    assert threads == [True, False]


async def test_the_bytes_of_fields_are_held_and_those_of_files_are_not():
    held = []
    stream = stream_of()
    stream.feed_data(form(field("question", "hi"), file(b"x" * 500), field("temperature", "0.5")))
    stream.feed_eof()
    reader = form_reader("multipart/form-data; boundary=b", stream)
    upload = await open_upload(PartStream(reader, LIMITS, held.append), RULES)
    assert sum(held) == len("hi")
    await collect(upload.chunks(NOTHING), [])
    assert sum(held) == len("hi" + "0.5")


async def test_files_are_refused_where_uploads_are_off_and_a_plain_form_is_not():
    off = body_rules()
    with pytest.raises(BadRequest, match="Uploads are off on this route"):
        await open_upload(parts_of(form(file())), off)
    assert not (await open_upload(parts_of(form(field("question", "x"))), off)).files


async def test_long_text_after_a_file_is_too_large():
    with pytest.raises(TooLarge, match="question"):
        await sent(form(file(), field("question", "ab " * 50)))


async def test_a_form_that_breaks_off_in_a_file_is_refused_and_never_completed():
    upload = await open_upload(parts_of(form(field("question", "x"), file())[:-12]), RULES)
    content = []
    with pytest.raises(BadRequest, match="ends too early"):
        await collect(upload.chunks(NOTHING), content)
    assert b"--\r\n" not in b"".join(content)


async def test_nothing_of_the_clients_framing_reaches_flowise():
    body = form(file(b"x", 'q\\"é.txt', kind="text/plain\r\nX-Evil: 1")) + b"epilogue"
    got = await sent(body)
    assert got == file(b"x", "q%22é.txt").replace(b"text/plain", b"text/plain") + b"--b--\r\n"


async def test_each_upload_has_a_boundary_of_its_own():
    uploads = [await open_upload(parts_of(form(file())), RULES) for _ in range(2)]
    assert uploads[0].content_type != uploads[1].content_type


@given(
    st.lists(st.binary(max_size=300) | st.text("\r\n-b", max_size=60).map(str.encode), min_size=1, max_size=3)
)
async def test_files_arrive_byte_for_byte(contents):
    contents = [content for content in contents if b"\r\n--b" not in b"\r\n" + content]
    if contents:
        body = form(field("question", "x"), *[file(content) for content in contents])
        assert await sent(body) == body


@given(
    st.binary(max_size=200)
    | st.lists(
        st.sampled_from(
            [
                b"--b",
                b"--",
                b"\r\n",
                b"Content-Disposition: form-data; ",
                b'name="question"',
                b'name="files"; filename="x"',
                b"x",
            ]
        ),
        max_size=30,
    ).map(b"".join)
)
async def test_garbage_is_read_or_refused(body):
    for prefix in (b"", b"--b\r\n", form(file())[:-7]):
        with suppress(BadRequest, TooLarge):
            await sent(prefix + body)


@pytest.mark.filterwarnings("ignore:unread_data:DeprecationWarning")  # aiohttp's own, on tiny reads
async def test_a_form_that_comes_byte_by_byte_arrives_the_same():
    body = form(field("question", "hi"), file(b"\r\n-\r\n--\r\n--a" * 20), field("temperature", "1"))
    stream = stream_of()

    async def feed():
        for byte in body:
            stream.feed_data(bytes([byte]))
            await asyncio.sleep(0)
        stream.feed_eof()

    feeding = asyncio.ensure_future(feed())
    upload = await open_upload(parts_on(stream), RULES)
    content = b"".join([chunk async for chunk in upload.chunks(NOTHING)])
    await feeding
    assert content.replace(upload.content_type.partition("boundary=")[2].encode(), b"b") == body


class Client(BaseProtocol):
    """Feeds a form with one large file and pauses as a socket does."""

    def __init__(self, size):
        super().__init__(asyncio.get_running_loop())
        self.connection_made(asyncio.Transport())
        self.stream = aiohttp.StreamReader(self, 2**16, loop=asyncio.get_running_loop())
        self.resumed = asyncio.Event()
        self.resumed.set()
        self.size = size
        self.most_held = 0

    def pause_reading(self):
        self.resumed.clear()

    def resume_reading(self, resume_parser=True):
        self.resumed.set()
        return True

    async def feed(self):
        piece = b"x" * 65536
        self.stream.feed_data(field("question", "hi") + file(b"")[:-2])
        for _ in range(self.size // len(piece)):
            await self.resumed.wait()
            self.stream.feed_data(piece)
            self.most_held = max(self.most_held, self.stream._size)
            await asyncio.sleep(0)
        self.stream.feed_data(b"\r\n--b--\r\n")
        self.stream.feed_eof()


async def test_a_large_file_waits_for_its_reader_and_is_never_held():
    client = Client(32 * MEGABYTE)
    feeding = asyncio.ensure_future(client.feed())
    tracemalloc.start()
    try:
        upload = await open_upload(parts_on(client.stream, FormLimits(max_body=33 * MEGABYTE)), RULES)
        total, largest = 0, 0
        async for chunk in upload.chunks(NOTHING):
            total += chunk.count(b"x") if len(chunk) > 1000 else 0
            largest = max(largest, len(chunk))
            await asyncio.sleep(0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    await feeding
    assert 32 * MEGABYTE - 1000 <= total <= 32 * MEGABYTE
    assert largest <= 192 * 1024
    assert client.most_held <= 512 * 1024
    assert peak < 1.5 * MEGABYTE


async def test_a_file_beyond_the_limit_is_cut_off_there():
    client = Client(2 * MEGABYTE)
    feeding = asyncio.ensure_future(client.feed())
    upload = await open_upload(parts_on(client.stream, FormLimits(max_body=MEGABYTE)), RULES)
    got = []
    with pytest.raises(TooLarge, match="more than 1048576 bytes"):
        await collect(upload.chunks(NOTHING), got)
    feeding.cancel()
    assert sum(map(len, got)) <= MEGABYTE + 1000


async def attached(body, given="raw", mapped="mapped"):
    upload = await open_attachments(parts_of(body), given)
    content = b"".join([chunk async for chunk in upload.chunks(mapped)])
    return content.replace(upload.content_type.partition("boundary=")[2].encode(), b"b")


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
async def test_attachments_get_the_mapped_chat_id_wherever_the_client_puts_its_own(order):
    assert await attached(form(*[file(), field("chatId", "raw")][order])) == form(
        *[file(), field("chatId", "mapped")][order]
    )


async def test_attachments_may_come_without_the_field():
    assert await attached(form(file(), file(b"2"))) == form(file(), file(b"2"))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([field("chatId", "other"), file()], "chatId must be the chatId of the path"),
        ([file(), field("chatId", "other")], "chatId must be the chatId of the path"),
        ([field("base64", "true"), file()], "base64 is not allowed here"),
        ([file(), field("question", "x")], "question is not allowed here"),
        ([file(field_name="x")], "parts named files"),
    ],
)
async def test_attachments_take_nothing_else(parts, message):
    with pytest.raises(BadRequest, match=message):
        await attached(form(*parts))
