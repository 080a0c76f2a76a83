"""Reads multipart forms with aiohttp, and rewrites those with files while they are sent; no file is ever held.

Flowise gets newly written parts: nothing of the client's boundary, part headers or file paths reaches it.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import ParamSpec, Protocol, TypeVar

import aiohttp
from aiohttp import hdrs
from aiohttp.http_exceptions import HttpProcessingError
from msgspec import Struct
from msgspec.structs import replace

from gateway import web
from gateway.errors import BadRequest, TooLarge
from gateway.flowise.body_rules import BodyRules
from gateway.flowise.checks import file_name
from gateway.flowise.forms import (
    Fields,
    check_attachment_field,
    check_name,
    read_fields,
    read_upload_fields,
    upload_fields,
    with_late_field,
)
from gateway.flowise.multipart import closing, content_type, field_part, file_head, read_disposition
from gateway.flowise.prediction import Changes, Prediction
from gateway.flowise.raw_json import HEAVY, shown

CHUNK_BYTES = 64 * 1024
MAX_FORM_TEXT = 1024 * 1024  # bytes of all fields that are not files; they are held and read as one body
MAX_PART_FIELDS = 8  # header fields of one part; clients send up to three
_FILES = "files"  # the name under which Flowise takes files
_CHARSET = "_charset_"  # RFC 7578 4.6; aiohttp consumes this part without returning it
_PLAIN_ENCODINGS = frozenset({"", "7bit", "8bit", "binary"})

T = TypeVar("T")
P = ParamSpec("P")


class FormLimits(Struct, frozen=True):
    """Bounds of one form.

    Attributes:
        max_body: bytes of all parts with their headers.
        max_field: bytes of one field that is not a file.
        max_text: bytes of all of them.
        max_parts: fields and files together.
    """

    max_body: int
    max_field: int = 256 * 1024
    max_text: int = MAX_FORM_TEXT
    max_parts: int = 100


class FormReader(aiohttp.MultipartReader):
    """aiohttp's reader, which would log the head of a malformed part, with the client's bytes, as a warning."""

    async def _read_until_first_boundary(self) -> None:
        """The body begins with its boundary. aiohttp would read any number of lines before it."""
        await self._read_boundary()

    async def fetch_next_part(self) -> aiohttp.MultipartReader | aiohttp.BodyPartReader:
        """Checks the head of the next part before aiohttp uses it. Raises BadRequest."""
        part = await super().fetch_next_part()
        name, _ = read_disposition(part.headers.get(hdrs.CONTENT_DISPOSITION))
        if name == _CHARSET:
            raise BadRequest(f"The form must be UTF-8. Leave the field {_CHARSET} out.")
        return part


def form_reader(content_type: str, content: aiohttp.StreamReader) -> FormReader:
    """Opens a multipart/form-data body; raises BadRequest for another type and for one without a boundary."""
    if content_type.partition(";")[0].strip().lower() != "multipart/form-data":
        raise BadRequest("A form with files must be sent as multipart/form-data.")
    with _broken_form():
        return FormReader({hdrs.CONTENT_TYPE: content_type}, content, max_headers=MAX_PART_FIELDS)


@contextmanager
def _broken_form() -> Iterator[None]:
    """Turns aiohttp's errors for a malformed form into one BadRequest.

    A RuntimeError means that the connection is gone.
    """
    try:
        yield
    except (
        ValueError,
        RuntimeError,
        HttpProcessingError,
        aiohttp.ClientPayloadError,
        web.RequestPayloadError,
    ):
        raise BadRequest(
            "The body is not the multipart form that its Content-Type announces, or ends too early."
        ) from None


class Part(Struct, frozen=True):
    """One part whose head was read; `file_name` is None for a field."""

    name: str
    file_name: str | None
    media_type: str | None
    reader: aiohttp.BodyPartReader

    @property
    def is_file(self) -> bool:
        return self.file_name is not None


class Pace(Protocol):
    """Awaits one read of the client's bytes in its turn, and bounds its time."""

    def __call__(self, read: Callable[[], Awaitable[T]]) -> Awaitable[T]: ...


def _unpaced(read: Callable[[], Awaitable[T]]) -> Awaitable[T]:
    return read()


class InThread(Protocol):
    """Calls a function in a thread."""

    def __call__(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]: ...


class PartStream:
    """The parts of a form in their order; each must be read to its end before the next one.

    `hold` is called with the size of each piece of a field's text, and `pace` awaits each read; both may raise.
    """

    def __init__(
        self,
        reader: aiohttp.MultipartReader,
        limits: FormLimits,
        hold: Callable[[int], None] = lambda _: None,
        pace: Pace = _unpaced,
    ) -> None:
        self._reader = reader
        self._limits = limits
        self._hold = hold
        self._pace = pace
        self._parts = 0
        self._bytes = 0
        self._text = 0
        self._field_names: set[str] = set()

    def __repr__(self) -> str:
        return f"<PartStream {self._parts} parts, {self._bytes} bytes>"

    async def next(self) -> Part | None:
        """Returns the next part, None at the end of the form.

        Raises BadRequest for a broken form, a nameless or bracketed part and a bad file name, and TooLarge.
        """
        with _broken_form():
            reader = await self._pace(self._reader.next)
        if reader is None:
            return None
        self._parts += 1
        if self._parts > self._limits.max_parts:
            raise TooLarge(f"The form has more than {self._limits.max_parts} parts.")
        if not isinstance(reader, aiohttp.BodyPartReader):
            raise BadRequest("A part of the form is multipart itself. Send each file as a part of its own.")
        self._count(sum(len(name) + len(value) + 4 for name, value in reader.headers.items()))
        return _part(reader)

    async def text(self, part: Part) -> str:
        """Reads a whole field. Raises TooLarge, and BadRequest if it is not UTF-8 or its name is repeated."""
        if part.name in self._field_names:
            raise BadRequest(f"The form has the field {shown(part.name)} twice. Send it once.")
        self._field_names.add(part.name)
        content = bytearray()
        async for piece in self.pieces(part):
            self._hold(len(piece))
            content += piece
            self._text += len(piece)
            if len(content) > self._limits.max_field:
                raise TooLarge(
                    f"The form field {shown(part.name)} has more than {self._limits.max_field} bytes."
                )
            if self._text > self._limits.max_text:
                raise TooLarge(f"The fields of the form have more than {self._limits.max_text} bytes.")
        try:
            text = content.decode()
        except UnicodeDecodeError:
            raise BadRequest(f"The form field {shown(part.name)} must be UTF-8.") from None
        # one character that is not Latin makes all of them take two or four bytes
        self._hold(max(0, sys.getsizeof(text) - sys.getsizeof("") - len(content)))
        return text

    async def pieces(self, part: Part) -> AsyncIterator[bytes]:
        """Yields the bytes of a part as they arrive, some tens of KiB at most. Raises BadRequest and TooLarge."""
        while not part.reader.at_eof():
            with _broken_form():
                piece = await self._pace(partial(part.reader.read_chunk, CHUNK_BYTES))
            self._count(len(piece))
            if piece:
                yield piece

    def _count(self, size: int) -> None:
        self._bytes += size
        if self._bytes > self._limits.max_body:
            raise TooLarge(f"The body has more than {self._limits.max_body} bytes.")


def _part(reader: aiohttp.BodyPartReader) -> Part:
    name, given = read_disposition(reader.headers.get(hdrs.CONTENT_DISPOSITION))
    check_name(name)
    encoding = reader.headers.get(hdrs.CONTENT_TRANSFER_ENCODING, "").strip().lower()
    if encoding not in _PLAIN_ENCODINGS or hdrs.CONTENT_ENCODING in reader.headers:
        raise BadRequest(f"The part {shown(name)} is encoded. Send its bytes as they are (RFC 7578 4.7).")
    checked = file_name(given, f"The file name in the part {shown(name)}") if given else given
    return Part(name, checked, reader.headers.get(hdrs.CONTENT_TYPE), reader)


class Form:
    """A form that is read up to its first file, and rewritten from there on."""

    def __init__(self, stream: PartStream) -> None:
        self._stream = stream
        self._first_file: Part | None = None
        self._boundary = secrets.token_hex(16)
        self.content_type = content_type(self._boundary)

    @property
    def has_files(self) -> bool:
        return self._first_file is not None

    async def read_fields(self) -> Fields:
        """Reads the fields before the first file, or all if there is no file. Raises BadRequest and TooLarge."""
        fields: Fields = []
        while (part := await self._stream.next()) is not None:
            if part.is_file and not await self._is_blank(part):
                self._first_file = part
                break
            if not part.is_file:
                fields.append((part.name, await self._stream.text(part)))
        return fields

    async def _is_blank(self, part: Part) -> bool:
        """Returns whether a part is what a browser sends for a file input without a file."""
        if part.name != _FILES:
            raise BadRequest(f"Files must be sent in parts named files, not {shown(part.name)}.")
        if part.file_name:
            return False
        async for _ in self._stream.pieces(part):
            raise BadRequest("A file of the form has no file name. Give it one.")
        return True

    async def rewritten(
        self, fields: Fields, late_field: Callable[[str, str], Fields]
    ) -> AsyncIterator[bytes]:
        """Yields the form for Flowise, once: `fields`, then files as they arrive and what `late_field` makes of fields.

        Raises BadRequest or TooLarge in mid-body if the rest of the client's form is broken, not allowed or too large.
        The request to Flowise must then be cut unfinished, so that Flowise runs nothing.
        """
        while fields:  # releases each field once it is sent
            yield field_part(self._boundary, *fields.pop(0))
        part = self._first_file
        while part is not None:
            if not part.is_file:
                for name, text in late_field(part.name, await self._stream.text(part)):
                    yield field_part(self._boundary, name, text)
            elif not await self._is_blank(part):
                yield file_head(self._boundary, part.name, part.file_name or "", part.media_type)
                async for piece in self._stream.pieces(part):
                    yield piece
                yield b"\r\n"
            part = await self._stream.next()
        yield closing(self._boundary)


class Upload:
    """A prediction as a form, read up to its first file.

    Attributes:
        files: whether there are files; if not, `prediction` is complete and sent as JSON.
        prediction: the fields before the first file. `chunks` releases its text and adds the question and the dropped
            fields that follow the files.
        content_type: the header for `chunks`.
    """

    def __init__(self, prediction: Prediction, form: Form, rules: BodyRules) -> None:
        self.prediction = prediction
        self.files = form.has_files
        self.content_type = form.content_type
        self._form = form
        self._rules = rules
        self._late_chat_id: Callable[[str], str] | None = None

    def chunks(self, changes: Changes) -> AsyncIterator[bytes]:
        """Yields the form for Flowise, once. Raises as `Form.rewritten` does."""
        fields = upload_fields(self.prediction.encode(changes))
        self._late_chat_id = changes.late_chat_id
        self.prediction = self.prediction.without_body()
        return self._form.rewritten(fields, self._late_field)

    def _late_field(self, name: str, text: str) -> Fields:
        if name == "chatId" and self._late_chat_id is not None:
            if self.prediction.client_chat_id is not None:
                raise BadRequest("The form has the field chatId twice. Send it once.")
            self.prediction = replace(self.prediction, client_chat_id=text)
            return [(name, self._late_chat_id(text))]
        self.prediction, fields = with_late_field(self.prediction, name, text, self._rules)
        return fields


async def open_upload(
    stream: PartStream,
    rules: BodyRules,
    in_thread: InThread = asyncio.to_thread,
    *,
    may_have_files: bool | None = None,
) -> Upload:
    """Reads a multipart prediction up to its first file, or to its end if there is none.

    `may_have_files`: None: as the rules say.

    Raises BadRequest for a broken form, a field that is not allowed and files where uploads are off, and TooLarge.
    """
    form = Form(stream)
    fields = await form.read_fields()
    if form.has_files and not (rules.uploads if may_have_files is None else may_have_files):
        raise BadRequest("Uploads are off on this route. Send the prediction without files.")
    read = read_upload_fields if form.has_files else read_fields
    if sum(len(text) for _, text in fields) > HEAVY:
        return Upload(await in_thread(read, fields, rules), form, rules)
    return Upload(read(fields, rules), form, rules)


class Attachments:
    """Files that are stored for a conversation, read up to the first one."""

    def __init__(self, fields: Fields, form: Form, client_chat_id: str) -> None:
        self.content_type = form.content_type
        self._fields = fields
        self._form = form
        self._client_chat_id = client_chat_id

    def chunks(self, chat_id: str) -> AsyncIterator[bytes]:
        """Yields the form for Flowise, once, with its conversation id. Raises as `Form.rewritten` does."""

        def mapped(name: str, text: str) -> Fields:
            check_attachment_field(name, text, self._client_chat_id)
            return [(name, chat_id)]

        return self._form.rewritten([field for given in self._fields for field in mapped(*given)], mapped)


async def open_attachments(stream: PartStream, client_chat_id: str) -> Attachments:
    """Reads an attachments form up to its first file; its field chatId must equal `client_chat_id`, the path's.

    Raises BadRequest for a broken form and any other field, and TooLarge.
    """
    form = Form(stream)
    fields = await form.read_fields()
    for name, text in fields:
        check_attachment_field(name, text, client_chat_id)
    return Attachments(fields, form, client_chat_id)
