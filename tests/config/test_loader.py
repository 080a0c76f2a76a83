from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.config import Address, Config, ConfigError, Mistake, Store, Url, load, parse_listen

SECRET = "s3cr3t-of-the-environment-0123456789"


def test_one_upstream_and_one_route_are_a_whole_configuration_with_the_documented_defaults(loaded, tmp_path):
    config = loaded()
    assert config.server.listen == (Address("127.0.0.1", 8080),)
    assert (config.server.workers, config.server.trusted_proxies) == (1, ())
    assert (config.server.max_body, config.server.buffered_bodies) == (50 * 2**20, 512 * 2**20)
    timeouts = config.server.timeouts
    assert (timeouts.headers, timeouts.body_idle, timeouts.keep_alive, timeouts.send) == (10, 30, 75, 30)
    assert (config.server.max_connections, config.server.max_connections_per_address) == (10000, 200)
    assert (config.server.drain, config.server.drain_delay) == (30, 0)
    assert config.admin.listen == Address("127.0.0.1", 9090)
    assert not config.admin.token
    upstream = config.upstreams["main"]
    assert [server.url for server in upstream.servers] == [Url("http", "127.0.0.1", 3000)]
    deadlines = upstream.timeouts
    assert (deadlines.connect, deadlines.head, deadlines.first_event) == (5, 30, 120)
    assert (deadlines.idle, deadlines.total) == (120, 1800)
    assert (upstream.max_connections, upstream.tls.ca, upstream.public_url) == (1000, None, None)
    assert not upstream.api_key
    assert config.auth.secret == ()
    assert config.auth.keys_file == tmp_path / "keys.yaml"
    assert (config.auth.session_tokens.ttl, config.auth.session_tokens.max_ttl) == (900, 86400)
    assert (config.limits.store, config.limits.when_store_fails, config.limits.shadow) == (
        Store(),
        "local",
        False,
    )
    assert (config.logs.format, config.logs.level, config.logs.prompts) == ("auto", "info", False)
    assert config.metrics.per_caller is False
    assert config.defaults_cors is None


def test_a_route_has_the_documented_defaults(loaded):
    (route,) = loaded().routes
    assert (route.name, route.upstream, route.auth) == ("support", "main", frozenset({"anonymous"}))
    assert route.chatflow == "2c5e8d0a-1111-4222-8333-444455556666"
    assert (route.limits, route.cors, dict(route.vars)) == ((), None, {})
    assert (route.conversations.when_busy, route.conversations.wait) == ("wait", 30)
    assert route.override_config.allow == {"sessionId"}
    assert (route.body.allow, route.body.unknown) == (frozenset(), "pass")
    assert (route.max_body, route.max_question, route.max_word) == (2**20, 20000, 2000)
    assert (route.uploads, route.events.withhold, route.heartbeat) == (False, frozenset(), 45)
    assert (route.on_disconnect, route.chatbot_config) == ("abort", "public")


def test_what_is_written_is_read(loaded):
    config = loaded(
        """
        server:
          listen: "[::1]:80"
          trusted_proxies: [10.0.0.0/8, "fd00::/8"]
          timeouts: {headers: 500ms}
        admin: {listen: "0.0.0.0:9090", token: "${TOKEN}"}
        logs: {format: console, level: debug, prompts: true}
        """,
        upstream="public_url: https://flows.example.com",
        route="""
        cors: {origins: ["https://app.example.com", "http://localhost:5173"]}
        events: {withhold: [agentFlowExecutedData, custom:mine]}
        body: {allow: [history], unknown: refuse}
        chatbot_config: off
        heartbeat: 0s
        """,
        environ={"TOKEN": SECRET},
    )
    assert config.server.listen == (parse_listen("[::1]:80"),)
    assert config.server.trusted_proxies == (
        ipaddress.ip_network("10.0.0.0/8"),
        ipaddress.ip_network("fd00::/8"),
    )
    assert (config.server.timeouts.headers, config.server.timeouts.send) == (0.5, 30)
    assert config.admin.token.get_secret_value() == SECRET
    assert (config.logs.format, config.logs.level, config.logs.prompts) == ("console", "debug", True)
    assert config.upstreams["main"].public_url.netloc == "flows.example.com"
    (route,) = config.routes
    assert route.cors.origins == ("https://app.example.com", "http://localhost:5173")
    assert route.events.withhold == {"agentFlowExecutedData", "mine"}
    assert (route.body.allow, route.body.unknown) == ({"history"}, "refuse")
    assert (route.chatbot_config, route.heartbeat) == ("off", 0)


def test_cors_answers_a_listed_origin_with_itself_and_a_star_with_a_star(loaded):
    listed = loaded(route="cors: {origins: [https://a.example.com]}").routes[0].cors
    assert listed.allowed("https://a.example.com") == "https://a.example.com"
    assert listed.allowed("https://b.example.com") is None
    assert loaded(route='cors: {origins: ["*"]}').routes[0].cors.allowed("https://b.example.com") == "*"


def test_a_configuration_never_changes(loaded):
    with pytest.raises(ValidationError):
        loaded().server.workers = 2


def test_secrets_are_in_no_repr(loaded):
    config = loaded('admin: {token: "${SECRET}"}', upstream="api_key: ${SECRET}", environ={"SECRET": SECRET})
    assert config.upstreams["main"].api_key.get_secret_value() == SECRET
    assert SECRET not in repr(config)
    assert SECRET not in str(config)


def test_a_placeholder_is_converted_to_the_type_of_its_key(loaded):
    config = loaded(
        "server: {max_connections: '${N}', max_body: '${S}', drain: '${D}', listen: '${L}'}",
        route="uploads: ${B}",
        environ={"N": "5", "S": "2MiB", "D": "5s", "L": "localhost:1", "B": "true"},
    )
    assert (config.server.max_connections, config.server.max_body, config.server.drain) == (5, 2 * 2**20, 5)
    assert config.server.listen == (Address("localhost", 1),)
    assert config.routes[0].uploads is True


def test_all_mistakes_are_reported_at_once_in_the_order_of_the_file(mistakes):
    found = mistakes(
        """
        server:
          listen: 8080
          workerz: 1
        admin: {listen: "0.0.0.0:9090"}
        """,
        upstream="api_key: ${UNSET}",
        route="""
        max_body: 60MiB
        max_body: 1MiB
        limits: [{name: a, requests: 3, per: x}]
        """,
        auth="[anonymus]",
    )
    assert [mistake.key for mistake in found] == [
        "server.listen",
        "server.workerz",
        "admin.token",
        "upstreams.main.api_key",
        "routes[0].auth[0]",
        "routes[0].max_body",
        "routes[0].max_body",
        "routes[0].limits[0].per",
    ]
    assert [mistake.line for mistake in found] == sorted(mistake.line for mistake in found)


def test_a_mistake_reads_file_line_key_and_what_would_be_right(mistakes, tmp_path):
    (mistake,) = mistakes("server: {drain: 30}")
    assert isinstance(mistake, Mistake)
    assert str(mistake) == (
        f"{tmp_path / 'gateway.yaml'}:1: server.drain: "
        '"30" has no unit: write one after the number, like 30s or 500ms'
    )


def test_the_text_of_the_error_has_all_mistakes(write):
    with pytest.raises(ConfigError) as caught:
        load(write("server: {drain: 30, drain_delay: x}"), {})
    assert str(caught.value).splitlines() == [str(mistake) for mistake in caught.value.mistakes]
    assert len(caught.value.mistakes) == 2


def test_a_file_that_is_not_there_is_a_mistake(tmp_path):
    with pytest.raises(ConfigError, match=r"missing\.yaml:1: the file cannot be read"):
        load(tmp_path / "missing.yaml", {})


def test_a_configuration_in_the_working_directory_finds_its_files_there(write, monkeypatch):
    path = write()
    monkeypatch.chdir(path.parent)
    config = load(Path("gateway.yaml"), {})
    assert isinstance(config, Config)
    assert config.auth.keys_file == Path("keys.yaml")
