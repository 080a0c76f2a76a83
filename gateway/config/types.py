"""How one value is read: a scalar as written becomes a typed value, or a sentence on what would be right.

A value from a placeholder is read as whatever its key wants. What YAML guesses (`no`, `0x1F`, dates) is never
taken for text: it must be quoted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from gateway.config.tree import Kind, Scalar, quoted_scalar
from gateway.config.words import instead

TEXT = frozenset({Kind.TEXT, Kind.EXPANDED})
ANY = frozenset(Kind) - {Kind.EMPTY, Kind.NULL, Kind.BROKEN}
UNQUOTED = ANY - {Kind.TEXT}
_READ_AS = {
    Kind.WHOLE: "a number",
    Kind.NUMBER: "a number",
    Kind.BOOLEAN: "true or false",
    Kind.BOOLEAN_WORD: "true or false",
    Kind.DATE: "a date",
}
_PLACEHOLDER = {"type": "string", "pattern": r"\$\{.+\}"}
_RESTRICTIONS = frozenset({"pattern", "enum", "minLength"})


@dataclass(frozen=True, eq=False)
class Leaf:
    """How one type of value is read.

    Attributes:
        wanted: what would be right, to follow "write".
        parse: the text's value; its ValueError is the rest of a sentence that begins with the value.
        schema: the JSON Schema of what is written.
        takes: what YAML may take the scalar for.
        write: the value as it would be written, for the defaults in the JSON Schema.
        is_secret: whether a mistake never quotes it.
    """

    wanted: str
    parse: Callable[[str], Any]
    schema: dict[str, Any]
    takes: frozenset[Kind] = TEXT
    write: Callable[[Any], Any] = str
    is_secret: bool = False

    def read(self, written: object, info: ValidationInfo) -> Any:
        """The value.

        Raises:
            ValueError: the whole message of a mistake.
        """
        scalar = quoted_scalar(written) if isinstance(written, str) else written
        if not isinstance(scalar, Scalar):
            raise ValueError(f"is {_shape(scalar)}: write {self.wanted}")  # noqa: TRY004 - pydantic collects ValueError
        if scalar.kind is Kind.BROKEN:
            raise ValueError("has a mistake that is noted already")
        if scalar.kind in (Kind.EMPTY, Kind.NULL):
            raise ValueError(f"is {scalar.kind.name.lower()}: write {self.wanted}, or leave the key out")
        if scalar.kind not in self.takes:
            raise ValueError(self._refusal(scalar))
        try:
            return self.parsed(scalar.text, info)
        except ValueError as error:
            raise ValueError(f"{self._shown(scalar)} {error}") from None

    def parsed(self, text: str, _info: ValidationInfo) -> Any:
        """The text's value."""
        return self.parse(text)

    def _refusal(self, scalar: Scalar) -> str:
        if self.takes is not TEXT:
            return f"{self._shown(scalar)} is text: write {self.wanted}, without quotes"
        quotes = "put it in quotes" if self.is_secret else f"write {scalar.shown} in quotes if that is meant"
        return f"{self._shown(scalar)} without quotes is {_READ_AS[scalar.kind]} to YAML: {quotes}"

    def _shown(self, scalar: Scalar) -> str:
        return "the value" if self.is_secret else scalar.shown

    def __get_pydantic_core_schema__(self, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read by this leaf alone."""
        writing = core_schema.plain_serializer_function_ser_schema(self.write, when_used="json")
        return core_schema.with_info_plain_validator_function(self.read, serialization=writing)

    def __get_pydantic_json_schema__(
        self, _schema: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """What is written, or a placeholder."""
        is_any_text = self.schema.get("type") == "string" and not _RESTRICTIONS & self.schema.keys()
        return dict(self.schema) if is_any_text else {"anyOf": [self.schema, _PLACEHOLDER]}


class FileLeaf(Leaf):
    """A path, relative to the folder of the configuration file; empty: none."""

    def parsed(self, text: str, info: ValidationInfo) -> Path | None:
        """The whole path; `parse` says whether it will do."""
        folder: Path = info.context or Path()
        path: Path | None = self.parse(str(folder / text)) if text else None
        return path


def one_of(*words: str) -> Leaf:
    """One word of a few; those that YAML takes for something else (`off`) count as words here."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"is not known here: {instead(text, words)}")
        return text

    return Leaf(f"one of {', '.join(words)}", parse, {"type": "string", "enum": list(words)}, takes=ANY)


def _shape(written: object) -> str:
    return "a mapping" if isinstance(written, dict) else "a list"
