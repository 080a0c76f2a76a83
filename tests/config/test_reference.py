"""config/README.md: every key is described, and the examples are valid."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from gateway.config import Config, load, schema_json
from tests.config.reference import FOLDER, README, readme, reference
from tests.config.test_shipped_files import keys_of_the_model

EXAMPLES = re.findall(r"```yaml\n(.*?)```", README.read_text(), re.DOTALL)


def test_the_reference_is_fresh():
    assert README.read_text() == readme(), "run: python -m tests.config.reference"


def test_every_key_has_a_row_with_a_type_and_a_sentence_and_no_other():
    rows = [line.strip("| \n").split(" | ") for line in reference().splitlines() if line.startswith("| `")]
    for key, kind, _, description in rows:
        assert kind, key
        assert re.fullmatch(r"[^.].*\.", description), key
    schema = json.loads(schema_json())
    known = {key for key in keys_of_the_model(schema, schema["$defs"]) if not key.startswith(".defaults")}
    assert {f".{key.strip('`')}" for key, *_ in rows} == {key for key in known if "." in key[1:]}


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_valid_at_the_top_or_in_a_route(tmp_path, example):
    keys = yaml.safe_load(example)
    small = yaml.safe_load((FOLDER / "gateway.yaml").read_text())
    is_of_a_route = not keys.keys() <= Config.model_fields.keys() or isinstance(keys.get("limits"), list)
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.dump(small | ({"defaults": keys} if is_of_a_route else keys)))
    assert load(path, {"GATEWAY_SECRET": "x" * 32})


def test_links_lead_to_files():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README.read_text()):
        assert (FOLDER / target).exists(), target


def test_keys_in_the_text_exist():
    known = set(re.findall(r"^\| `(?:routes\[\]\.)?([^`]+)`", reference(), re.MULTILINE))
    text = README.read_text().partition("## Every key")[0]
    named = re.findall(r"`((?:server|auth|limits|override_config|body|events)\.[a-z_.]+)`", text)
    assert len(named) > 5
    assert set(named) <= known | {"limits.tls"}
