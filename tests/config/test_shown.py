"""The configuration without secrets: none of them is in it, and everything else is, as the file has it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from gateway.config import load
from gateway.config.shown import REDACTED, fingerprint, shown
from tests.harness.gateway import configuration

FULL = Path(__file__).parents[2] / "config" / "gateway.full.yaml"
ENVIRONMENT = {"ADMIN_TOKEN": "HIDE-1", "GATEWAY_SECRET": "HIDE-2" * 9, "FLOWISE_API_KEY": "HIDE-3"}


@pytest.fixture
def written(tmp_path):
    def write(**sections):
        path = tmp_path / "gateway.yaml"
        path.write_text(yaml.safe_dump(configuration("http://127.0.0.1:1", **sections)))
        return load(path, {})

    return write


def test_the_whole_configuration_is_shown_without_its_secrets():
    found = shown(load(FULL, ENVIRONMENT))
    assert "HIDE" not in json.dumps(found)
    assert found["admin"]["token"] == found["upstreams"]["main"]["api_key"] == REDACTED
    assert (found["server"]["max_body"], found["server"]["drain"]) == ("50MiB", "30s")


def test_what_is_not_set_is_empty(written):
    found = shown(written())
    assert (found["admin"]["token"], found["auth"]["secret"]) == ("", [])
    assert (found["upstreams"]["main"]["public_url"], found["upstreams"]["main"]["tls"]["ca"]) == ("", "")


@pytest.mark.parametrize(
    ("store", "expected"),
    [
        ("redis://h:1/0", "redis://h:1/0"),
        ("rediss://user:HIDE@h:1/0", "rediss://***@h:1/0"),
        ("unix:///run/r.sock?password=HIDE", "unix:///run/r.sock?***"),
        ("memory", "memory"),
    ],
)
def test_the_store_is_shown_without_its_password(written, store, expected):
    config = written(limits={"store": store}, auth={"secret": "a secret of thirty-two bytes or more"})
    assert shown(config)["limits"]["store"] == expected


def test_a_query_of_an_issuer_and_the_texts_of_vars_are_redacted(written):
    issuer = {"issuer": "https://id", "audience": "chat", "jwks_url": "https://id/jwks?key=HIDE"}
    route = {"vars": {"token": "HIDE", "mixed": "HIDE {caller}", "caller": "{caller}{route}"}}
    found = shown(written(auth={"jwt": [issuer]}, route=route))
    assert found["auth"]["jwt"][0]["jwks_url"] == "https://id/jwks?***"
    assert found["routes"][0]["vars"] == {"token": "***", "mixed": "***", "caller": "{caller}{route}"}


def test_limits_are_written_as_in_the_file(written):
    limit = {"name": "few", "requests": 3, "per": "1m"}
    (found,) = shown(written(route={"limits": [limit]}))["routes"][0]["limits"]
    assert {key: found[key] for key in limit} == limit


def test_equal_configurations_have_equal_fingerprints_and_others_do_not(written):
    one, same, other = shown(written()), shown(written()), shown(written(route={"name": "talk"}))
    assert fingerprint(one) == fingerprint(same) == fingerprint(json.loads(json.dumps(one)))
    assert fingerprint(one) != fingerprint(other)
