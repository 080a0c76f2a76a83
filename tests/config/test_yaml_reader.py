from __future__ import annotations

import io
from pathlib import Path

import pytest

from gateway.config import yaml_reader
from gateway.config.problems import Mistakes
from gateway.config.tree import ScalarKind
from gateway.config.yaml_reader import DEEPEST, LARGEST_FILE, LONGEST_PARSED_AGAIN, LONGEST_TEXT, read_tree


@pytest.fixture
def tree(tmp_path):
    def tree(content, environ=None):
        path = tmp_path / "gateway.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        mistakes = Mistakes("gateway.yaml")
        return read_tree(path, environ or {}, mistakes), [str(found) for found in mistakes.in_order]

    return tree


def test_every_value_knows_its_line_and_path(tree):
    root, found = tree("\ufeff# words\na:\n  b: 1\n  c:\n    - x\n    - {d: y}\n'e.f': |\n  two\n  lines\n")
    assert not found
    assert (root.at("a", "b").line, root.at("a", "b").path) == (3, "a.b")
    assert (root.at("a", "c").line, root.at("a", "c").path) == (4, "a.c")
    second = root.nearest(("a", "c", 1, "d"))
    assert (second.line, second.path, second.text) == (6, "a.c[1].d", "y")
    assert (root.at("e.f").line, root.at("e.f").path, root.text_at("e.f")) == (7, '["e.f"]', "two\nlines\n")


def test_duplicate_keys_are_reported_with_both_lines_and_the_first_is_kept(tree):
    root, found = tree("a: 1\nb: {c: 1, c: 2}\na: 2\n")
    assert root.text_at("a") == "1"
    assert found == [
        "gateway.yaml:2: b.c: the key is in line 2 too: keep one of them",
        "gateway.yaml:3: a: the key is in line 1 too: keep one of them",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: &x 1\nb: *x\n", "2: b: aliases (*name) are not supported: repeat the value"),
        (
            "a: &x {c: 1}\nb: {<<: *x}\n",
            "2: b: `<<` is not supported: write its keys here, or, for all routes, in a",
        ),
        ("a: !!str 1\n", "1: a: tags (!name) are not supported"),
        ("a: !!python/object/apply:os.system [x]\n", "1: a: tags (!name) are not supported"),
        ("a: 1\n? [x, y]\n: 2\n", "2: a key is a list, a mapping or an alias: write a plain name"),
        (
            "a: 1\nb: {{ X }}\n",
            '2: b: a key is a list, a mapping or an alias: write a plain name, or "${NAME}" for a',
        ),
        ('a: 1\n"x\\u0007": 2\n', '2: the key "x\\x07" is not valid: write a plain name'),
        ("a: 1\n!!str b: 2\n", '2: the key "b" is not valid'),
        ('a: "x\\u0000"\n', "1: a: has a control character or an unpaired surrogate: remove it"),
        ('a: "\\ud800"\n', "1: a: has a control character or an unpaired surrogate"),
        ("a: ${X}\n", "1: a: environment variable X is not set"),
        ("a: 1\n--- \nb: 2\n", "2: --- starts a second document: remove this line"),
    ],
)
def test_yaml_that_a_configuration_does_not_allow_is_reported(tree, content, message):
    root, found = tree(content)
    assert root.at("a") is not None
    (only,) = found
    assert only.startswith(f"gateway.yaml:{message}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "a: 1\nb: 'x\n",
            "2: b: the quote that begins here is never closed: write ' at the end of the value",
        ),
        ("a:\n\tb: 1\n", "2: a.b: there is a tab here: indent with spaces, by more than line 1"),
        ("%YAML " + "9" * 5000 + ".1\n---\na: 1\n", "1: a line that begins with % is an instruction"),
        (b"a: 1\nb: \x07\n", "2: there is a control character here: remove it"),
        (b"a: 1\nb: caf\xe9\n", "2: the file is not UTF-8: save it as UTF-8 text"),
        ("a: 1\nb: c\n".encode("utf-16"), "1: the file is UTF-16 or UTF-32: save it as UTF-8 text"),
        ("a: 1\nb: c\n".encode("utf-16-le"), "1: the file is UTF-16 or UTF-32: save it as UTF-8 text"),
        ("a: 1\nb: c\n".encode("utf-16-be"), "1: the file is UTF-16 or UTF-32: save it as UTF-8 text"),
        ("a: 1\nb: c\n".encode("utf-32"), "1: the file is UTF-16 or UTF-32: save it as UTF-8 text"),
        (b"\x1f\x8b\x08\x00", "1: the file is not UTF-8: save it as UTF-8 text"),
        ("a: 1\n\0", "2: there is a control character here: remove it"),
        (b"", "1: the file is empty: write at least {upstreams: {main: "),
        ("# words only\n", "1: the file is empty"),
        ("---\n", "2: the file is empty"),
        ("- a\n", "1: the file is not a mapping: write at least {upstreams: {main: "),
        ("word\n", "1: the file is not a mapping"),
        ("null\n", "1: the file is not a mapping"),
        ("[" * 1000 + "\n", "1: nested deeper than 32 levels: no key is that deep"),
        ("a: " + "{b: " * 1000, "1: nested deeper than 32 levels"),
        (b"#" * (LARGEST_FILE + 1), "1: the file is larger than 1MiB"),
    ],
)
def test_a_file_that_is_no_configuration_is_reported_with_its_line(tree, content, message):
    root, found = tree(content)
    assert root is None
    (only,) = found
    assert message in only
    assert only.startswith("gateway.yaml:")


def test_a_file_that_cannot_be_read_is_reported(tmp_path):
    for path, message in (
        (tmp_path / "missing.yaml", "the file cannot be read (No such file or directory)"),
        (tmp_path, f"this is a folder: name a file in it, like {tmp_path}/gateway.yaml"),
        (tmp_path / "a\0b", "write a name without a NUL character"),
    ):
        mistakes = Mistakes("gateway.yaml")
        assert read_tree(path, {}, mistakes) is None
        assert message in str(*mistakes.in_order)


def test_as_deep_as_allowed_is_read(tree):
    root, found = tree("a: " + "[" * DEEPEST + "]" * DEEPEST)
    assert not found
    assert root is not None


def test_an_alias_bomb_is_refused_without_being_built(tree):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    _, found = tree("\n".join(lines))
    assert len(found) == 29 * 9


def test_a_replaced_placeholder_is_text_and_never_yaml(tree):
    root, found = tree('a: ${X}\nb: ["${Y}"]\n', {"X": "x: {y: 1}\nz: 2", "Y": "no, 1"})
    assert not found
    assert root.text_at("a") == "x: {y: 1}\nz: 2"
    assert root.text_at("b") is None
    assert [(node.text, node.value.kind) for node in root.at("b").items] == [("no, 1", ScalarKind.EXPANDED)]


def test_keys_are_not_expanded(tree):
    root, _ = tree('"${X}": 1\n', {"X": "x"})
    assert list(root.entries) == ["${X}"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_on_any_system(tree, end):
    root, found = tree(f"a: 1{end}b:{end}  c: 2{end}")
    assert not found
    assert (root.at("b", "c").line, root.text_at("b", "c")) == (3, "2")


def test_a_stream_is_read_in_place_of_the_file():
    mistakes = Mistakes("-")
    root = read_tree(Path("nowhere"), {}, mistakes, stream=io.BytesIO(b"a: 1\n"))
    assert (root.text_at("a"), mistakes.in_order) == ("1", [])


def test_a_mapping_that_lost_a_key_knows_it(tree):
    root, found = tree("a: {<<: {b: 1}, c: 2}\nd: {e: 3}\n")
    assert len(found) == 1
    assert (root.at("a").is_partial, root.at("d").is_partial) == (True, False)


def test_a_text_is_bounded(tree):
    root, found = tree(f"a: {'x' * LONGEST_TEXT}\nb: {'x' * (LONGEST_TEXT + 1)}\n")
    assert len(root.text_at("a")) == LONGEST_TEXT
    assert found == [
        f"gateway.yaml:2: b: is longer than {LONGEST_TEXT} characters: write a shorter text, or ${{file:/path}}"
    ]


def test_the_number_of_values_is_bounded(tree, monkeypatch):
    monkeypatch.setattr(yaml_reader, "MOST_VALUES", 100)
    root, found = tree("a:\n" + "- 1\n" * 98)
    assert (len(root.at("a").items), found) == (98, [])
    root, found = tree("a:\n" + "- 1\n" * 99)
    assert (root, found) == (None, ["gateway.yaml:100: the file has more than 100 values: make it smaller"])


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ("a: [", "a: the [ in this line is not closed"),
        ("a: b: c", "a: a value with a colon and a space needs quotes"),
        ("\0", "there is a control character in the file: remove it"),
        ("a: " + "[" * 40, "nested deeper than 32 levels: no key is that deep"),
    ],
)
def test_a_large_file_is_not_parsed_a_second_time(tree, monkeypatch, mistake, message):
    """Python would take 12 times as long."""
    built = []
    builder = yaml_reader._Builder
    monkeypatch.setattr(yaml_reader, "_Builder", lambda *args: built.append(args) or builder(*args))
    root, (found,) = tree("# comment\n" * (LONGEST_PARSED_AGAIN // 10 + 1) + mistake)
    assert (root, len(built)) == (None, 1)
    assert message in found
