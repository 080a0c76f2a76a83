"""The `keys` commands as a user types them: output, errors, exit status, and content of the file."""

from __future__ import annotations

import asyncio
import getpass
import itertools
import json
import os
import re
import stat
import subprocess
import sys

import pytest
import yaml

from gateway.auth.key_format import hash_of, parse_key
from gateway.auth.keyring import Keyring
from gateway.auth.keys_file import read_keys
from gateway.auth.keys_model import format_moment
from gateway.cli import main
from tests.harness import bounds
from tests.harness.gateway import configuration
from tests.harness.key_files import entry, key, key_id, write_keys
from tests.harness.processes import ROOT, run

DAY = 86400.0
BEGIN = 1_800_000_000.75
WRITER = """\
import secrets, sys
from pathlib import Path
from gateway.config import read
from gateway.keys_cli import KeysCommand

path = Path(sys.argv[1])
for number in range(6):
    command = KeysCommand(read(path, {}), path, 1.8e9, secrets.choice)
    print(command.create(f"{sys.argv[2]}{number}", [], None).splitlines()[0])
"""
KEY = re.compile(r"fgw_[0-9A-Za-z]{8}_[0-9A-Za-z]{38}")


@pytest.fixture
def config(tmp_path):
    """A configuration with the routes `chat` and `sales`; its keys file is keys.yaml beside it."""
    sections = configuration("http://127.0.0.1:1")
    chatflow = "3c5e8d0a-1111-4222-8333-444455556666"
    more = {"name": "sales", "chatflow": chatflow, "auth": ["anonymous"]}
    sections["routes"].append({**sections["routes"][0], **more})
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump(sections))
    return path


@pytest.fixture
def path(config):
    return config.with_name("keys.yaml")


class Clock:
    def __init__(self):
        self.now = BEGIN

    def time(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("gateway.cli.time", clock)
    return clock


@pytest.fixture
def keys(config, clock, capsys):
    """Runs a command in this process: status, output, errors."""

    def keys(*arguments):
        try:
            status = main(["keys", *arguments, "--config", str(config)])
        except SystemExit as ended:
            status = ended.code
        return status, *capsys.readouterr()

    return keys


@pytest.fixture
def made(keys):
    """Runs a command that prints a key, and returns that key."""

    def made(*arguments):
        status, out, err = keys(*arguments)
        assert (status, err) == (0, "")
        (line,) = [line for line in out.splitlines() if KEY.fullmatch(line)]
        return line

    return made


@pytest.fixture
def refused(keys, path):
    """Runs a command that is refused and leaves the file as it is, and returns its error line."""

    def refused(*arguments, status=2):
        before = path.read_bytes() if path.exists() else None
        ended, out, err = keys(*arguments)
        assert (ended, out) == (status, "")
        assert (path.read_bytes() if path.exists() else None) == before
        (line,) = err.splitlines()
        return line

    return refused


def opens(path, text, now):
    return Keyring(read_keys(path)).check(text, now)


def test_create_shows_the_key_once_and_the_file_never_holds_it(keys, path):
    status, out, err = keys("create", "--name", "backend")
    assert (status, err) == (0, "")
    shown, *said = out.splitlines()
    user = getpass.getuser()
    assert KEY.fullmatch(shown)
    assert said == [
        f"This is key {parse_key(shown)} of backend, for all routes; it never expires.",
        f"{path} is new, and only {user} can read it: run the gateway as this user, or give it the file with --owner.",
        f"The key is shown only this once; {path} holds its hash. A running gateway applies this within 2 s.",
    ]
    text = path.read_text()
    assert shown not in text
    assert shown.rpartition("_")[2][:8] not in text
    assert hash_of(shown) in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_created_key_is_valid(made, path):
    shown = made("create", "--name", "backend", "--routes", "chat,sales,chat", "--expires", "90d")
    found = opens(path, shown, BEGIN)
    assert (found.name, found.allowed_routes) == ("backend", frozenset({"chat", "sales"}))
    assert found.expires == int(BEGIN) + 90 * DAY
    assert read_keys(path)[0].routes == ("chat", "sales")


def test_create_prints_the_routes_and_the_expiry(keys, path):
    write_keys(path)
    _, out, _ = keys("create", "--name", "a", "--routes", "chat", "--expires", "1h")
    _, line, *rest = out.splitlines()
    assert line.endswith(" of a, for route chat; it expires 2027-01-15T09:00:00Z.")
    assert len(rest) == 1  # the file was there
    assert "for routes chat, sales;" in keys("create", "--name", "b", "--routes", "chat, sales")[1]


def test_every_key_is_another_one(made, path):
    shown = [made("create", "--name", name) for name in "abcdef"]
    assert len(set(shown)) == len({one[13:] for one in shown}) == 6
    assert [found.id for found in read_keys(path)] == list(map(parse_key, shown))


def test_an_id_that_is_taken_is_not_given_again(made, path, monkeypatch):
    letters = itertools.chain(key_id(1), "x" * 32, key_id(1), "y" * 32, key_id(2), "z" * 32)
    monkeypatch.setattr("gateway.cli.secrets.choice", lambda _: next(letters))
    write_keys(path, entry(1))
    assert made("create", "--name", "other")[4:45] == f"{key_id(2)}_{'z' * 32}"


def test_create_with_a_name_that_is_taken_is_refused(made, refused, clock):
    key_id = parse_key(made("create", "--name", "backend", "--expires", "1d"))
    said = f"flowise-gateway: the name backend is taken by key {key_id}: choose another one, or run `keys rotate {key_id}`"
    assert refused("create", "--name", "backend") == said
    clock.now += 2 * DAY
    said = f"flowise-gateway: the name backend belonged to key {key_id}, which has ended, and cannot be used again: choose another one"
    assert refused("create", "--name", "backend") == said


def test_the_error_for_a_taken_name_names_its_newest_key(refused, path):
    write_keys(path, entry(1, "ann", replaced_by=key_id(2)), entry(2, "ann"))
    assert f"is taken by key {key_id(2)}: choose another one" in refused("create", "--name", "ann")


@pytest.mark.parametrize(
    "command", [("create", "--name", "a"), ("revoke", "x"), ("rotate", "x")], ids=lambda c: c[0]
)
def test_an_owner_that_does_not_exist_is_a_wrong_argument(keys, path, command):
    status, out, err = keys(*command, "--owner", "no-such-user")
    assert (status, out) == (2, "")
    said = "names a user that this system does not have: write its number, or another one"
    assert err.splitlines()[-1].endswith(f'error: argument --owner: "no-such-user" {said}')
    assert not path.exists()


def test_mistakes_elsewhere_in_the_configuration_stop_no_command(keys, config):
    text = config.read_text().replace("http://127.0.0.1:1", "${UNSET_HERE}")
    config.write_text(f"{text}colour: red\nauth: {{secret: '${{file:/none/x}}', jwt: 5}}\n")
    status, out, err = keys("create", "--name", "backend", "--routes", "chat")
    assert (status, err) == (0, "")
    assert " of backend, for route chat;" in out
    assert keys("list")[0] == 0


@pytest.mark.parametrize(
    ("auth", "said"),
    [
        (
            "{keys_file: '${UNSET_HERE}'}",
            "auth.keys_file: environment variable UNSET_HERE is not set: set it, or",
        ),
        (
            "{keys_file: none/keys.yaml}",
            'auth.keys_file: "none/keys.yaml" is in a folder that does not exist: create',
        ),
        ("{keys_file: [a]}", "auth.keys_file: is a list: write a file name"),
        ("5", "auth: is a single value: write keys with values below it"),
        ("{keys_file: 'a}", "auth.keys_file: the quote that begins here is never closed"),
    ],
)
def test_a_mistake_in_the_name_of_the_keys_file_stops_a_command(refused, config, auth, said):
    config.write_text(f"{config.read_text()}auth: {auth}\n")
    assert said in refused("create", "--name", "backend")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("--name", "a b"),
            '--name "a b" is not a valid name: write 1 to 64 characters of A-Z a-z 0-9 . _ -',
        ),
        (("--name", ""), '--name "" is not a valid name: write 1 to 64'),
        (("--name", key(1)), '--name "fgw_…" is a key, not a name: write a name, and revoke'),
        (("--name", "a", "--routes", "chart"), '--routes: there is no route "chart": did you mean chat?'),
        (("--name", "a", "--routes", "chat,x"), '--routes: there is no route "x": write one of chat, sales'),
        (
            ("--name", "a", "--routes", key(1)),
            '--routes: there is no route "fgw_…": write one of chat, sales',
        ),
    ],
)
def test_create_refuses_wrong_names_and_routes_and_says_what_would_be_right(refused, path, arguments, said):
    assert refused("create", *arguments).startswith(f"flowise-gateway: {said}")
    assert not path.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("create",), "the following arguments are required: --name"),
        (
            ("create", "--name", "a", "--expires", "90"),
            'argument --expires: "90" has no unit: write one after',
        ),
        (
            ("create", "--name", "a", "--expires", "0s"),
            'argument --expires: "0s" is zero: write more than',
        ),
        (
            ("create", "--name", "a", "--routes", "chat,"),
            "argument --routes: has an empty name",
        ),
        (("create", "--name", "a", "--routes", ""), "argument --routes: has an empty name"),
        (
            ("rotate", "x", "--grace", "soon"),
            'argument --grace: "soon" is not a duration: write a whole number',
        ),
        (("revoke",), "the following arguments are required: ID"),
        (("delete",), "invalid choice: 'delete'"),
    ],
)
def test_a_wrong_argument_ends_with_2_and_says_why(keys, arguments, said):
    status, out, err = keys(*arguments)
    assert (status, out) == (2, "")
    assert said in err.splitlines()[-1]


def test_list_is_a_table_without_hashes(keys, path):
    write_keys(
        path,
        entry(1, "backend"),
        entry(2, "website-of-ours", routes="[chat, sales]", expires="2027-01-15T08:00:00Z"),
        entry(3, "partner", revoked="2026-02-01T00:00:00Z"),
        entry(4, "ann", expires="2027-01-16T08:00:00Z", replaced_by=key_id(5)),
        entry(5, "ann"),
        entry(6, "bob", expires="2027-01-15T07:59:59Z", replaced_by=key_id(7)),
        entry(7, "bob"),
    )
    status, out, err = keys("list")
    assert (status, err) == (0, "")
    made, until = "2026-01-31T08:00:00Z", "expires 2027-01-16T08:00:00Z"
    assert out.splitlines() == [
        "ID        NAME             ROUTES      CREATED               EXPIRES               STATE",
        f"{key_id(1)}  backend          all         {made}  never                 valid",
        f"{key_id(2)}  website-of-ours  chat,sales  {made}  2027-01-15T08:00:00Z  expired",
        f"{key_id(3)}  partner          all         {made}  never                 revoked 2026-02-01T00:00:00Z",
        f"{key_id(4)}  ann              all         {made}  2027-01-16T08:00:00Z  replaced by {key_id(5)}, {until}",
        f"{key_id(5)}  ann              all         {made}  never                 valid",
        f"{key_id(6)}  bob              all         {made}  2027-01-15T07:59:59Z  expired",
        f"{key_id(7)}  bob              all         {made}  never                 valid",
    ]
    assert "sha256" not in out


def test_list_without_keys_says_how_to_add_one_and_creates_no_file(keys, path):
    assert keys("list") == (0, f"{path} has no keys yet: `keys create --name N` adds one.\n", "")
    assert list(path.parent.iterdir()) == [path.with_name("gateway.yaml")]


def test_a_revoked_key_is_not_valid_and_stays_in_the_file(made, keys, path, refused):
    shown = made("create", "--name", "backend")
    key_id = parse_key(shown)
    said = f"Key {key_id} of backend is revoked, with its streams and session tokens."
    assert keys("revoke", key_id) == (0, f"{said} A running gateway applies this within 2 s.\n", "")
    (found,) = read_keys(path)
    assert (found.id, found.revoked) == (key_id, int(BEGIN))
    assert not found.is_valid(BEGIN)
    assert "cannot be used again" in refused("create", "--name", "backend")


def test_revoking_twice_changes_nothing(made, keys, path, clock):
    key_id = parse_key(made("create", "--name", "backend"))
    keys("revoke", key_id)
    before = path.stat()
    clock.now += 5
    said = f"Key {key_id} of backend was already revoked at {format_moment(BEGIN)}.\n"
    assert keys("revoke", key_id) == (0, said, "")
    assert path.stat() == before


def test_revoking_one_key_of_a_rotation_names_the_other(made, keys):
    made("create", "--name", "other")
    old = parse_key(made("create", "--name", "backend"))
    new = parse_key(made("rotate", old))
    assert keys("revoke", new)[1].splitlines()[1:] == [f"Key {old} of the same name is still valid."]
    assert len(keys("revoke", old)[1].splitlines()) == 1


def test_an_unknown_id_is_refused_and_a_name_gives_the_right_one(made, refused, path):
    key_id = parse_key(made("create", "--name", "backend"))
    for command in ("revoke", "rotate"):
        said = f'flowise-gateway: there is no key "00000000" in {path}: `keys list` shows the ids'
        assert refused(command, "00000000") == said
        assert (
            refused(command, "backend")
            == f'flowise-gateway: "backend" is a name: write the id of its key, {key_id}'
        )


def test_a_key_in_the_place_of_its_id_is_not_repeated(made, refused):
    shown = made("create", "--name", "backend")
    for text in (shown, shown[:-1], "fgw_x"):
        said = "flowise-gateway: this is a key, not its id: write the 8 letters after fgw_"
        assert refused("revoke", text) == said


def test_both_keys_of_a_rotation_work_for_a_day(made, keys, path, clock):
    old = made("create", "--name", "backend", "--routes", "chat")
    clock.now += 10 * DAY
    status, out, err = keys("rotate", parse_key(old))
    assert (status, err) == (0, "")
    new, *said = out.splitlines()
    assert said == [
        f"This is key {parse_key(new)} of backend, for route chat; it never expires.",
        f"It replaces {parse_key(old)}, which ends 2027-01-26T08:00:00Z; until then both work.",
        f"The key is shown only this once; {path} holds its hash. A running gateway applies this within 2 s.",
    ]
    first, second = opens(path, old, clock.now), opens(path, new, clock.now)
    assert (first.name, first.routes) == (second.name, second.routes) == ("backend", ("chat",))
    assert first.expires == int(clock.now) + DAY
    assert [found.is_valid(clock.now + DAY) for found in read_keys(path)] == [False, True]


def test_a_rotated_key_has_the_lifetime_of_the_old_one(made, path, clock):
    old = made("create", "--name", "backend", "--expires", "90d")
    clock.now += 80 * DAY
    new = made("rotate", parse_key(old))
    assert opens(path, new, clock.now).expires == int(clock.now) + 90 * DAY


def test_an_old_key_never_outlives_its_own_expiry(made, path, clock):
    old = made("create", "--name", "backend", "--expires", "1h")
    made("rotate", parse_key(old), "--grace", "2d")
    assert opens(path, old, clock.now).expires == int(BEGIN) + 3600


def test_an_expiry_that_was_written_by_hand_with_a_fraction_is_kept(made, path):
    write_keys(path, entry(1, expires="2027-01-15T08:00:10.5Z"))
    made("rotate", key_id(1))
    assert "expires: 2027-01-15T08:00:10.5Z\n" in path.read_text()


@pytest.mark.parametrize("lifetime", [(), ("--expires", "1d")])
def test_without_grace_the_old_key_ends_at_once(made, keys, path, lifetime):
    old = parse_key(made("create", "--name", "backend", *lifetime))
    _, out, _ = keys("rotate", old, "--grace", "0s")
    assert f"It replaces {old}, which has ended." in out
    assert [found.is_valid(BEGIN) for found in read_keys(path)] == [False, True]


def test_a_rotation_takes_the_limits_along(made, path):
    limits = "[{name: a, requests: 6, per: 1m}, {name: open, concurrent: 3}]"
    write_keys(path, entry(1, limits=limits))
    made("rotate", key_id(1))
    old, new = read_keys(path)
    assert new.limits == old.limits
    assert [limit.name for limit in new.limits] == ["a", "open"]


def test_a_key_that_has_ended_or_was_replaced_is_not_rotated(made, refused, keys, clock):
    first = parse_key(made("create", "--name", "a"))
    second = parse_key(made("rotate", first))
    said = f"flowise-gateway: key {first} of a is already replaced by {second}: rotate that one"
    assert refused("rotate", first) == said
    keys("revoke", second)
    said = f"key {second} of a was revoked at {format_moment(BEGIN)}: create a key with another name"
    assert refused("rotate", second) == f"flowise-gateway: {said}"
    third = parse_key(made("create", "--name", "b", "--expires", "1h"))
    clock.now += 3600
    said = f"key {third} of b expired at {format_moment(BEGIN + 3600)}: create a key with another name"
    assert refused("rotate", third) == f"flowise-gateway: {said}"


def test_a_rotation_can_be_rotated_again(made, keys, path):
    first = made("create", "--name", "a")
    second = made("rotate", parse_key(first))
    third = made("rotate", parse_key(second))
    assert [found.replaced_by for found in read_keys(path)] == [parse_key(second), parse_key(third), None]
    assert "replaced by" in keys("list")[1]


def test_list_as_json_has_every_key_and_no_hash(made, keys, path, clock):
    trial = parse_key(made("create", "--name", "trial", "--routes", "chat,sales", "--expires", "1h"))
    old = parse_key(made("create", "--name", "backend"))
    new = parse_key(made("rotate", old))
    clock.now += 7200
    keys("revoke", new)
    status, out, err = keys("list", "--json")
    assert (status, err) == (0, "")
    listed = {entry["id"]: entry for entry in json.loads(out)}
    assert list(listed) == [trial, old, new]
    assert listed[trial] == {
        "id": trial,
        "name": "trial",
        "routes": ["chat", "sales"],
        "created": format_moment(int(BEGIN)),
        "expires": format_moment(int(BEGIN) + 3600),
        "revoked": None,
        "replaced_by": None,
        "valid": False,
    }
    assert (listed[old]["replaced_by"], listed[old]["valid"], listed[old]["routes"]) == (new, True, [])
    assert (listed[new]["revoked"], listed[new]["valid"]) == (format_moment(int(BEGIN) + 7200), False)
    assert not [found.hash for found in read_keys(path) if found.hash in out]


def test_list_as_json_of_no_keys_is_an_empty_array(keys):
    assert keys("list", "--json") == (0, "[]\n", "")


@pytest.mark.parametrize("command", [("create", "--name", "b"), ("list",), ("revoke", "x"), ("rotate", "x")])
def test_mistakes_of_the_keys_file_are_printed_with_their_lines(keys, path, command):
    write_keys(path, entry(1, expires="soon"), entry(2, hash="x"))
    before = path.read_bytes()
    status, out, err = keys(*command)
    assert (status, out) == (2, "")
    places = [line.removeprefix(f"{path}:").split(": ")[:2] for line in err.splitlines()]
    assert places == [["6", "keys[0].expires"], ["9", "keys[1].hash"]]
    assert path.read_bytes() == before


@pytest.mark.parametrize("command", [("create", "--name", "b"), ("list",), ("revoke", "x"), ("rotate", "x")])
def test_a_configuration_without_a_keys_file_is_refused(refused, config, command):
    config.write_text(config.read_text() + 'auth: {keys_file: ""}\n')
    said = f"flowise-gateway: {config} names no keys file: write keys_file: keys.yaml in its section auth"
    assert refused(*command) == said


def test_a_file_that_cannot_be_changed_ends_with_1_and_shows_no_key(refused, path, monkeypatch):
    write_keys(path, entry(1))

    def replace(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", replace)
    said = f"flowise-gateway: {path} is as it was and cannot be changed: Permission denied; run this as the owner of its folder"
    for command in (("create", "--name", "b"), ("rotate", key_id(1)), ("revoke", key_id(1))):
        assert refused(*command, status=1) == said


def test_comments_stay(made, keys, path):
    path.write_text("# ours\nkeys:\n" + entry(1).replace("\n", "  # said\n") + "# the end\n")
    made("create", "--name", "b")
    keys("revoke", key_id(1))
    made("rotate", read_keys(path)[1].id)
    text = path.read_text()
    assert text.startswith("# ours\nkeys:\n")
    assert text.endswith("# the end\n")
    assert text.count("# said\n") == 4


def test_nothing_of_a_secret_is_kept_by_the_command(keys, config, path):
    """Neither in the folder nor in the output after the key."""
    _, out, _ = keys("create", "--name", "backend")
    shown, rest = out.split("\n", 1)
    secret = shown[13:45]
    assert secret not in rest
    for found in path.parent.iterdir():
        assert secret[:8] not in found.read_text()
    assert secret[:8] not in repr(read_keys(path))


async def test_a_real_process_shows_a_key_and_ends(config, path):
    status, out, err = await run("keys", "create", "--name", "backend", "--config", str(config))
    assert (status, err) == (0, "")
    (found,) = await asyncio.to_thread(read_keys, path)
    assert found.hash == hash_of(out.splitlines()[0])


def test_several_processes_at_once_lose_no_key(config, path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(config), name], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        for name in ("a", "b")
    ]
    shown = [
        line for process in processes for line in process.communicate(timeout=bounds.STEP)[0].splitlines()
    ]
    assert [process.returncode for process in processes] == [0, 0]
    assert len(shown) == 2 * 6
    assert {found.hash for found in read_keys(path)} == set(map(hash_of, shown))
