"""What `init` prints to copy: for a key and for public routes; the key is in it once."""

from __future__ import annotations

from msgspec.structs import replace

from gateway.config.addresses import parse_url
from gateway.flowise.chatflows import Chatflow
from gateway.init.files import RouteAccess, plan
from gateway.init.next_steps import next_steps

FLOWS = (
    Chatflow("00000001-0000-4000-8000-000000000000", "Locked", key_id="k"),
    Chatflow("00000002-0000-4000-8000-000000000000", "Form", trigger="form"),
    Chatflow("00000003-0000-4000-8000-000000000000", "Silent"),
    Chatflow("00000004-0000-4000-8000-000000000000", "Chat"),
)


def steps(flows, key="fgw_key", **access):
    made = plan(
        parse_url("http://127.0.0.1:3000"), RouteAccess(**access), flows, {"FLOWISE_API_KEY": "x"}, {}
    )
    made = replace(made, streaming=frozenset([FLOWS[3].id]))
    return "\n".join(next_steps(made, "SERVE", "./.env", key))


def test_the_line_to_try_is_for_the_chatflow_that_streams_a_chat():
    text = steps(FLOWS)
    assert text.count("fgw_key") == 1
    assert "/api/v1/prediction/chat -H 'Authorization: Bearer fgw_key'" in text
    assert "\n\nSERVE\n\n" in text
    assert "/t/TOKEN" in text


def test_a_key_that_is_missing_is_asked_for():
    assert (
        '"Locked" needs an API key of its own in Flowise: write it into ./.env, as FLOWISE_API_KEY_LOCKED'
        in (steps(FLOWS))
    )
    assert "of its own" not in steps(FLOWS[1:])


def test_a_form_is_asked_with_a_form():
    assert "/prediction/form " in steps(FLOWS[:2])
    assert '{"form": {}, "streaming": true}' in steps(FLOWS[:2])


def test_public_routes_need_no_token():
    text = steps(FLOWS, "", is_public=True, origins=("*",))
    assert "Authorization" not in text
    assert 'chatflowid: "chat", apiHost: "http://127.0.0.1:8080" ' in text
    assert "TOKEN" not in text
