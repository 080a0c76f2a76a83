"""Reading a keys file, and its mistakes with their lines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.auth.key_format import hash_of
from gateway.auth.keys_file import ABSENT, file_version, read_keys
from gateway.auth.keys_model import ApiKey
from gateway.config import ConfigError
from tests.harness.key_files import NOW, entry, key, key_id, keys_text, write_keys

EXAMPLE = Path(__file__).parents[2] / "config" / "keys.example.yaml"


@pytest.fixture
def read(tmp_path):
    def read(text):
        path = tmp_path / "keys.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_keys(path)

    return read


@pytest.fixture
def mistakes_in(read, tmp_path):
    """The printed mistakes in a file, without its name."""

    def mistakes_in(text):
        with pytest.raises(ConfigError) as refused:
            read(text)
        lines = [str(mistake) for mistake in refused.value.mistakes]
        assert all(line.startswith(f"{tmp_path / 'keys.yaml'}:") for line in lines)
        return [line.removeprefix(f"{tmp_path / 'keys.yaml'}:") for line in lines]

    return mistakes_in


def test_a_missing_file_has_no_keys(tmp_path):
    assert read_keys(tmp_path / "keys.yaml") == ()
    assert read_keys(tmp_path / "nowhere" / "keys.yaml") == ()


@pytest.mark.parametrize(
    "text",
    ["", "\n", "# words\n", "---\n", "---\n...\n", "\ufeff", "keys:\n", "keys: []\n", "keys: null\n", "{}"],
)
def test_a_file_with_nothing_in_it_has_no_keys(read, text):
    assert read(text) == ()


def test_an_entry_is_read_whole(read):
    more = {
        "expires": "2026-01-31T08:01:00Z",
        "routes": "[support, sales]",
        "revoked": "2026-01-31T08:00:30Z",
    }
    (found,) = read(keys_text(entry(1, "backend", **more)))
    assert (found.id, found.name, found.hash) == (key_id(1), "backend", hash_of(key(1)))
    assert (found.created, found.expires, found.revoked) == (NOW, NOW + 60, NOW + 30)
    assert (found.routes, found.limits, found.replaced_by) == (("support", "sales"), (), None)


def test_fields_that_are_not_given_restrict_nothing(read):
    (found,) = read(keys_text(entry(1)))
    assert (found.expires, found.revoked, found.routes, found.limits) == (None, None, (), ())


@pytest.mark.parametrize("written", ["12345678", "1e234567", "0x1F0000", "00000000"])
def test_an_id_that_looks_like_a_number_is_an_id(read, written):
    (found,) = read(keys_text(entry(1, id=written)))
    assert found.id == written


def test_the_limits_of_a_key_are_those_of_a_route(read):
    limits = "[{name: burst, requests: 60, per: 1m}, {name: daily, tokens: 9, per: 1d, reserve: 5}, {name: o, concurrent: 4}]"
    (found,) = read(keys_text(entry(1, limits=limits)))
    assert [(limit.name, limit.requests, limit.tokens, limit.concurrent) for limit in found.limits] == [
        ("burst", 60, None, None),
        ("daily", None, 9, None),
        ("o", None, None, 4),
    ]
    assert [limit.per for limit in found.limits] == [60.0, 86400.0, None]
    assert found.limits[1].reserve == 5


def test_keys_of_one_name_are_a_rotation(read):
    found = read(
        keys_text(
            entry(1, "ann", replaced_by=key_id(2)),
            entry(2, "ann", replaced_by=key_id(3)),
            entry(3, "ann"),
            entry(4),
        )
    )
    assert [one.replaced_by for one in found] == [key_id(2), key_id(3), None, None]


def test_the_example_shows_every_key_of_an_entry():
    found = read_keys(EXAMPLE)
    shown = set().union(*(one.model_fields_set for one in found))
    assert shown == set(ApiKey.model_fields)
    text = EXAMPLE.read_text()
    assert all(
        f" {name}:" in text for name in ("requests", "tokens", "concurrent", "per", "burst", "reserve")
    )
    assert "by:" not in text.replace("replaced_by:", "")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "keys: {}\n",
            "1: keys: is a mapping: write a list, like [one, two], or one entry per line after a dash",
        ),
        ("keys: 5\n", "1: keys: is a single value: write a list"),
        ("keys:\n  - 5\n", "2: keys[0]: is a single value: write keys with values below it"),
        ("\nkeyz: []\n", "2: keyz: is not a key here: did you mean keys?"),
        ("# no keys\n- id: x\n", "2: the file is not a mapping: write `keys:` with a list below it; "),
        ("words\n", "1: the file is not a mapping: write `keys:`"),
        ("''\n", "1: the file is not a mapping: write `keys:`"),
        ("keys: []\n---\nkeys: []\n", "2: --- starts a second document: remove this line"),
        ("keys: [\n", "1: keys: the [ in this line is not closed: write ] after its last entry"),
        ("keys: []\nkeys: []\n", "2: keys: the key is in line 1 too: keep one of them"),
        (b"keys: []\n# \xff\n", "2: the file is not UTF-8"),
        ("keys: []\n# \x07\n", "2: there is a control character here"),
        ('"\\UFFFFFFFF"\n', "1: this is not YAML (a number is out of range)"),
        ("# " + "x" * 2 * 1024 * 1024, "1: the file is larger than 2MiB"),
    ],
)
def test_a_wrong_structure_is_reported_with_its_line(mistakes_in, text, line):
    (found,) = mistakes_in(text)
    assert found.startswith(line)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"id": "a8Xk2Lm"}, "2: keys[0].id: the value is not the id of a key: write 8 of the letters 0-9 A-Z a-z"),
        ({"id": ""}, "2: keys[0].id: is empty: write 8 of the letters"),
        ({"name": "a b"}, '3: keys[0].name: "a b" is not a valid name: write 1 to 64'),
        ({"name": "no"}, '3: keys[0].name: "no" without quotes is true or false to YAML: write "no" in quotes'),
        ({"hash": "md5:00"}, "4: keys[0].hash: the value is not the hash of a key: write sha256: and 64 of"),
        ({"created": "yesterday"}, '5: keys[0].created: "yesterday" is not a time: write a time in UTC like'),
        ({"created": "[]"}, "5: keys[0].created: is a list: write a time in UTC like"),
        ({"expires": "90d"}, '6: keys[0].expires: "90d" is not a time: write a time in UTC like'),
        ({"expires": "2026-02-30T00:00:00Z"}, "is not a date of the calendar"),
        ({"expires": ""}, "6: keys[0].expires: is empty: write a time in UTC like 2026-12-31T23:59:59Z, or leave"),
        ({"revoked": "true"}, '6: keys[0].revoked: "true" is not a time'),
        ({"routes": "support"}, "6: keys[0].routes: is a single value: write a list"),
        ({"routes": "[]"}, "6: keys[0].routes: is empty: write at least one entry, or leave it out"),
        ({"routes": "[a, b c]"}, '6: keys[0].routes[1]: "b c" is not a valid name'),
        ({"replaced_by": "backend"}, "6: keys[0].replaced_by: the value is not the id of a key"),
        ({"expire": "2026-01-31T08:00:00Z"}, "6: keys[0].expire: is not a key here: did you mean expires?"),
        ({"zzz": "x"}, "6: keys[0].zzz: is not a key here: write one of created, expires, hash, id"),
        ({"limits": "{}"}, "6: keys[0].limits: is a mapping"),
        ({"limits": "[{requests: 1, per: 1m}]"}, '6: keys[0].limits[0].name: is missing: write for example name: "burst"'),
        ({"limits": "[{name: a, request: 1, concurrent: 1}]"}, "6: keys[0].limits[0].request: is not a key here: did you"),
        ({"limits": "[{name: a, requests: 1}]"}, "6: keys[0].limits[0].per: is missing: write the time in which"),
        ({"limits": "[{name: a}]"}, "6: keys[0].limits[0]: has none of requests, tokens and concurrent"),
        ({"limits": "[{name: a, zzz: 1, concurrent: 1}]"}, "write one of burst, concurrent, name, per, requests"),
        ({"limits": "[{name: a, concurrent: 1, by: caller}]"}, "6: keys[0].limits[0].by: has no effect here"),
        ({"limits": "[{name: a, concurrent: 1}, {name: a, concurrent: 2}]"}, "is the same as in another limit, in line 6"),
        ({"routes": "['${HOME:-x}']"}, "6: keys[0].routes[0]: has a placeholder, which a keys file does not support"),
        ({"routes": "['${HOME}']"}, "6: keys[0].routes[0]: environment variable HOME is not set"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_reported_with_line_key_and_advice(mistakes_in, values, line):
    (found,) = mistakes_in(keys_text(entry(1, **values)))
    assert line in found


@pytest.mark.parametrize("name", ["id", "name", "hash", "created"])
def test_an_entry_needs_id_name_hash_and_time(mistakes_in, name):
    lines = [line for line in entry(1).splitlines() if f" {name}:" not in line]
    text = "\n".join(lines).replace("  - ", "    ")
    (found,) = mistakes_in(f"keys:\n  -\n{text}\n")
    assert found.startswith(f'3: keys[0].{name}: is missing: write for example {name}: "')


def test_all_mistakes_are_reported_in_the_order_of_the_file(mistakes_in):
    found = mistakes_in(
        keys_text(entry(1, id="x", colour="red"), entry(2, "a b", created="now"), entry(3, hash="x"))
    )
    places = [line.split(": ")[:2] for line in found]
    assert places == [
        ["2", "keys[0].id"],
        ["6", "keys[0].colour"],
        ["8", "keys[1].name"],
        ["10", "keys[1].created"],
        ["13", "keys[2].hash"],
    ]


@pytest.mark.parametrize(
    "values",
    [
        {"id": key(7)},
        {"name": key(7)},
        {"hash": key(7)},
        {"created": key(7)},
        {"routes": f"[{key(7)}, x y]"},
        {"routes": f"[{hash_of(key(7))} b]"},
        {"replaced_by": key(7)},
        {key(7): "1"},
        {"created": hash_of(key(7))},
        {"name": hash_of(key(7)).removeprefix("sha256:") + "x"},
        {"limits": f"[{{name: {key(7)}+, {key(7)}: 1}}]"},
    ],
)
def test_no_mistake_repeats_a_key_or_a_hash(mistakes_in, values):
    found = "\n".join(mistakes_in(keys_text(entry(1, **values))))
    assert key(7)[13:20] not in found
    assert hash_of(key(7))[7:20] not in found


def test_a_folder_or_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(ConfigError, match="1: this is not a regular file"):
            read_keys(path)


def test_an_unreadable_file_is_reported(tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(
        ConfigError, match=r"1: the file cannot be read \(Too many levels of symbolic links\)"
    ):
        read_keys(loop)
    with pytest.raises(OSError, match="Too many levels"):
        file_version(loop)


def test_the_version_of_a_file_changes_with_every_edit(tmp_path):
    path = tmp_path / "keys.yaml"
    assert file_version(path) == ABSENT
    write_keys(path, entry(1))
    first = file_version(path)
    assert first == file_version(path) != ABSENT
    before = path.stat()
    write_keys(path, entry(2))  # the same size, and by and by the same time
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert file_version(path) != first
    link = tmp_path / "link"
    link.symlink_to(path)
    assert file_version(link) == file_version(path)


def test_equal_limits_and_routes_of_keys_are_one_object(read):
    both = {"limits": "[{name: day, requests: 5, per: 1d}]", "routes": "[a, b]"}
    one, other, third = read(keys_text(entry(1, **both), entry(2, **both), entry(3)))
    assert one.limits is other.limits
    assert one.routes is other.routes
    assert (len(one.limits), one.routes, third.limits, third.routes) == (1, ("a", "b"), (), ())
