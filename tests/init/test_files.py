"""The files that `init` writes: a configuration that is valid for any chatflows, and an environment for any shell."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import load
from gateway.config.addresses import parse_url
from gateway.flowise.chatflows import Chatflow
from gateway.init.files import RouteAccess, config_text, environment_text, plan, shell_value
from tests.harness import bounds

URL = parse_url("http://127.0.0.1:3000")
SECRETS = {"GATEWAY_SECRET": "s" * 64, "FLOWISE_API_KEY": "flowise-key"}


def flow(number, name, key_id=""):
    return Chatflow(f"{number:08}-0000-4000-8000-000000000000", name, key_id=key_id)


def planned(*flows, access=RouteAccess(), environ=()):
    return plan(URL, access, flows, SECRETS, dict(environ))


def loaded(plan, folder):
    path = folder / "gateway.yaml"
    path.write_text(config_text(plan))
    return load(path, dict(plan.secrets))


def test_each_chatflow_has_a_route_that_needs_an_api_key(tmp_path):
    config = loaded(planned(flow(1, "Support"), flow(2, "Yes")), tmp_path)
    assert [(route.name, route.auth, route.upstream) for route in config.routes] == [
        *(("support", {"api_key"}, "main"), ("yes", {"api_key"}, "main"))
    ]
    assert config.upstreams["main"].api_key.get_secret_value() == "flowise-key"
    assert config.auth.secret[0].get_secret_value() == "s" * 64
    assert config.routes[0].cors is None


def test_public_routes_have_origins(tmp_path):
    access = RouteAccess(is_public=True, origins=("https://a.example", "*"))
    (route,) = loaded(planned(flow(1, "Support"), access=access), tmp_path).routes
    assert route.auth == {"anonymous"}
    assert set(route.cors.origins) == {"https://a.example", "*"}


def test_chatflows_with_the_same_key_of_their_own_share_an_upstream(tmp_path):
    flows = flow(1, "A b", "k1"), flow(2, "B"), flow(3, "C", "k1"), flow(4, "D", "k2")
    made = planned(*flows, environ={"FLOWISE_API_KEY_D": "known", "FLOWISE_API_KEY_B": "not needed"})
    config = loaded(made, tmp_path)
    assert [route.upstream for route in config.routes] == ["main-a-b", "main", "main-a-b", "main-d"]
    assert config.upstreams["main-d"].api_key.get_secret_value() == "known"
    assert config.upstreams["main-a-b"].api_key.get_secret_value() == ""
    assert [route.variable for route in made.missing] == ["FLOWISE_API_KEY_A_B"]
    text = environment_text(made)
    assert '# the API key that "A b" needs in Flowise:\nFLOWISE_API_KEY_A_B=\n' in text
    assert "FLOWISE_API_KEY_B=" not in text


@given(
    names=st.lists(st.text(max_size=80), min_size=1, max_size=8),
    keys=st.lists(st.sampled_from(["", "a", "b"])),
)
def test_the_configuration_is_valid_whatever_the_chatflows_are_called(tmp_path_factory, names, keys):
    flows = [flow(n, name, (keys + [""] * 8)[n]) for n, name in enumerate(names)]
    config = loaded(planned(*flows), tmp_path_factory.getbasetemp())
    assert len(config.routes) == len(names)


def test_the_environment_can_be_shown_without_its_values():
    shown = environment_text(planned(flow(1, "A")), is_hidden=True)
    assert "GATEWAY_SECRET=***\nFLOWISE_API_KEY=***\n" in shown


@pytest.mark.parametrize("value", ["", "plain-Key_1=", 'it\'s $HOME `x` "y" \\ #!'])
def test_a_shell_reads_the_value_that_was_meant(tmp_path, value):
    path = tmp_path / ".env"
    path.write_text(f"X={shell_value(value)}\n")
    script = f'set -a; . "{path}"; set +a; printf %s "$X"'
    done = subprocess.run(
        ["/bin/sh", "-c", script], check=False, capture_output=True, text=True, timeout=bounds.STEP
    )
    assert done.stdout == value
