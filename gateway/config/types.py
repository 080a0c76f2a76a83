"""The types of values: how a scalar becomes a typed value, and how the type appears in the JSON Schema.

A value from a placeholder is converted to what its key takes. Text that YAML takes for something else (`no`, `0x1F`,
dates) must be quoted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from msgspec import Struct
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, SecretStr, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from gateway.config import addresses, listeners, log_fields, tls_files, values
from gateway.config.problems import did_you_mean
from gateway.config.tree import Scalar, ScalarKind, quoted_scalar

TEXT = frozenset({ScalarKind.TEXT, ScalarKind.EXPANDED})
ANY = frozenset(ScalarKind) - {ScalarKind.EMPTY, ScalarKind.NULL, ScalarKind.BROKEN}
UNQUOTED = ANY - {ScalarKind.TEXT}
_READ_AS = {
    ScalarKind.WHOLE: "a number",
    ScalarKind.NUMBER: "a number",
    ScalarKind.BOOLEAN: "true or false",
    ScalarKind.BOOLEAN_WORD: "true or false",
    ScalarKind.DATE: "a date",
}
FOREIGN_VARIABLE = re.compile(r"\$\(?[A-Za-z_][A-Za-z0-9_]*\)?|\{\{.*\}\}|%[A-Za-z_][A-Za-z0-9_]*%")
_HABITS = (
    (",;", "ends with a comma or semicolon: remove it"),
    (" \t\r\n", "has white space around it: remove it"),
    ("\"'", "has quotes that belong to the value: remove them"),
)
_PLACEHOLDER = {"type": "string", "pattern": r"\$\{.+\}"}
_RESTRICTIONS = frozenset({"pattern", "enum", "minLength"})


class ValueType(Struct, frozen=True, eq=False):
    """One type of value.

    Attributes:
        wanted: what is valid, as in "write a duration".
        parse: from text to value; its ValueError is the rest of a sentence that begins with the value.
        schema: the JSON Schema of the written value.
        takes: what YAML may take the scalar for.
        write: from value to written value, for the defaults in the JSON Schema.
        is_secret: whether messages leave the value out.
    """

    wanted: str
    parse: Callable[[str], Any]
    schema: dict[str, Any]
    takes: frozenset[ScalarKind] = TEXT
    write: Callable[[Any], Any] = str
    is_secret: bool = False

    def read(self, written: object, info: ValidationInfo) -> Any:
        """The typed value.

        Raises:
            ValueError: the message of a mistake.
        """
        scalar = quoted_scalar(written) if isinstance(written, str) else written
        if not isinstance(scalar, Scalar):
            raise ValueError(f"is {_shape(scalar)}: write {self.wanted}")  # noqa: TRY004 - pydantic collects ValueError
        if scalar.kind is ScalarKind.BROKEN:
            raise ValueError("has a mistake")
        if scalar.kind in (ScalarKind.EMPTY, ScalarKind.NULL):
            raise ValueError(f"is {scalar.kind.name.lower()}: write {self.wanted}, or leave the key out")
        if scalar.kind not in self.takes:
            raise ValueError(self._refusal(scalar))
        try:
            return self.parsed(scalar.text, info)
        except ValueError as error:
            raise ValueError(f"{self._shown(scalar)} {self._habit(scalar, info) or error}") from None

    def _habit(self, scalar: Scalar, info: ValidationInfo) -> str:
        """What people add to a value that is right without it; empty if that is not the mistake."""
        text = scalar.text
        if FOREIGN_VARIABLE.fullmatch(text):
            name = re.search(r"[A-Z_][A-Z0-9_]*\b" if text[:1] == "{" else r"\w+", text)
            is_shown = name is not None and not self.is_secret and scalar.kind is ScalarKind.TEXT
            return (
                f'is not replaced: write "${{{name[0] if name and is_shown else "NAME"}}}", with the quotes'
            )
        for surplus, message in _HABITS:
            bare = text.strip(surplus)
            if bare != text and self._is_valid(bare, info):
                return message
        return ""

    def _is_valid(self, text: str, info: ValidationInfo) -> bool:
        try:
            self.parsed(text, info)
        except ValueError:
            return False
        return bool(text)

    def parsed(self, text: str, _info: ValidationInfo) -> Any:
        return self.parse(text)

    def _refusal(self, scalar: Scalar) -> str:
        if self.takes is not TEXT:
            return f"{self._shown(scalar)} is text: write {self.wanted}, without quotes"
        quotes = "put it in quotes" if self.is_secret else f"write {scalar.shown} in quotes if that is meant"
        return f"{self._shown(scalar)} without quotes is {_READ_AS[scalar.kind]} to YAML: {quotes}"

    def _shown(self, scalar: Scalar) -> str:
        return "the value" if self.is_secret else scalar.shown

    def __get_pydantic_core_schema__(self, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        """The value is parsed by `read` alone; pydantic adds no conversion of its own."""
        writing = core_schema.plain_serializer_function_ser_schema(self.write, when_used="json")
        return core_schema.with_info_plain_validator_function(self.read, serialization=writing)

    def __get_pydantic_json_schema__(
        self, _schema: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """The schema of the value, or of a placeholder."""
        is_any_text = self.schema.get("type") == "string" and not _RESTRICTIONS & self.schema.keys()
        return dict(self.schema) if is_any_text else {"anyOf": [self.schema, _PLACEHOLDER]}


class FileType(ValueType, frozen=True, eq=False):
    """A path relative to the folder of the configuration file; None for an empty text."""

    def parsed(self, text: str, info: ValidationInfo) -> Path | None:
        folder: Path = info.context or Path()
        path: Path | None = self.parse(str(folder / text)) if text else None
        return path


def one_of(*words: str, others: Mapping[str, str] | None = None) -> ValueType:
    """One of these words; words that YAML takes for something else (`off`) need no quotes.

    Args:
        words: what is valid.
        others: words for the same that people know from elsewhere, each with the valid one.
    """

    def parse(text: str) -> str:
        if text in words:
            return text
        meant = (others or {}).get(text.casefold())
        *first, last = [word for word in words if word != meant]
        before_last = f"{', '.join(first)} or " if first else ""
        or_other = f", or else {before_last}{last}" if meant in words else ""
        raise ValueError(f"is unknown: {f'write {meant}{or_other}' if meant else did_you_mean(text, words)}")

    return ValueType(f"one of {', '.join(words)}", parse, {"type": "string", "enum": list(words)}, takes=ANY)


def _shape(written: object) -> str:
    return "a mapping" if isinstance(written, dict) else "a list"


_STRING: dict[str, Any] = {"type": "string"}
_NAME_SCHEMA = _STRING | {"pattern": f"^{values.NAME_PATTERN}$"}
_UUID_SCHEMA = _STRING | {"pattern": f"^{values.UUID_PATTERN}$"}
_DURATION_SCHEMA = _STRING | {"pattern": f"^{values.DURATION_PATTERN}$"}
_SIZE_SCHEMA = _STRING | {"pattern": f"^{values.SIZE_PATTERN}$"}
_DURATION_WANTED = f"a duration like {values.DURATION_EXAMPLES}"
_SIZE_WANTED = f"a size like {values.SIZE_EXAMPLES}"
_URL_WANTED = "a URL like http://127.0.0.1:3000"


def _as_is(value: object) -> object:
    return value


def _optional_duration(seconds: float | None) -> str | None:
    return None if seconds is None else values.format_duration(seconds)


def _revealed(secret: SecretStr) -> str:
    return secret.get_secret_value()


def _store_url(store: addresses.Store) -> str:
    return store.url


Text = Annotated[str, ValueType("one line of text", values.text, _STRING | {"minLength": 1})]
OptionalText = Annotated[str, ValueType('a text, or ""', values.text_or_empty, _STRING)]
Name = Annotated[str, ValueType(values.NAME_WANTED, values.name, _NAME_SCHEMA)]
RouteName = Annotated[str, ValueType(values.NAME_WANTED, values.route_name, _NAME_SCHEMA)]
ChatflowId = Annotated[str, ValueType("a UUID", values.chatflow_id, _UUID_SCHEMA)]

Whole = Annotated[
    int, ValueType(values.WHOLE_WANTED, values.whole, {"type": "integer", "minimum": 1}, UNQUOTED, int)
]
WholeOrZero = Annotated[
    int,
    ValueType(values.WHOLE_WANTED, values.whole_or_zero, {"type": "integer", "minimum": 0}, UNQUOTED, int),
]
OptionalWhole = Annotated[
    int | None,
    ValueType(values.WHOLE_WANTED, values.whole, {"type": "integer", "minimum": 1}, UNQUOTED, _as_is),
]
Switch = Annotated[bool, ValueType("true or false", values.switch, {"type": "boolean"}, UNQUOTED, bool)]
Duration = Annotated[
    float, ValueType(_DURATION_WANTED, values.parse_duration, _DURATION_SCHEMA, ANY, values.format_duration)
]
PositiveDuration = Annotated[
    float,
    ValueType(_DURATION_WANTED, values.positive_duration, _DURATION_SCHEMA, ANY, values.format_duration),
]
OptionalDuration = Annotated[
    float | None,
    ValueType(_DURATION_WANTED, values.positive_duration, _DURATION_SCHEMA, ANY, _optional_duration),
]
Size = Annotated[int, ValueType(_SIZE_WANTED, values.positive_size, _SIZE_SCHEMA, ANY, values.format_size)]
Weight = Annotated[
    int,
    ValueType(
        values.WEIGHT_WANTED, values.weight, {"type": "integer", "minimum": 1, "maximum": 100}, UNQUOTED, int
    ),
]
Share = Annotated[
    float,
    ValueType(
        values.SHARE_WANTED, values.share, {"type": "number", "minimum": 0, "maximum": 1}, UNQUOTED, float
    ),
]
KeepAlive = Annotated[
    float, ValueType(_DURATION_WANTED, values.keep_alive, _DURATION_SCHEMA, ANY, values.format_duration)
]
HealthPath = Annotated[
    str, ValueType("a path like /api/v1/ping", values.request_path, _STRING | {"pattern": "^/"})
]
HeaderSize = Annotated[
    int, ValueType(_SIZE_WANTED, values.header_size, _SIZE_SCHEMA, ANY, values.format_size)
]

Listen = Annotated[
    addresses.Address, ValueType("an address like 127.0.0.1:8080", addresses.parse_listen, _STRING, ANY)
]
ListenAddress = Annotated[
    listeners.ListenAddress, ValueType(listeners.LISTENER_WANTED, listeners.parse_listener, _STRING, ANY)
]
SocketMode = Annotated[
    int,
    ValueType(
        listeners.MODE_WANTED,
        listeners.parse_mode,
        _STRING | {"pattern": f"^{listeners.MODE_PATTERN}$"},
        ANY,
        listeners.format_mode,
    ),
]
TrustedNetwork = Annotated[
    addresses.Network, ValueType("a CIDR like 10.0.0.0/8, or unix", addresses.parse_network, _STRING, ANY)
]
ServerUrl = Annotated[addresses.Url, ValueType(_URL_WANTED, addresses.parse_url, _STRING, ANY)]
PublicUrl = Annotated[
    addresses.Url | None,
    ValueType('a URL like https://flowise.example.com, or ""', addresses.parse_public_url, _STRING, ANY),
]
WebAddress = Annotated[
    str, ValueType("a URL like https://id.example.com/jwks.json", values.web_address, _STRING, ANY)
]
OptionalWebAddress = Annotated[
    str,
    ValueType('a URL like http://collector:4318/v1/traces, or ""', values.web_address_or_empty, _STRING, ANY),
]
WebOrigin = Annotated[
    str,
    ValueType(
        'an origin like https://app.example.com, "null" in quotes, or "*"',
        addresses.parse_origin,
        _STRING,
        ANY,
    ),
]
StoreUrl = Annotated[
    addresses.Store,
    ValueType(
        "memory or redis://HOST:PORT/0", addresses.parse_store, _STRING, ANY, _store_url, is_secret=True
    ),
]

HeaderSecret = Annotated[
    SecretStr, ValueType('a text, or ""', values.header_secret, _STRING, write=_revealed, is_secret=True)
]
SigningSecret = Annotated[
    SecretStr, ValueType("32 bytes or more", values.signing_secret, _STRING, write=_revealed, is_secret=True)
]
AuthorityFile = Annotated[Path | None, FileType('a file name, or ""', values.authority_file, _STRING)]
CertificateFile = Annotated[Path | None, FileType('a file name, or ""', tls_files.certificate_file, _STRING)]
PrivateKeyFile = Annotated[Path | None, FileType('a file name, or ""', tls_files.private_key_file, _STRING)]
KeysFile = Annotated[Path | None, FileType('a file name, or ""', values.keys_file, _STRING)]
LogPath = Annotated[Path | None, FileType('a file name, or ""', values.log_file, _STRING)]
LogField = Annotated[str, ValueType("the name of a field", log_fields.log_field, _STRING, ANY)]
DroppedLogField = Annotated[str, ValueType("the name of a field", log_fields.dropped_log_field, _STRING, ANY)]
NewLogName = Annotated[str, ValueType("the new name of the field", log_fields.new_log_name, _STRING)]

EventName = Annotated[str, ValueType("an event name", values.event_name, _STRING, ANY)]
OverrideName = Annotated[str, ValueType("the name of an override", values.override_name, _STRING)]
VariableText = Annotated[str, ValueType("a text", values.template, _STRING)]

AuthMethod = Annotated[
    str,
    one_of(
        *("anonymous", "api_key", "session", "jwt", "upstream"),
        others={
            **dict.fromkeys(("none", "public", "open", "off", "no", "false", "guest"), "anonymous"),
            **dict.fromkeys(("key", "keys", "bearer", "token", "secret", "x-api-key", "basic"), "api_key"),
            **dict.fromkeys(("flowise", "flowise_key", "passthrough", "pass_through", "forward"), "upstream"),
            **dict.fromkeys(("oidc", "oauth", "oauth2", "openid", "sso"), "jwt"),
        },
    ),
]
LegacyField = Annotated[str, one_of("history", "evaluation", "evaluationRunId", "stopNodeId", "analytics")]
JwtAlgorithm = Annotated[
    str,
    one_of(
        *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"),
        others=dict.fromkeys(
            ("hs256", "hs384", "hs512", "none"),
            "RS256 or what the issuer signs with; a shared secret cannot be used",
        ),
    ),
]


def as_list(written: object) -> Any:
    """For a list that may be written as one text."""
    if not isinstance(written, Scalar):
        return written
    return [] if written.kind in TEXT and not written.text else [written]


def text_or_list(schema: dict[str, Any]) -> None:
    """The same in the JSON Schema."""
    schema["anyOf"] = [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
    for key in ("type", "items"):
        schema.pop(key, None)
