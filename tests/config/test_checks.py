from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import ConfigError, load, read, usable

AUTHORITY = (Path(__file__).parents[1] / "harness" / "certs" / "ca.pem").read_text()
SECRET = "x" * 32
CHATFLOW = "2c5e8d0a-1111-4222-8333-444455556666"


@pytest.mark.parametrize(
    ("server", "admin"),
    [
        ("127.0.0.1:9090", ""),
        ("0.0.0.0:9090", ""),
        ("localhost:9090", ""),
        ("127.0.0.1:8080", "admin: {listen: 127.0.0.1:8080}"),
        ("'[::]:8080'", "admin: {listen: '[::1]:8080'}"),
    ],
)
def test_two_listeners_on_one_address_are_a_mistake(messages, server, admin):
    found = messages(f"server: {{listen: {server}}}\n{admin}")
    assert found == {"admin.listen": "overlaps server.listen: write another port"}


def test_listeners_on_ports_that_the_system_chooses_do_not_meet(loaded):
    assert loaded("server: {listen: 127.0.0.1:0}\nadmin: {listen: 127.0.0.1:0}")


@pytest.mark.parametrize("listen", ["0.0.0.0:9090", "10.0.0.1:9090", "'[::]:9090'", "gateway:9090"])
@pytest.mark.parametrize("token", ["", ", token: ''", ", token: '${T:-}'"])
def test_an_admin_listener_that_others_reach_needs_a_token(messages, listen, token):
    found = messages(f"admin: {{listen: {listen}{token}}}")
    assert found == {
        "admin.token": "is required unless only this machine can reach admin.listen: write token:"
        ' "${ADMIN_TOKEN}" and set that variable, or write listen: 127.0.0.1:9090'
    }


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "'[::1]:1'", "localhost:1"])
def test_an_admin_listener_on_loopback_needs_no_token(loaded, listen):
    assert not loaded(f"admin: {{listen: {listen}}}").admin.token


def test_an_unset_admin_token_is_one_mistake(messages):
    found = messages('admin: {listen: "0.0.0.0:9090", token: "${UNSET}"}')
    assert found == {
        "admin.token": "environment variable UNSET is not set: set it, for example to the output of `openssl rand -hex 32`"
    }


def test_several_workers_do_not_share_memory_and_need_a_secret(messages):
    found = messages("server: {workers: 4}")
    assert found["server.workers"] == (
        "several workers need a shared store, and limits.store is memory by default: write"
        " limits: {store: redis://127.0.0.1:6379/0} at the top level, or workers: 1"
    )
    assert found["auth.secret"].startswith("is required with several workers: write auth: {secret: ")
    assert found["auth.secret"].endswith(", or workers: 1 in place of the workers in line 1")


def test_a_shared_store_needs_a_secret(messages):
    found = messages("limits: {store: 'redis://h:6379/0'}")
    assert found["auth.secret"].startswith("is required with a shared store: write auth: {secret: ")
    assert found["auth.secret"].endswith("`openssl rand -hex 32`")  # one worker needs it too
    assert "limits.store" not in found


def test_several_workers_share_a_store(messages):
    found = messages("server: {workers: 4}\nlimits: {store: 'redis://h:6379/0'}")
    assert "limits.store" not in found


def test_workers_of_the_command_line_count_as_if_they_stood_in_the_file(write):
    shared = f"limits: {{store: 'redis://h:6379/0'}}\nauth: {{secret: {SECRET}}}"
    assert load(write(shared), {}, {"server.workers": "3"}).server.workers == 3
    assert load(write("server: {workers: 4}"), {}, {"server.workers": "1"}).server.workers == 1
    with pytest.raises(ConfigError) as refused:
        load(write("server: {workers: 1}"), {}, {"server.workers": "2"})
    assert {mistake.key for mistake in refused.value.mistakes} == {"server.workers", "auth.secret"}


@pytest.mark.parametrize("secret", ["''", "[]"])
def test_an_empty_secret_is_none(messages, secret):
    found = messages(f"limits: {{store: 'redis://h:6379/0'}}\nauth: {{secret: {secret}}}")
    assert found["auth.secret"].startswith(
        'is required with a shared store: write secret: "${GATEWAY_SECRET}" and'
    )


@pytest.mark.parametrize(
    ("top", "keys"),
    [
        ("admin: {listen: x}", {"admin.listen"}),
        ("admin: {listen: [x]}", {"admin.listen"}),
        ("server: {listen: {}}", {"server.listen"}),
        ("server: {workers: x}", {"server.workers"}),
        ("limits: {store: [x]}", {"limits.store"}),
        ("auth: {session_tokens: {ttl: []}}", {"auth.session_tokens.ttl"}),
        ("auth: {session_tokens: 5}", {"auth.session_tokens"}),
        ("auth: 5", {"auth"}),
    ],
)
def test_a_value_of_the_wrong_shape_contradicts_nothing(messages, top, keys):
    assert set(messages(top)) == keys


@pytest.mark.parametrize("servers", ["5", "[5]", "[{}]", "[{url: []}]", "[{url: x}]"])
def test_servers_of_the_wrong_shape_do_not_judge_their_authority(raw_mistakes, tmp_path, servers):
    (tmp_path / "ca.pem").write_text(AUTHORITY)
    found = raw_mistakes(f"upstreams: {{main: {{servers: {servers}, tls: {{ca: ca.pem}}}}}}\nroutes: []\n")
    assert all(mistake.key.startswith(("upstreams.main.servers", "routes")) for mistake in found)


@pytest.mark.parametrize("secret", [SECRET, f"[{SECRET}, {SECRET}]"])
def test_a_written_secret_is_a_secret(loaded, secret):
    config = loaded(f"limits: {{store: 'redis://h:6379/0'}}\nauth: {{secret: {secret}}}")
    assert {one.get_secret_value() for one in config.auth.secret} == {SECRET}


def test_an_unset_secret_is_one_mistake(messages):
    found = messages("limits: {store: 'redis://h:6379/0'}\nauth: {secret: \"${UNSET}\"}")
    assert found == {
        "auth.secret": "environment variable UNSET is not set: set it, for example to the output of `openssl rand -hex 32`"
    }


def test_session_tokens_live_no_longer_than_they_may(messages, loaded):
    found = messages("auth: {session_tokens: {ttl: 2d}}")
    assert found["auth.session_tokens.ttl"] == "is longer than max_ttl: write at most that, or raise max_ttl"
    assert loaded("auth: {session_tokens: {ttl: 1h, max_ttl: 1h}}").auth.session_tokens.ttl == 3600
    assert "auth.session_tokens.ttl" not in messages("auth: {session_tokens: {ttl: 1h, max_ttl: x}}")


def test_an_authority_without_an_https_server_is_a_mistake(messages, tmp_path):
    (tmp_path / "ca.pem").write_text(AUTHORITY)
    found = messages(upstream="tls: {ca: ca.pem}")
    assert found["upstreams.main.tls.ca"].startswith("is for https servers only: write https")


def test_an_authority_is_found_beside_the_file(tmp_path):
    path = tmp_path / "gateway.yaml"
    (tmp_path / "ca.pem").write_text(AUTHORITY)
    path.write_text(
        "upstreams: {main: {servers: [{url: 'https://h'}], tls: {ca: ca.pem}}}\n"
        f"routes: [{{name: a, chatflow: {CHATFLOW}, upstream: main, auth: [anonymous]}}]\n"
    )
    assert load(path, {}).upstreams["main"].tls.ca == tmp_path / "ca.pem"


def _issuers(*names):
    entries = ", ".join(f"{{issuer: '{name}', audience: a, jwks_url: 'https://i/jwks'}}" for name in names)
    return f"auth: {{jwt: [{entries}]}}"


def test_one_issuer_twice_is_a_mistake(messages):
    found = messages(_issuers("https://a", "https://b", "https://a"))
    assert found == {
        "auth.jwt[2].issuer": "is the same as in another entry, in line 1: write a different one"
    }


@pytest.mark.parametrize("store", ["redis://h:6379/0", "memory", "unix:///run/x.sock"])
def test_an_authority_without_a_tls_store_is_a_mistake(messages, tmp_path, store):
    (tmp_path / "ca.pem").write_text(AUTHORITY)
    found = messages(f"limits: {{store: '{store}', tls: {{ca: ca.pem}}}}\nauth: {{secret: {SECRET}}}")
    assert found == {
        "limits.tls.ca": "is for rediss:// stores only: write rediss:// in limits.store, or leave it out"
    }


@pytest.mark.parametrize("content", ["", "certificates", AUTHORITY.replace("MII", "xxx")])
def test_an_authority_that_holds_no_certificate_is_a_mistake(messages, tmp_path, content):
    (tmp_path / "ca.pem").write_text(content)
    found = messages(upstream="tls: {ca: ca.pem}")
    said = '"ca.pem" holds no certificate: write a file in PEM form, with BEGIN CERTIFICATE'
    assert said in found["upstreams.main.tls.ca"].splitlines()


def test_an_authority_for_a_tls_store_is_right(loaded, tmp_path):
    (tmp_path / "ca.pem").write_text(AUTHORITY)
    assert loaded(
        f"limits: {{store: 'rediss://h:6379/0', tls: {{ca: ca.pem}}}}\nauth: {{secret: {SECRET}}}"
    ).limits.tls.ca


@pytest.mark.parametrize(
    ("url", "right"),
    [
        ("http://h:3000/api/v1", "write http://h:3000"),
        ("http://h:3000/api/v1/", "write http://h:3000"),
        (f"http://h:3000/api/v1/prediction/{CHATFLOW}", "write http://h:3000"),
        (f"https://h/flows/api/v1/prediction/{CHATFLOW}", "write https://h/flows"),
        (f"http://h:3000/chatbot/{CHATFLOW}", "write http://h:3000"),
        (f"http://h:3000/v2/agentcanvas/{CHATFLOW}", "write http://h:3000"),
    ],
)
def test_a_url_that_ends_in_a_path_of_flowise_is_a_mistake_with_the_right_url(messages, url, right):
    found = messages(f"upstreams: {{main: {{servers: [{{url: '{url}'}}]}}}}")
    said = f"…): {right}"
    assert said in "\n".join(found.values())


def test_a_configuration_that_cannot_work_can_be_examined_and_not_used(write):
    path = write()
    path.write_text(path.read_text().replace("http://127.0.0.1:3000", "http://127.0.0.1:3000/api/v1"))
    reading = read(path, {})
    assert str(reading.config.upstreams["main"].servers[0].url) == "http://127.0.0.1:3000/api/v1"
    with pytest.raises(ConfigError, match="contains a path of Flowise"):
        usable(reading)


def test_a_url_of_the_environment_is_not_shown(messages, write, tmp_path):
    path = write()
    path.write_text(path.read_text().replace("http://127.0.0.1:3000", "'${URL}'"))
    with pytest.raises(ConfigError) as caught:
        load(path, {"URL": "http://intranet/api/v1/prediction/x"})
    (mistake,) = caught.value.mistakes
    assert mistake.message == (
        'the value of "${URL}" contains a path of Flowise (/api…): leave out everything from /api on'
    )


def test_a_discovery_document_is_no_key_set(messages):
    url = "https://i/.well-known/openid-configuration"
    found = messages(f"auth: {{jwt: [{{issuer: i, audience: a, jwks_url: '{url}'}}]}}")
    assert found == {
        "auth.jwt[0].jwks_url": "is the discovery document: write the URL that it has as jwks_uri"
    }


@pytest.mark.parametrize("top", ["auth: {<<: {secret: x}}", "<<: {auth: {secret: x}}"])
def test_what_a_merge_may_have_brought_is_not_missing(messages, top):
    found = messages(f"server: {{workers: 2}}\nlimits: {{store: 'redis://h:6379/0'}}\n{top}")
    assert all("`<<` is not supported" in said for said in found.values())
