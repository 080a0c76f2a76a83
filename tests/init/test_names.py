"""Names of routes are valid, unique and recognizable, whatever the chatflows are called."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from gateway.config.values import route_name
from gateway.flowise.chatflows import Chatflow
from gateway.init.names import key_variable, route_names

ID = "2c5e8d0a-1111-4222-8333-444455556666"


def names(*written):
    return route_names([Chatflow(ID, name) for name in written])


def test_names_are_recognizable_and_numbered_where_they_are_the_same():
    assert names("Support (EU)", "support eu", "Ventes à Paris", "聊天", "") == [
        *("support-eu", "support-eu-2", "ventes-a-paris", "flow-2c5e8d0a", "flow-2c5e8d0a-2")
    ]


def test_a_name_like_a_chatflow_id_gets_a_prefix():
    assert names(ID) == [f"flow-{ID}"]


@given(st.lists(st.text(max_size=200), max_size=20))
def test_every_name_is_valid_and_unique(written):
    made = names(*written, "a", "a 2", "a")
    assert len(set(made)) == len(made)
    for name in made:
        assert route_name(name) == name
        assert re.fullmatch("[A-Z][A-Z0-9_]*", key_variable(name))
    assert len({key_variable(name) for name in made}) == len(made)
