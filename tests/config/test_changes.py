"""What a running gateway makes of another configuration: what waits for a restart, and what stays with it."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config import load
from gateway.config.changes import change
from tests.harness.gateway import configuration

SECRET = "a secret of thirty-two bytes or more"
SHARED = {"auth": {"secret": SECRET}, "limits": {"store": "redis://h:1/0"}}


@pytest.fixture
def config(tmp_path):
    """`config(**sections)`, as for `configuration`."""

    def make(**sections):
        path = tmp_path / "gateway.yaml"
        path.write_text(yaml.safe_dump(configuration("http://127.0.0.1:1", **sections)))
        return load(path, {})

    return make


def test_the_same_changes_nothing(config):
    found = change(config(), config())
    assert (found.config, found.needs_restart, found.changed) == (config(), (), ())


def test_changes_are_named_by_section_and_key_upstreams_and_routes_by_name(config):
    wanted = config(
        logs={"level": "debug"},
        server={"timeouts": {"body": "5s"}},
        upstreams={"main": {"api_key": "k"}, "new": {"servers": [{"url": "http://h"}]}},
        route={"name": "talk"},
    )
    found = change(config(), wanted)
    assert found.config == wanted
    assert found.changed == (
        "server.timeouts",
        "upstreams.main",
        "upstreams.new",
        "logs.level",
        "routes.chat",
        "routes.talk",
    )


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("server", "listen", "127.0.0.1:5"), ("server", "workers", 2), ("admin", "listen", "127.0.0.1:6")],
)
def test_what_a_process_has_opened_stays(config, section, key, value):
    running, wanted = (
        config(**SHARED),
        config(**{**SHARED, section: {key: value}}, metrics={"per_caller": True}),
    )
    found = change(running, wanted)
    assert found.needs_restart == (f"{section}.{key}",)
    assert found.changed == ("metrics.per_caller",)
    assert getattr(getattr(found.config, section), key) == getattr(getattr(running, section), key)
    assert change(found.config, running).needs_restart == ()


def test_the_kind_of_the_store_stays_with_its_certificates_its_address_follows(config):
    memory, shared = config(auth={"secret": SECRET}), config(**SHARED)
    assert change(memory, shared).needs_restart == ("limits.store",)
    assert change(memory, shared).config.limits.store == memory.limits.store
    assert change(shared, memory).config.limits.store == shared.limits.store
    moved = config(auth={"secret": SECRET}, limits={"store": "redis://other:1/0"})
    assert change(shared, moved).config == moved


def test_an_admin_port_that_others_reach_keeps_its_token(config):
    running = config(admin={"listen": "0.0.0.0:9090", "token": "t"})
    found = change(running, config(admin={"listen": "127.0.0.1:9090"}))
    assert found.needs_restart == ("admin.listen", "admin.token")
    assert found.config.admin == running.admin
    local, open_to_all = config(admin={"token": "t"}), config()
    assert change(local, open_to_all).config.admin.token.get_secret_value() == ""
    assert change(local, open_to_all, is_admin_local=False).needs_restart == ("admin.token",)  # by systemd
    other = change(running, config(admin={"listen": "127.0.0.1:9090", "token": "other"}))
    assert other.config.admin.token.get_secret_value() == "other"


def test_processes_that_share_conversations_keep_their_secret(config):
    running = config(server={"workers": 2}, **SHARED)
    found = change(running, config())
    assert found.needs_restart == ("auth.secret", "limits.store", "server.workers")
    assert found.config.auth.secret == running.auth.secret
    assert change(config(auth={"secret": SECRET}), config()).config.auth.secret == ()


SECTIONS = st.fixed_dictionaries(
    {
        "server": st.fixed_dictionaries(
            {"workers": st.sampled_from([1, 3]), "listen": st.sampled_from(["127.0.0.1:1", "127.0.0.1:2"])}
        ),
        "admin": st.sampled_from(
            [
                {"listen": "127.0.0.1:3"},
                {"listen": "0.0.0.0:4", "token": "t"},
                {"listen": "127.0.0.1:5", "token": "u"},
            ]
        ),
        "auth": st.sampled_from([{}, {"secret": SECRET}]),
        "limits": st.sampled_from([{}, {"store": "redis://h:1/0"}, {"store": "rediss://h:1/0"}]),
    }
)


@settings(max_examples=20)
@given(st.lists(SECTIONS, min_size=2, max_size=6))
def test_whatever_follows_what_runs_is_a_configuration_that_the_checks_allow(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("changes") / "gateway.yaml"
    running = None
    for drawn in steps:
        sections = drawn
        if drawn["server"]["workers"] > 1 or "store" in drawn["limits"]:
            sections = {
                **drawn,
                "auth": {"secret": SECRET},
                "limits": {"store": "redis://h:1/0", **drawn["limits"]},
            }
        path.write_text(yaml.safe_dump(configuration("http://127.0.0.1:1", **sections)))
        wanted = load(path, {})
        running = wanted if running is None else change(running, wanted).config
        assert running.admin.listen.is_loopback or running.admin.token.get_secret_value()
        needs_secret = running.server.workers > 1 or running.limits.store.is_shared
        assert running.auth.secret or not needs_secret
        assert running.server.workers == 1 or running.limits.store.is_shared
