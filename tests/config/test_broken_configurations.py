"""Broken configurations as people write them: what `check` says, and the file that a reader of the message makes of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from gateway.cli import main

FLOW = "3f6a9b1c-2222-4333-8444-555566667777"
RIGHT = f"""\
server:
  listen: 127.0.0.1:8080
  drain: 30s
upstreams:
  main:
    servers: [{{url: http://127.0.0.1:3000}}]
    api_key: ${{FLOWISE_API_KEY:-}}
auth:
  keys_file: keys.yaml
routes:
  - name: support
    chatflow: {FLOW}
    upstream: main
    auth: [api_key]
    cors: {{origins: ["https://app.example.com"]}}
    limits: [{{name: burst, requests: 60, per: 1m}}]
"""
JSON = f"""\
{{
  "upstreams": {{"main": {{"servers": [{{"url": "http://127.0.0.1:3000"}}]}}}},
  "routes": [{{"name": "a", "chatflow": "{FLOW}", "upstream": "main", "auth": ["anonymous"]}}]
}}
"""
CORS = '    cors: {origins: ["https://app.example.com"]}'
LIMITS = "    limits: [{name: burst, requests: 60, per: 1m}]"
KEYS_TO_AUTH = RIGHT[RIGHT.index("  keys_file") : RIGHT.index("    cors")]
ISSUER = (
    'jwt: [{issuer: "https://id.example.com", audience: chat, jwks_url: "https://id.example.com/jwks.json"}]'
)
SERVERS = "    servers: [{url: http://127.0.0.1:3000}]"


@dataclass(frozen=True)
class Broken:
    """One mistake in the right configuration.

    Attributes:
        name: of the mistake.
        right: what is replaced in the right configuration; empty: all of it.
        written: what is in its place.
        said: each line of `check`, without the name of the file.
        mended: what a reader of these lines writes in its place.
    """

    name: str
    right: str
    written: str | bytes
    said: str
    mended: str
    base: str = RIGHT

    def text(self, replacement: str | bytes) -> bytes:
        if not self.right:
            return replacement if isinstance(replacement, bytes) else replacement.encode()
        assert self.base.count(self.right) == 1
        return self.base.replace(self.right, replacement).encode()


MISTAKES = [
    Broken(
        "the URL of a prediction as that of the server",
        "http://127.0.0.1:3000",
        "http://127.0.0.1:3000/api/v1/prediction/x",
        'upstreams.main.servers[0].url: "http://127.0.0.1:3000/api/v1/prediction/x" contains a path of Flowise'
        " (/api…): write http://127.0.0.1:3000",
        "http://127.0.0.1:3000",
    ),
    Broken(
        "the URL of the API as that of the server",
        "http://127.0.0.1:3000",
        "https://flows.example.com/flowise/api/v1",
        'upstreams.main.servers[0].url: "https://flows.example.com/flowise/api/v1" contains a path of Flowise'
        " (/api…): write https://flows.example.com/flowise",
        "https://flows.example.com/flowise",
    ),
    Broken(
        "a URL without scheme",
        "http://127.0.0.1:3000",
        '"127.0.0.1:3000"',
        'upstreams.main.servers[0].url: "127.0.0.1:3000" is not an http or https URL: write one like'
        " http://127.0.0.1:3000",
        "http://127.0.0.1:3000",
    ),
    Broken(
        "a server as text",
        SERVERS,
        "    servers: http://127.0.0.1:3000",
        'upstreams.main.servers: is a single value: write a list, like servers: [{"url": "http://127.0.0.1:3000"}]',
        '    servers: [{"url": "http://127.0.0.1:3000"}]',
    ),
    Broken(
        "a URL in the upstream itself",
        SERVERS,
        "    url: http://127.0.0.1:3000",
        "upstreams.main.url: is not a key here: write servers: [{url: http://127.0.0.1:3000}]",
        SERVERS,
    ),
    Broken(
        "a chatflow by its address",
        FLOW,
        f"http://127.0.0.1:3000/canvas/{FLOW}",
        'routes[0].chatflow: "http://127.0.0.1:3000/canvas/3f6a9b1c-2222-4333-8444-555566…" is more than a chatflow'
        " id: write only the UUID in it",
        FLOW,
    ),
    Broken(
        "a chatflow by its name",
        FLOW,
        "Support",
        'routes[0].chatflow: "Support" is not a chatflow id: write the UUID of your chatflow,'
        " the last part of the address when the chatflow is open in Flowise"
        " (…/canvas/ID)",
        FLOW,
    ),
    Broken(
        "a keys file in a folder that does not exist",
        "keys_file: keys.yaml",
        "keys_file: secrets/keys.yaml",
        'auth.keys_file: "secrets/keys.yaml" is in a folder that does not exist: create the folder, or write a'
        " path in another folder",
        "keys_file: keys.yaml",
    ),
    Broken(
        "a key where keys of callers are needed",
        "auth: [api_key]",
        "auth: [bearer]",
        'routes[0].auth[0]: "bearer" is unknown: write api_key, or else anonymous, session, jwt or upstream',
        "auth: [api_key]",
    ),
    Broken(
        "one credential without brackets",
        "auth: [api_key]",
        "auth: api_key",
        'routes[0].auth: is a single value: write a list, like auth: ["api_key"]',
        'auth: ["api_key"]',
    ),
    Broken(
        "a credential that has no issuer",
        KEYS_TO_AUTH,
        KEYS_TO_AUTH.replace("api_key", "jwt"),
        'routes[0].auth[0]: "jwt" needs an issuer: write jwt: [{issuer: "https://id.example.com", audience: chat,'
        ' jwks_url: "https://id.example.com/jwks.json"}] in the top-level section auth',
        f"  {ISSUER}\n{KEYS_TO_AUTH.replace('api_key', 'jwt')}",
    ),
    Broken(
        "a quote that is never closed",
        "listen: 127.0.0.1:8080",
        'listen: "127.0.0.1:8080',
        'server.listen: the quote that begins here ends only in line 15: write " at the end of the value, in this'
        " line",
        'listen: "127.0.0.1:8080"',
    ),
    Broken(
        "a quote that is never closed, in a file without others",
        "name: support",
        "name: 'support",
        "routes[0].name: the quote that begins here is never closed: write ' at the end of the value",
        "name: 'support'",
    ),
    Broken(
        "a star without quotes",
        'origins: ["https://app.example.com"]',
        "origins: [*]",
        'routes[0].cors.origins: a value that begins with * needs quotes: write origins: ["*"]',
        'origins: ["*"]',
    ),
    Broken(
        "a list of origins without its key",
        CORS,
        '    cors: ["https://app.example.com"]',
        'routes[0].cors: is a list: write keys with values below it, like cors: {origins: ["https://app.example.com"]},'
        " or leave it out",
        '    cors: {origins: ["https://app.example.com"]}',
    ),
    Broken(
        "one origin without brackets",
        '["https://app.example.com"]',
        "https://app.example.com",
        'routes[0].cors.origins: is a single value: write a list, like origins: ["https://app.example.com"]',
        '["https://app.example.com"]',
    ),
    Broken(
        "an origin with a path",
        "https://app.example.com",
        "https://app.example.com/chat",
        'routes[0].cors.origins[0]: "https://app.example.com/chat" has a slash or path after the host: write'
        ' scheme://host[:port], like https://app.example.com, or "*"',
        "https://app.example.com",
    ),
    Broken(
        "origins under another name",
        "origins:",
        "allow_origins:",
        "routes[0].cors.allow_origins: is not a key here: write origins",
        "origins:",
    ),
    Broken(
        "TLS",
        "server:\n",
        "tls: {cert: cert.pem, key: key.pem}\nserver:\n",
        "tls: is not a key here: that of the public port has another place: put"
        " tls: {certificate: tls.crt, key: tls.key} in the top-level section server",
        "server:\n",
    ),
    Broken(
        "a port",
        "listen: 127.0.0.1:8080",
        "port: 8080",
        "server.port: is not a key here: the address and the port are one value: write listen: 127.0.0.1:8080",
        "listen: 127.0.0.1:8080",
    ),
    Broken(
        "a port alone",
        "listen: 127.0.0.1:8080",
        "listen: 8080",
        'server.listen: "8080" is not an address with a port: write HOST:PORT, like 127.0.0.1:8080, or [::1]:8080 for'
        " IPv6",
        "listen: 127.0.0.1:8080",
    ),
    Broken(
        "a path of a route",
        "    upstream: main",
        "    path: /chat\n    upstream: main",
        "routes[0].path: is not a key here: remove it, clients call a route by its name, as in Flowise, at"
        " /api/v1/prediction/NAME",
        "    upstream: main",
    ),
    Broken(
        "a rate limit",
        LIMITS,
        "    rate_limit: 60/min",
        "routes[0].rate_limit: is not a key here: write limits: [{name: burst, requests: 60, per: 1m}] in its"
        " place",
        LIMITS,
    ),
    Broken(
        "a rate",
        "requests: 60",
        "rate: 60",
        "routes[0].limits[0].rate: is not a key here: write requests: 60",
        "requests: 60",
    ),
    Broken(
        "a limit without its time",
        ", per: 1m",
        "",
        "routes[0].limits[0].per: is missing: write the time in which the limit refills, like per: 1m",
        ", per: 1m",
    ),
    Broken(
        "a comma of JSON behind a value",
        "drain: 30s",
        "drain: 30s,",
        'server.drain: "30s," ends with a comma or semicolon: remove it',
        "drain: 30s",
    ),
    Broken(
        "a comma of JSON behind a list",
        "auth: [api_key]",
        "auth: [api_key],",
        "routes[0].auth: there is a comma at the end of a value: remove it, lines need none",
        "auth: [api_key]",
    ),
    Broken(
        "a comma that is missing in JSON",
        "}]}},\n",
        "}]}}\n",
        "routes: there is no comma between this entry and the one before it: write , at the end of line 2",
        "}]}},\n",
        JSON,
    ),
    Broken(
        "typographic quotes",
        "name: support",
        "name: \u201csupport\u201d",
        "routes[0].name: begins with a typographic quote, \u201c: write straight quotes, \" or '",
        'name: "support"',
    ),
    Broken(
        "a space that is none",
        "name: support",
        "name:\u00a0support",
        "routes[0].name: there is a no-break space (U+00A0) in column 10, after `name:`: write a plain space",
        "name: support",
    ),
    Broken(
        "a merge key",
        "    upstream: main\n    auth: [api_key]\n",
        "    <<: {upstream: main, auth: [api_key]}\n",
        "routes[0]: `<<` is not supported: write its keys here, or, for all routes, in a top-level section"
        " defaults",
        "    upstream: main\n    auth: [api_key]\n",
    ),
    Broken(
        "a tab",
        "    upstream: main",
        "\tupstream: main",
        "routes[0].upstream: there is a tab here: indent by 4 spaces, like line 12, without a tab",
        "    upstream: main",
    ),
    Broken(
        "an indentation that is too small",
        "    upstream: main",
        "   upstream: main",
        "routes[0].upstream: the indentation of 3 fits no line before it: indent it by 4 spaces, like line 12",
        "    upstream: main",
    ),
    Broken(
        "an indentation that is too large",
        "    upstream: main",
        "      upstream: main",
        "routes[0].upstream: this line is indented below line 12, which has a value: indent it by 4 spaces, like"
        " line 12",
        "    upstream: main",
    ),
    Broken(
        "a colon without a space",
        "upstream: main",
        "upstream:main",
        "routes[0].upstream: there is no space after the colon: write `upstream: …`",
        "upstream: main",
    ),
    Broken(
        "an equals sign",
        "upstream: main",
        "upstream = main",
        "routes[0].upstream: there is = in place of a colon: write `upstream: …`",
        "upstream: main",
    ),
    Broken(
        "a bracket that is not closed",
        "auth: [api_key]",
        "auth: [api_key",
        "routes[0].auth: the [ in this line is not closed: write ] after its last entry",
        "auth: [api_key]",
    ),
    Broken(
        "a list without dashes",
        "  - name: support",
        "    name: support",
        'routes: is one entry: write a list, with "- " before its first key and all its keys in one column,'
        " or with [ ] around { }",
        "  - name: support",
    ),
    Broken(
        "a variable without quotes in brackets",
        "http://127.0.0.1:3000",
        "${FLOWISE_URL:-http://127.0.0.1:3000}",
        'upstreams.main.servers[0].url: ${FLOWISE_URL:-…} needs quotes inside { }: write " before and after it',
        '"${FLOWISE_URL:-http://127.0.0.1:3000}"',
    ),
    Broken(
        "a variable of a shell",
        "http://127.0.0.1:3000",
        "$FLOWISE_URL",
        'upstreams.main.servers[0].url: "$FLOWISE_URL" is not replaced: write "${FLOWISE_URL}", with the quotes',
        '"${FLOWISE_URL}"',
    ),
    Broken(
        "a variable that is not set",
        "${FLOWISE_API_KEY:-}",
        "${NOT_SET_HERE}",
        "upstreams.main.api_key: environment variable NOT_SET_HERE is not set: set it, or write"
        ' "${NOT_SET_HERE:-}" if the value may be empty',
        '"${NOT_SET_HERE:-}"',
    ),
    Broken(
        "a key that is misspelt",
        "upstream: main",
        "upstraem: main",
        "routes[0].upstraem: is not a key here: did you mean upstream?",
        "upstream: main",
    ),
    Broken(
        "a key that is missing",
        "    upstream: main\n",
        "",
        'routes[0].upstream: is missing: write for example upstream: "main"',
        '    upstream: "main"\n',
    ),
    Broken(
        "a key that is there twice",
        "  drain: 30s\n",
        "  drain: 30s\n  drain: 60s\n",
        "server.drain: the key is in line 3 too: keep one of them",
        "  drain: 60s\n",
    ),
    Broken(
        "an upstream that does not exist",
        "upstream: main",
        "upstream: Mian",
        'routes[0].upstream: there is no upstream "Mian": did you mean main?',
        "upstream: main",
    ),
    Broken(
        "a duration without unit",
        "drain: 30s",
        "drain: 30",
        'server.drain: "30" has no unit: write one after the number, like 30s or 500ms',
        "drain: 30s",
    ),
    Broken(
        "a size in decimal units",
        "  drain: 30s",
        "  max_body: 10MB",
        'server.max_body: "10MB" has a decimal unit: write MiB in place of "MB"',
        "  max_body: 10MiB",
    ),
    Broken(
        "several workers without a store and secret",
        "  drain: 30s",
        "  workers: 4",
        "server.workers: several workers need a shared store, and limits.store is memory by default: write"
        " limits: {store: redis://127.0.0.1:6379/0} at the top level, or workers: 1\n"
        'auth.secret: is required with several workers: write secret: "${GATEWAY_SECRET}" and set that variable'
        " to 32 bytes or more, for example from `openssl rand -hex 32`, or workers: 1 in place of the workers in"
        " line 3",
        "  workers: 1",
    ),
    Broken(
        "metrics for everybody",
        "server:\n",
        "admin: {listen: 0.0.0.0:9090}\nserver:\n",
        'admin.token: is required unless only this machine can reach admin.listen: write token: "${ADMIN_TOKEN}"'
        " and set that variable, or write listen: 127.0.0.1:9090",
        'admin: {listen: 0.0.0.0:9090, token: "${ADMIN_TOKEN}"}\nserver:\n',
    ),
    Broken(
        "a second document",
        "routes:",
        "---\nroutes:",
        "--- starts a second document: remove this line",
        "routes:",
    ),
    Broken(
        "the marks of a conflict",
        "  drain: 30s\n",
        "<<<<<<< HEAD\n  drain: 30s\n=======\n  drain: 60s\n>>>>>>> main\n",
        "this line marks a conflict of a Git merge: keep one version, and remove the lines with <<<<<<<, ======= and >>>>>>>",
        "  drain: 60s\n",
    ),
    Broken(
        "an empty file",
        "",
        "",
        'the file is empty: write at least {upstreams: {main: {servers: [{url: "http://127.0.0.1:3000"}]}},'
        " routes: [{name: support, chatflow: 2c5e8d0a-1111-4222-8333-444455556666, upstream: main, auth:"
        " [api_key]}]}, or remove it and run `flowise-gateway init --flowise URL`",
        '{upstreams: {main: {servers: [{url: "http://127.0.0.1:3000"}]}},'
        f" routes: [{{name: support, chatflow: {FLOW}, upstream: main, auth: [api_key]}}]}}",
    ),
    Broken(
        "the lines of a Markdown document",
        "",
        f"```yaml\n{RIGHT}```\n",
        "this line is Markdown, not YAML: remove the lines with ```",
        RIGHT,
    ),
    Broken(
        "a file of another editor",
        "",
        RIGHT.encode("utf-16"),
        "the file is UTF-16 or UTF-32: save it as UTF-8 text",
        RIGHT,
    ),
    Broken(
        "a file of another country",
        "",
        f"# f\u00fcr uns\n{RIGHT}".encode("latin-1"),
        "the file is not UTF-8: save it as UTF-8 text",
        f"# f\u00fcr uns\n{RIGHT}",
    ),
]
WARNINGS = [
    Broken(
        "the chatflow of the example",
        FLOW,
        "2c5e8d0a-1111-4222-8333-444455556666",
        "routes[0].chatflow: warning: this is the id of the example: write that of your chatflow, the last part"
        " of the address when the chatflow is open in Flowise (…/canvas/ID)",
        FLOW,
    ),
    Broken(
        "a public route with a key",
        "auth: [api_key]",
        "auth: [anonymous, api_key]",
        "routes[0].auth: warning: anonymous is listed too, so anybody can call without api_key: remove anonymous"
        " to require it",
        "auth: [api_key]",
    ),
]


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    """Runs `check` on a file: status, and what it says of the file, without the file's name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ADMIN_TOKEN", "secret")
    monkeypatch.setenv("FLOWISE_URL", "http://127.0.0.1:3000")

    def check(content):
        (tmp_path / "gateway.yaml").write_bytes(content)
        status = main(["check", "--config", "gateway.yaml"])
        said = capsys.readouterr().err.splitlines()
        assert all(re.match(r"gateway\.yaml:[1-9][0-9]*: ", line) for line in said)
        return status, "\n".join(line.split(": ", 1)[1] for line in said)

    return check


@pytest.mark.parametrize("broken", MISTAKES, ids=lambda broken: broken.name)
def test_a_mistake_is_named_with_what_would_be_right(check, broken):
    assert check(broken.text(broken.written)) == (2, broken.said)


@pytest.mark.parametrize("broken", WARNINGS, ids=lambda broken: broken.name)
def test_what_is_hardly_meant_is_a_warning(check, broken):
    assert check(broken.text(broken.written)) == (0, broken.said)


@pytest.mark.parametrize("broken", [*MISTAKES, *WARNINGS], ids=lambda broken: broken.name)
def test_what_the_message_says_mends_it(check, broken):
    assert check(broken.text(broken.mended)) == (0, "")


SECRET = ("  keys_file: keys.yaml", '  keys_file: keys.yaml\n  secret: "${GATEWAY_SECRET}"')


@pytest.mark.parametrize(
    "edits",
    [
        [
            ("  drain: 30s", "  workers: 4"),
            SECRET,
            ("routes:", "limits: {store: redis://127.0.0.1:6379/0}\nroutes:"),
        ],
        [("server:\n", "admin: {listen: 127.0.0.1:9090}\nserver:\n")],
        [("api_key: ${FLOWISE_API_KEY:-}\n", 'api_key: "${FLOWISE_API_KEY:-}"\n')],
        [
            ("    upstream: main\n    auth: [api_key]\n", ""),
            ("server:", "defaults: {upstream: main, auth: [api_key]}\nserver:"),
        ],
    ],
    ids=["a store and a secret", "a loopback address", "an empty default", "defaults"],
)
def test_what_the_message_offers_besides_mends_it_too(check, monkeypatch, edits):
    monkeypatch.setenv("GATEWAY_SECRET", "s" * 32)
    text = RIGHT
    for old, new in edits:
        assert text.count(old) == 1
        text = text.replace(old, new)
    assert check(text.encode()) == (0, "")


def test_the_line_is_that_of_the_mistake(tmp_path, monkeypatch, capsys):
    """The line of what was written, or of the key that it belongs to."""
    monkeypatch.chdir(tmp_path)
    for broken in (one for one in MISTAKES if one.right and one.written):
        (tmp_path / "gateway.yaml").write_bytes(broken.text(broken.written))
        main(["check", "--config", "gateway.yaml"])
        line = int(capsys.readouterr().err.split(":")[1])
        first = broken.base[: broken.base.index(broken.right)].count("\n") + 1
        assert first - 1 <= line <= first + broken.written.count("\n") + 1, broken.name


def test_there_are_more_than_forty():
    assert len({broken.name for broken in (*MISTAKES, *WARNINGS)}) == len(MISTAKES) + len(WARNINGS) > 40
