"""The files in config/: they load, they are complete, and the JSON Schema is fresh."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from gateway.config import Config, load, schema_json

FOLDER = Path(__file__).parents[2] / "config"
_COMMENTED_OUT = re.compile(r"^#(?=[^# ]|  )", re.MULTILINE)


def everything() -> str:
    """The full configuration, including the keys that are commented out."""
    return _COMMENTED_OUT.sub("", (FOLDER / "gateway.full.yaml").read_text())


def keys_of_the_model(schema, definitions, path=""):
    """The paths of all keys, lists as [] and names in mappings as *."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rsplit("/", 1)[1]]
    for variant in schema.get("anyOf", ()):
        yield from keys_of_the_model(variant, definitions, path)
    for key, below in schema.get("properties", {}).items():
        yield f"{path}.{key}"
        yield from keys_of_the_model(below, definitions, f"{path}.{key}")
    if "items" in schema:
        yield from keys_of_the_model(schema["items"], definitions, f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from keys_of_the_model(schema["additionalProperties"], definitions, f"{path}.*")
    for below in schema.get("patternProperties", {}).values():
        yield from keys_of_the_model(below, definitions, f"{path}.*")


def keys_of(value, path=""):
    """The same paths of a file."""
    if isinstance(value, dict):
        for key, below in value.items():
            name = "*" if path in (".upstreams", ".routes[].vars") else key
            if name == key:
                yield f"{path}.{key}"
            yield from keys_of(below, f"{path}.{name}")
    elif isinstance(value, list):
        for below in value:
            yield from keys_of(below, f"{path}[]")


@pytest.mark.parametrize("name", ["gateway.yaml", "gateway.full.yaml"])
def test_a_shipped_configuration_loads(name):
    config = load(FOLDER / name, {})
    assert isinstance(config, Config)
    assert [route.name for route in config.routes] == ["support"]


def test_the_full_configuration_shows_the_defaults():
    full, small = load(FOLDER / "gateway.full.yaml", {}), load(FOLDER / "gateway.yaml", {})
    shown = full.routes[0].model_copy(update={"cors": None})
    assert full.model_copy(update={"routes": (shown,)}) == small


def test_the_full_configuration_has_every_key_and_no_other():
    schema = json.loads(schema_json())
    known = {key for key in keys_of_the_model(schema, schema["$defs"]) if not key.startswith(".defaults.")}
    written = {key for key in keys_of(yaml.safe_load(everything())) if not key.startswith(".defaults.")}
    assert written == known
    assert len(known) > 90


def test_keys_that_are_commented_out_are_valid(tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_text(everything())
    route = load(path, {"GATEWAY_SECRET": "x" * 32}).routes[0]
    assert [limit.name for limit in route.limits] == ["burst", "daily", "open"]
    assert route.vars == {"userId": "{caller}", "tenant": "{claims.tenant:-none}"}


def test_the_json_schema_is_fresh():
    assert (FOLDER / "gateway.schema.json").read_text() == schema_json(), (
        "run: python -m tests.config.reference"
    )


def test_the_json_schema_is_always_the_same_and_ends_its_last_line():
    assert schema_json() == schema_json()
    assert schema_json().endswith("}\n")


def test_the_json_schema_shows_defaults_as_they_are_written():
    sections = json.loads(schema_json())["$defs"]
    assert sections["UpstreamTimeouts"]["properties"]["first_event"]["default"] == "2m"
    assert sections["AdminSettings"]["properties"]["listen"]["default"] == "127.0.0.1:9090"
    assert sections["AuthSettings"]["properties"]["keys_file"]["default"] == "keys.yaml"
    assert "default" not in sections["Limit"]["properties"]["requests"]


def test_the_json_schema_takes_a_placeholder_wherever_a_form_is_asked_for():
    workers = json.loads(schema_json())["$defs"]["ServerSettings"]["properties"]["workers"]
    assert workers["anyOf"] == [{"minimum": 1, "type": "integer"}, {"pattern": r"\$\{.+\}", "type": "string"}]
