"""A client's multipart body, part by part and within bounds; the border where aiohttp's errors become ours.

Decides nothing about names or values.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar
from urllib.parse import unquote_to_bytes

import aiohttp
from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from gateway.errors import BadRequest, TooLarge
from gateway.flowise.checks import file_name
from gateway.flowise.forms import check_name
from gateway.flowise.raw_json import shown

_PARAMETER = re.compile(
    r"\s*;\s*(?P<name>[A-Za-z0-9!#$&+.^_`|~-]+\*?)\s*=\s*"
    r"""(?:"(?P<quoted>(?:[^"\\]|\\.)*+)"|(?P<token>[^\s";]+))"""
)
_QUOTED_PAIR = re.compile(r'\\(["\\])')
_UTF_8_VALUE = re.compile(r"(?i:utf-8)'[^']*'((?:[^%]|%[0-9A-Fa-f]{2})*+)")
_MEDIA_TYPE = re.compile(r"[\w!#$&+.^`|~-]+/[\w!#$&+.^`|~-]+(?:\s*;[ -~]*)?", re.ASCII)
_DEFAULT_TYPE = "application/octet-stream"


def read_disposition(header: str | None) -> tuple[str, str | None]:
    """Returns the field's name and, for a file, its file name from a Content-Disposition header.

    Backslashes quote only quotes and themselves; `filename*` (RFC 8187, in UTF-8) wins. Raises BadRequest if
    the header is missing, is none of a form, or has a parameter twice.
    """
    kind, _, _ = (header or "").partition(";")
    if header is None or kind.strip().lower() != "form-data":
        raise BadRequest('every part of the form needs the header Content-Disposition: form-data; name="…"')
    parameters = _parameters(header[len(kind) :])
    if "name" not in parameters:
        raise BadRequest("a part of the form has no name in its Content-Disposition header")
    extended = parameters.get("filename*")
    return parameters["name"], parameters.get("filename") if extended is None else _utf8_value(extended)


def _parameters(text: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    position = 0
    while found := _PARAMETER.match(text, position):
        name = found["name"].lower()
        if name in parameters:
            raise BadRequest("a part of the form has a Content-Disposition parameter twice")
        quoted = found["quoted"]
        parameters[name] = found["token"] if quoted is None else _QUOTED_PAIR.sub(r"\1", quoted)
        position = found.end()
    if text[position:].strip(" \t;"):
        raise BadRequest("a part of the form has a malformed Content-Disposition header")
    return parameters


def _utf8_value(extended: str) -> str:
    found = _UTF_8_VALUE.fullmatch(extended)
    try:
        if found:
            return unquote_to_bytes(found[1]).decode()
    except UnicodeDecodeError:
        pass
    raise BadRequest("a part of the form has a filename* that is not UTF-8''percent-encoded")


def content_type(boundary: str) -> str:
    """The Content-Type header of the whole body."""
    return f"multipart/form-data; boundary={boundary}"


def field_part(boundary: str, name: str, text: str) -> bytes:
    """A whole part that carries text; no Content-Type, or Flowise's parser may take it for a file."""
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"\r\n\r\n'
    return f"{head}{text}\r\n".encode()


def file_head(boundary: str, name: str, file_name: str, media_type: str | None) -> bytes:
    """The lines before a file's bytes; CRLF must follow those. The name is UTF-8, as browsers write it."""
    kind = media_type if media_type and _MEDIA_TYPE.fullmatch(media_type) else _DEFAULT_TYPE
    disposition = f'form-data; name="{_quoted(name)}"; filename="{_quoted(file_name)}"'
    return f"--{boundary}\r\nContent-Disposition: {disposition}\r\nContent-Type: {kind}\r\n\r\n".encode()


def _quoted(text: str) -> str:
    """As browsers escape it (WHATWG HTML, multipart/form-data encoding); Flowise keeps `%22`."""
    return text.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")


def closing(boundary: str) -> bytes:
    """The last line of the body."""
    return f"--{boundary}--\r\n".encode()


T = TypeVar("T")

CHUNK_BYTES = 64 * 1024
_CHARSET = "_charset_"  # RFC 7578 4.6; aiohttp swallows the part
_PLAIN_ENCODINGS = frozenset({"", "7bit", "8bit", "binary"})


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Bounds of one form.

    Attributes:
        max_body: bytes of all parts with their headers.
        max_field: bytes of one field that is no file.
        max_parts: fields and files together.
    """

    max_body: int
    max_field: int = 256 * 1024
    max_parts: int = 100


@dataclass(frozen=True, slots=True)
class Part:
    """One part whose head was read; `file_name` is None for a field."""

    name: str
    file_name: str | None
    media_type: str | None
    reader: aiohttp.BodyPartReader

    @property
    def is_file(self) -> bool:
        """Whether the part claims to be a file."""
        return self.file_name is not None


class FormReader(aiohttp.MultipartReader):
    """aiohttp's reader, which would print a malformed part head, the client's own bytes, as a warning."""

    async def fetch_next_part(self) -> aiohttp.MultipartReader | aiohttp.BodyPartReader:
        """Checks the head of the next part before aiohttp looks at it. Raises BadRequest."""
        part = await super().fetch_next_part()
        name, _ = read_disposition(part.headers.get(hdrs.CONTENT_DISPOSITION))
        if name == _CHARSET:
            raise BadRequest(f"the form must be UTF-8; leave the field {_CHARSET} out")
        return part


def form_reader(content_type: str, content: aiohttp.StreamReader) -> FormReader:
    """Opens a multipart/form-data body; raises BadRequest for another type or one without a boundary."""
    if content_type.partition(";")[0].strip().lower() != "multipart/form-data":
        raise BadRequest("a form with files must come as multipart/form-data")
    with _broken_form():
        return FormReader({hdrs.CONTENT_TYPE: content_type}, content)


class Pace(Protocol):
    """Awaits one read of the client's bytes, for as long as it lets a client take."""

    def __call__(self, read: Awaitable[T]) -> Awaitable[T]:
        """The read's result, or an error in its stead."""


def _at_once(read: Awaitable[T]) -> Awaitable[T]:
    return read


class PartStream:
    """The parts in their order; each is read to its end before the next one comes.

    `take` is told the size of what is held, the texts of fields, and `paced` awaits each read; both may raise.
    """

    def __init__(
        self,
        reader: aiohttp.MultipartReader,
        limits: UploadLimits,
        take: Callable[[int], None] = lambda _: None,
        paced: Pace = _at_once,
    ) -> None:
        self._reader = reader
        self._limits = limits
        self._take = take
        self._paced = paced
        self._parts = 0
        self._bytes = 0
        self._field_names: set[str] = set()

    def __repr__(self) -> str:
        return f"<PartStream {self._parts} parts, {self._bytes} bytes>"

    async def next(self) -> Part | None:
        """Returns the next part, None at the end of the form.

        Raises BadRequest for a broken form, a nameless or bracketed part, a bad file name, and TooLarge.
        """
        with _broken_form():
            reader = await self._paced(self._reader.next())
        if reader is None:
            return None
        self._parts += 1
        if self._parts > self._limits.max_parts:
            raise TooLarge(f"the form has more than {self._limits.max_parts} parts")
        if not isinstance(reader, aiohttp.BodyPartReader):
            raise BadRequest("a part of the form is multipart itself; send each file as a part of its own")
        self._count(sum(len(name) + len(value) + 4 for name, value in reader.headers.items()))
        return _part(reader)

    async def text(self, part: Part) -> str:
        """Reads a whole field. Raises BadRequest if it is not UTF-8 or its name came before, and TooLarge."""
        if part.name in self._field_names:
            raise BadRequest(f"the form has the field {shown(part.name)} twice; it must stand once")
        self._field_names.add(part.name)
        content = bytearray()
        async for piece in self.pieces(part):
            self._take(len(piece))
            content += piece
            if len(content) > self._limits.max_field:
                raise TooLarge(
                    f"the form field {shown(part.name)} has more than {self._limits.max_field} bytes"
                )
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise BadRequest(f"the form field {shown(part.name)} must be UTF-8") from None

    async def pieces(self, part: Part) -> AsyncIterator[bytes]:
        """Yields a part's bytes as they come, some tens of KiB at most. Raises BadRequest and TooLarge."""
        while not part.reader.at_eof():
            with _broken_form():
                piece = await self._paced(part.reader.read_chunk(CHUNK_BYTES))
            self._count(len(piece))
            if piece:
                yield piece

    def _count(self, size: int) -> None:
        self._bytes += size
        if self._bytes > self._limits.max_body:
            raise TooLarge(f"the body has more than {self._limits.max_body} bytes")


@contextmanager
def _broken_form() -> Iterator[None]:
    """Says it in our words: aiohttp has many kinds of errors for what is simply no form.

    Its RuntimeError says that the connection is gone, so nobody reads the message.
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
            "the body is not the multipart form that its Content-Type announces, or ends too early"
        ) from None


def _part(reader: aiohttp.BodyPartReader) -> Part:
    name, given = read_disposition(reader.headers.get(hdrs.CONTENT_DISPOSITION))
    check_name(name)
    encoding = reader.headers.get(hdrs.CONTENT_TRANSFER_ENCODING, "").strip().lower()
    if encoding not in _PLAIN_ENCODINGS or hdrs.CONTENT_ENCODING in reader.headers:
        raise BadRequest(f"the part {shown(name)} is encoded; send its bytes as they are (RFC 7578 4.7)")
    checked = file_name(given, f"the file name in the part {shown(name)}") if given else given
    return Part(name, checked, reader.headers.get(hdrs.CONTENT_TYPE), reader)
