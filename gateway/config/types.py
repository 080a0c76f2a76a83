"""How one value is read: a scalar as written becomes a typed value, or a sentence on what would be right.

A value from a placeholder is read as whatever its key wants. What YAML guesses (`no`, `0x1F`, dates) is never
taken for text: it must be quoted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, SecretStr, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from gateway.config import addresses
from gateway.config import values as texts
from gateway.config import values as units
from gateway.config.problems import did_you_mean
from gateway.config.tree import Kind, Scalar, quoted_scalar

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
class ValueType:
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


class FileLeaf(ValueType):
    """A path, relative to the folder of the configuration file; empty: none."""

    def parsed(self, text: str, info: ValidationInfo) -> Path | None:
        """The whole path; `parse` says whether it will do."""
        folder: Path = info.context or Path()
        path: Path | None = self.parse(str(folder / text)) if text else None
        return path


def one_of(*words: str) -> ValueType:
    """One word of a few; those that YAML takes for something else (`off`) count as words here."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"is not known here: {did_you_mean(text, words)}")
        return text

    return ValueType(f"one of {', '.join(words)}", parse, {"type": "string", "enum": list(words)}, takes=ANY)


def _shape(written: object) -> str:
    return "a mapping" if isinstance(written, dict) else "a list"


_STRING: dict[str, Any] = {"type": "string"}
_NAME_SCHEMA = _STRING | {"pattern": f"^{texts.NAME_PATTERN}$"}
_UUID_SCHEMA = _STRING | {"pattern": f"^{texts.UUID_PATTERN}$"}
_DURATION_SCHEMA = _STRING | {"pattern": f"^{units.DURATION_PATTERN}$"}
_SIZE_SCHEMA = _STRING | {"pattern": f"^{units.SIZE_PATTERN}$"}
_DURATION_WANTED = f"a duration like {units.DURATION_EXAMPLES}"
_SIZE_WANTED = f"a size like {units.SIZE_EXAMPLES}"
_URL_WANTED = "a URL like http://127.0.0.1:3000"


def _as_is(value: object) -> object:
    return value


def _revealed(secret: SecretStr) -> str:
    return secret.get_secret_value()


def _store_url(store: addresses.Store) -> str:
    return store.url


Text = Annotated[str, ValueType("one line of text", texts.text, _STRING | {"minLength": 1})]
OptionalText = Annotated[str, ValueType('a text, or ""', texts.text_or_empty, _STRING)]
Name = Annotated[str, ValueType(texts.NAME_WANTED, texts.name, _NAME_SCHEMA)]
RouteName = Annotated[str, ValueType(texts.NAME_WANTED, texts.route_name, _NAME_SCHEMA)]
ChatflowId = Annotated[str, ValueType("a UUID", texts.chatflow_id, _UUID_SCHEMA)]

Whole = Annotated[
    int, ValueType(texts.WHOLE_WANTED, texts.whole, {"type": "integer", "minimum": 1}, UNQUOTED, int)
]
WholeOrZero = Annotated[
    int, ValueType(texts.WHOLE_WANTED, texts.whole_or_zero, {"type": "integer", "minimum": 0}, UNQUOTED, int)
]
OptionalWhole = Annotated[
    int | None,
    ValueType(texts.WHOLE_WANTED, texts.whole, {"type": "integer", "minimum": 1}, UNQUOTED, _as_is),
]
Switch = Annotated[bool, ValueType("true or false", texts.switch, {"type": "boolean"}, UNQUOTED, bool)]
Duration = Annotated[
    float, ValueType(_DURATION_WANTED, units.parse_duration, _DURATION_SCHEMA, ANY, units.format_duration)
]
PositiveDuration = Annotated[
    float, ValueType(_DURATION_WANTED, texts.positive_duration, _DURATION_SCHEMA, ANY, units.format_duration)
]
OptionalDuration = Annotated[
    float | None, ValueType(_DURATION_WANTED, texts.positive_duration, _DURATION_SCHEMA, ANY, _as_is)
]
Size = Annotated[int, ValueType(_SIZE_WANTED, texts.positive_size, _SIZE_SCHEMA, ANY, units.format_size)]

Listen = Annotated[
    addresses.Address, ValueType("an address like 127.0.0.1:8080", addresses.parse_listen, _STRING, ANY)
]
TrustedNetwork = Annotated[
    addresses.Network, ValueType("a CIDR like 10.0.0.0/8", addresses.parse_network, _STRING, ANY)
]
ServerUrl = Annotated[addresses.Url, ValueType(_URL_WANTED, addresses.parse_url, _STRING, ANY)]
PublicUrl = Annotated[
    addresses.Url | None,
    ValueType('a URL like https://flowise.example.com, or ""', addresses.parse_public_url, _STRING, ANY),
]
WebAddress = Annotated[
    str, ValueType("a URL like https://id.example.com/jwks.json", texts.web_address, _STRING, ANY)
]
WebOrigin = Annotated[
    str, ValueType('an origin like https://app.example.com, or "*"', addresses.parse_origin, _STRING, ANY)
]
StoreUrl = Annotated[
    addresses.Store,
    ValueType(
        "memory or redis://HOST:PORT/0", addresses.parse_store, _STRING, ANY, _store_url, is_secret=True
    ),
]

HeaderSecret = Annotated[
    SecretStr, ValueType('a text, or ""', texts.header_secret, _STRING, write=_revealed, is_secret=True)
]
SigningSecret = Annotated[
    SecretStr, ValueType("32 bytes or more", texts.signing_secret, _STRING, write=_revealed, is_secret=True)
]
AuthorityFile = Annotated[Path | None, FileLeaf('a file name, or ""', texts.readable_file, _STRING)]
KeysFile = Annotated[Path | None, FileLeaf('a file name, or ""', Path, _STRING)]

EventName = Annotated[str, ValueType("an event name", texts.event_name, _STRING, ANY)]
OverrideName = Annotated[str, ValueType("the name of an override", texts.override_name, _STRING)]
VariableText = Annotated[str, ValueType("a text", texts.template, _STRING)]

AuthMethod = Annotated[str, one_of("anonymous", "api_key", "session", "jwt")]
LegacyField = Annotated[str, one_of("history", "evaluation", "evaluationRunId", "stopNodeId", "analytics")]
JwtAlgorithm = Annotated[
    str, one_of("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
]
