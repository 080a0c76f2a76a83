from __future__ import annotations

import pytest

from gateway.config.tree import Node, Scalar, ScalarKind, dismantle, plain_scalar, quoted_scalar, with_default


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("word", ScalarKind.TEXT),
        ("2c5e8d0a-1111-4222-8333-444455556666", ScalarKind.TEXT),
        ("12345678-1111-4222-8333-444455556666", ScalarKind.TEXT),
        ("127.0.0.1:8080", ScalarKind.TEXT),
        ("30s", ScalarKind.TEXT),
        ("", ScalarKind.EMPTY),
        ("~", ScalarKind.NULL),
        ("Null", ScalarKind.NULL),
        ("true", ScalarKind.BOOLEAN),
        ("FALSE", ScalarKind.BOOLEAN),
        ("no", ScalarKind.BOOLEAN_WORD),
        ("On", ScalarKind.BOOLEAN_WORD),
        ("0", ScalarKind.WHOLE),
        ("8080", ScalarKind.WHOLE),
        ("1" * 5000, ScalarKind.NUMBER),
        ("010", ScalarKind.NUMBER),
        ("-5", ScalarKind.NUMBER),
        ("1_000", ScalarKind.NUMBER),
        ("0x1F", ScalarKind.NUMBER),
        ("0b1", ScalarKind.NUMBER),
        ("0o17", ScalarKind.NUMBER),
        ("1:30", ScalarKind.NUMBER),
        ("1:30:00.5", ScalarKind.NUMBER),
        ("1.5", ScalarKind.NUMBER),
        ("1e5", ScalarKind.NUMBER),
        (".inf", ScalarKind.NUMBER),
        ("-.NaN", ScalarKind.NUMBER),
        ("2026-01-01", ScalarKind.DATE),
        ("2026-01-01T10:00:00Z", ScalarKind.DATE),
    ],
)
def test_what_yaml_would_take_a_plain_scalar_for_is_known(text, kind):
    assert plain_scalar(text).kind is kind
    assert quoted_scalar(text).kind is ScalarKind.TEXT


def test_a_mistake_shows_the_placeholder_and_no_password():
    assert Scalar("secret", ScalarKind.EXPANDED, "${KEY}").shown == 'the value of "${KEY}"'
    assert quoted_scalar("http://user:pw@host/a@b").shown == '"http://…@b"'
    assert "secret" not in repr(Scalar("secret", ScalarKind.EXPANDED, "${KEY}"))


def scalar(path: str, text: str) -> Node:
    return Node(path, 3, plain_scalar(text))


def test_nodes_are_found_by_their_keys():
    root = Node(
        "", 1, {"a": Node("a", 2, {"b": scalar("a.b", "x")}), "l": Node("l", 4, [scalar("l[0]", "y")])}
    )
    assert root.text_at("a", "b") == "x"
    assert root.at("a", "c") is None
    assert root.at("a", "b", "c") is None
    assert root.nearest(("l", 0)).text == "y"
    assert root.nearest(("l", 7, "x")).path == "l"
    assert root.place_of("a", "new", "deep") == (2, "a.new.deep")
    assert root.text_at("l") is None


def test_a_default_replaces_no_written_value():
    root = Node("", 1, {"a": Node("a", 2, {"b": scalar("a.b", "x")}), "s": scalar("s", "text")})
    assert with_default(root, ("a", "b"), plain_scalar("y")).text_at("a", "b") == "x"
    assert with_default(root, ("a", "c"), plain_scalar("y")).text_at("a", "c") == "y"
    assert with_default(root, ("n", "m"), plain_scalar("y")).text_at("n", "m") == "y"
    assert with_default(root, ("s", "m"), plain_scalar("y")).text_at("s") == "text"
    assert root.at("n") is None


def test_a_dismantled_tree_has_no_node_below_another():
    leaf = Node("a[0]", 1, plain_scalar("1"))
    items = Node("a", 1, [leaf])
    root = Node("", 1, {"a": items})
    dismantle(root)
    assert (root.value, items.value) == ({}, [])
