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
        'upstreams.main.servers[0].url: "http://127.0.0.1:3000/api/v1/prediction/x" ends in a path of Flowise, which'
        " the gateway adds itself: write http://127.0.0.1:3000",
        "http://127.0.0.1:3000",
    ),
    Broken(
        "the URL of the API as that of the server",
        "http://127.0.0.1:3000",
        "https://flows.example.com/flowise/api/v1",
        'upstreams.main.servers[0].url: "https://flows.example.com/flowise/api/v1" ends in a path of Flowise, which'
        " the gateway adds itself: write https://flows.example.com/flowise",
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
        'routes[0].chatflow: "Support" is not a chatflow id: write a UUID like 2c5e8d0a-1111-4222-8333-444455556666,'
        " which ends the address of the chatflow's canvas in Flowise",
        FLOW,
    ),
    Broken(
        "a keys file in a folder that does not exist",
        "keys_file: keys.yaml",
        "keys_file: secrets/keys.yaml",
        'auth.keys_file: "secrets/keys.yaml" is in a folder that does not exist: create it, or name a file in another'
        " one",
        "keys_file: keys.yaml",
    ),
    Broken(
        "a key where keys of callers are needed",
        "auth: [api_key]",
        "auth: [bearer]",
        'routes[0].auth[0]: "bearer" is unknown: write api_key',
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
        "auth: [api_key]",
        "auth: [jwt]",
        "routes[0].auth[0]: needs an issuer: write one into auth.jwt",
        "auth: [api_key]",
    ),
    Broken(
        "a quote that is never closed",
        "listen: 127.0.0.1:8080",
        'listen: "127.0.0.1:8080',
        'server.listen: the quote that begins here ends only in line 15: write " after its last letter, in this line',
        'listen: "127.0.0.1:8080"',
    ),
    Broken(
        "a quote that is never closed, in a file without others",
        "name: support",
        "name: 'support",
        "routes[0].name: the quote that begins here is never closed: write ' after its last letter",
        "name: 'support'",
    ),
    Broken(
        "a star without quotes",
        '["https://app.example.com"]',
        "[*]",
        'routes[0].cors.origins: a value that begins with * needs quotes: write it as "*"',
        '["*"]',
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
        "tls: is not a key here: the gateway has no TLS of its own: put a proxy with TLS in front, and list it in"
        " server.trusted_proxies",
        "server:\n",
    ),
    Broken(
        "a port",
        "listen: 127.0.0.1:8080",
        "port: 8080",
        "server.port: is not a key here: write the address and the port together, as server.listen: 127.0.0.1:8080",
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
        "routes[0].path: is not a key here: clients use the paths of Flowise: leave it out, and write the chatflow's id"
        " as chatflow",
        "    upstream: main",
    ),
    Broken(
        "a rate limit",
        LIMITS,
        "    rate_limit: 60/min",
        "routes[0].rate_limit: is not a key here: write a list, like limits: [{name: burst, requests: 60, per: 1m}],"
        " into a route or into defaults",
        LIMITS,
    ),
    Broken(
        "a rate",
        "requests: 60, per: 1m",
        "rate: 60, per: 1m",
        "routes[0].limits[0].rate: is not a key here: write requests: 60 and per: 1m",
        "requests: 60, per: 1m",
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
        "upstreams.main.servers[0].url: there is no comma before this entry: write one, or } if the list ends there",
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
        "routes: there is a no-break or wide space (U+00A0): write a plain space",
        "name: support",
    ),
    Broken(
        "a merge key",
        "    upstream: main\n    auth: [api_key]\n",
        "    <<: {upstream: main, auth: [api_key]}\n",
        'routes[0]["<<"]: merge keys are not supported: write what routes share in `defaults`',
        "    upstream: main\n    auth: [api_key]\n",
    ),
    Broken(
        "a tab",
        "    upstream: main",
        "\tupstream: main",
        "routes[0].chatflow: there is a tab here: indent with spaces, not with tabs",
        "    upstream: main",
    ),
    Broken(
        "an indentation that is too small",
        "    upstream: main",
        "   upstream: main",
        "routes[0].chatflow: the indentation of 3 fits no line before it: indent it by 4 spaces, like line 12, or by 2"
        " spaces, like line 9",
        "    upstream: main",
    ),
    Broken(
        "an indentation that is too large",
        "    upstream: main",
        "      upstream: main",
        "routes[0].chatflow: this line is indented below line 12, which has a value: indent it by 4 spaces, like line"
        " 12",
        "    upstream: main",
    ),
    Broken(
        "a colon without a space",
        "upstream: main",
        "upstream:main",
        "routes[0].chatflow: there is no space after the colon: write `upstream: …`",
        "upstream: main",
    ),
    Broken(
        "an equals sign",
        "upstream: main",
        "upstream = main",
        "routes[0].chatflow: there is = in place of a colon: write `upstream: …`",
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
        'routes: is a mapping: write a list, like routes: [{"name": "support", "chatflow": "…", "upstream": "main",'
        ' "auth": ["anonymous"]}]',
        "  - name: support",
    ),
    Broken(
        "a variable without quotes in brackets",
        "http://127.0.0.1:3000",
        "${FLOWISE_URL:-http://127.0.0.1:3000}",
        'upstreams.main.servers[0].url: ${NAME} needs quotes inside { }: write it as "${NAME}"',
        '"${FLOWISE_URL:-http://127.0.0.1:3000}"',
    ),
    Broken(
        "a variable of a shell",
        "http://127.0.0.1:3000",
        "$FLOWISE_URL",
        'upstreams.main.servers[0].url: "$FLOWISE_URL" is no variable in this file: write ${NAME}',
        '"${FLOWISE_URL}"',
    ),
    Broken(
        "a variable that is not set",
        "${FLOWISE_API_KEY:-}",
        "${NOT_SET_HERE}",
        "upstreams.main.api_key: environment variable NOT_SET_HERE is not set: set it, or write"
        " ${NOT_SET_HERE:-default}",
        "${NOT_SET_HERE:-default}",
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
        'server.max_body: "10MB" has a decimal unit: write KiB, MiB or GiB',
        "  max_body: 10MiB",
    ),
    Broken(
        "several workers without a store and secret",
        "  drain: 30s",
        "  workers: 4",
        "limits.store: is memory, which workers cannot share: write redis://HOST:PORT/0, or server.workers: 1\n"
        "auth.secret: is required with several workers or a shared store: write secret: ${GATEWAY_SECRET}",
        "  workers: 1",
    ),
    Broken(
        "metrics for everybody",
        "server:\n",
        "admin: {listen: 0.0.0.0:9090}\nserver:\n",
        "admin.token: is required unless admin.listen is a loopback address: write token: ${ADMIN_TOKEN}",
        'admin: {listen: 0.0.0.0:9090, token: "${ADMIN_TOKEN}"}\nserver:\n',
    ),
    Broken(
        "a second document",
        "routes:",
        "---\nroutes:",
        "a second document starts here: keep one, without ---",
        "routes:",
    ),
    Broken(
        "the marks of a conflict",
        "  drain: 30s\n",
        "<<<<<<< HEAD\n  drain: 30s\n=======\n  drain: 60s\n>>>>>>> main\n",
        "server.listen: this line is left over from a merge of Git: keep one version, and remove the marks",
        "  drain: 60s\n",
    ),
    Broken("an empty file", "", "", "the file is empty: write at least the keys upstreams and routes", RIGHT),
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
        "routes[0].chatflow: warning: is the id of the example: write that of your chatflow, which ends the address of"
        " the chatflow's canvas in Flowise",
        FLOW,
    ),
    Broken(
        "a public route with a key",
        "auth: [api_key]",
        "auth: [anonymous, api_key]",
        "routes[0].auth: warning: has anonymous beside api_key, so that no credential is needed: leave anonymous out to"
        " need one",
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
