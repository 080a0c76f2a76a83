from __future__ import annotations

import pytest

from gateway.config.tree import Kind, Node, Scalar, plain_scalar, quoted_scalar, with_default


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("word", Kind.TEXT),
        ("2c5e8d0a-1111-4222-8333-444455556666", Kind.TEXT),
        ("12345678-1111-4222-8333-444455556666", Kind.TEXT),
        ("127.0.0.1:8080", Kind.TEXT),
        ("30s", Kind.TEXT),
        ("", Kind.EMPTY),
        ("~", Kind.NULL),
        ("Null", Kind.NULL),
        ("true", Kind.BOOLEAN),
        ("FALSE", Kind.BOOLEAN),
        ("no", Kind.BOOLEAN_WORD),
        ("On", Kind.BOOLEAN_WORD),
        ("0", Kind.WHOLE),
        ("8080", Kind.WHOLE),
        ("1" * 5000, Kind.NUMBER),
        ("010", Kind.NUMBER),
        ("-5", Kind.NUMBER),
        ("1_000", Kind.NUMBER),
        ("0x1F", Kind.NUMBER),
        ("0b1", Kind.NUMBER),
        ("0o17", Kind.NUMBER),
        ("1:30", Kind.NUMBER),
        ("1:30:00.5", Kind.NUMBER),
        ("1.5", Kind.NUMBER),
        ("1e5", Kind.NUMBER),
        (".inf", Kind.NUMBER),
        ("-.NaN", Kind.NUMBER),
        ("2026-01-01", Kind.DATE),
        ("2026-01-01T10:00:00Z", Kind.DATE),
    ],
)
def test_what_yaml_would_take_a_plain_scalar_for_is_known(text, kind):
    assert plain_scalar(text).kind is kind
    assert quoted_scalar(text).kind is Kind.TEXT


def test_a_mistake_shows_the_placeholder_and_no_password():
    assert Scalar("secret", Kind.EXPANDED, "${KEY}").shown == 'the value of "${KEY}"'
    assert quoted_scalar("http://user:pw@host/a@b").shown == '"http://…@b"'
    assert "secret" not in repr(Scalar("secret", Kind.EXPANDED, "${KEY}"))


def leaf(path: str, text: str) -> Node:
    return Node(path, 3, plain_scalar(text))


def test_nodes_are_found_by_their_keys():
    root = Node("", 1, {"a": Node("a", 2, {"b": leaf("a.b", "x")}), "l": Node("l", 4, [leaf("l[0]", "y")])})
    assert root.text_at("a", "b") == "x"
    assert root.at("a", "c") is None
    assert root.at("a", "b", "c") is None
    assert root.nearest(("l", 0)).text == "y"
    assert root.nearest(("l", 7, "x")).path == "l"
    assert root.place_of("a", "new", "deep") == (2, "a.new.deep")
    assert root.text_at("l") is None


def test_a_default_is_put_only_where_nothing_was_written():
    root = Node("", 1, {"a": Node("a", 2, {"b": leaf("a.b", "x")}), "s": leaf("s", "text")})
    assert with_default(root, ("a", "b"), plain_scalar("y")).text_at("a", "b") == "x"
    assert with_default(root, ("a", "c"), plain_scalar("y")).text_at("a", "c") == "y"
    assert with_default(root, ("n", "m"), plain_scalar("y")).text_at("n", "m") == "y"
    assert with_default(root, ("s", "m"), plain_scalar("y")).text_at("s") == "text"
    assert root.at("n") is None
