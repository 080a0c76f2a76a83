"""The types of single values that the schema is written in; `texts`, `units`, `addresses` read them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import SecretStr

from gateway.config import addresses, units
from gateway.config import values as texts
from gateway.config.types import ANY, UNQUOTED, FileLeaf, Leaf, one_of

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


Text = Annotated[str, Leaf("one line of text", texts.text, _STRING | {"minLength": 1})]
OptionalText = Annotated[str, Leaf('a text, or ""', texts.text_or_empty, _STRING)]
Name = Annotated[str, Leaf(texts.NAME_WANTED, texts.name, _NAME_SCHEMA)]
RouteName = Annotated[str, Leaf(texts.NAME_WANTED, texts.route_name, _NAME_SCHEMA)]
ChatflowId = Annotated[str, Leaf("a UUID", texts.chatflow_id, _UUID_SCHEMA)]

Whole = Annotated[
    int, Leaf(texts.WHOLE_WANTED, texts.whole, {"type": "integer", "minimum": 1}, UNQUOTED, int)
]
WholeOrZero = Annotated[
    int, Leaf(texts.WHOLE_WANTED, texts.whole_or_zero, {"type": "integer", "minimum": 0}, UNQUOTED, int)
]
OptionalWhole = Annotated[
    int | None, Leaf(texts.WHOLE_WANTED, texts.whole, {"type": "integer", "minimum": 1}, UNQUOTED, _as_is)
]
Switch = Annotated[bool, Leaf("true or false", texts.switch, {"type": "boolean"}, UNQUOTED, bool)]
Duration = Annotated[
    float, Leaf(_DURATION_WANTED, units.parse_duration, _DURATION_SCHEMA, ANY, units.format_duration)
]
PositiveDuration = Annotated[
    float, Leaf(_DURATION_WANTED, texts.positive_duration, _DURATION_SCHEMA, ANY, units.format_duration)
]
OptionalDuration = Annotated[
    float | None, Leaf(_DURATION_WANTED, texts.positive_duration, _DURATION_SCHEMA, ANY, _as_is)
]
Size = Annotated[int, Leaf(_SIZE_WANTED, texts.positive_size, _SIZE_SCHEMA, ANY, units.format_size)]

Listen = Annotated[
    addresses.Address, Leaf("an address like 127.0.0.1:8080", addresses.parse_listen, _STRING, ANY)
]
TrustedNetwork = Annotated[
    addresses.Network, Leaf("a CIDR like 10.0.0.0/8", addresses.parse_network, _STRING, ANY)
]
ServerUrl = Annotated[addresses.Url, Leaf(_URL_WANTED, addresses.parse_url, _STRING, ANY)]
PublicUrl = Annotated[
    addresses.Url | None,
    Leaf('a URL like https://flowise.example.com, or ""', addresses.parse_public_url, _STRING, ANY),
]
WebAddress = Annotated[
    str, Leaf("a URL like https://id.example.com/jwks.json", texts.web_address, _STRING, ANY)
]
WebOrigin = Annotated[
    str, Leaf('an origin like https://app.example.com, or "*"', addresses.parse_origin, _STRING, ANY)
]
StoreUrl = Annotated[
    addresses.Store,
    Leaf("memory or redis://HOST:PORT/0", addresses.parse_store, _STRING, ANY, _store_url, is_secret=True),
]

HeaderSecret = Annotated[
    SecretStr, Leaf('a text, or ""', texts.header_secret, _STRING, write=_revealed, is_secret=True)
]
SigningSecret = Annotated[
    SecretStr, Leaf("32 bytes or more", texts.signing_secret, _STRING, write=_revealed, is_secret=True)
]
AuthorityFile = Annotated[Path | None, FileLeaf('a file name, or ""', texts.readable_file, _STRING)]
KeysFile = Annotated[Path | None, FileLeaf('a file name, or ""', Path, _STRING)]

EventName = Annotated[str, Leaf("an event name", texts.event_name, _STRING, ANY)]
OverrideName = Annotated[str, Leaf("the name of an override", texts.override_name, _STRING)]
VariableText = Annotated[str, Leaf("a text", texts.template, _STRING)]

AuthMethod = Annotated[str, one_of("anonymous", "api_key", "session", "jwt")]
LegacyField = Annotated[str, one_of("history", "evaluation", "evaluationRunId", "stopNodeId", "analytics")]
JwtAlgorithm = Annotated[
    str, one_of("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
]
