"""The commands as a user types them: output, stream and exit status."""

from __future__ import annotations

import json
import re
import shlex
import socket
import sys
from pathlib import Path

import pytest
import yaml

from gateway import __version__
from gateway.arguments import command_line
from gateway.cli import main
from gateway.config.problems import EXAMPLE_CHATFLOW
from tests.harness.commands import typed, typed_aside
from tests.harness.gateway import FLOW, configuration
from tests.harness.predictions import ask
from tests.harness.processes import ROOT, Child, gateway, run, spawn
from tests.harness.surface import answering

NOWHERE = "http://127.0.0.1:1"
WRONG = """\
server: {listen: "nowhere", drain: 30}
upstreams:
  main: {servers: [{url: "ftp://flowise"}]}
routes:
  - {name: chat, chatflow: no-uuid, upstream: other, auth: [anonymous], colour: red}
"""


@pytest.fixture
def written(tmp_path):
    """Writes a configuration, given as text or sections; returns its path."""

    def write(text="", **sections):
        path = tmp_path / "gateway.yaml"
        path.write_text(text or yaml.safe_dump(configuration(NOWHERE, **sections)))
        return str(path)

    return write


async def test_version_is_printed():
    assert await run("--version") == (0, __version__, "")


TYPES, SERVER = (
    {"pydantic", "ssl"},
    {"aiohttp", "asyncio", "uvloop", "structlog", "cryptography"},
)
ONLY_WHERE_CONFIGURED = {
    "cryptography",
    "jwt",
    "redis",
}  # TLS or an issuer, an issuer, a store: 20 MB of memory
LOADED = """\
import contextlib, io, json, sys
from gateway.cli import main
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        assert main(words) == 0
    print(*sys.modules)
import gateway.serve_cli, gateway.server.process
print(*sys.modules)
"""


async def test_a_command_loads_what_it_needs(written):
    """So that it takes a fraction of the time of `serve`."""
    commands = (["--version"], ["serve", "--help"], ["check", "--config", written()], ["schema"])
    process = await spawn(sys.executable, "-c", LOADED, json.dumps(commands))
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    version, usage, check, schema, served = (set(line.split()) for line in out.decode().splitlines())
    assert not (version | usage) & (TYPES | SERVER)
    assert check >= TYPES
    assert not (check | schema) & SERVER
    assert not served & ONLY_WHERE_CONFIGURED


def test_help_names_each_command():
    status, out, err = typed("--help")
    assert (status, err) == (0, "")
    for command in ("serve", "check", "schema", "demo"):
        assert f"    {command} " in out


COMMANDS = [
    *(("serve",), ("check",), ("schema",), ("demo",), ("completion",)),
    *(("keys", "create"), ("keys", "list"), ("keys", "revoke"), ("keys", "rotate")),
]


@pytest.fixture
def usage(capsys):
    def of(*command):
        with pytest.raises(SystemExit) as ended:
            main([*command, "--help"])
        assert ended.value.code == 0
        return capsys.readouterr().out

    return of


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_of_a_command_ends_with_examples_that_are_right(usage, command):
    examples = usage(*command).partition("\nexamples:\n")[2].splitlines()
    assert examples
    for example in examples:
        words = shlex.split(re.sub(r"^.*?(?=flowise-gateway )", "", example.partition(" > ")[0].rstrip(")")))
        given = command_line().parse_args(words[1:])
        assert given.command == command[0]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_of_a_command_says_the_default_of_each_option(usage, command):
    options = usage(*command).partition("\noptions:\n")[2].partition("\nexamples:")[0]
    described = [" ".join(text.split()) for text in re.split(r"^  (?=-)", options, flags=re.MULTILINE)]
    for text in described:
        assert not text.startswith("--") or "default: " in text or "; required" in text


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_prints_a_script_with_every_command(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert [command for command in COMMANDS if command[-1] not in script] == []


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("flowise-gateway ser", ["serve"]),
        ("flowise-gateway keys ro", ["rotate"]),
        ("flowise-gateway serve --adm", ["--admin-listen"]),
        ("flowise-gateway check --config ./gate", ["./gateway.yaml"]),
    ],
)
async def test_bash_completes_commands_options_and_file_names(line, wanted, tmp_path):
    (tmp_path / "gateway.yaml").touch()
    _, script, _ = await typed_aside("completion", "bash")
    words = line.split()
    ask_bash = f"""\
cd {shlex.quote(str(tmp_path))}
COMP_WORDS=({line}) COMP_CWORD={len(words) - 1} COMP_LINE={shlex.quote(line)} COMP_POINT={len(line)}
$(complete -p flowise-gateway | sed 's/.*-F \\([^ ]*\\).*/\\1/') flowise-gateway {words[-1]} {words[-2]}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    process = await spawn("bash", "-c", script + "\n" + ask_bash)
    out, err = await process.communicate()
    assert [reply.strip() for reply in out.decode().splitlines()] == wanted, err.decode()


@pytest.mark.parametrize("command", ["serve", "check"])
def test_a_wrong_configuration_ends_with_2_and_every_mistake_with_its_place(command, written):
    path = written(WRONG)
    status, out, err = typed(command, "--config", path)
    assert (status, out) == (2, "")
    lines = err.splitlines()
    places = [line.removeprefix(f"{path}:").split(": ")[:2] for line in lines]
    assert places == [
        ["1", "server.drain"],
        ["1", "server.listen"],
        ["3", "upstreams.main.servers[0].url"],
        ["5", "routes[0].chatflow"],
        ["5", "routes[0].colour"],
        ["5", "routes[0].upstream"],
    ]


async def test_a_missing_configuration_ends_with_2_and_a_sentence(tmp_path):
    status, out, err = await run("serve", "--config", str(tmp_path / "none.yaml"))
    assert (status, out) == (2, "")
    assert "none.yaml" in err
    assert "Traceback" not in err


def test_check_reports_a_valid_configuration(written):
    path = written()
    assert typed("check", "--config", path) == (0, f"{path}: ok, 1 route", "")


@pytest.mark.parametrize("name", ["gateway.yaml", "gateway.full.yaml"])
def test_check_accepts_what_is_shipped_and_asks_for_the_real_chatflow(name):
    path = str(ROOT / "config" / name)
    status, out, err = typed("check", "--config", path)
    assert (status, out) == (0, f"{path}: ok, 1 route")
    (line,) = err.splitlines()
    assert re.fullmatch(
        re.escape(path)
        + r":\d+: routes\[0\]\.chatflow: warning: this is the id of the example: write that of .*",
        line,
    )


async def test_serve_logs_the_warnings_of_the_configuration_and_too_few_file_descriptors(serve):
    sections = {"server": {"max_connections": 10000}, "route": {"chatflow": EXAMPLE_CHATFLOW}}
    async with serve(NOWHERE, before="ulimit -n 256", **sections) as child:
        (line,) = [line for line in child.lines if line["event"] == "config_warning"]
        few = await child.until("few_file_descriptors")
    assert (few["limit"], few["needed"], few["level"]) == (256, 10000 + 1000 + 164, "warning")
    assert "ulimit -n" in few["message"]
    assert (line["level"], line["key"], line["line"]) == ("warning", "routes[0].chatflow", line["line"])
    assert line["file"].endswith("gateway.yaml")
    assert line["message"].startswith("this is the id of the example: write that of your chatflow")


def test_check_reports_the_keys_file_beside_the_mistakes_of_the_configuration(written, tmp_path):
    (tmp_path / "keys.yaml").write_text("keys: [{id: x}]\n")
    path = written(server={"drain": "30"})
    status, out, err = typed("check", "--config", path)
    assert (status, out) == (2, "")
    assert f"{path}:" in err
    assert f"{tmp_path / 'keys.yaml'}:1: keys[0].id: " in err


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "${UNSET_HERE}",
            'environment variable UNSET_HERE is not set: set it, or write "${UNSET_HERE:-}" if the value may be empty',
        ),
        (
            "${file:/none/x}",
            "file '/none/x' cannot be read (No such file or directory): name a readable file",
        ),
    ],
)
def test_check_passes_without_the_variables_of_the_server_if_it_is_told_to(written, value, message):
    path = written(upstreams={"main": {"api_key": value}})
    status, out, err = typed("check", "--config", path)
    assert (status, out, err.partition(": ")[2]) == (2, "", f"upstreams.main.api_key: {message}\n")
    status, out, err = typed("check", "--allow-unset", "--config", path)
    assert (status, out, err.partition(": ")[2]) == (
        0,
        f"{path}: ok, 1 route",
        f"upstreams.main.api_key: {message}\n",
    )


def test_check_reports_other_mistakes_although_variables_may_be_unset(written):
    path = written(upstreams={"main": {"api_key": "${UNSET_HERE}"}}, server={"drain": "30"})
    status, out, err = typed("check", "--allow-unset", "--config", path)
    assert (status, out, len(err.splitlines())) == (2, "", 2)


UNREAD = "gateway.yaml in this folder was not read: write --config gateway.yaml to use it"


@pytest.mark.parametrize("command", ["check", "doctor", "health", "keys list"])
def test_a_file_beside_a_command_without_a_configuration_is_named(
    command, written, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLOWISE_API_KEY", "a-key")  # what `init` needs, and no configuration
    monkeypatch.setenv("GATEWAY_ADMIN_LISTEN", "nowhere")
    assert main(command.split()) == 2
    assert UNREAD not in capsys.readouterr().err
    written()
    assert main(command.split()) == 2
    assert UNREAD in capsys.readouterr().err.splitlines()[-1]


@pytest.fixture
def from_input(monkeypatch):
    """Types a command whose standard input is a file."""

    def begin(path, *arguments):
        with Path(path).open() as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            return typed(*arguments, "--config", "-")

    return begin


async def test_a_configuration_comes_from_standard_input(written):
    before = f"exec < {written()}"
    assert await run("check", "--config", "-", before=before) == (0, "<stdin>: ok, 1 route", "")


def test_a_mistake_on_standard_input_has_its_place(written, from_input):
    status, out, err = from_input(written("server: {drain: 30}\n"), "check")
    assert (status, out) == (2, "")
    assert '<stdin>:1: server.drain: "30" has no unit: write one' in err


def test_files_named_on_standard_input_are_relative_to_the_working_directory(
    written, from_input, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    status, out, _ = from_input(written(auth={"keys_file": "mine.yaml"}), "keys", "create", "--name", "a")
    assert status == 0
    assert "mine.yaml holds its hash" in out
    assert (tmp_path / "mine.yaml").exists()


async def test_closed_standard_input_is_no_configuration():
    status, out, err = await run("check", "--config", "-", before="exec <&-")
    assert (status, out) == (1, "")
    assert err == (
        "flowise-gateway: Standard input is closed. Pipe a configuration into it, or name a file.\n"
    )


LEAST = (
    '{upstreams: {main: {servers: [{url: "http://127.0.0.1:3000"}]}}, routes: [{name: support, chatflow:'
    " 2c5e8d0a-1111-4222-8333-444455556666, upstream: main, auth: [api_key]}]}, or remove it and run"
    " `flowise-gateway init --flowise URL`"
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            None,
            (
                ":1: the file cannot be read (No such file or directory): name a readable YAML file, or run"
                " `flowise-gateway init --flowise URL`, which writes one"
            ),
        ),
        (b"", f":1: the file is empty: write at least {LEAST}"),
        ("a: 1\n".encode("utf-16"), ":1: the file is UTF-16 or UTF-32: save it as UTF-8 text"),
    ],
)
def test_a_file_without_a_configuration_ends_with_2_and_a_sentence(tmp_path, content, message):
    path = tmp_path / "gateway.yaml"
    if content is not None:
        path.write_bytes(content)
    assert typed("check", "--config", str(path)) == (2, "", f"{path}{message}\n")


def test_a_folder_is_no_configuration(tmp_path):
    said = f"{tmp_path}:1: this is a folder: name a file in it, like {tmp_path}/gateway.yaml\n"
    assert typed("check", "--config", str(tmp_path)) == (2, "", said)


def test_schema_prints_what_is_shipped():
    status, out, err = typed("schema")
    assert (status, err) == (0, "")
    assert json.loads(out) == json.loads((ROOT / "config" / "gateway.schema.json").read_text())


async def test_an_address_in_use_ends_with_1_and_names_it(written):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        path = written(server={"listen": f"127.0.0.1:{port}"})
        status, _, err = await run("serve", "--config", path)
    assert status == 1
    assert (
        err
        == f"flowise-gateway: Cannot listen on 127.0.0.1:{port}: Address already in use. Free this address, or write another one in server.listen (--listen, GATEWAY_LISTEN).\n"
    )


async def test_an_admin_address_in_use_ends_with_1_and_names_it(written):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        path = written(admin={"listen": f"127.0.0.1:{port}"})
        status, _, err = await run("serve", "--config", path)
    assert status == 1
    assert (
        err
        == f"flowise-gateway: Cannot listen on 127.0.0.1:{port}: Address already in use. Free this address, or write another one in admin.listen (--admin-listen, GATEWAY_ADMIN_LISTEN).\n"
    )


async def test_listen_and_admin_listen_override_the_configuration(written):
    with socket.create_server(("127.0.0.1", 0)) as public, socket.create_server(("127.0.0.1", 0)) as admin:
        server, own = ({"listen": f"127.0.0.1:{one.getsockname()[1]}"} for one in (public, admin))
        path = written(server=server, admin=own)
        free = ("--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
        async with gateway("serve", "--config", path, *free) as child:
            await child.listens()
            child.send_signal()
            assert await child.ended() == (0, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--workers", "2"),
            "server.workers: several workers need a shared store, and limits.store is memory by default",
        ),
        (
            ("--admin-listen", "0.0.0.0:9090"),
            "admin.token: is required unless only this machine can reach admin.listen",
        ),
        (
            ("--admin-listen", "127.0.0.1:8080", "--listen", "0.0.0.0:8080"),
            "admin.listen: overlaps server.listen",
        ),
    ],
)
def test_options_are_checked_as_the_keys_of_the_file(written, arguments, message):
    status, out, err = typed("serve", "--config", written(), *arguments)
    assert (status, out) == (2, "")
    assert message in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--workers", "0"), 'argument --workers: "0" is not valid: write a whole number'),
        (("--listen", "here"), "argument --listen"),
        (("--colour",), "unrecognized arguments: --colour"),
    ],
)
def test_a_wrong_argument_ends_with_2_and_a_reason(written, arguments, message):
    status, out, err = typed("serve", "--config", written(), *arguments)
    assert (status, out) == (2, "")
    assert message in err


WITHOUT_REDIS = """\
import json, sys
from gateway.cli import main
sys.modules["redis"] = None
for words in json.loads(sys.argv[1]):
    assert main(words) == 1
"""


async def test_a_store_without_its_package_ends_with_1_and_one_sentence(written):
    path = written(auth={"secret": "s" * 32}, limits={"store": "redis://127.0.0.1:1/0"})
    commands = [
        [*command, "--config", path] for command in (["check"], ["serve"], ["serve", "--workers", "2"])
    ]
    child = Child(await spawn(sys.executable, "-c", WITHOUT_REDIS, json.dumps(commands)))
    try:
        status, err = await child.ended()
    finally:
        await child.end()
    assert (status, child.output) == (0, [])
    package = "the package redis, which is not installed: pip install 'redis>=8.1'."
    assert err == len(commands) * f"flowise-gateway: limits.store needs {package}\n"


FROM_ENVIRONMENT = {
    "FLOWISE_URL": NOWHERE,
    "GATEWAY_ROUTES": f"support={FLOW}",
    "GATEWAY_AUTH": "anonymous",
}
PORTS = {"GATEWAY_LISTEN": "127.0.0.1:0", "GATEWAY_ADMIN_LISTEN": "127.0.0.1:0"}


def exported(**variables):
    return "; ".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())


async def test_serve_needs_nothing_but_the_environment():
    async with answering() as upstream:
        variables = {
            **FROM_ENVIRONMENT,
            **PORTS,
            "FLOWISE_URL": upstream.url,
            "FLOWISE_API_KEY": "flowise-key",
        }
        async with gateway("serve", before=exported(**variables)) as child:
            await child.listens()
            assert (await ask(f"http://127.0.0.1:{child.port}", "support", "hi", streaming=False))[0] == 200
            child.send_signal()
            assert await child.ended() == (0, "")
    assert upstream.seen[0].fields["authorization"] == "Bearer flowise-key"


async def test_several_workers_need_nothing_but_the_environment(valkey):
    shared = {"GATEWAY_WORKERS": "2", "GATEWAY_LIMITS_STORE": valkey.url, "GATEWAY_SECRET": "s" * 32}
    async with gateway("serve", before=exported(**FROM_ENVIRONMENT, **PORTS, **shared)) as child:
        await child.listens()
        await child.until("worker_ready", 2)
        child.send_signal()
        assert (await child.ended())[0] == 0


@pytest.fixture
def environment(monkeypatch):
    """Sets the variables of this process."""

    def set_all(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_all


@pytest.mark.parametrize("command", ["check", "serve"])
def test_a_wrong_variable_ends_with_2_and_its_name(command, environment):
    environment(**{**FROM_ENVIRONMENT, "FLOWISE_URL": "f"})
    status, out, err = typed(command)
    assert (status, out) == (2, "")
    assert err.startswith('FLOWISE_URL: the value of "f" is not an http or https URL: write ')


def test_without_a_configuration_both_ways_are_named():
    status, out, err = typed("serve")
    assert (status, out) == (2, "")
    assert "write --config FILE, or set FLOWISE_URL, GATEWAY_ROUTES, GATEWAY_AUTH" in err


def test_check_and_keys_read_the_environment_too(tmp_path, environment):
    environment(**FROM_ENVIRONMENT)
    assert typed("check") == (0, "environment: ok, 1 route", "")
    environment(GATEWAY_AUTH="api_key", GATEWAY_KEYS_FILE=str(tmp_path / "keys.yaml"))
    status, out, err = typed("keys", "create", "--name", "backend")
    assert (status, out[:4], err) == (0, "fgw_", "")
    assert (tmp_path / "keys.yaml").exists()


def test_keys_need_no_variable_but_that_of_their_file(tmp_path, environment):
    environment(GATEWAY_KEYS_FILE=str(tmp_path / "keys.yaml"))
    status, out, err = typed("keys", "create", "--name", "a")
    assert (status, out[:4], err) == (0, "fgw_", "")


def test_the_chatflow_of_the_example_is_a_warning_of_its_variable(environment):
    environment(**{**FROM_ENVIRONMENT, "GATEWAY_ROUTES": f"a={FLOW},b={EXAMPLE_CHATFLOW}"})
    status, _, err = typed("check")
    assert status == 0
    assert err.startswith(
        "GATEWAY_ROUTES: warning: entry 2, chatflow: this is the id of the example: write that of"
    )


def test_keys_without_a_file_name_the_variable(environment):
    environment(**FROM_ENVIRONMENT)
    said = (
        "GATEWAY_KEYS_FILE is not set: set it to the name of the file, like keys.yaml, or write --config FILE"
    )
    assert typed("keys", "list") == (2, "", f"flowise-gateway: {said}\n")


async def test_the_limit_of_file_descriptors_is_raised_up_to_the_hard_limit(serve):
    sections = {"server": {"max_connections": 300}, "upstreams": {"main": {"max_connections": 10}}}
    async with serve(NOWHERE, before="ulimit -n 1000; ulimit -S -n 100", **sections) as child:
        limits = Path(f"/proc/{child.pid}/limits")
        if not limits.exists():
            pytest.skip("this system shows no limits of a process")
        (line,) = [line for line in limits.read_text().splitlines() if line.startswith("Max open files")]
        assert not [line for line in child.lines if line["event"] == "few_file_descriptors"]
    assert line.split()[3:5] == ["474", "1000"]
