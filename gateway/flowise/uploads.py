"""Forms with files on their way to Flowise: checked field by field, the files never held.

What leaves is written anew, so nothing of the client's own framing, headers or file paths reaches Flowise.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from gateway.errors import BadRequest
from gateway.flowise.body_policy import BodyPolicy
from gateway.flowise.forms import read_fields, read_upload_fields, upload_fields
from gateway.flowise.multipart import Part, PartStream, closing, content_type, field_part, file_head
from gateway.flowise.prediction import Changes, Prediction
from gateway.flowise.raw_json import shown

HEAVY = 256 * 1024  # a body above it is parsed off the loop
_FILES = "files"  # the one name that Flowise's parser takes files under (PROTOCOL.md 1.2)
_BEFORE_FILES = frozenset({"chatId", "streaming", "sessionId", "vars"})

Fields = list[tuple[str, str]]


class Upload:
    """A prediction as a form, read up to its first file.

    Attributes:
        files: False if no file came; then `prediction` is complete and goes up as JSON.
        prediction: what the fields before the first file say; once `chunks` was called without the text that
            was sent, but with the question and the dropped fields that came after the files, so far.
        content_type: the header for `chunks`.
    """

    def __init__(self, prediction: Prediction, parts: _Parts, policy: BodyPolicy) -> None:
        self.prediction = prediction
        self.files = parts.has_files
        self.content_type = parts.content_type
        self._parts = parts
        self._policy = policy

    def chunks(self, changes: Changes) -> AsyncIterator[bytes]:
        """Yields the form for Flowise, once: fields, files as they arrive, later fields.

        Raises BadRequest or TooLarge in mid-body if the rest of the client's form is broken, not allowed or
        too large; then the request to Flowise must be cut off unfinished, so that it runs nothing.
        """
        fields = upload_fields(self.prediction.encode(changes))
        self.prediction = self.prediction.without_body()
        return self._parts.emit(fields, self._late_field)

    def _late_field(self, name: str, text: str) -> Fields:
        if name in _BEFORE_FILES:
            raise BadRequest(
                f"{name} came after a file; put chatId, streaming, sessionId and vars before the files"
            )
        late = read_upload_fields([(name, text)], self._policy)
        told = self.prediction
        self.prediction = replace(
            told, question=late.question or told.question, dropped=told.dropped + late.dropped
        )
        return upload_fields(late.encode(Changes()))


async def open_upload(stream: PartStream, policy: BodyPolicy) -> Upload:
    """Reads a multipart prediction up to its first file, or to its end if there is none.

    Raises BadRequest for a broken form, a field that is not allowed, files where uploads are off, and
    TooLarge.
    """
    parts = _Parts(stream)
    fields = await parts.read_fields()
    if parts.has_files and not policy.uploads:
        raise BadRequest("uploads are off on this route; send the prediction without files")
    read = read_upload_fields if parts.has_files else read_fields
    if sum(len(text) for _, text in fields) > HEAVY:
        return Upload(await asyncio.to_thread(read, fields, policy), parts, policy)
    return Upload(read(fields, policy), parts, policy)


class Attachments:
    """Files for a conversation (the endpoint attachments), streamed like those of a prediction."""

    def __init__(self, fields: Fields, parts: _Parts, chat_id: str) -> None:
        self.content_type = parts.content_type
        self._fields = fields
        self._parts = parts
        self._given = chat_id

    def chunks(self, chat_id: str) -> AsyncIterator[bytes]:
        """Yields the form for Flowise, once, with `chat_id` for the client's own; raises as Upload's."""

        def mapped(name: str, text: str) -> Fields:
            _check_attachment_field(name, text, self._given)
            return [(name, chat_id)]

        return self._parts.emit([field for given in self._fields for field in mapped(*given)], mapped)


async def open_attachments(stream: PartStream, chat_id: str) -> Attachments:
    """Reads an attachments form up to its first file.

    Args:
        stream: the client's body.
        chat_id: the one of the path, raw; a field chatId must equal it.

    Raises BadRequest for a broken form or any other field, and TooLarge.
    """
    parts = _Parts(stream)
    fields = await parts.read_fields()
    for name, text in fields:
        _check_attachment_field(name, text, chat_id)
    return Attachments(fields, parts, chat_id)


def _check_attachment_field(name: str, text: str, chat_id: str) -> None:
    if name != "chatId":
        raise BadRequest(f"the form field {shown(name)} is not allowed here; send files and chatId only")
    if text != chat_id:
        raise BadRequest("the form field chatId must be the chatId of the path")


class _Parts:
    """The client's parts, cut in two at the first file: read before it, emitted as they come from it on."""

    def __init__(self, stream: PartStream) -> None:
        self._stream = stream
        self._first_file: Part | None = None
        self._boundary = secrets.token_hex(16)
        self.content_type = content_type(self._boundary)

    @property
    def has_files(self) -> bool:
        return self._first_file is not None

    async def read_fields(self) -> Fields:
        """Reads the fields before the first file, and remembers that."""
        fields: Fields = []
        while (part := await self._stream.next()) is not None:
            if part.is_file and not await self._is_blank(part):
                self._first_file = part
                break
            if not part.is_file:
                fields.append((part.name, await self._stream.text(part)))
        return fields

    async def _is_blank(self, part: Part) -> bool:
        """Tells whether a part is what a browser sends for a file input without a file."""
        if part.name != _FILES:
            raise BadRequest(f"files must come in parts named files, not {shown(part.name)}")
        if part.file_name:
            return False
        async for _ in self._stream.pieces(part):
            raise BadRequest("a file of the form has no file name; give it one")
        return True

    async def emit(self, fields: Fields, late_field: Callable[[str, str], Fields]) -> AsyncIterator[bytes]:
        while fields:  # what is sent is not held any longer
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
