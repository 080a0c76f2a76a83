"""Worlds in which something outside of the configuration is wrong: each has its own line, with what to do about it."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import time
from contextlib import asynccontextmanager
from datetime import timedelta
from email.utils import formatdate
from pathlib import Path

import pytest
import yaml
from aiohttp import web

import gateway.admission.redis.examination
from gateway.cli import main
from gateway.simulator import (
    AGENTFLOW_ID,
    CHAIN_ID,
    DEFAULT_FLOWS,
    NOT_STREAMABLE_ID,
    PROTECTED_ID,
    Flow,
    Simulator,
)
from tests.harness import key_files
from tests.harness.certificates import YEARS, Authority
from tests.harness.gateway import configuration
from tests.harness.issuer import Issuer
from tests.harness.ports import closed_port
from tests.harness.processes import gateway
from tests.harness.programs import program

KEY = "the-workspace-key"
SECRET = "s" * 32
UNKNOWN_ID = "2c5e8d0a-1111-4222-8333-444455556666"
CERTS = Path(__file__).parents[1] / "harness" / "certs"
HOOK = Flow(
    id="77777777-1111-4111-8111-111111111111", name="hook", kind="agentflow", trigger="webhookTrigger"
)
LOCKED = Flow(id="88888888-1111-4111-8111-111111111111", name="locked", needs_key=True, own_key="own-key")
LOUD = Flow(id="99999999-1111-4111-8111-111111111111", name="loud", uploads={"isSpeechToTextEnabled": True})
FLOWS = (*DEFAULT_FLOWS, HOOK, LOCKED, LOUD)


@pytest.fixture
async def flowise():
    async with Simulator(FLOWS, api_key=KEY) as simulator:
        yield simulator


@pytest.fixture
def examine(tmp_path, capsys):
    """Runs `doctor` on a configuration that is right but for these sections; returns status and findings.

    `before`: shell commands for a process of its own.
    """

    async def run(url, *arguments, before="", upstream=None, **sections):
        path = tmp_path / "gateway.yaml"
        sections = {"auth": {"secret": SECRET}, "server": {"max_connections": 100}, **sections}
        sections.setdefault("route", {"chatflow": CHAIN_ID})
        sections.setdefault(
            "upstreams", {"main": {"api_key": KEY, "max_connections": 10, **(upstream or {})}}
        )
        path.write_text(yaml.safe_dump(configuration(url, **sections)))
        command = ("doctor", "--config", str(path), "--json", *arguments)
        if before:
            async with gateway(*command, before=before) as child:
                status, err = await child.ended()
            out = "\n".join(child.output)
        else:
            status = await asyncio.to_thread(main, command)
            out, err = capsys.readouterr()
        assert err == ""
        assert not [secret for secret in (KEY, SECRET, "own-key", "pass-word") if secret in out]
        return status, [tuple(finding.values()) for finding in json.loads(out)["findings"]]

    return run


def of(findings, check):
    """The only line of a check, without its name."""
    (line,) = [(level, subject, text) for level, name, subject, text in findings if name == check]
    return line


def wrong(findings):
    return [finding for finding in findings if finding[0] != "ok"]


async def test_a_world_without_faults_has_only_ticks_and_ends_with_0(flowise, examine):
    status, findings = await examine(flowise.url, "--strict")
    assert (status, wrong(findings)) == (0, [])
    assert of(findings, "version") == ("ok", "main", "Flowise 3.1.4")
    assert of(findings, "route") == ("ok", "chat", "chatflow chain answers predictions, and streams")
    assert of(findings, "api_key") == ("ok", "main", f"is accepted, and sees {len(FLOWS)} chatflows")


async def test_a_wrong_key_is_named_with_its_place(flowise, examine):
    status, findings = await examine(flowise.url, upstream={"api_key": "wrong"})
    advice = "Copy one from Flowise, under API Keys, and write it into upstreams.main.api_key."
    sentence = f"{flowise.url} does not accept the API key. {advice}"
    assert (status, wrong(findings)) == (1, [("failed", "api_key", "main", sentence)])


async def test_a_deleted_chatflow_is_named_with_where_to_find_others(flowise, examine):
    status, findings = await examine(flowise.url, route={"chatflow": UNKNOWN_ID})
    what = f"Flowise has no chatflow {UNKNOWN_ID}; it may be deleted."
    sentence = f"{what} `flowise-gateway flows` lists the ids that it has."
    assert (status, wrong(findings)) == (1, [("failed", "route", "chat", sentence)])


async def test_a_protected_chatflow_may_need_another_key_than_that_of_its_upstream(flowise, examine):
    status, findings = await examine(flowise.url, route={"chatflow": LOCKED.id})
    what = "Its chatflow needs an API key of its own in Flowise; upstreams.main.api_key may be another one."
    advice = "Give the route an upstream with that key, and try it with --ask TEXT."
    assert (status, wrong(findings)) == (0, [("warning", "chatflow_key", "chat", f"{what} {advice}")])
    status, findings = await examine(flowise.url, "--ask", "hi [[tokens=1]]", route={"chatflow": LOCKED.id})
    advice = "Write the key that the chatflow needs into upstreams.main.api_key."
    assert (status, wrong(findings)) == (
        1,
        [("failed", "ask", "chat", f"Flowise refuses the API key. {advice}")],
    )


async def test_a_protected_chatflow_behind_an_upstream_without_a_key_is_wrong(flowise, examine):
    main = {"servers": [{"url": flowise.url}]}
    upstreams = {"main": {"api_key": ""}, "other": {**main, "api_key": KEY}}
    status, findings = await examine(flowise.url, upstreams=upstreams, route={"chatflow": PROTECTED_ID})
    what = "Its chatflow needs an API key of its own in Flowise, and upstreams.main.api_key is empty."
    assert (status, wrong(findings)) == (
        1,
        [("failed", "chatflow_key", "chat", f"{what} Write that key there.")],
    )
    first, second = {"name": "a", "chatflow": PROTECTED_ID}, {"name": "b", "chatflow": LOCKED.id}
    both = [{"upstream": "main", "auth": ["anonymous"], **route} for route in (first, second)]
    _, findings = await examine(flowise.url, upstreams=upstreams, routes=both)
    assert [(check, subject) for _, check, subject, _ in wrong(findings)] == [
        ("chatflow_key", "a"),
        ("chatflow_key", "b"),
    ]
    assert wrong(findings)[1][3].endswith("Give that key an upstream of its own.")


async def test_a_key_that_is_missing_has_one_line_for_all_servers(flowise, examine):
    servers = [{"url": flowise.url}, {"url": flowise.url.replace("127.0.0.1", "localhost")}]
    status, findings = await examine(flowise.url, upstreams={"main": {"servers": servers, "api_key": ""}})
    assert status == 0
    assert [(check, subject) for _, check, subject, _ in wrong(findings)] == [("api_key", "main")]
    assert of(findings, "route")[2] == f"chatflow {CHAIN_ID} is there, and streams"


async def test_a_server_that_is_down_is_named(examine):
    with closed_port() as port:
        url = f"http://127.0.0.1:{port}"
        status, findings = await examine(url)
    sentence = f"No Flowise answers at {url} (Connection refused). Start it, or write its address."
    assert status == 1
    assert of(findings, "server") == ("failed", "main", sentence)
    assert of(findings, "route")[:2] == ("warning", "chat")


@asynccontextmanager
async def behind_tls(simulator, host):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTS / "server.pem", CERTS / "server-key.pem")
    runner = web.AppRunner(simulator.application(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, 0, ssl_context=context).start()
    try:
        yield f"https://{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_certificate_of_another_name_is_named(flowise, examine):
    async with behind_tls(flowise, "127.0.0.2") as url:
        private = {"tls": {"ca": str(CERTS / "ca.pem")}}
        status, findings = await examine(url, upstream=private)
    sentence = f"The certificate of {url} is for another host name. Write the name that it has, or renew it with this one."
    assert (status, of(findings, "tls")) == (1, ("failed", "main", sentence))


async def test_a_certificate_of_an_unknown_authority_is_named_with_the_key_to_write(flowise, examine):
    async with behind_tls(flowise, "127.0.0.1") as url:
        _, findings = await examine(url)
        assert of(findings, "tls")[2].endswith("Write the file of its authority into upstreams.main.tls.ca.")
        private = {"tls": {"ca": str(CERTS / "ca.pem")}}
        assert (await examine(url, upstream=private))[0] == 0


@pytest.mark.parametrize(
    ("days", "level", "said"),
    [
        (-1, "failed", "The certificate expired on 20"),
        (7, "warning", "Expires on 20"),
        (90, "ok", "is valid until 20"),
    ],
)
async def test_the_certificate_of_the_public_port_is_examined(days, level, said, flowise, examine, tmp_path):
    authority = Authority(tmp_path)
    pair = authority.pair(valid=(-YEARS, timedelta(days=days)), chain=authority.ca.read_bytes())
    server = {"listen": ["127.0.0.1:8443", f"unix:{tmp_path}/http.sock"], "tls": pair.settings}
    _, findings = await examine(flowise.url, server={**server, "trusted_proxies": ["unix"]})
    found = of(findings, "certificate")
    assert (found[:2], found[2].startswith(said)) == ((level, "tls.crt"), True), found


async def test_a_server_without_tls_is_named(flowise, examine):
    _, findings = await examine(flowise.url.replace("http:", "https:"))
    assert of(findings, "tls")[2].endswith("Write http:// if it has none.")


@pytest.mark.parametrize("end", ["/api/v1", "/api/v1/"])
async def test_the_url_of_the_api_is_answered_with_the_right_one(flowise, examine, end):
    status, findings = await examine(flowise.url + end)
    what = f"{flowise.url}/api/v1 ends in the path of the API, which is added to it."
    assert (status, of(findings, "server")) == (1, ("failed", "main", f"{what} Write {flowise.url}."))


def shared(valkey, login=""):
    return {"store": valkey.url.replace("redis://", f"redis://{login}"), "when_store_fails": "local"}


async def test_a_store_that_is_right_has_its_version(flowise, examine, valkey):
    status, findings = await examine(flowise.url, limits=shared(valkey))
    assert (status, wrong(findings)) == (0, [])
    assert of(findings, "store")[2].startswith("Valkey ")


@pytest.mark.parametrize(
    "rights", [["+@read", "+@connection", "+@scripting", "+info", "+time"], ["+@connection"]]
)
async def test_a_store_without_permission_is_answered_with_the_rights_to_give(
    flowise, examine, own_valkey, rights
):
    with own_valkey.client() as client:
        client.acl_setuser("limited", enabled=True, passwords=["+pass-word"], keys=["*"], commands=rights)
    status, findings = await examine(flowise.url, limits=shared(own_valkey, "limited:pass-word@"))
    what = "The user of limits.store may not write as limits do."
    sentence = f"{what} Give it +@all on the keys ~fgw:* in the store."
    assert (status, of(findings, "store")) == (1, ("failed", "limits.store", sentence))


async def test_the_rights_that_are_advised_suffice(flowise, examine, own_valkey):
    with own_valkey.client() as client:
        client.acl_setuser(
            "right", enabled=True, passwords=["+pass-word"], keys=["fgw:*"], commands=["+@all"]
        )
    status, findings = await examine(flowise.url, limits=shared(own_valkey, "right:pass-word@"))
    assert (status, wrong(findings)) == (0, [])


async def test_a_full_store_is_named(flowise, examine, own_valkey):
    with own_valkey.client() as client:
        client.config_set("maxmemory", 1)
    status, findings = await examine(flowise.url, limits=shared(own_valkey))
    sentence = "The store is full and refuses writes. Raise its maxmemory, or remove what else is in it."
    assert (status, of(findings, "store")) == (1, ("failed", "limits.store", sentence))


async def test_a_store_that_forgets_limits_is_named(flowise, examine, own_valkey):
    with own_valkey.client() as client:
        client.config_set("maxmemory", "100mb")
        client.config_set("maxmemory-policy", "allkeys-lru")
    status, findings = await examine(flowise.url, "--strict", limits=shared(own_valkey))
    level, _, sentence = of(findings, "store_memory")
    assert (status, level) == (1, "warning")
    assert sentence.endswith("Set maxmemory-policy noeviction.")


async def test_a_wrong_password_and_a_store_that_is_down_are_told_apart(flowise, examine, own_valkey):
    _, findings = await examine(flowise.url, limits=shared(own_valkey, "nobody:pass-word@"))
    assert of(findings, "store")[2].startswith("The store refuses the login. Write the user and password")
    own_valkey.kill()
    _, findings = await examine(flowise.url, limits=shared(own_valkey))
    assert of(findings, "store")[2].startswith("The store cannot be reached")


async def test_a_log_file_is_examined_and_not_made(flowise, examine, tmp_path):
    path = tmp_path / "gateway.log"
    status, findings = await examine(flowise.url, logs={"file": "gateway.log"})
    level, subject, sentence = of(findings, "log_file")
    assert (status, level, subject) == (0, "ok", str(path))
    assert sentence.startswith("can be written, and has ")
    assert not path.exists()
    path.symlink_to(tmp_path / "gone" / "file")
    what = f"cannot be made: this user cannot write into {tmp_path / 'gone'}."
    sentence = f"{what} Let it, or name a file in another folder."
    status, findings = await examine(flowise.url, logs={"file": "gateway.log"})
    assert (status, of(findings, "log_file")) == (1, ("failed", str(path), sentence))


async def test_a_missing_key_set_is_named(flowise, examine, aiohttp_server):
    server = await aiohttp_server(web.Application())
    url = str(server.make_url("/jwks.json"))
    issuer = {"issuer": "https://id.example.com", "audience": "chat", "jwks_url": url}
    status, findings = await examine(flowise.url, auth={"secret": SECRET, "jwt": [issuer]})
    advice = "Write the jwks_uri that the issuer names in its /.well-known/openid-configuration."
    sentence = f"{url} gives no key set: the response status was 404. {advice}"
    assert (status, wrong(findings)) == (1, [("failed", "jwks", "https://id.example.com", sentence)])


async def test_keys_for_other_algorithms_are_named(flowise, examine):
    async with Issuer() as issuer:
        right = {"secret": SECRET, "jwt": [issuer.settings]}
        assert (await examine(flowise.url, auth=right))[0] == 0
        other = {"secret": SECRET, "jwt": [{**issuer.settings, "algorithms": ["ES256"]}]}
        _, findings = await examine(flowise.url, auth=other)
    assert of(findings, "jwks")[2].endswith(
        "has no key for ES256. Write the algorithms that the issuer uses into auth.jwt."
    )


async def test_no_secret_is_a_warning_with_the_command_that_makes_one(flowise, examine):
    status, findings = await examine(flowise.url, auth={})
    sentence = "is not set, so conversations and session tokens do not survive a restart."
    line = ("warning", "secret", "auth.secret", f"{sentence} Set it to the output of `openssl rand -hex 32`.")
    assert (status, wrong(findings)) == (0, [line])
    assert (await examine(flowise.url, "--strict", auth={}))[0] == 1


async def test_few_descriptors_are_a_warning_with_both_numbers(flowise, examine):
    _, findings = await examine(flowise.url, before="ulimit -n 150")
    what = "This user may open 150 files, and max_connections needs 274."
    advice = "Raise the limit (ulimit -n, LimitNOFILE=), or lower server.max_connections."
    assert wrong(findings) == [("warning", "descriptors", "", f"{what} {advice}")]


async def test_a_keys_file_that_this_user_cannot_read_is_named(flowise, examine, tmp_path):
    path = key_files.write_keys(tmp_path / "keys.yaml", key_files.entry(1))
    route = {"chatflow": CHAIN_ID, "auth": ["api_key"]}
    _, findings = await examine(flowise.url, route=route)
    assert of(findings, "keys_file") == ("ok", str(path), "has 1 valid key")
    path.chmod(0o000)
    before = ""
    if os.geteuid() == 0:  # who may read everything, unless the capability is dropped
        before = f'set -- {program("setpriv")} --bounding-set=-all --inh-caps=-all "$@"'
    status, findings = await examine(flowise.url, route=route, before=before)
    level, subject, sentence = of(findings, "keys_file")
    assert (status, level, subject) == (1, "failed", str(path))
    assert "cannot be read (Permission denied): let the gateway's user read it" in sentence


async def test_a_keys_file_without_keys_or_for_everybody_is_a_warning(flowise, examine, tmp_path):
    route = {"chatflow": CHAIN_ID, "auth": ["api_key"]}
    _, findings = await examine(flowise.url, route=route)
    assert of(findings, "keys_file")[2].endswith("`flowise-gateway keys create --name N` adds one.")
    key_files.write_keys(tmp_path / "keys.yaml", key_files.entry(1)).chmod(0o644)
    _, findings = await examine(flowise.url, route=route)
    assert of(findings, "keys_file")[2].startswith(
        "Other users can read the hashes of the keys, or change them. Run chmod g-w,o-rwx "
    )


@pytest.mark.parametrize(
    ("version", "level", "sentence"),
    [
        (
            "3.0.13",
            "warning",
            "Flowise 3.0.13 lacks an abort that needs no API key; heartbeats, without which",
        ),
        ("1.8.4", "failed", "Flowise 1.8.4 does not stream server-sent events. Update it to 2.1.0 or newer."),
        ("next", "warning", 'Flowise reports the version "next", which is not known.'),
    ],
)
async def test_an_old_flowise_is_named_with_what_it_lacks(flowise, examine, version, level, sentence):
    flowise.report_version(version)
    status, findings = await examine(flowise.url)
    found = of(findings, "version")
    assert (status, found[0]) == (int(level == "failed"), level)
    assert found[2].startswith(sentence)


@pytest.mark.parametrize(
    ("off", "level", "how"),
    [(600, "failed", "ahead of"), (-600, "failed", "behind"), (15, "warning", "ahead of")],
)
async def test_a_clock_that_is_off_is_named(flowise, examine, off, level, how):
    async def set_date(_request, response):
        response.headers["Date"] = formatdate(time.time() + off, usegmt=True)

    app = flowise.application()
    app.on_response_prepare.append(set_date)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    _, findings = await examine(f"http://127.0.0.1:{runner.addresses[0][1]}")
    await runner.cleanup()
    found = of(findings, "clock")
    assert found[0] == level
    assert f"s {how} the clock of this machine." in found[2]
    assert found[2].endswith("set both by NTP.")


async def test_a_chatflow_without_streams_a_webhook_and_refused_uploads_are_named(flowise, examine):
    _, findings = await examine(flowise.url, route={"chatflow": NOT_STREAMABLE_ID})
    assert of(findings, "streaming")[2].startswith("Its chatflow does not stream")
    status, findings = await examine(flowise.url, route={"chatflow": HOOK.id})
    assert status == 1
    assert of(findings, "route")[2].startswith(
        "Its chatflow is started by a webhook and refuses predictions."
    )
    for flow, offers in ((LOUD.id, "speech"), (AGENTFLOW_ID, "files")):
        _, findings = await examine(flowise.url, route={"chatflow": flow})
        assert of(findings, "uploads")[2].startswith(f"Its chatflow takes {offers}, which the route refuses.")
        _, findings = await examine(flowise.url, route={"chatflow": flow, "uploads": True})
        assert wrong(findings) == []


@pytest.mark.parametrize(
    ("auth", "key", "is_wrong"), [("anonymous", "", True), ("anonymous", KEY, False), ("upstream", "", False)]
)
async def test_documents_need_a_key_of_flowise(flowise, examine, auth, key, is_wrong):
    """That of the upstream, or that of the client."""
    route = {"chatflow": CHAIN_ID, "uploads": True, "upsert": True, "auth": [auth]}
    status, findings = await examine(flowise.url, route=route, upstream={"api_key": key})
    found = [finding for finding in findings if finding[1] == "upsert"]
    assert (status, len(found)) == ((1, 1) if is_wrong else (0, 0))
    assert not found or "upstreams.main.api_key is empty. Make one in Flowise" in found[0][3]


async def test_two_chatflows_with_keys_of_their_own_cannot_share_an_upstream(flowise, examine, tmp_path):
    routes = [
        {"name": name, "chatflow": flow, "upstream": "main", "auth": ["anonymous"]}
        for name, flow in (("one", LOCKED.id), ("two", PROTECTED_ID))
    ]
    status, findings = await examine(flowise.url, routes=routes)
    texts = [text for _, check, _, text in findings if check == "chatflow_key"]
    assert status == 1
    assert (
        "that of route two needs another one. Give each route an upstream with its own api_key." in texts[0]
    )
    assert "that of route one needs another one." in texts[1]


async def test_chatflows_are_asked_only_with_a_question_and_answered_with_times(flowise, examine):
    await examine(flowise.url)
    assert flowise.runs == []
    _, findings = await examine(flowise.url, "--ask", "hi [[tokens=3 delay=0.05]]")
    level, _, sentence = of(findings, "ask")
    assert (level, len(flowise.runs)) == ("ok", 1)
    assert sentence.startswith("first token after 0.")
    _, findings = await examine(flowise.url, "--ask", "hi [[fail=400]]")
    assert of(findings, "ask")[2].startswith("Flowise answers with an error.")
    _, findings = await examine(
        flowise.url, "--ask", "hi [[tokens=1]]", route={"chatflow": NOT_STREAMABLE_ID}
    )
    assert of(findings, "ask")[2].startswith("the whole answer came after ")


async def test_a_folder_for_temporary_files_that_is_missing_and_slow_parsing_are_warnings(flowise, examine):
    _, findings = await examine(flowise.url, before="export TMPDIR=/none AIOHTTP_NO_EXTENSIONS=1")
    _, subject, sentence = of(findings, "disk")
    assert (subject, sentence[:46]) == ("/none", "cannot be written (No such file or directory).")
    assert "Set TMPDIR to a folder that this user can write" in sentence
    assert of(findings, "extensions")[0] == "warning"


async def test_each_server_of_an_upstream_has_a_line_of_its_own(flowise, examine):
    async with Simulator(FLOWS, api_key="another") as other:
        with closed_port() as port:
            down = f"http://127.0.0.1:{port}"
            listed = [{"url": url} for url in (down, flowise.url, other.url)]
            status, findings = await examine(flowise.url, upstream={"servers": listed})
    places = [f"main {url.removeprefix('http://')}" for url in (down, flowise.url, other.url)]
    assert status == 1
    assert [(level, subject) for level, check, subject, _ in findings if check == "server"] == [
        ("failed", places[0]),
        ("ok", places[1]),
        ("ok", places[2]),
    ]
    assert [(level, subject) for level, check, subject, _ in findings if check == "api_key"] == [
        ("ok", places[1]),
        ("failed", places[2]),
    ]
    assert of(findings, "route")[0] == "ok"  # asked of a server that answers


async def test_a_name_that_is_looked_up_says_for_how_many_addresses_it_stands(flowise, examine):
    port = flowise.url.rpartition(":")[2]
    listed = {"servers": [{"url": f"http://localhost:{port}"}], "discover": "dns"}
    _, findings = await examine(flowise.url, upstream=listed)
    level, subject, sentence = of(findings, "discover")
    assert subject == "main"
    assert (level, "one address only" in sentence) in (("warning", True), ("ok", False))
    listed = {"servers": [{"url": "http://name.invalid"}], "discover": "dns"}
    status, findings = await examine(flowise.url, upstream=listed)
    assert (status, of(findings, "discover")[0]) == (1, "failed")
    assert of(findings, "discover")[2].startswith("name.invalid: no ")
