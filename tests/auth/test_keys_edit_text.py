"""Edits of the text of a keys file: only what must change does."""

from __future__ import annotations

import difflib

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.auth.key_format import hash_of
from gateway.auth.keys_edit import HEADER, KeysFileEditor
from gateway.auth.keys_file import read_keys
from gateway.auth.keys_model import ApiKey
from tests.harness.key_files import NOW, entry, key, key_id, keys_text

LIMITS = "[{name: a, requests: 6, per: 90s, burst: 2}, {name: 'no', tokens: 9, per: 1d, reserve: 0}, {name: c, concurrent: 3}]"


@pytest.fixture
def read(tmp_path):
    def read(text):
        path = tmp_path / "keys.yaml"
        path.write_text(text, newline="")
        return read_keys(path)

    return read


@pytest.fixture
def editor(read):
    return lambda text: KeysFileEditor(text, read(text))


def new(number, name="", **values):
    return ApiKey.model_construct(
        id=key_id(number), name=name or f"new{number}", hash=hash_of(key(number)), created=NOW, **values
    )


def changes(before, after):
    """Removed lines, with -, and added ones, with +."""
    lines = difflib.ndiff(before.splitlines(keepends=True), after.splitlines(keepends=True))
    return [line for line in lines if line[0] in "-+"]


def test_the_first_key_creates_a_file_with_a_header(editor, read):
    one = editor("")
    one.add(new(1))
    assert one.text.startswith(HEADER)
    assert read(one.text) == one.entries == (new(1),)


@pytest.mark.parametrize("text", ["keys: []\n", "keys:\n", "{}\n", "---\n", "keys: [ ] # none\n"])
def test_a_file_without_keys_keeps_its_comments_when_one_is_added(editor, read, text):
    one = editor("# ours\n\n" + text + "  # the end\n")
    one.add(new(1))
    assert one.text.startswith("# ours\n\n  # the end\nkeys:\n  - id: ")
    assert read(one.text) == one.entries == (new(1),)


def test_a_key_is_added_after_the_last_and_nothing_else_changes(editor, read):
    before = (
        "# ours\n" + keys_text(entry(1), "  # two\n", entry(2, routes="[a]  # all of them")) + "\n# the end\n"
    )
    one = editor(before)
    one.add(new(3, routes=("a", "b"), expires=NOW + 1))
    came = changes(before, one.text)
    assert [line[:6] for line in came] == ["+   - ", *["+     "] * 5]
    assert one.text.endswith("    routes: [a, b]\n\n# the end\n")
    assert read(one.text) == one.entries
    assert [found.id for found in one.entries] == [key_id(1), key_id(2), key_id(3)]


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "   # last", "\n...\n"])
def test_a_key_is_added_whatever_the_last_line_is(editor, read, end):
    one = editor(keys_text(entry(1)).removesuffix("\n") + end)
    one.add(new(2))
    one.add(new(3))
    assert read(one.text) == one.entries
    assert len(one.entries) == 3


@pytest.mark.parametrize("before", ["\ufeff", "# für Köln 🔑\n", "\ufeff# für Köln 🔑\n"])
def test_letters_of_several_bytes_and_a_byte_order_mark_move_no_edit(editor, read, before):
    one = editor(before + keys_text(entry(1), "  # für München\n", entry(2)))
    text = one.text
    one.add(new(3))
    one.set(key_id(1), revoked=NOW)
    one.set(key_id(1), revoked=NOW + 1)
    assert read(one.text) == one.entries
    assert {line[0] for line in changes(text, one.text)} == {"+"}


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="needs libyaml")
def test_a_file_is_parsed_by_libyaml_which_is_eight_times_as_fast(editor, monkeypatch):
    one = editor(keys_text(entry(1)))
    monkeypatch.delattr(yaml, "SafeLoader")
    one.add(new(2))
    one.set(key_id(1), revoked=NOW)
    assert len(one.entries) == 2


@pytest.mark.parametrize("indent", [0, 1, 8])
def test_a_key_is_added_with_the_indent_of_the_others(editor, read, indent):
    text = "keys:\n" + "".join(" " * indent + line[2:] + "\n" for line in entry(1).splitlines())
    one = editor(text)
    one.add(new(2))
    assert one.text.startswith(text + " " * indent + "- id: ")
    assert read(one.text) == one.entries


def test_every_field_of_an_entry_is_written(editor, read):
    (old,) = read(keys_text(entry(1, '"no"', routes="['on', b.c]", limits=LIMITS)))
    one = editor("")
    one.add(new(2, "123", routes=old.routes, limits=old.limits, expires=NOW + 5))
    (found,) = read(one.text)
    assert (found.name, found.routes, found.limits, found.expires) == (
        "123",
        ("on", "b.c"),
        old.limits,
        NOW + 5,
    )
    assert "{name: a, requests: 6, per: 90s, burst: 2}" in one.text


@pytest.mark.parametrize(
    "name", ["-", "---", ".", "...", "1e5", "0x1F", "1_0", "null", "yes", "2026-01-31", "a.b-c_d"]
)
def test_every_name_is_read_back_as_written(editor, read, name):
    one = editor("")
    one.add(new(1, name))
    assert read(one.text)[0].name == name


def test_a_value_is_added_as_the_last_line_of_its_entry(editor, read):
    before = keys_text(entry(1, x="y").replace("x: y", "routes: [a]  # why"), "\n  # two\n", entry(2))
    one = editor(before)
    one.set(key_id(1), revoked=NOW)
    assert changes(before, one.text) == ["+     revoked: 2026-01-31T08:00:00Z\n"]
    assert "routes: [a]  # why\n    revoked: " in one.text
    assert read(one.text) == one.entries
    assert [found.revoked for found in one.entries] == [NOW, None]


def test_a_value_is_added_to_the_last_entry_of_a_file_without_a_line_end(editor, read):
    one = editor(keys_text(entry(1)).removesuffix("\n"))
    one.set(key_id(1), revoked=NOW)
    assert one.text.endswith("Z\n    revoked: 2026-01-31T08:00:00Z\n")
    assert read(one.text) == one.entries


@pytest.mark.parametrize(
    "written", ["2026-03-01T00:00:00Z", '"2026-03-01T00:00:00Z"', "'2026-03-01T00:00:00Z'"]
)
def test_a_value_replaces_the_old_one(editor, read, written):
    before = keys_text(entry(1, expires=f"{written}  # spring"), entry(2))
    one = editor(before)
    one.set(key_id(1), expires=NOW)
    assert one.text == before.replace(written, "2026-01-31T08:00:00Z")
    assert read(one.text) == one.entries


def test_an_entry_in_braces_is_changed_inside_them(editor, read):
    inside = ", ".join(line.strip(" -") for line in entry(1).splitlines())
    one = editor(f"keys:\n  - {{{inside}}}  # one\n" + entry(2))
    one.set(key_id(1), revoked=NOW, replaced_by="00000000")
    assert ', revoked: 2026-01-31T08:00:00Z, replaced_by: "00000000"}  # one\n' in one.text
    assert one.entries[0].revoked == NOW


COMMENTS = st.sampled_from(["", "\n", "# one\n", "    # two: [\n", "  # - three\n\n", "      # four\n"])
BEHIND = st.sampled_from(["", " ", "  # five: {", "\r"])


@st.composite
def layouts(draw):
    """A keys file as users edit it, and its number of keys."""
    count, indent = draw(st.integers(1, 3)), draw(st.integers(0, 3))
    text = draw(COMMENTS) + "keys:" + draw(BEHIND) + "\n"
    for number in range(count):
        more = {"expires": "2026-03-01T00:00:00Z"} if draw(st.booleans()) else {}
        more |= {"limits": "\n      - name: a\n        concurrent: 1"} if draw(st.booleans()) else {}
        text += draw(COMMENTS)
        for line in entry(number, **more).splitlines():
            text += f"{' ' * indent}{line[2:]}{draw(BEHIND)}\n{draw(COMMENTS)}"
    return text + draw(COMMENTS), count


@settings(max_examples=50, deadline=None)  # reads and writes files
@given(layouts(), st.data())
def test_no_comment_is_lost_and_the_entries_are_right(tmp_path_factory, layout, data):
    text, count = layout
    path = tmp_path_factory.getbasetemp() / "layout.yaml"
    path.write_text(text, newline="")
    one = KeysFileEditor(text, read_keys(path))
    for step in range(data.draw(st.integers(1, 4))):
        if data.draw(st.booleans()):
            one.add(new(10 + step, f"new{step}"))
        else:
            one.set(key_id(data.draw(st.integers(0, count - 1))), expires=NOW + step)
    path.write_text(one.text, newline="")
    assert read_keys(path) == one.entries
    gone = [line for line in changes(text, one.text) if line[0] == "-"]
    assert all("expires: " in line for line in gone)
    assert text.count("#") == one.text.count("#")
