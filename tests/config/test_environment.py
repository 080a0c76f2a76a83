"""Environment variables in the place of a file: the same configuration, the same checks, the name of the variable."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gateway.config import Address, ConfigError, UnixAddress, load, load_environment, schema_json
from gateway.config.environment import VARIABLES

ROOT = Path(__file__).parents[2]
CERTS = ROOT / "tests" / "harness" / "certs"
SUPPORT = "2c5e8d0a-1111-4222-8333-444455556666"
SALES = "3c5e8d0a-1111-4222-8333-444455556666"
SECRET = "a secret of thirty-two bytes or more"
REQUIRED = {
    "FLOWISE_URL": "http://flowise:3000",
    "GATEWAY_ROUTES": f"support={SUPPORT}",
    "GATEWAY_AUTH": "anonymous",
}
EVERY = {
    "FLOWISE_URL": "https://flowise:3000/prefix",
    "FLOWISE_API_KEY": "flowise-key",
    "GATEWAY_ROUTES": f"support={SUPPORT}, sales = {SALES}",
    "GATEWAY_AUTH": "api_key, session,jwt",
    "GATEWAY_CORS_ORIGINS": "https://a.example, https://b.example:8443",
    "GATEWAY_SECRET": SECRET,
    "GATEWAY_KEYS_FILE": "/keys.yaml",
    "GATEWAY_JWT_ISSUER": "https://id.example.com",
    "GATEWAY_JWT_AUDIENCE": "chat",
    "GATEWAY_JWT_JWKS_URL": "https://id.example.com/jwks.json",
    "GATEWAY_LISTEN": "0.0.0.0:8000, unix:/run/http.sock",
    "GATEWAY_TLS_CERTIFICATE": str(CERTS / "server.pem"),
    "GATEWAY_TLS_KEY": str(CERTS / "server-key.pem"),
    "GATEWAY_WORKERS": "3",
    "GATEWAY_TRUSTED_PROXIES": "10.0.0.0/8, fd00::/8",
    "GATEWAY_ADMIN_LISTEN": "0.0.0.0:9000",
    "GATEWAY_ADMIN_TOKEN": "admin-token",
    "GATEWAY_LIMITS_STORE": "redis://user:password@redis:6379/0",
    "GATEWAY_LOG_FORMAT": "json",
    "GATEWAY_LOG_LEVEL": "warning",
    "GATEWAY_TRACES_RATIO": "0.1",
}
SAME = f"""\
server:
  listen: ["0.0.0.0:8000", unix:/run/http.sock]
  workers: 3
  trusted_proxies: [10.0.0.0/8, "fd00::/8"]
  tls: {{certificate: {CERTS / "server.pem"}, key: {CERTS / "server-key.pem"}}}
admin: {{listen: "0.0.0.0:9000", token: admin-token}}
upstreams:
  main: {{servers: [{{url: "https://flowise:3000/prefix"}}], api_key: flowise-key}}
auth:
  secret: {SECRET}
  keys_file: /keys.yaml
  jwt: [{{issuer: "https://id.example.com", audience: chat, jwks_url: "https://id.example.com/jwks.json"}}]
limits: {{store: "redis://user:password@redis:6379/0"}}
logs: {{format: json, level: warning}}
traces: {{ratio: 0.1}}
defaults:
  auth: [api_key, session, jwt]
  cors: {{origins: ["https://a.example", "https://b.example:8443"]}}
routes:
  - {{name: support, chatflow: {SUPPORT}, upstream: main}}
  - {{name: sales, chatflow: {SALES}, upstream: main}}
"""


def mistakes(**changes):
    with pytest.raises(ConfigError) as refused:
        load_environment(REQUIRED | changes)
    return [str(mistake) for mistake in refused.value.mistakes]


def test_every_variable_is_read_as_its_key_in_a_file(tmp_path):
    assert set(EVERY) == {variable.name for variable in VARIABLES}
    path = tmp_path / "gateway.yaml"
    path.write_text(SAME)
    assert load_environment(EVERY) == load(path, {})


def test_three_variables_are_enough_and_the_rest_has_its_defaults(tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_text(
        'upstreams: {main: {servers: [{url: "http://flowise:3000"}]}}\n'
        'auth: {keys_file: ""}\n'
        "defaults: {auth: [anonymous]}\n"
        f"routes: [{{name: support, chatflow: {SUPPORT}, upstream: main}}]\n"
    )
    assert load_environment(REQUIRED) == load(path, {})


def test_an_empty_variable_counts_as_not_set():
    empty = {variable.name: "" for variable in VARIABLES}
    assert load_environment(empty | REQUIRED) == load_environment(REQUIRED)


@pytest.mark.parametrize("name", REQUIRED)
def test_a_variable_that_is_missing_is_named_once_with_what_it_is(name):
    (said,) = mistakes(**{name: ""})
    (variable,) = [variable for variable in VARIABLES if variable.name == name]
    assert said == f"{name}: is not set: it is {variable.description}"


def test_without_any_variable_all_ways_are_named():
    with pytest.raises(ConfigError) as refused:
        load_environment({"PATH": "/bin"})
    assert [str(mistake) for mistake in refused.value.mistakes] == [
        (
            "environment: there is no configuration: write --config FILE, or set FLOWISE_URL, GATEWAY_ROUTES, GATEWAY_AUTH;"
            " `flowise-gateway init --flowise URL` writes such a file"
        )
    ]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("FLOWISE_URL", "ftp://f", 'the value of "ftp://f" is not an http or https URL'),
        (
            "FLOWISE_URL",
            "http://u:p@f",
            'the value of "http://…@f" has credentials in it: leave them out, a key for Flowise belongs in FLOWISE_API_KEY',
        ),
        ("GATEWAY_AUTH", "anonymos", 'the value of "anonymos" is unknown: did you mean anonymous?'),
        (
            "GATEWAY_AUTH",
            "api_key",
            '"api_key" needs a keys file, and GATEWAY_KEYS_FILE is empty: set it, for example to keys.yaml',
        ),
        (
            "GATEWAY_AUTH",
            "jwt",
            '"jwt" needs an issuer: set GATEWAY_JWT_ISSUER, GATEWAY_JWT_AUDIENCE and GATEWAY_JWT_JWKS_URL',
        ),
        ("GATEWAY_CORS_ORIGINS", "https://a.example,b.example", 'the value of "b.example" is not an origin'),
        ("GATEWAY_LISTEN", "here", 'the value of "here" is not an address with a port'),
        ("GATEWAY_LISTEN", '"0.0.0.0:80"', 'the value of ""0.0.0.0:80"" '),
        ("GATEWAY_TRUSTED_PROXIES", "10.0.0.1/8", 'the value of "10.0.0.1/8" has bits set behind its mask'),
        ("GATEWAY_SECRET", "short", "the value is too short: write 32 bytes or more"),
        ("GATEWAY_LIMITS_STORE", "redis//p", "the value is not a store: write memory"),
        ("GATEWAY_WORKERS", "two", 'the value of "two" is not valid: write a whole number'),
        ("GATEWAY_LOG_LEVEL", "warn", 'the value of "warn" is unknown: did you mean warning?'),
        ("GATEWAY_JWT_ISSUER", "\x1bx", "has a control character or an unpaired surrogate: remove it"),
        ("GATEWAY_SECRET", SECRET + "\udcff", "has a control character or an unpaired surrogate"),
        (
            "GATEWAY_ROUTES",
            "support",
            'entry 1: "support" is not a route: write NAME=ID, like support=2c5e8d0a',
        ),
        ("GATEWAY_ROUTES", f"a={SUPPORT},", 'entry 2: "" is not a route'),
        ("GATEWAY_ROUTES", "a=x", 'entry 1, chatflow: the value of "x" is not a chatflow id: write the UUID'),
        ("GATEWAY_ROUTES", f"a b={SUPPORT}", 'entry 1, name: the value of "a b" is not a valid name'),
        (
            "GATEWAY_ROUTES",
            f"a={SUPPORT},a={SALES}",
            "entry 2, name: is the same as in another route, entry 1 of this variable: write a different one",
        ),
        ("GATEWAY_LISTN", "0.0.0.0:80", "is not a variable that is read: did you mean GATEWAY_LISTEN?"),
        ("GATEWAY_MAX_CONNECTIONS", "1", "is not a variable that is read: "),
    ],
)
def test_a_mistake_names_the_variable_and_what_would_be_right(name, text, said):
    (found,) = [line for line in mistakes(**{name: text}) if line.startswith(f"{name}: ")]
    assert found.startswith(f"{name}: {said}")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"GATEWAY_LISTEN": "127.0.0.1:9090"},
            ["GATEWAY_ADMIN_LISTEN: overlaps GATEWAY_LISTEN: write another port"],
        ),
        (
            {"GATEWAY_ADMIN_LISTEN": "0.0.0.0:9090"},
            [
                "GATEWAY_ADMIN_TOKEN: is required unless only this machine can reach GATEWAY_ADMIN_LISTEN: set it, or set GATEWAY_ADMIN_LISTEN to 127.0.0.1:9090",
            ],
        ),
        (
            {"GATEWAY_WORKERS": "2"},
            [
                "GATEWAY_SECRET: is required with several workers: set it to 32 bytes or more, for example from `openssl rand -hex 32`, or set GATEWAY_WORKERS to 1",
                "GATEWAY_WORKERS: several workers need a shared store, and GATEWAY_LIMITS_STORE is memory by default: set GATEWAY_LIMITS_STORE to redis://127.0.0.1:6379/0, or set GATEWAY_WORKERS to 1",
            ],
        ),
        (
            {"GATEWAY_TLS_CERTIFICATE": str(CERTS / "server.pem")},
            [
                "GATEWAY_TLS_KEY: is not set, and GATEWAY_TLS_CERTIFICATE is: set it to the file of the certificate's private key, like tls.key",
            ],
        ),
        (
            {"GATEWAY_TLS_KEY": str(CERTS / "server-key.pem")},
            [
                "GATEWAY_TLS_CERTIFICATE: is not set, and GATEWAY_TLS_KEY is: set it to the file of the certificate that the key is for, like tls.crt",
            ],
        ),
        (
            {"GATEWAY_TLS_KEY": "none.key", "GATEWAY_TLS_CERTIFICATE": str(CERTS / "server.pem")},
            [
                'GATEWAY_TLS_KEY: the value of "none.key" is not a readable file: write a path relative to the working folder',
            ],
        ),
        (
            {
                "GATEWAY_TLS_KEY": str(CERTS / "server-key.pem"),
                "GATEWAY_TLS_CERTIFICATE": str(CERTS / "server.pem"),
                "GATEWAY_LISTEN": "unix:/run/a.sock",
            },
            [
                "environment: GATEWAY_TLS_CERTIFICATE and GATEWAY_TLS_KEY are for HOST:PORT, and GATEWAY_LISTEN has Unix sockets only: add an address, or leave both out",
            ],
        ),
        (
            {"GATEWAY_JWT_ISSUER": "https://id.example.com"},
            [
                "GATEWAY_JWT_AUDIENCE: is missing: set it, for example to chat",
                "GATEWAY_JWT_JWKS_URL: is missing: set it, for example to https://id.example.com/jwks.json",
            ],
        ),
    ],
)
def test_variables_that_contradict_each_other_are_named(changes, said):
    assert mistakes(**changes) == said


def test_all_mistakes_are_named_at_once():
    found = mistakes(GATEWAY_ROUTES="a=x,b", GATEWAY_AUTH="nobody", GATEWAY_LISTEN="x", FLOWISE_URL="")
    assert {line.partition(":")[0] for line in found} == {*REQUIRED, "GATEWAY_LISTEN"}
    assert len(found) == 5


def test_a_secret_stands_in_no_message():
    secret = "hunter2 with a blank"
    changes = dict.fromkeys(
        ("FLOWISE_API_KEY", "GATEWAY_ADMIN_TOKEN", "GATEWAY_SECRET", "GATEWAY_LIMITS_STORE"), secret
    )
    found = mistakes(**changes)
    assert len(found) == 4
    assert "hunter2" not in "".join(found)


def test_what_kubernetes_sets_beside_a_service_named_gateway_is_no_mistake():
    of_kubernetes = {
        "GATEWAY_SERVICE_HOST": "10.0.0.1",
        "GATEWAY_SERVICE_PORT": "80",
        "GATEWAY_SERVICE_PORT_HTTP": "80",
        "GATEWAY_PORT": "tcp://10.0.0.1:80",
        "GATEWAY_PORT_80_TCP": "tcp://10.0.0.1:80",
        "GATEWAY_PORT_80_TCP_ADDR": "10.0.0.1",
    }
    assert load_environment(REQUIRED | of_kubernetes) == load_environment(REQUIRED)


def test_options_of_the_command_line_win_and_are_checked():
    assert load_environment(REQUIRED, {"server.listen": ["127.0.0.1:0", "unix:/x"]}).server.listen == (
        Address("127.0.0.1", 0),
        UnixAddress("/x"),
    )
    with pytest.raises(ConfigError, match=r"^GATEWAY_ADMIN_TOKEN: is required"):
        load_environment(REQUIRED, {"admin.listen": "0.0.0.0:9090"})


def test_wherever_the_methods_of_authentication_are_listed_all_are():
    methods = json.loads(schema_json())["$defs"]["Route"]["properties"]["auth"]["items"]
    known = set(next(one["enum"] for one in methods["anyOf"] if "enum" in one)) - {"anonymous"}
    (variable,) = (one.description for one in VARIABLES if one.name == "GATEWAY_AUTH")
    listings = [variable]
    for name in ("README.md", "config/README.md", "config/gateway.full.yaml", "deploy/env.example"):
        listings += re.findall(r"any of `?api_key`?,[^|\n]*(?:\n[^|\n]*)?", (ROOT / name).read_text())
    assert len(listings) > 6
    for listing in listings:
        assert {word for word in known if re.search(rf"\b{word}\b", listing)} == known, listing


def test_every_variable_is_documented_with_its_key():
    text = (ROOT / "config" / "README.md").read_text()
    documented = re.findall(r"^\| `([A-Z_]+)` \| `([\w.*\[\]]+)` \| (.*) \|$", text, re.MULTILINE)
    assert documented == [
        (variable.name, variable.path.replace(".main.", ".*.").replace("[0]", "[]"), variable.description)
        for variable in VARIABLES
    ]
